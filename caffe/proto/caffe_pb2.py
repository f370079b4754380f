"""Caffe's messages under pycaffe's name: the very classes of `netspec.caffe_pb2`."""

import sys

from netspec import caffe_pb2

# The module itself, not a copy: a message made under one name is one under the other.
sys.modules[__name__] = caffe_pb2

"""Caffe's messages, where pycaffe has them."""

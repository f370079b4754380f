"""pycaffe's `caffe.net_spec`: nets written in Python."""

from netspec.spec import NetSpec, Top, layers, params, to_proto

__all__ = ["NetSpec", "Top", "layers", "params", "to_proto"]

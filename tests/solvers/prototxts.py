"""Small prototxts for the tests of the doors: a data layer, a score layer with its loss."""

from netspec import caffe_pb2, text

PYTHON = """layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "voc_layers"
  layer: "VOCSegDataLayer" param_str: "{'voc_dir': 'there', 'split': 'seg11valid', 'mean': (1, 2, 3)}" } }
"""
LOSS = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


def message(prototxt):
    return text.parse(prototxt, caffe_pb2.NetParameter())

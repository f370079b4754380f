"""Which layer types compute on cards, and that between them nothing is brought to the host."""

import numpy as np
from google.protobuf import text_format

from layers.core import catalogue
from layers.core.layer import Layer
from layers.core.net import Net
from layers.core.neuron import Neuron
from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, no_host

ON_HOST = {"HDF5Output", "Python"}  # they write files, or run somebody's Python
PRODUCTS = {"Convolution", "Deconvolution", "InnerProduct"}  # tests of their own: they may choose by their parameters


def test_all_types_that_compute_have_bodies_for_cards():
    for name in set(catalogue.types()) - ON_HOST - PRODUCTS:
        kind = catalogue.find(name)
        if kind.exact_bottoms == 0 and name != "Parameter":
            continue  # it brings values in
        if issubclass(kind, Neuron):
            own = kind.forward_cuda is not Neuron.forward_cuda or kind.kernels_cuda is not Neuron.kernels_cuda
        else:
            own = kind.forward_cuda is not Layer.forward_cuda and kind.backward_cuda is not Layer.backward_cuda
        assert own, name


CHAIN = """
    force_backward: true
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 6 } } }
    layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
    layer { name: "pool" type: "Pooling" bottom: "x" top: "pooled" pooling_param { kernel_size: 2 stride: 2 } }
    layer { name: "cut" type: "Slice" bottom: "pooled" top: "a" top: "b" }
    layer { name: "drop" type: "Dropout" bottom: "a" top: "a" }
    layer { name: "elu" type: "ELU" bottom: "b" top: "b" }
    layer { name: "join" type: "Concat" bottom: "b" bottom: "a" top: "whole" }
    layer { name: "crop" type: "Crop" bottom: "x" bottom: "pooled" top: "cropped" crop_param { offset: 1 } }
    layer { name: "sum" type: "Eltwise" bottom: "whole" bottom: "cropped" top: "sum" }
    layer { name: "scale" type: "Scale" bottom: "sum" top: "sum" scale_param { bias_term: true } }
    layer { name: "lrn" type: "LRN" bottom: "sum" top: "normal" }
    layer { name: "flat" type: "Flatten" bottom: "normal" top: "flat" }
    layer { name: "deep" type: "Reshape" bottom: "flat" top: "deep" reshape_param { shape { dim: 0 dim: 4 dim: -1 } } }
    layer { name: "soft" type: "Softmax" bottom: "deep" top: "soft" }
    layer { name: "power" type: "Power" bottom: "pooled" top: "square" power_param { power: 2 } }
    layer { name: "quiet" type: "Silence" bottom: "square" }"""


def test_nothing_is_brought_to_the_host_between_layers(monkeypatch):
    found = []
    for device in ("cpu", CARD):
        net = Net(text_format.Parse(CHAIN, caffe_pb2.NetParameter()), caffe_pb2.TRAIN, device=device, seed=3)
        x = np.random.RandomState(4).uniform(-1, 1, (2, 4, 5, 6)).astype("f4")
        net.blobs["x"].data[...] = x
        net.blobs["soft"].diff[...] = x[:, :, :3, :3].reshape(2, 4, 9)
        with monkeypatch.context() as patch:
            if device is CARD:
                patch.setattr(CARD, "download", no_host)
                for layer in net.layers:
                    if layer.card is not None:
                        layer.forward = layer.backward = no_host
            net.forward_backward()
        # A second time with other values: what is where is not what it was at first.
        net.blobs["x"].data[...] = -x
        net.forward_backward()
        found.append([net.blobs["soft"].data, net.blobs["x"].diff, net.params["scale"][0].diff, net.params["scale"][1].diff])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)

"""Convolution, Deconvolution and InnerProduct in nets on a simulated card: no host code computes, the CPU's numbers come out."""

import numpy as np
import pytest

from layers.convolution import Convolution
from layers.core.cpu import convolve
from layers.core.net import Net
from layers.deconvolution import Deconvolution
from layers.inner_product import InnerProduct
from netspec import caffe_pb2, text
from netspec.errors import Error
from tests.layers.core.cuda.support import card, simulated

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 GROUP weight_filler { type: "FILLER" } } }
layer { name: "fc" type: "InnerProduct" bottom: "up" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } bias_filler { value: -0.2 } } }
"""
CUBE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 2 kernel_size: 2 weight_filler { type: "xavier" } } }
"""


def parse(source):
    """Return the net that a text says."""
    return text.parse(source, caffe_pb2.NetParameter())


def run(source, device, **how):
    """Run a net forward and backward; return all its values and gradients."""
    net = Net(parse(f"force_backward: true {source}"), caffe_pb2.TRAIN, seed=3, device=device, **how)
    rng = np.random.default_rng(0)
    net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
    net.forward()
    last = net.blobs[net.outputs[0]]
    last.diff[...] = rng.standard_normal(last.shape)
    net.clear_param_diffs()
    net.backward()
    values = {name: (blob.data.copy(), blob.diff.copy()) for name, blob in net.blobs.items()}
    values.update({f"{name} {i}": (blob.data.copy(), blob.diff.copy())
                   for name, blobs in net.params.items() for i, blob in enumerate(blobs)})
    return values


def same(ours, expected):
    for name, pair in expected.items():
        for mine, theirs in zip(ours[name], pair):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * max(1, abs(theirs).max()), err_msg=name)


@simulated
@pytest.mark.parametrize("group, filler", [("", "xavier"), ("", "bilinear"), ("group: 4", "bilinear")])
def test_nets_on_a_card_compute_there_what_the_cpu_computes(monkeypatch, group, filler):
    source = NET.replace("GROUP", group).replace("FILLER", filler)
    expected = run(source, "cpu")
    for kind in (Deconvolution, InnerProduct):
        monkeypatch.setattr(kind, "forward", None)
        monkeypatch.setattr(kind, "backward", None)
    monkeypatch.setattr(Convolution, "backward", None)
    monkeypatch.setattr(convolve, "forward", None)
    monkeypatch.setattr("layers.core.cpu.choose.Kernels.forward_places", None)
    same(run(source, "gpu"), expected)


@simulated
def test_a_convolution_rectifies_for_the_relu_behind_it(monkeypatch):
    source = NET.replace("GROUP", "").replace("FILLER", "xavier")
    said = []
    forward = Convolution.forward_fused

    def listen(self, bottom, top, rectify=False, pooled=None, box=None):
        said.append((rectify, pooled))
        forward(self, bottom, top, rectify, pooled, box)

    monkeypatch.setattr(Convolution, "forward_fused", listen)
    run(source, "gpu")
    assert said == [(True, None)]


@simulated
def test_three_axes_go_by_the_cpu():
    same(run(CUBE, "gpu"), run(CUBE, "cpu"))


@simulated
def test_caffes_own_sums_stay_on_the_cpu():
    source = NET.replace("GROUP", "").replace("FILLER", "xavier")
    net = Net(parse(source), device="gpu", math="caffe")
    assert net.layer_dict["conv"].card is None
    assert net.layer_dict["fc"].card is card()


@simulated
def test_tf32_is_refused_on_a_card_without():
    with pytest.raises(Error, match="math is 'tf32' on <card 0: simulated>; it needs an NVIDIA card of capability 8.0"):
        Net(parse(CUBE), device="gpu", math="tf32")


def test_tf32_is_refused_on_the_cpu():
    with pytest.raises(Error, match="math is 'tf32' on the CPU; it needs an NVIDIA card of capability 8.0"):
        Net(parse(CUBE), device="cpu", math="tf32")


@simulated
def test_weights_that_stop_being_diagonal_are_noticed_between_replays():
    net = Net(parse("""
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
        layer { name: "up" type: "Deconvolution" bottom: "x" top: "y"
          convolution_param { num_output: 2 kernel_size: 2 stride: 2 bias_term: false } }"""), device="gpu")
    weight = np.zeros((2, 2, 2, 2), np.float32)
    weight[[0, 1], [0, 1]] = 1
    for value in (0, 3):
        weight[0, 1] = value
        net.params["up"][0].data[...] = weight
        for number in range(4):  # plainly, written down, replayed
            x = np.random.default_rng(number).standard_normal((1, 2, 3, 3)).astype(np.float32)
            net.blobs["x"].data[...] = x
            net.forward()
            expected = np.einsum("nchw,cmyx->nmhywx", x, weight).reshape(1, 2, 6, 6)
            np.testing.assert_allclose(net.blobs["y"].data, expected, rtol=0, atol=1e-6)

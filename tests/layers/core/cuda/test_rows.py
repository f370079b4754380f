"""Embed, BatchReindex, Filter and Parameter on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.cards import CARD, check_on_card, on_card

RNG = np.random.RandomState(0)
X = RNG.randn(4, 3, 2).astype("f4")


@pytest.mark.parametrize("bias", ["", "bias_term: false"])
def test_embed(bias):
    text = f'type: "Embed" embed_param {{ num_output: 3 input_dim: 6 {bias} }}'
    params = [RNG.randn(6, 3), RNG.randn(3)][:1 + (not bias)]
    check_on_card(text, [np.array([[4, 0, 4], [5, 4, 1]])], params=params, wanted=[])


@pytest.mark.parametrize("index", [[2, 0, 2, 2, 3, 0], [1], []])
def test_batch_reindex(index):
    check_on_card('type: "BatchReindex"', [X, index], wanted=[0], tolerance=0)


@pytest.mark.parametrize("keep", [[1, 0, 0, 2], [0] * 4, [1] * 4])
def test_filter(keep):
    check_on_card('type: "Filter" bottom: "x" bottom: "l" bottom: "keep" top: "a" top: "b"', [X, np.arange(4), keep],
                  wanted=[0, 1], tolerance=0)


def test_parameter():
    layer, bottom, top = on_card('type: "Parameter" parameter_param { shape { dim: 2 dim: 3 } }', [], params=[X[0].T])
    layer.forward_cuda(bottom, top)
    np.testing.assert_array_equal(top[0].data, X[0].T)
    for times in (1, 2):
        top[0].diff[...] = 3
        layer.backward_cuda(top, [], bottom)
        assert (layer.blobs[0].diff == 3 * times).all()


@pytest.mark.parametrize("kind, more", [("Embed", "embed_param { num_output: 2 input_dim: 4 }"), ("BatchReindex", "")])
def test_a_bad_number_is_said_as_on_the_cpu(kind, more):
    said, bottoms = [], 'bottom: "index"' if kind == "Embed" else 'bottom: "x" bottom: "index"'
    for device in ("cpu", CARD):
        net = Net(text_format.Parse(f"""
            layer {{ name: "in" type: "Input" top: "x" top: "index"
                     input_param {{ shape {{ dim: 4 dim: 2 }} shape {{ dim: 3 }} }} }}
            layer {{ name: "it" type: "{kind}" {bottoms} top: "y" {more} }}""", caffe_pb2.NetParameter()), device=device)
        net.blobs["index"].data[...] = [3, 4, 1.5]
        with pytest.raises(Error, match=r"number 4 at \[1\] of 'index' is out of range") as caught:
            net.forward()
        said.append(str(caught.value))
        net.blobs["index"].data[...] = [3, 0, 1]
        net.forward()
    assert said[0] == said[1]

"""First values: bilinear kernels, transplanted trunks, the depth channel."""

import types

import numpy as np
import pytest

from models import start
from netspec import make, recipes
from netspec.bilinear import bilinear_kernel
from netspec.errors import Error
from tests.support import shared


def fake_net(**shapes):
    """A stand-in with params[name][number].data, filled with 7."""
    params = {name: [types.SimpleNamespace(data=np.full(shape, 7, np.float32)) for shape in blobs]
              for name, blobs in shapes.items()}
    return types.SimpleNamespace(params=params)


def fake_weights(**blobs):
    return types.SimpleNamespace(layers={
        name: [types.SimpleNamespace(data=np.asarray(one, np.float32)) for one in arrays]
        for name, arrays in blobs.items()})


def test_interp_fills_the_diagonal_of_upsampling_layers_and_nothing_else():
    net = fake_net(upscore2=[(3, 3, 4, 4)], upgrouped=[(5, 1, 4, 4)], score_fr=[(3, 8, 1, 1), (3,)])
    lines = start.interp(net)
    kernel = bilinear_kernel(4)
    for one in range(3):
        for other in range(3):
            expected = kernel if one == other else 0 * kernel
            assert np.allclose(net.params["upscore2"][0].data[one, other], expected, rtol=1e-7, atol=0)
    assert np.allclose(net.params["upgrouped"][0].data, kernel)
    assert (net.params["score_fr"][0].data == 7).all()
    assert lines[0] == "bilinear interpolation: upscore2 4x4, 3 channels"


def test_interp_refuses_kernels_it_cannot_fill():
    with pytest.raises(Error, match="layer 'up': it has 3 inputs and 2 outputs"):
        start.interp(fake_net(up=[(3, 2, 4, 4)]))
    with pytest.raises(Error, match="its kernel is 4 x 5"):
        start.interp(fake_net(up=[(3, 3, 4, 5)]))


def test_transplant_adds_the_tail_and_reshapes():
    net = fake_net(fc6hha=[(4, 2, 3, 3), (4,)], other=[(1,)])
    weights = fake_weights(fc6=[np.arange(72).reshape(4, 18), np.ones((1, 1, 1, 4))], unknown=[np.zeros(3)])
    assert start.transplant(net, weights, "hha") == ["transplanted 1 layers: fc6hha"]
    assert np.array_equal(net.params["fc6hha"][0].data.ravel(), np.arange(72))
    assert (net.params["fc6hha"][1].data == 1).all() and (net.params["other"][0].data == 7).all()
    with pytest.raises(Error, match=r"layer 'fc6hha' parameter 0 has shape \(4, 2, 3, 3\), the weights' 'fc6' \(2,\)"):
        start.transplant(net, fake_weights(fc6=[np.zeros(2)]), "hha")


def test_depth_starts_as_the_mean_of_the_colours():
    net = fake_net(conv1_1_bgrd=[(2, 4, 1, 1), (2,)])
    weights = fake_weights(conv1_1=[np.array([1, 2, 6, 3, 3, 3]).reshape(2, 3, 1, 1), [8, 9]])
    start.widen_first_layer(net, weights, "conv1_1_bgrd")
    assert net.params["conv1_1_bgrd"][0].data.reshape(2, 4).tolist() == [[1, 2, 6, 3], [3, 3, 3, 3]]
    assert net.params["conv1_1_bgrd"][1].data.tolist() == [8, 9]
    assert start.widen_first_layer(net, fake_weights(), "conv1_1_bgrd") == []


def test_every_published_recipe_starts_with_bilinear_upsampling():
    for name in recipes.names():
        recipe = make.recipe(name)
        ups = [layer for layer in recipe.net("deploy").layer if layer.type == "Deconvolution"]
        filled = [layer.convolution_param.weight_filler.type == "bilinear" for layer in ups]
        assert ups and (all(filled) or hasattr(recipe, "start")), name
        assert all("up" in layer.name for layer in ups)


def test_squeezenet_layers_have_the_names_and_shapes_of_the_imagenet_weights():
    from netspec.weights import read_weights

    weights = read_weights(str(shared("real/squeezenet_v1.0/squeezenet_v1.0.caffemodel"))).layers
    net = make.recipe("fcn_squeezenet").net("deploy")
    channels = {"data": 3}
    missing = []
    for layer in net.layer:
        conv = layer.convolution_param
        if layer.type == "Convolution":
            if layer.name in weights:
                shape = (conv.num_output, channels[layer.bottom[0]], conv.kernel_size[0], conv.kernel_size[0])
                assert tuple(weights[layer.name][0].data.shape) == shape, layer.name
            else:
                missing.append(layer.name)
            channels[layer.top[0]] = conv.num_output
        elif layer.type == "Concat":
            channels[layer.top[0]] = sum(channels[one] for one in layer.bottom)
        elif layer.bottom:
            channels[layer.top[0]] = channels[layer.bottom[0]]
    assert missing == ["score_fire9", "score_fire8", "score_fire4"]
    assert len(weights) - 1 == sum(layer.name in weights for layer in net.layer if layer.type == "Convolution")

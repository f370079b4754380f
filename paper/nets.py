"""Small nets of the engine for the experiments: parameters drawn, shapes given, weighted sums as losses."""

import numpy as np

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.bilinear import fill_upsampling
from netspec.spec import layers as L
from netspec.spec import params as P


def make(n, seed=0, phase=caffe_pb2.TEST, dtype=np.float64, backward=False, **how):
    """Return the Net of a NetSpec or message on the CPU, its parameters drawn; with `backward` inputs get a gradient."""
    message = n.to_proto() if hasattr(n, "to_proto") else n
    message.force_backward = backward
    net = Net(message, phase, dtype=dtype, seed=seed, device="cpu", **how)
    draw(net, seed)
    return net


def draw(net, seed=0):
    """Draw all parameters: weights of spread sqrt(2 / inputs of a sum), small biases; upsampling is bilinear."""
    rng = np.random.default_rng(seed)
    for name, blobs in net.params.items():
        kind = net.layer_dict[name].type
        if kind == "Deconvolution" and "up" in name:
            fill_upsampling(blobs[0].data, name)
        elif kind in ("Convolution", "Deconvolution", "InnerProduct"):
            weights = blobs[0].data
            weights[...] = rng.standard_normal(weights.shape, np.float32) * np.sqrt(2 / weights[0].size)
            for bias in blobs[1:]:
                bias.data[...] = 0.1 * rng.standard_normal(bias.shape)


def image(n, *shape, name="data"):
    """Add an Input of this shape; return its top."""
    n[name] = L.Input(input_param={"shape": {"dim": list(shape)}})
    return n[name]


def weighted_sum(n, top, shape, name="loss"):
    """Add the loss sum(top * mask) with an Input "<name>_mask": the gradient of `top` is what is written into it."""
    mask = image(n, *shape, name=f"{name}_mask")
    n[f"{name}_product"] = L.Eltwise(top, mask, operation=P.Eltwise.PROD)
    n[name] = L.Reduction(n[f"{name}_product"], operation=P.Reduction.SUM, loss_weight=1)
    return n[name]


def with_inputs(message, shapes):
    """Return a copy of a recipe's message whose data layers are Inputs with the shapes {top: shape}."""
    out = caffe_pb2.NetParameter()
    out.CopyFrom(message)
    for layer in out.layer:
        if not layer.bottom:
            tops = list(layer.top)
            name = layer.name
            layer.Clear()
            layer.name, layer.type = name, "Input"
            for top in tops:
                layer.top.append(top)
                layer.input_param.shape.add().dim.extend(shapes[top])
    return out


def thin(message, width):
    """Return a copy of a recipe's message in which every convolution but those that score has `width` channels."""
    out = caffe_pb2.NetParameter()
    out.CopyFrom(message)
    for layer in out.layer:
        if layer.type == "Convolution" and not layer.name.startswith("score"):
            layer.convolution_param.num_output = width
    return out


def averaging(message, size, backward=False):
    """Return a deploy net of one channel whose layers are means: linear functions pass it unchanged, where no padding is seen."""
    shapes = {top: (1, 1, *size) for layer in message.layer if not layer.bottom for top in layer.top}
    out = with_inputs(message, shapes)
    for layer in out.layer:
        if layer.type in ("Convolution", "Deconvolution"):
            layer.convolution_param.num_output = layer.convolution_param.group = 1
        elif layer.type == "Pooling":
            layer.pooling_param.pool = caffe_pb2.PoolingParameter.AVE
        elif layer.type == "LRN":
            layer.type = "Power"
            layer.ClearField("lrn_param")
    net = make(out, backward=backward)
    for name, blobs in net.params.items():
        kind = net.layer_dict[name].type
        if kind == "Convolution":
            blobs[0].data[...] = 1 / blobs[0].data[0].size
            blobs[1].data[...] = 0
        elif kind == "Scale":
            blobs[0].data[...] = 1
    return net


def gradients(net):
    """Return copies of the gradients of all parameters, {layer: [array, ...]}."""
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


def worst(a, b):
    """Return the largest difference of two equally built sets of arrays, of the largest value of each array."""
    pairs = [(a, b)] if isinstance(a, np.ndarray) else [(x, y) for name in a for x, y in zip(a[name], b[name])]
    return max(float(abs(x - y).max() / (abs(y).max() or 1)) for x, y in pairs)

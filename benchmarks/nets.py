"""The nets that are measured: their messages, seeded weights and inputs.

Weights are drawn (He et al. 2015: values of spread sqrt(2 / inputs of a sum) keep the layers' spread), biases are small,
upsampling is bilinear; inputs are noise of spread 50, as images minus their mean are.
"""

import importlib
import os

import numpy as np

from models import parts, trunks
from netspec import caffe_pb2, text, weights
from netspec.bilinear import fill_upsampling
from netspec.coord_map import crop
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P

CLASSES = 21  # PASCAL VOC's, background included
IMAGENET = 1000
SPREAD = 50  # of the inputs, and by He's weights of all that follows
# GoogLeNet's nine modules: 1x1; 3x3 and what it is reduced to before; 5x5 likewise; behind the pooling (table 1 of
# Szegedy et al. 2015, "Going deeper with convolutions").
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


def message(name, shape, train=False):
    """Return the NetParameter of a net over an Input of `shape` (N, 3, H, W); with a loss on "label" to train."""
    if name in CLASSIFIERS or name in FCNS:
        n = NetSpec()
        n.data = L.Input(input_param={"shape": {"dim": list(shape)}})
        top = (CLASSIFIERS.get(name) or FCNS[name])(n, n.data, not train)
        if train:
            n.loss = L.SoftmaxWithLoss(top, _label(n, shape, name), loss_param={"ignore_label": 255})
        elif name in CLASSIFIERS:
            n.prob = L.Softmax(top)
        return n.to_proto()
    net = importlib.import_module(f"models.{name}.net").net("train" if train else "deploy")
    data = net.layer[0]
    data.Clear()
    data.name, data.type = "data", "Input"
    shapes = {"data": shape, "label": (shape[0], 1, *shape[2:])}
    for top in ("data", "label")[: 1 + train]:
        data.top.append(top)
        data.input_param.shape.add().dim.extend(shapes[top])
    return net


def output(name):
    """Return the blob that a net answers with."""
    return "prob" if name in CLASSIFIERS else "score"


def _label(n, shape, name):
    one = (shape[0], 1, *shape[2:]) if name in FCNS else (shape[0], 1, 1, 1) if name == "squeezenet" else (shape[0],)
    n.label = L.Input(input_param={"shape": {"dim": list(one)}})
    return n.label


def _vgg16(n, bottom, deploy):
    for stage, (convolutions, channels) in enumerate(trunks.VGG16, start=1):
        for number in range(1, convolutions + 1):
            bottom = parts.conv_relu(n, f"conv{stage}_{number}", f"relu{stage}_{number}", bottom, channels)
        bottom = parts.max_pool(n, f"pool{stage}", bottom)
    for number in (6, 7):
        n[f"fc{number}"] = L.InnerProduct(bottom, num_output=4096)
        n[f"relu{number}"] = L.ReLU(n[f"fc{number}"], in_place=True)
        bottom = parts.dropout(n, f"drop{number}", n[f"relu{number}"], deploy)
    n.fc8 = L.InnerProduct(bottom, num_output=IMAGENET)
    return n.fc8


def _squeezenet(n, bottom, deploy):
    bottom = trunks.squeezenet(n, bottom, deploy, pad=0)
    bottom = parts.conv_relu(n, "conv10", "relu_conv10", bottom, IMAGENET, 1, pad=0)
    n.pool10 = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
    return n.pool10


def _googlenet(n, bottom, deploy, pad=3):
    """Add GoogLeNet without its side classifiers; returns the last module, at stride 32."""
    def conv(name, bottom, channels, kernel_size, stride=1, pad=0):
        return parts.conv_relu(n, name, f"{name}/relu", bottom, channels, kernel_size, stride, pad)

    def normalised(name, bottom):
        n[name] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
        return n[name]

    bottom = parts.max_pool(n, "pool1/3x3_s2", conv("conv1/7x7_s2", bottom, 64, 7, 2, pad), 3, 2)
    bottom = conv("conv2/3x3_reduce", normalised("pool1/norm1", bottom), 64, 1)
    bottom = normalised("conv2/norm2", conv("conv2/3x3", bottom, 192, 3, pad=1))
    bottom = parts.max_pool(n, "pool2/3x3_s2", bottom, 3, 2)
    for place, (one, reduce3, three, reduce5, five, pooled) in INCEPTION.items():
        inside = f"inception_{place}/"
        if place in ("4a", "5a"):
            bottom = parts.max_pool(n, f"pool{int(place[0]) - 1}/3x3_s2", bottom, 3, 2)
        first = conv(f"{inside}1x1", bottom, one, 1)
        second = conv(f"{inside}3x3", conv(f"{inside}3x3_reduce", bottom, reduce3, 1), three, 3, pad=1)
        third = conv(f"{inside}5x5", conv(f"{inside}5x5_reduce", bottom, reduce5, 1), five, 5, pad=2)
        n[f"{inside}pool"] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=1, pad=1)
        fourth = conv(f"{inside}pool_proj", n[f"{inside}pool"], pooled, 1)
        n[f"{inside}output"] = bottom = L.Concat(first, second, third, fourth)
    return bottom


def _fcn_googlenet(n, bottom, deploy):
    """GoogLeNet as an FCN-32s (section 4.1 of the FCN paper); the pad of 100 keeps every crop inside."""
    top = parts.dropout(n, "drop", _googlenet(n, bottom, deploy, pad=100), deploy, 0.4)
    top = parts.score(n, "score_fr", top, CLASSES)
    n.score = crop(parts.upscore(n, "upscore", top, CLASSES, 63, 32), n.data)
    return n.score


def _toy(n, bottom, deploy):
    """An FCN of four layers for the simulator."""
    top = parts.max_pool(n, "pool1", parts.conv_relu(n, "conv1", "relu1", bottom, 2))
    top = parts.dropout(n, "drop", parts.score(n, "score_fr", top, 3), deploy)
    n.score = crop(parts.upscore(n, "upscore", top, 3, 4, 2), n.data)
    return n.score


FCNS = {"fcn_googlenet": _fcn_googlenet, "toy": _toy}  # those that are not in models/
CLASSIFIERS = {"vgg16": _vgg16, "squeezenet": _squeezenet}
LAST = ("fc8", "conv10")  # the layers that score in classifiers; in FCNs their names begin with "score"


def write(name, folder, shape, train=False):
    """Write a net's prototxt, and its weights where they are not there yet; return their paths."""
    path = os.path.join(folder, f"{name}-{'x'.join(map(str, shape))}{'-train' if train else ''}.prototxt")
    net = message(name, shape, train)
    with open(path, "w") as file:
        file.write(text.dump(net))
    model = os.path.join(folder, f"{name}.caffemodel")
    if not os.path.exists(model):
        deploy = message(name, shape)
        weights.write_caffemodel(model, deploy, draw(deploy))
    return path, model


def draw(net):
    """Return {layer: [(array, None), ...]}: the same for every size of the image, and in training."""
    from layers.core.net import Net

    rng = np.random.default_rng(1)
    blobs = {}
    made = Net(net, caffe_pb2.TEST, seed=1)
    for name, own in made.params.items():
        kind = made.layer_dict[name].type
        arrays = [blob.data for blob in own]
        if kind == "Deconvolution":
            fill_upsampling(arrays[0], name)
        elif kind in ("Convolution", "InnerProduct"):
            rng.standard_normal(out=arrays[0], dtype=np.float32)
            arrays[0] *= np.float32(np.sqrt(2 / arrays[0][0].size))
            for bias in arrays[1:]:
                bias[...] = rng.standard_normal(bias.shape, dtype=np.float32)
        if name.startswith("score") or name in LAST:
            arrays[0] /= SPREAD  # scores of spread 1: a softmax of larger ones is 1 in one place and 0 elsewhere
        blobs[name] = [(array, None) for array in arrays]
    return blobs


def write_image(folder, shape):
    """Write a batch of images; return {blob: path of its .npy}."""
    rng = np.random.default_rng(2)
    path = os.path.join(folder, f"image-{'x'.join(map(str, shape))}.npy")
    if not os.path.exists(path):
        np.save(path, rng.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD))
    return {"data": path}


def write_labels(folder, net, classes):
    """Write labels for the net's Input "label"; return {blob: path}."""
    shape = next(tuple(param.input_param.shape[list(param.top).index("label")].dim) for param in net.layer
                 if "label" in param.top)
    path = os.path.join(folder, f"label-{'x'.join(map(str, shape))}-{classes}.npy")
    np.save(path, np.random.default_rng(3).integers(0, classes, shape).astype(np.float32))
    return {"label": path}


def segments(net):
    """Cut a deploy net into steps: each convolution or deconvolution with what follows up to the next one.

    Returns a list of (name, layers): the layers' messages.
    """
    found = []
    for layer in net.layer:
        if layer.type == "Input":
            continue
        if layer.type in ("Convolution", "Deconvolution"):
            found.append([layer])
        else:
            found[-1].append(layer)
    shown = {"Pooling": "pooling", "Crop": "crop", "Eltwise": "sum"}
    return [(" + ".join([layers[0].name, *(shown[one.type] for one in layers if one.type in shown)]), layers) for layers in found]


def part(layers, shapes):
    """Return (message of some layers over Inputs of their bottoms, the bottoms' names)."""
    net = caffe_pb2.NetParameter(name=layers[0].name)
    made, bottoms = set(), []
    for layer in layers:
        bottoms += [name for name in layer.bottom if name not in made and name not in bottoms]
        made.update(layer.top)
    for name in bottoms:
        one = net.layer.add(name=f"input {name}", type="Input", top=[name])
        one.input_param.shape.add().dim.extend(shapes[name])
    net.layer.extend(layers)
    return net, bottoms

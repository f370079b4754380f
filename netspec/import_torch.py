"""A VGG of torchvision or timm -> a caffemodel with Caffe's names: `python -m netspec.import_torch vgg16.pth vgg16.caffemodel`.

PyTorch's nets see red, green, blue in [0, 1], less a mean, over a spread; Caffe's see blue, green, red in [0, 255] less a mean.
conv1_1 gets its channels turned and divided by 255 x spread, so the net takes pixels as Caffe's does; its mean then is PyTorch's,
255 x (0.406, 0.456, 0.485) = 103.53, 116.28, 123.675 (BGR). With just that mean the converted net computes what the original
did, borders included. Caffe's own VGG16 was trained with 103.939, 116.779, 123.68 and other weights, and published FCNs start
from those: scores differ (torchvision's VGG16 leads to an FCN-32s of 60 to 62 mean IU instead of 63.6, as others have measured).
"""

import argparse
import math
import re
import sys

import numpy as np

from netspec import caffe_pb2, files, graph, hdf5, text, torch_file, weights
from netspec.errors import Error, run_door
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P

# Convolutions of the five stages.
VGG = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
DENSE = {"fc6": ("classifier.0", "pre_logits.fc1"), "fc7": ("classifier.3", "pre_logits.fc2"), "fc8": ("classifier.6", "head.fc")}
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, of torchvision's and timm's VGGs
CROP = 224
EXAMPLES = """examples:
  python -m netspec.import_torch vgg16-397923af.pth vgg16.caffemodel --net vgg16_deploy.prototxt
  python -m netspec.import_torch model.safetensors vgg16-fcn.caffemodel --fcn      # fc6 to fc8 as convolutions, for models/fcn32s
"""


def main(argv=None):
    """Convert a file."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.import_torch",
        description="Write a VGG of torchvision or timm with Caffe's names and channel order.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", metavar="STATE", help=".safetensors or .pth, of torchvision or timm (read without PyTorch)")
    parser.add_argument("out", metavar="OUT", help="the caffemodel to write (HDF5 when it ends in .h5)")
    parser.add_argument("--fcn", action="store_true", help="write the fully connected layers as convolutions, as FCNs take them")
    parser.add_argument("--net", metavar="FILE", help="write the net's deploy prototxt, too")
    parser.add_argument("--keep-scale", action="store_true", help="only turn the channels: the net then takes "
                        "(pixel / 255 - mean) / spread in the order blue, green, red")
    options = parser.parse_args(argv)
    state = torch_file.read_state(files.find(options.state, what="state"))
    name, net, layers = convert(state, options.fcn, not options.keep_scale)
    parameters = {key: [(one, None) for one in blobs] for key, blobs in layers.items()}
    if hdf5.wants_hdf5(options.out):
        weights.write_hdf5(options.out, parameters)
    else:
        weights.write_caffemodel(options.out, graph.insert_splits(net), parameters)
    if options.net:
        files.write_text(options.net, f"# {name} of torchvision or timm; pixels: {pixels(options.keep_scale)}\n{text.dump(net)}")
    count = sum(one.size for blobs in layers.values() for one in blobs)
    print(f"{options.out}: {name}, {len(layers)} layers, {count:,} parameters\n"
          f"pixels: {pixels(options.keep_scale)}", file=sys.stderr)
    return 0


def pixels(keep_scale):
    """Return what the converted net's input is, in words."""
    if keep_scale:
        spread = ", ".join(f"{value:g}" for value in reversed(SPREAD))
        return f"BGR, (value / 255 - ({', '.join(f'{value:g}' for value in reversed(MEAN))})) / ({spread})"
    mean = ", ".join(f"{255 * value:g}" for value in reversed(MEAN))
    return f"BGR, 0 to 255, minus {mean} (Caffe's VGG16: 103.939, 116.779, 123.68)"


def convert(state, fcn=False, fold=True):
    """Return (architecture, deploy NetParameter, {Caffe's layer name: [weights, bias]}) of a state {torch's name: array}.

    Raises `Error` when the state is of no VGG known here.
    """
    shapes = {name.removeprefix("module."): shape for name, shape in state.shapes.items()}
    full = {name.removeprefix("module."): name for name in state.shapes}
    normalised = next((name for name in shapes if name.endswith("running_mean")), None)
    if normalised:
        raise Error(f"'{state.path}' has batch normalisation ('{normalised}'), which Caffe's VGG has not; give a VGG without "
                    "(vgg16, not vgg16_bn)")
    found = sorted(int(match[1]) for name in shapes if (match := re.fullmatch(r"features\.(\d+)\.weight", name)))
    architecture = next((name for name, stages in VGG.items() if _numbers(stages) == found), None)
    if architecture is None:
        raise Error(f"'{state.path}' is none of {', '.join(VGG)}: its convolutions are features.{found or 'none'}; it holds "
                    f"{', '.join(list(shapes)[:4])}, ...")
    sources = dict(zip(_names(VGG[architecture]), (f"features.{number}" for number in found)))
    for target, names in DENSE.items():
        source = next((name for name in names if f"{name}.weight" in shapes), None)
        if source is not None:
            sources[target] = source
    layers = {}
    for target, source in sources.items():
        layers[target] = []
        for what in ("weight", "bias"):
            if f"{source}.{what}" not in shapes:
                raise Error(f"'{state.path}' lacks '{source}.{what}', for {target}")
            layers[target].append(np.asarray(state[full[f"{source}.{what}"]], np.float32))
    first = layers["conv1_1"][0]
    if first.ndim != 4 or first.shape[1] != 3:
        raise Error(f"'{state.path}': features.0.weight is {list(first.shape)}; its second size must be 3 (red, green, blue)")
    scale = 1 / (255 * np.array(SPREAD)) if fold else np.ones(3)
    layers["conv1_1"][0] = np.ascontiguousarray((first * scale[:, None, None].astype(np.float32))[:, ::-1])
    channels = layers[_names(VGG[architecture])[-1]][0].shape[0]
    for name in DENSE:
        if name in layers:
            layers[name][0] = _dense(layers[name][0], channels if name == "fc6" else None, fcn)
    return architecture, _net(architecture, layers, fcn), layers


def _numbers(stages):
    # torchvision numbers convolutions, ReLUs and poolings together.
    numbers, at = [], 0
    for count in stages:
        numbers += [at + 2 * index for index in range(count)]
        at += 2 * count + 1
    return numbers


def _names(stages):
    return [f"conv{stage}_{number}" for stage, count in enumerate(stages, 1) for number in range(1, count + 1)]


def _dense(weight, channels, fcn):
    """Return (outputs, inputs) or, for an FCN, (outputs, channels, k, k): the same values in the same order."""
    flat = weight.reshape(weight.shape[0], -1)
    if not fcn:
        return flat
    channels = channels or flat.shape[1]
    side = math.isqrt(flat.shape[1] // channels)
    if channels * side * side != flat.shape[1]:
        raise Error(f"fc6 takes {flat.shape[1]} values, which are no square of {channels} channels")
    return flat.reshape(len(flat), channels, side, side)


def _net(architecture, layers, fcn):
    n = NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 3, CROP, CROP]}})
    bottom = n.data
    for stage, count in enumerate(VGG[architecture], 1):
        for number in range(1, count + 1):
            name = f"conv{stage}_{number}"
            n[name] = L.Convolution(bottom, num_output=layers[name][0].shape[0], kernel_size=3, pad=1)
            bottom = n[f"relu{stage}_{number}"] = L.ReLU(n[name], in_place=True)
        bottom = n[f"pool{stage}"] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for number, name in enumerate((name for name in DENSE if name in layers), 6):
        weight = layers[name][0]
        n[name] = (L.Convolution(bottom, num_output=len(weight), kernel_size=weight.shape[2]) if fcn
                   else L.InnerProduct(bottom, num_output=len(weight)))
        bottom = n[name]
        if name != "fc8":
            bottom = n[f"relu{number}"] = L.ReLU(bottom, in_place=True)
            bottom = n[f"drop{number}"] = L.Dropout(bottom, dropout_ratio=0.5, in_place=True)
    if "fc8" in layers:
        n.prob = L.Softmax(bottom)
    net = n.to_proto()
    net.name = architecture
    net.state.phase = caffe_pb2.TEST
    return net


if __name__ == "__main__":
    sys.exit(run_door(main))

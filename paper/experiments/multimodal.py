"""NYUDv2's fusions and SIFT Flow's two heads (section 5): first values, averages, shared gradients, cost."""

import numpy as np

from models import families, start
from models.datasets import NYUD, SIFTFLOW, VOC
from netspec.measure import measure
from paper import nets
from paper.experiment import Row, difference, exact

TITLE = "Early and late fusion, two heads"
PLACE = "5"
MINUTES = 0.3
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE, WIDTH = (96, 128), 6


def run(context):
    """Fuse, share, count."""
    grey, more, whole = early_fusion(context.seed)
    averaged = late_fusion(context.seed)
    context.progress(0.4)
    trunk, heads = two_heads(context.seed)
    macs = {name: sum(row.macs for row in measure(net)) for name, net in (
        ("both", families.vgg_two_heads(SIFTFLOW, "deploy", 33, finest=8)), ("one", families.vgg(VOC, "deploy", 33, finest=8)))}
    ratio = macs["both"] / macs["one"]
    return {"rows": [
        exact("Early fusion: a net upgraded to take four-channel RGB-D input", "5, Table 5",
              "the recipe's start on VGG16's first layer: weights of the depth channel beside the mean over the colours",
              "a fourth channel", difference(grey), grey < 1e-6,
              "The paper does not say how the new channel starts; the published net's script takes the mean."),
        exact("RGB-D has a similar number of parameters as RGB", "5, Table 5", "learned parameters, counted", "similar",
              f"{more} more of {whole:,}", more == 576),
        exact("Late fusion averages the final scores of the RGB and the HHA net", "5, Table 5",
              f"fused scores beside the mean of both nets' scores (VGG16's layers at {WIDTH} channels, float64)", "averages",
              difference(averaged), averaged < 1e-12,
              "The caption of Table 5 says sums; the published net has coefficients of 0.5."),
        exact("Two heads learn a joint representation", "5, Table 6",
              f"FCN-8s with semantic and geometric scores ({WIDTH} channels, float64): the trunk's gradient beside the sum of "
              "those of either loss alone", "a joint representation", difference(trunk), trunk < 1e-12 and heads == 0,
              "A head's own parameters get no gradient from the other's loss."),
        Row("Learning and inference of both tasks are essentially as fast as each net by itself", "5, Table 6",
            "multiply-accumulates of FCN-8s with two heads beside one with the 33 semantic classes, counted at 500x500",
            "essentially as fast", f"{100 * (ratio - 1):.1f} % more", "same shape"),
    ], "numbers": {"macs": macs}}


def early_fusion(seed):
    """Return (difference of the depth weights from the colours' mean, parameters more than RGB, parameters)."""
    shapes = {"data": (1, 3, *SIZE), "color": (1, 3, *SIZE), "depth": (1, 1, *SIZE), "label": (1, 1, *SIZE)}
    color, both = (families.vgg_single_modality(NYUD, "deploy", 40), families.vgg_early_fusion(NYUD, "deploy", 40))
    more, whole = (sum(row.learned for row in measure(net)) for net in (both, color))
    rgb = nets.make(nets.thin(nets.with_inputs(color, shapes), WIDTH), seed, dtype=np.float32)
    rgbd = nets.make(nets.thin(nets.with_inputs(both, shapes), WIDTH), seed + 1, dtype=np.float32)
    start.widen_first_layer(rgbd, Weights(rgb), "conv1_1_bgrd")
    weights, first = rgbd.params["conv1_1_bgrd"][0].data, rgb.params["conv1_1"][0].data
    if (weights[:, :3] != first).any():
        return float("inf"), more - whole, whole
    return nets.worst(weights[:, 3].astype(np.float64), first.astype(np.float64).mean(axis=1)), more - whole, whole


class Weights:
    """A net's parameters as `netspec.weights.read_weights` gives those of a file."""

    def __init__(self, net):
        self.layers = net.params


def late_fusion(seed):
    """Return how far the fused scores are from the mean of both streams' scores."""
    shapes = {"color": (1, 3, *SIZE), "hha": (1, 3, *SIZE)}
    net = nets.make(nets.thin(nets.with_inputs(families.vgg_late_fusion(NYUD, "deploy", 40), shapes), WIDTH), seed)
    rng = np.random.default_rng(seed)
    for name in shapes:
        net.blobs[name].data[...] = 50 * rng.standard_normal(net.blobs[name].shape)
    net.forward()
    color, hha = net.blobs["score_frcolor"].data, net.blobs["score_frhha"].data
    return nets.worst(net.blobs["score_fused"].data, (color + hha) / 2)


def two_heads(seed):
    """Return (difference of the trunk's gradient from the sum over losses, largest gradient of a head by the other's loss)."""
    shapes = {"data": (1, 3, *SIZE), "sem": (1, 1, *SIZE), "geo": (1, 1, *SIZE)}
    message = nets.thin(nets.with_inputs(families.vgg_two_heads(SIFTFLOW, "deploy", 33, finest=8), shapes), WIDTH)
    net = nets.make(message, seed, backward=True)
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = 50 * rng.standard_normal(shapes["data"])
    net.forward()
    wanted = {name: rng.standard_normal(net.blobs[name].shape) for name in ("score_sem", "score_geo")}
    found = []
    for names in (("score_sem", "score_geo"), ("score_sem",), ("score_geo",)):
        net.clear_param_diffs()
        for name, values in wanted.items():
            net.blobs[name].diff[...] = values if name in names else 0
        net.backward()
        found.append(nets.gradients(net))
    both, semantic, geometric = found
    trunk = [name for name in both if name.startswith(("conv", "fc"))]
    total = {name: [a + b for a, b in zip(semantic[name], geometric[name])] for name in trunk}
    other = max(float(abs(gradient).max()) for name in both for gradient, head in (
        (semantic[name][0], "_geo"), (geometric[name][0], "_sem")) if name.startswith("score") and name.endswith(head))
    return nets.worst({name: both[name] for name in trunk}, total), other

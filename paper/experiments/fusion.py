"""How streams are fused (section 4.3): sums of scores, skips that start at zero, and what a maximum does to gradients."""

import numpy as np

from models import families
from models.datasets import VOC
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import difference, exact

TITLE = "Fusing streams"
PLACE = "4.3"
MINUTES = 0.3
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE = (120, 150)
WIDTH = 8


def run(context):
    """Commute, add, switch."""
    commuted = concat_against_sum(context.seed)
    untouched, pixels, agree = zero_skip(context.seed)
    context.progress(0.6)
    both, one = gradients_reaching("SUM", context.seed), gradients_reaching("MAX", context.seed)
    return {"rows": [
        exact("Concatenating features and scoring them by a 1x1 convolution commutes: the sum of the scores of each is the same",
              "4.3", "Concat and one 1x1 convolution beside two and an Eltwise sum, the same weights, float64", "equal",
              difference(commuted), commuted < 1e-12, "Both are linear; the interpolation between them is, too."),
        exact("Score layers that start at zero do not interfere with the predictions of the other streams", "4.3",
              f"FCN-16s with a new skip (VGG16's layers at {WIDTH} channels, {SIZE[0]}x{SIZE[1]}): the fused scores beside the "
              "upsampled ones of the coarse stream", "no interference", difference(untouched), untouched == 0,
              "The answer in pixels is still not that of FCN-32s, since 2x after 16x bilinear interpolation is not 32x: the "
              f"scores differ by {100 * pixels:.1f} % of the largest, {100 * agree:.2f} % of the pixels get the same class."),
        exact("Under a maximum the gradient switches between the streams", "4.3",
              "Eltwise SUM and MAX of two streams: the share of scores that get a gradient in both", "switching",
              f"sum {100 * both:.0f} %, max {100 * one:.0f} %", both == 1 and one == 0,
              "That learning with it is difficult is seen only in training."),
    ], "numbers": {"commuted": commuted, "pixels": pixels, "same_class": agree}}


def concat_against_sum(seed):
    """Return the difference of scoring the concatenation and of summing the scores, of the largest score."""
    scores = []
    for joined in (True, False):
        n = NetSpec()
        streams = [nets.image(n, 2, channels, 9, 11, name=name) for name, channels in (("fine", 12), ("coarse", 20))]
        if joined:
            n.joined = L.Concat(*streams)
            n.score = L.Convolution(n.joined, num_output=5, kernel_size=1, bias_term=False)
        else:
            parts = [L.Convolution(stream, num_output=5, kernel_size=1, bias_term=False) for stream in streams]
            n.score_fine, n.score_coarse = parts
            n.score = L.Eltwise(*parts, operation=P.Eltwise.SUM)
        net = nets.make(n)
        rng = np.random.default_rng(seed)
        weights = rng.standard_normal((5, 32, 1, 1))
        for name in ("fine", "coarse"):
            net.blobs[name].data[...] = rng.standard_normal(net.blobs[name].shape)
        for name, part in (("score", weights), ("score_fine", weights[:, :12]), ("score_coarse", weights[:, 12:])):
            if name in net.params:
                net.params[name][0].data[...] = part
        net.forward()
        scores.append(net.blobs["score"].data.copy())
    return nets.worst(*scores)


def zero_skip(seed):
    """Return (difference of fused and coarse scores, of the pixels' scores from FCN-32s's, share of pixels classed alike)."""
    shapes = {"data": (1, 3, *SIZE)}
    coarse, fine = (nets.make(nets.thin(nets.with_inputs(families.vgg(VOC, "deploy", 21, finest=finest), shapes), WIDTH), seed)
                    for finest in (32, 16))
    for name, blobs in fine.params.items():
        for blob, source in zip(blobs, coarse.params.get(name, ())):
            blob.data[...] = source.data
    for blob in fine.params["score_pool4"]:
        blob.data[...] = 0  # as Caffe starts it
    for net in (coarse, fine):
        net.blobs["data"].data[...] = 50 * np.random.default_rng(seed).standard_normal(shapes["data"])
        net.forward()
    a, b = (net.blobs["score"].data for net in (fine, coarse))
    upscored = fine.blobs["upscore2"].data
    return (nets.worst(fine.blobs["fuse_pool4"].data, upscored), nets.worst(a, b),
            float((a.argmax(axis=1) == b.argmax(axis=1)).mean()))


def gradients_reaching(operation, seed):
    """Return the share of fused scores whose gradient reaches both streams."""
    n = NetSpec()
    streams = [nets.image(n, 1, 5, 8, 8, name=name) for name in ("fine", "coarse")]
    n.fused = L.Eltwise(*streams, operation=getattr(P.Eltwise, operation))
    nets.weighted_sum(n, n.fused, (1, 5, 8, 8))
    net = nets.make(n, backward=True)
    rng = np.random.default_rng(seed)
    for blob in net.inputs:
        net.blobs[blob].data[...] = rng.standard_normal(net.blobs[blob].shape)
    net.forward()
    net.backward()
    return float(((net.blobs["fine"].diff != 0) & (net.blobs["coarse"].diff != 0)).mean())

"""The pieces that FCNs are put together from, each a function on a NetSpec `n` that adds layers and returns a top."""

import math

from netspec.coord_map import coord_map_from_to, crop
from netspec.spec import layers as L
from netspec.spec import params as P

# Weights and bias of a learned layer: the bias learns twice as fast and does not decay.
LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FIXED = [{"lr_mult": 0}]
FROZEN = [{"lr_mult": 0, "decay_mult": 0}] * 2  # weights and bias
RATES = {"published": LEARNED, "paper": [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 1}]}
IGNORED_LABEL = 255


def trunk_rates(design, published=None):
    """Return the `param` of a trunk's layers: `published` unless the design says frozen features or other biases."""
    if design.features == "fixed":
        return FROZEN
    if design.biases == "published":
        return LEARNED if published is None else published
    return RATES[design.biases]


def conv_relu(n, name, relu, bottom, num_output, kernel_size=3, stride=1, pad=1, param=None, **fields):
    """Add a convolution `name` and, in place, its ReLU named `relu`; `fields` go into the convolution_param."""
    param = LEARNED if param is None else param
    if param:
        fields["param"] = param
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, **fields)
    n[relu] = L.ReLU(n[name], in_place=True)
    return n[relu]


def max_pool(n, name, bottom, kernel_size=2, stride=2, **fields):
    """Add max pooling; `fields` go into the pooling_param."""
    n[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, stride=stride, **fields)
    return n[name]


def halved(n, name, bottom):
    """Add the image at half its size: the mean of every 2x2 pixels."""
    n[name] = L.Pooling(bottom, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    return n[name]


def dropout(n, name, bottom, deploy, ratio=0.5):
    """Add dropout in place; a deploy net has none."""
    if deploy:
        return bottom
    n[name] = L.Dropout(bottom, dropout_ratio=ratio, in_place=True)
    return n[name]


def score(n, name, bottom, classes, biases="published"):
    """Add a 1x1 convolution to `classes` scores. It has no filler, so it starts at zero: every class is as likely."""
    n[name] = L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0, param=RATES[biases])
    return n[name]


def upscore(n, name, bottom, classes, kernel_size, stride, grouped=False, learned=False):
    """Add upsampling by `stride`: a deconvolution without bias, with rate 0 unless `learned`.

    Published nets leave its kernel at zero and `start.interp` fills the diagonal of classes x classes kernels.
    `grouped` has one kernel a class and the bilinear filler, which needs no start and 1 / classes of the work.
    """
    fields = {"num_output": classes, "kernel_size": kernel_size, "stride": stride, "bias_term": False}
    if grouped:
        fields.update(group=classes, weight_filler={"type": "bilinear"})
    n[name] = L.Deconvolution(bottom, convolution_param=fields, param=LEARNED[:1] if learned else FIXED)
    return n[name]


def fixed_scale(n, name, bottom, value):
    """Add a multiplication by a constant that is not learned."""
    n[name] = L.Scale(bottom, filler={"type": "constant", "value": value}, param=FIXED)
    return n[name]


def skip(n, name, stream, upscored, classes, design, head="", padded=True):
    """Fuse `stream` into `upscored`: score it, crop one to the other, add (or take the larger: ``design.fusion``).

    With wide padding the stream reaches beyond `upscored` and its score is cropped, to ``score_<name>c``; without, it is
    `upscored` that is cropped, to ``upscore_<name>c``. Returns ``fuse_<name>``. `head` is appended to all names.
    """
    scored = score(n, f"score_{name}{head}", stream, classes, design.biases)
    if padded:
        n[f"score_{name}{head}c"] = scored = crop(scored, upscored)
    else:
        n[f"upscore_{name}{head}c"] = upscored = crop(upscored, scored)
    pair = (upscored, scored)
    operation = P.Eltwise.MAX if design.fusion == "max" else P.Eltwise.SUM
    n[f"fuse_{name}{head}"] = L.Eltwise(*pair, operation=operation)
    return n[f"fuse_{name}{head}"]


def aligned(top_from, top_to, design):
    """Return `top_from` cropped to `top_to`, pixel on pixel; with upsampling "corners" half a pixel before it."""
    if design.upsampling == "centred":
        return crop(top_from, top_to)
    _, _, shift = coord_map_from_to(top_from, top_to)
    return L.Crop(top_from, top_to, crop_param={"axis": 2, "offset": [math.floor(-shift[0])]})


def with_null_channel(n, scores, classes):
    """Return `scores` (classes - 1 channels) with a channel of zeros before them, whatever their size.

    The zeros are one of the channels times 0: Caffe's Power then looks at no value.
    """
    if classes == 2:
        n.null = L.Power(scores, scale=0)
        return L.Concat(n.null, scores)
    n.one_of_them, n.others = L.Slice(scores, ntop=2, axis=1, slice_point=[1])
    n.others_unused = L.Silence(n.others, ntop=0)
    n.null = L.Power(n.one_of_them, scale=0)
    return L.Concat(n.null, scores)


def diagonal(n, name, values):
    """Return a blob (1, 1, K, K) with the K `values` on its diagonal and zeros elsewhere, of Caffe's own layers.

    In a row-major matrix the diagonal's values are K apart from each other with K zeros between: one blob for each
    value and one of K zeros, put one after the other.
    """
    count = len(values)
    if count == 1:
        n[name] = L.DummyData(shape={"dim": [1, 1, 1, 1]}, data_filler={"type": "constant", "value": values[0]})
        return n[name]
    pieces = L.DummyData(ntop=count + 1, shape=[{"dim": [1, 1]}] * count + [{"dim": [1, count]}],
                         data_filler=[{"type": "constant", "value": value} for value in (*values, 0)])
    for number, piece in enumerate(pieces[:-1]):
        n[f"{name}_{number}"] = piece
    n[f"{name}_zeros"] = zeros = pieces[-1]
    between = [blob for piece in pieces[:-2] for blob in (piece, zeros)]
    n[f"{name}_row"] = L.Concat(*between, pieces[-2], axis=1)
    n[name] = L.Reshape(n[f"{name}_row"], reshape_param={"shape": {"dim": [1, 1, count, count]}})
    return n[name]

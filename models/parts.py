"""The pieces that FCNs are put together from, each a function on a NetSpec `n` that adds layers and returns a top."""

from netspec.coord_map import crop
from netspec.spec import layers as L
from netspec.spec import params as P

# Weights and bias of a learned layer: the bias learns twice as fast and does not decay.
LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FIXED = [{"lr_mult": 0}]
IGNORED_LABEL = 255


def conv_relu(n, name, relu, bottom, num_output, kernel_size=3, stride=1, pad=1, param=None, **fields):
    """Add a convolution `name` and, in place, its ReLU named `relu`; `fields` go into the convolution_param."""
    param = LEARNED if param is None else param
    if param:
        fields["param"] = param
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, **fields)
    n[relu] = L.ReLU(n[name], in_place=True)
    return n[relu]


def max_pool(n, name, bottom, kernel_size=2, stride=2):
    """Add max pooling."""
    n[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, stride=stride)
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


def score(n, name, bottom, classes):
    """Add a 1x1 convolution to `classes` scores. It has no filler, so it starts at zero: every class is as likely."""
    n[name] = L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0, param=LEARNED)
    return n[name]


def upscore(n, name, bottom, classes, kernel_size, stride, grouped=False):
    """Add fixed upsampling by `stride`: a deconvolution without bias and with rate 0.

    Published nets leave its kernel at zero and `start.interp` fills the diagonal of classes x classes kernels.
    `grouped` has one kernel a class and the bilinear filler, which needs no start and 1 / classes of the work.
    """
    fields = {"num_output": classes, "kernel_size": kernel_size, "stride": stride, "bias_term": False}
    if grouped:
        fields.update(group=classes, weight_filler={"type": "bilinear"})
    n[name] = L.Deconvolution(bottom, convolution_param=fields, param=FIXED)
    return n[name]


def fixed_scale(n, name, bottom, value):
    """Add a multiplication by a constant that is not learned."""
    n[name] = L.Scale(bottom, filler={"type": "constant", "value": value}, param=FIXED)
    return n[name]


def skip(n, pool, upscored, classes, head="", scale=None):
    """Fuse the stream of the blob `pool` into `upscored`: score it, crop it to `upscored`, add.

    Returns ``fuse_<pool><head>``. With `scale` the stream is first multiplied by this constant (at-once training).
    """
    bottom = n[pool] if scale is None else fixed_scale(n, f"scale_{pool}", n[pool], scale)
    name = f"score_{pool}{head}"
    score(n, name, bottom, classes)
    n[f"{name}c"] = crop(n[name], upscored)
    n[f"fuse_{pool}{head}"] = L.Eltwise(upscored, n[f"{name}c"], operation=P.Eltwise.SUM)
    return n[f"fuse_{pool}{head}"]


def skip_unpadded(n, pool, stream, upscored, classes):
    """Fuse the blob `stream` into `upscored` in a net without the wide padding.

    There `upscored` reaches beyond the stream, so it is `upscored` that is cropped: to ``upscore_<pool>c``.
    """
    name = f"score_{pool}"
    score(n, name, stream, classes)
    n[f"upscore_{pool}c"] = crop(upscored, n[name])
    n[f"fuse_{pool}"] = L.Eltwise(n[f"upscore_{pool}c"], n[name], operation=P.Eltwise.SUM)
    return n[f"fuse_{pool}"]


def softmax_loss(n, name, scores, label, normalize):
    """Add the loss over all pixels but those labelled 255: their sum, or with `normalize` their mean."""
    n[name] = L.SoftmaxWithLoss(scores, label, loss_param={"normalize": normalize, "ignore_label": IGNORED_LABEL})
    return n[name]

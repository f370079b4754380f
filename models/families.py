"""Whole FCNs: data layer, trunk, streams and loss. A model's `net.py` calls one of these with its own numbers."""

from models import parts, trunks
from netspec.coord_map import crop
from netspec.errors import Error
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P

GEOMETRIC_CLASSES = 3  # SIFT Flow's second task: sky, vertical, horizontal
LARGEST = 100000  # classes; more is a slip of the keyboard, refused before any memory is taken


def check_classes(classes):
    """Return the number of classes as an int, refused when it cannot be one."""
    if not 1 <= int(classes) <= LARGEST:
        raise Error(f"classes is {classes}; give 1 to {LARGEST}, background included")
    return int(classes)


def vgg(dataset, split, classes, data=None, finest=32, scales=None):
    """Return FCN-32s, -16s or -8s (`finest`) on VGG16 with one score.

    `scales` = {"pool4": 0.01, ...} multiplies the skip streams for training all at once.
    """
    n = NetSpec()
    dataset.add(n, split, data)
    top = trunks.vgg16(n, n.data, split == "deploy")
    return finish(n, top, classes, split, finest, scales)


def finish(n, top, classes, split, finest=32, scales=None, normalize=False, last_kernel=None):
    """Add the streams from the trunk's `top` and the loss on blob "label"; return the message."""
    n.score = streams(n, top, check_classes(classes), finest, scales=scales, last_kernel=last_kernel)
    if split != "deploy":
        parts.softmax_loss(n, "loss", n.score, n.label, normalize)
    return n.to_proto()


def streams(n, bottom, classes, finest=32, head="", scales=None, last_kernel=None):
    """Score `bottom` (stride 32), fuse pool4 and pool3 where `finest` is 16 or 8, upsample to the image and crop.

    Returns the crop, which the caller names. `head` is appended to the names; `last_kernel` is the size of the last
    upsampling, 2 x `finest` when not given.
    """
    scales = scales or {}
    stride = 32
    top = parts.score(n, f"score_fr{head}", bottom, classes)
    name = f"upscore2{head}"
    while stride > finest:
        pool = {32: "pool4", 16: "pool3"}[stride]
        top = parts.upscore(n, name, top, classes, 4, 2)
        top = parts.skip(n, pool, top, classes, head, scales.get(pool))
        name = f"upscore_{pool}{head}"
        stride //= 2
    name = f"upscore{'' if stride == 32 else stride}{head}"
    top = parts.upscore(n, name, top, classes, last_kernel or 2 * stride, stride)
    return crop(top, n.data)


def vgg_two_heads(dataset, split, classes, data=None, finest=32):
    """Return an FCN on VGG16 that scores semantic (blob "sem") and geometric classes ("geo") from one trunk."""
    n = NetSpec()
    dataset.add(n, split, data, tops=("data", "sem", "geo"))
    top = trunks.vgg16(n, n.data, split == "deploy")
    for head, count, loss in (("sem", check_classes(classes), "loss"), ("geo", GEOMETRIC_CLASSES, "loss_geo")):
        n[f"score_{head}"] = streams(n, top, count, finest, f"_{head}")
        if split != "deploy":
            parts.softmax_loss(n, loss, n[f"score_{head}"], n[head], normalize=False)
    return n.to_proto()


def vgg_single_modality(dataset, split, classes, data=None, modality="color"):
    """Return FCN-32s of NYUDv2 on one modality, which the data layer gives under the name "data"."""
    n = NetSpec()
    dataset.add(n, split, data, params={"tops": [modality, "label"]})
    top = trunks.vgg16(n, n.data, split == "deploy")
    return finish(n, top, classes, split)


def vgg_early_fusion(dataset, split, classes, data=None, channels=(("color", 3), ("depth", 1))):
    """Return FCN-32s of NYUDv2 on modalities concatenated as channels, which a new first layer takes."""
    n = NetSpec()
    modalities = [name for name, _ in channels]
    tops = [*modalities, "label"]
    dataset.add(n, split, data, tops, {"tops": tops}, channels)
    n.data = L.Concat(*(n[name] for name in modalities))
    top = trunks.vgg16(n, n.data, split == "deploy", first="conv1_1_bgrd")
    return finish(n, top, classes, split)


def vgg_late_fusion(dataset, split, classes, data=None, modalities=("color", "hha")):
    """Return FCN-32s of NYUDv2 with a trunk for each modality, whose scores are averaged before upsampling."""
    n = NetSpec()
    classes = check_classes(classes)
    tops = [*modalities, "label"]
    dataset.add(n, split, data, tops, {"tops": tops}, [(name, 3) for name in modalities])
    scores = [parts.score(n, f"score_fr{name}", trunks.vgg16(n, n[name], split == "deploy", tail=name), classes)
              for name in modalities]
    n.score_fused = L.Eltwise(*scores, operation=P.Eltwise.SUM, coeff=[1 / len(scores)] * len(scores))
    n.score = crop(parts.upscore(n, "upscore", n.score_fused, classes, 64, 32), n[modalities[0]])
    if split != "deploy":
        parts.softmax_loss(n, "loss", n.score, n.label, normalize=False)
    return n.to_proto()


def alexnet(dataset, split, classes, data=None):
    """Return FCN-32s on AlexNet. Its last kernel is odd: with 64 the crop would start at half a pixel."""
    n = NetSpec()
    dataset.add(n, split, data)
    top = trunks.alexnet(n, n.data, split == "deploy")
    return finish(n, top, classes, split, last_kernel=63, normalize=True)


def squeezenet(dataset, split, classes, data=None, scales=(0.03, 0.03, 0.003), trunk_rate=1, pad=3):
    """Return an FCN-8s on SqueezeNet v1.0: streams at strides 32, 16 and 8, all trained at once.

    SqueezeNet saw crops of 227 pixels and its last layer a field of 155, so the image is halved first: in a photograph
    of 500 pixels its objects have the size they were learned at, and a step takes less than half the time. Its features
    are not normalised: each stream is multiplied by a constant before it is scored (as in the paper's at-once FCN-8s):
    `scales` of fire9, fire8 and fire4. `trunk_rate` is the lr_mult of the pretrained layers. Its poolings are 3x3, so
    the kernels of the upsampling between streams are odd: even ones would be half a pixel off.
    """
    n = NetSpec()
    classes = check_classes(classes)
    dataset.add(n, split, data)
    rates = [{"lr_mult": trunk_rate, "decay_mult": 1}, {"lr_mult": 2 * trunk_rate, "decay_mult": 0}]
    top = trunks.squeezenet(n, parts.halved(n, "data_half", n.data), split == "deploy", pad, rates)
    top = parts.fixed_scale(n, "scale_fire9", top, scales[0])
    top = parts.score(n, "score_fire9", top, classes)
    top = parts.upscore(n, "upscore2", top, classes, 3, 2, grouped=True)
    for fire, scale, name in (("fire8", scales[1], "upscore_fire8"), ("fire4", scales[2], None)):
        stream = parts.fixed_scale(n, f"scale_{fire}", n[f"{fire}/concat"], scale)
        top = parts.skip_unpadded(n, fire, stream, top, classes)
        if name:
            top = parts.upscore(n, name, top, classes, 3, 2, grouped=True)
    n.score = crop(parts.upscore(n, "upscore8", top, classes, 16, 8, grouped=True), n.data)
    if split != "deploy":
        parts.softmax_loss(n, "loss", n.score, n.label, normalize=True)
    return n.to_proto()


def narrow(dataset, split, classes, data=None, widths=(16, 32, 64, 96, 128), convolutions=2, fc_width=128, fc_kernel=3,
           dropout=0.0, input_scale=1 / 64):
    """Return an FCN-8s on a narrow VGG that learns from scratch, for small images and a CPU.

    The first convolution pads by 1, so it is the upsampled scores that are cropped to the skips. Pixels are multiplied
    by `input_scale` to have a spread of about 1, which the msra filler keeps through the layers.
    """
    n = NetSpec()
    classes = check_classes(classes)
    dataset.add(n, split, data)
    top = parts.fixed_scale(n, "scaled", n.data, input_scale)
    top = trunks.narrow_vgg(n, top, widths, convolutions, fc_width, fc_kernel, split == "deploy", dropout)
    top = parts.score(n, "score_fr", top, classes)
    for pool, name in (("pool4", "upscore2"), ("pool3", "upscore_pool4")):
        top = parts.upscore(n, name, top, classes, 4, 2, grouped=True)
        top = parts.skip_unpadded(n, pool, n[pool], top, classes)
    n.score = crop(parts.upscore(n, "upscore8", top, classes, 16, 8, grouped=True), n.data)
    if split != "deploy":
        parts.softmax_loss(n, "loss", n.score, n.label, normalize=True)
    return n.to_proto()

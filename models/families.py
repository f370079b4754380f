"""Whole FCNs: data layer, trunk, streams and loss. A model's `net.py` calls one of these with its own numbers.

`given` are the options of a `design.Design`; small nets for a CPU are in `small`.
"""

from models import forms, parts, streams, trunks
from models.design import design
from models.losses import GEOMETRIC_CLASSES, check_classes, finish, scored
from netspec.coord_map import crop
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P


def vgg(dataset, split, classes, data=None, scales=None, **given):
    """Return FCN-32s, -16s or -8s (`finest`) on VGG16 with one score, or with `only` a pool's a truncated net.

    `scales` = {"pool4": 0.01, ...} multiplies the skip streams for training all at once.
    """
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan)
    top = trunks.vgg16(n, n.data, split == "deploy", pad=plan.pad, param=parts.trunk_rates(plan), last=plan.only)
    count = scored(classes, plan)
    if plan.form != "plain":
        return forms.finished(n, streams.scored_once(n, top, count, plan), classes, split, dataset.splits, plan)
    if plan.only:
        scores = streams.single(n, plan.only, count, plan)
    else:
        scores = streams.fused(n, top, count, plan, scales=scales)
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()


def vgg_two_heads(dataset, split, classes, data=None, **given):
    """Return an FCN on VGG16 that scores semantic (blob "sem") and geometric classes ("geo") from one trunk."""
    n, plan = NetSpec(), design(given)
    dataset.add(n, split, data, plan, ("data", "sem", "geo"))
    top = trunks.vgg16(n, n.data, split == "deploy", param=parts.trunk_rates(plan))
    for head, count, loss in (("sem", check_classes(classes), "loss"), ("geo", GEOMETRIC_CLASSES, "loss_geo")):
        scores = streams.fused(n, top, count, plan, head=f"_{head}")
        finish(n, scores, count, split, dataset.splits, plan, head, loss, f"score_{head}")
    return n.to_proto()


def vgg_single_modality(dataset, split, classes, data=None, modality="color", **given):
    """Return FCN-32s of NYUDv2 on one modality, which the data layer gives under the name "data"."""
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan, params={"tops": [modality, "label"]})
    top = trunks.vgg16(n, n.data, split == "deploy", param=parts.trunk_rates(plan))
    finish(n, streams.fused(n, top, classes, plan), classes, split, dataset.splits, plan)
    return n.to_proto()


def vgg_early_fusion(dataset, split, classes, data=None, channels=(("color", 3), ("depth", 1)), **given):
    """Return FCN-32s of NYUDv2 on modalities concatenated as channels, which a new first layer takes."""
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    modalities = [name for name, _ in channels]
    tops = [*modalities, "label"]
    dataset.add(n, split, data, plan, tops, {"tops": tops}, channels)
    n.data = L.Concat(*(n[name] for name in modalities))
    top = trunks.vgg16(n, n.data, split == "deploy", first="conv1_1_bgrd", param=parts.trunk_rates(plan))
    finish(n, streams.fused(n, top, classes, plan), classes, split, dataset.splits, plan)
    return n.to_proto()


def vgg_late_fusion(dataset, split, classes, data=None, modalities=("color", "hha"), **given):
    """Return FCN-32s of NYUDv2 with a trunk for each modality, whose scores are joined before upsampling."""
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    tops = [*modalities, "label"]
    dataset.add(n, split, data, plan, tops, {"tops": tops}, [(name, 3) for name in modalities])
    rates = parts.trunk_rates(plan)
    scores = [parts.score(n, f"score_fr{name}", trunks.vgg16(n, n[name], split == "deploy", name, param=rates), classes,
                          plan.biases) for name in modalities]
    share = 1 / len(scores) if plan.late == "average" else 1
    n.score_fused = L.Eltwise(*scores, operation=P.Eltwise.SUM, coeff=[share] * len(scores))
    scores = crop(parts.upscore(n, "upscore", n.score_fused, classes, 64, 32), n[modalities[0]])
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()


def alexnet(dataset, split, classes, data=None, **given):
    """Return FCN-32s on AlexNet. Its last kernel is odd: with 64 the crop would start at half a pixel."""
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan)
    top = trunks.alexnet(n, n.data, split == "deploy", plan.pad, parts.trunk_rates(plan, published=[]))
    scores = streams.fused(n, top, scored(classes, plan), plan, last_kernel=63)
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()


def googlenet(dataset, split, classes, data=None, **given):
    """Return FCN-32s on GoogLeNet with its last classifier's features only. Its last kernel is odd, as AlexNet's."""
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan)
    top = trunks.googlenet(n, n.data, split == "deploy", plan.pad, average_pool=plan.average_pool, param=parts.trunk_rates(plan))
    scores = streams.fused(n, top, scored(classes, plan), plan, last_kernel=63)
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()

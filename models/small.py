"""FCNs that learn on a CPU: on SqueezeNet from ImageNet's weights, and a narrow VGG from scratch.

They take the options of the paper's nets (`design.Design`), so that what the paper compares can be compared here.
"""

from models import forms, parts, streams, trunks
from models.design import design
from models.losses import check_classes, finish, scored
from netspec.spec import NetSpec

FIRES = (("fire8/concat", "fire8"), ("fire4/concat", "fire4"))


def squeezenet(dataset, split, classes, data=None, scales=(0.03, 0.03, 0.003), trunk_rate=1, pad=3, **given):
    """Return an FCN on SqueezeNet v1.0: streams at strides 32, 16 and 8, as many as `finest` says.

    SqueezeNet saw crops of 227 pixels and its last layer a field of 155, so the image is halved first: in a photograph
    of 500 pixels its objects have the size they were learned at, and a step takes less than half the time. Its features
    are not normalised: each stream is multiplied by a constant before it is scored (as in the paper's at-once FCN-8s):
    `scales` of fire9, fire8 and fire4. `trunk_rate` is the lr_mult of the pretrained layers. Its poolings are 3x3, so
    the kernels of the upsampling between streams are odd: even ones would be half a pixel off.
    """
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan)
    rates = [{"lr_mult": trunk_rate, "decay_mult": 1}, {"lr_mult": 2 * trunk_rate, "decay_mult": 0}]
    rates = parts.trunk_rates(plan, published=rates)
    top = trunks.squeezenet(n, parts.halved(n, "data_half", n.data), split == "deploy", pad, rates)
    top = parts.fixed_scale(n, "scale_fire9", top, scales[0])
    scores = streams.fused(n, top, scored(classes, plan), plan, FIRES, "score_fire9", between=3, grouped=True,
                           padded=False, scales={"fire8": scales[1], "fire4": scales[2]})
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()


def narrow(dataset, split, classes, data=None, widths=(16, 32, 64, 96, 128), convolutions=2, fc_width=128, fc_kernel=3,
           dropout=0.0, input_scale=1 / 64, scales=None, **given):
    """Return an FCN on a narrow VGG that learns from scratch, for small images and a CPU.

    The first convolution pads by 1, so it is the upsampled scores that are cropped to the skips. Pixels are multiplied
    by `input_scale` to have a spread of about 1, which the msra filler keeps through the layers.
    """
    n, plan, classes = NetSpec(), design(given), check_classes(classes)
    dataset.add(n, split, data, plan)
    top = parts.fixed_scale(n, "scaled", n.data, input_scale)
    top = trunks.narrow_vgg(n, top, widths, convolutions, fc_width, fc_kernel, split == "deploy", dropout,
                            parts.trunk_rates(plan), plan.only)
    count = scored(classes, plan)
    if plan.form != "plain":
        return forms.finished(n, streams.scored_once(n, top, count, plan), classes, split, dataset.splits, plan)
    if plan.only:
        scores = streams.single(n, plan.only, count, plan, grouped=True)
    else:
        scores = streams.fused(n, top, count, plan, scales=scales, grouped=True, padded=False)
    finish(n, scores, classes, split, dataset.splits, plan)
    return n.to_proto()

"""The dense forms of a net with one stream (paper 3.2): a score for each pixel without upsampling."""

import math

from models import dense
from models.losses import finish
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P


def finished(n, top, classes, split, splits, design):
    """Return the message of the NetSpec `n`, whose last layer makes the scores `top`, in the form that `design` says.

    All padding goes before the trunk, and so much more that the scores reach over the image even where the last shift
    loses some. The centres of the even windows of poolings lie between pixels: there the mean of 2x2 scores is taken.
    """
    net = n.to_proto()
    stride, offset = dense.subsampling(net)
    more = math.ceil(offset) + stride
    offset -= more
    net = dense.padded_first(net, more=more)
    net = (dense.dilated if design.form == "dilated" else dense.stitched)(net)
    tail = NetSpec()
    for name in ("data", "label", top):
        tail[name] = L.Input()
    scores = tail[top]
    if offset.denominator == 2:
        tail.score_aligned = scores = L.Pooling(scores, pool=P.Pooling.AVE, kernel_size=2, stride=1)
        offset += 0.5
    scores = L.Crop(scores, tail.data, crop_param={"axis": 2, "offset": [int(-offset)]})
    finish(tail, scores, classes, split, splits, design)
    net.layer.extend(layer for layer in tail.to_proto().layer if layer.type != "Input")
    return net

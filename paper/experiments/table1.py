"""Table 1: layers, parameters, receptive fields and strides of the three nets."""

import numpy as np

from models import families
from models.datasets import VOC
from netspec.measure import measure
from paper import nets
from paper.experiment import exact

TITLE = "The three nets of Table 1"
PLACE = "Table 1"
MINUTES = 0.3
NEEDS = ()
DEPENDS = ("paper/nets.py",)
PAPER = {  # net: conv. layers, parameters in millions, receptive field, stride
    "FCN-AlexNet": (8, 57, 355, 32), "FCN-VGG16": (16, 134, 404, 32), "FCN-GoogLeNet": (22, 6, 907, 32),
}
WITH_POOL = "FCN-GoogLeNet with the average pooling"


def message(name):
    """Return the deploy net of a column of the table."""
    if name == "FCN-AlexNet":
        return families.alexnet(VOC, "deploy", 21)
    if name == "FCN-VGG16":
        return families.vgg(VOC, "deploy", 21)
    return families.googlenet(VOC, "deploy", 21, average_pool=name == WITH_POOL)


def run(context):
    """Count and measure."""
    rows, numbers = [], {}
    for number, (name, (layers, millions, field, stride)) in enumerate(PAPER.items()):
        found = describe(name)
        seen = measured_field(name, found["field"])
        context.progress((number + 1) / 5)
        numbers[name] = {**found, "measured_field": seen}
        rows += [
            exact(f"{name} has {layers} layers with parameters", "Table 1", "convolutions on the longest way from the image to "
                  "the score, of the recipe", layers, found["depth"], found["depth"] == layers,
                  f"GoogLeNet has {found['convolutions']} convolutions beside each other." if "Google" in name else ""),
            exact(f"{name} has {millions}M parameters", "Table 1", "learned parameters of the recipe, counted", f"{millions}M",
                  f"{found['learned']:,}", round(found["learned"] / 1e6) == millions,
                  f"Fixed upsampling kernels, {found['fixed']:,} more, are not counted."),
            exact(f"The coarsest stride of {name} is {stride}", "Table 1", "stride of the score, by the rule of section 3",
                  stride,
                  found["stride"], found["stride"] == stride),
        ]
        if found["field"] == field:
            rows.append(exact(f"The outputs of {name} have a receptive field of {field}", "Table 1", "by the rule of section 3, "
                              "and the input pixels that one score has a gradient at", field, seen, seen == field))
    context.progress(0.8)
    pooled = describe(WITH_POOL)["field"]
    without = numbers["FCN-GoogLeNet"]["measured_field"]
    rows.append(exact(
        "The outputs of FCN-GoogLeNet have a receptive field of 907", "Table 1", "as above, without the final average pooling, "
        "as section 4.1 describes the net", 907, without, without == 907,
        f"With the 7x7 average pooling, which the text discards, it is {pooled}: the table counts that pooling."))
    numbers["field with the average pooling"] = pooled
    return {"rows": rows, "numbers": numbers}


def describe(name):
    """Return counts of a net, and the field and stride of its score, from its prototxt alone."""
    net = message(name)
    rows = measure(net)
    score = next(row for row in rows if row.layer == "score_fr")
    depth = {}
    for layer in net.layer:
        below = max((depth[bottom] for bottom in layer.bottom), default=0)
        for top in layer.top:
            depth[top] = below + (layer.type == "Convolution")
    return {
        "depth": depth["score_fr"], "convolutions": sum(layer.type == "Convolution" for layer in net.layer),
        "learned": sum(row.learned for row in rows), "fixed": sum(row.params - row.learned for row in rows),
        "field": int(score.field[0]), "stride": int(score.stride[0]),
    }


def measured_field(name, field):
    """Return the width of what a score in the middle has a gradient at, in the net with one channel of positive weights."""
    size = field + 160
    net = nets.averaging(message(name), (size, size), backward=True)
    net.blobs["data"].data[...] = 1
    net.forward()
    score = net.blobs["score_fr"]
    score.diff[...] = 0
    score.diff[0, 0, score.shape[2] // 2, score.shape[3] // 2] = 1
    net.backward(start="score_fr")
    reached = np.flatnonzero(net.blobs["data"].diff[0, 0].any(axis=0))
    return int(reached[-1] - reached[0] + 1)

"""The crops that "follow automatically" (section 4.3): published offsets, alignment, every size of input, the least padding."""

import importlib

import numpy as np

from models import parts, trunks
from models.datasets import VOC
from netspec import geometry
from netspec.coord_map import crop
from netspec.errors import Error
from netspec.measure import measure
from netspec.spec import NetSpec
from paper import nets
from paper.experiment import difference, exact

TITLE = "Crop offsets, alignment and the sizes that fit"
PLACE = "4.3"
MINUTES = 0.5
NEEDS = ()
DEPENDS = ("paper/nets.py",)
# Offsets in each published net, as its prototxts say them; two heads have them twice.
PUBLISHED = {
    "fcn32s": [19], "fcn16s": [5, 27], "fcn8s": [5, 9, 31], "fcn8s_atonce": [5, 9, 31], "fcn_alexnet": [18],
    "nyud_fcn32s_color": [19], "nyud_fcn32s_hha": [19], "nyud_fcn32s_color_d": [19], "nyud_fcn32s_color_hha": [19],
    "siftflow_fcn32s": [19, 19], "siftflow_fcn16s": [5, 27] * 2, "siftflow_fcn8s": [5, 9, 31] * 2,
    "pascalcontext_fcn32s": [19], "pascalcontext_fcn16s": [5, 27], "pascalcontext_fcn8s": [5, 9, 31],
}
DEPLOYED = ("fcn8s",)  # of the published nets only this has a deploy prototxt, beside those to train and to test
STREAMS = ("fcn32s", "fcn16s", "fcn8s", "fcn_alexnet")
LARGEST = 3000


def run(context):
    """Count offsets, send ramps through every net, try all sizes."""
    same, files, offsets = offsets_as_published()
    ramps = {}
    for name in PUBLISHED:
        ramps[name] = error_of_ramp(name)
        context.progress(0.1 + 0.6 * len(ramps) / len(PUBLISHED))
    impulse = {name: field_offset(name) for name in PUBLISHED}
    covered = {name: sizes_covered(importlib.import_module(f"models.{name}.net").net("deploy")) for name in STREAMS}
    context.progress(0.9)
    least = least_padding()
    off = max(ramps.values())
    return {"rows": [
        exact("The offset of each crop follows from the net's definition", "4.3",
              f"offsets computed from maps of coordinates in exact fractions, for the {files} published prototxts of "
              f"{len(PUBLISHED)} nets", "19 (32s); 5, 27 (16s); 5, 9, 31 (8s); 18 (AlexNet)",
              f"{same} of {offsets} offsets as published", same == offsets),
        exact("Crops bring streams into exact alignment with each other and with the image", "4.3, Fig. 3",
              f"a plane as the image of all {len(PUBLISHED)} nets with averaging weights (one channel, average pooling, "
              "float64): the scores must be the same plane where no padding is seen", "exact alignment",
              difference(off), off < 1e-9,
              "A crop one pixel off would move the plane by one pixel. Off is in pixels."),
        exact("The field of each score is centred on its pixel", "4.3", "the centre of the first score's field, in exact "
              "fractions, for all of them", "pixel 0",
              f"pixel 0 in {sum(not any(one) for one in impulse.values())} of {len(impulse)}",
              not any(any(one) for one in impulse.values())),
        exact("An FCN takes an input of any size and answers at that size", "Fig. 1",
              f"sizes of every blob for inputs of 1 to {LARGEST} pixels, {', '.join(STREAMS)} (pad 100)", "any size",
              f"{min(covered.values())} of {LARGEST} sizes at least", min(covered.values()) == LARGEST,
              f"The paper does not say that the first convolution pads by 100. {least} is the least padding of FCN-32s that fits "
              "all sizes; the offset is the padding less 81."),
    ], "numbers": {"ramps": ramps, "covered": covered, "least_padding": least}}


def offsets_as_published():
    """Return (offsets that are as published, prototxts, offsets)."""
    same = files = offsets = 0
    for name, published in PUBLISHED.items():
        module = importlib.import_module(f"models.{name}.net")
        for split in module.SPLITS[: 3 if name in DEPLOYED else 2]:
            ours = [list(layer.crop_param.offset) for layer in module.net(split).layer if layer.type == "Crop"]
            files, offsets = files + 1, offsets + len(published)
            same += sum(mine == [theirs] for mine, theirs in zip(ours, published)) if len(ours) == len(published) else 0
    return same, files, offsets


def error_of_ramp(name, size=(704, 736)):
    """Return by how many pixels a net's scores are out of place: planes in, planes out, float64."""
    message = importlib.import_module(f"models.{name}.net").net("deploy")
    net = nets.averaging(message, size)
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    inside = tuple(slice(240, length - 240) for length in size)  # fields of 404 and an upsampling that sees two cells
    tops = [top for top in net.outputs if top.startswith("score")]
    gains, worst = {}, 0.0
    for plane in (np.zeros(size), rows, columns):
        for blob in net.inputs:
            net.blobs[blob].data[...] = 1000 + plane  # positive everywhere, so that ReLU does nothing
        net.forward()
        for top in tops:
            out = net.blobs[top].data[0, 0][inside]
            gains.setdefault(top, out / 1000)
            worst = max(worst, float(abs(out / gains[top] - 1000 - plane[inside]).max()))
    return worst


def field_offset(name):
    """Return the centres of the field of the first score along both axes, in pixels."""
    row = next(row for row in measure(importlib.import_module(f"models.{name}.net").net("deploy"))[::-1] if row.type == "Crop")
    return [float(one) for one in row.offset]


def sizes_covered(message, largest=LARGEST):
    """Return for how many input sizes 1 to `largest` every layer fits and the score has the size of the input."""
    given = np.arange(1, largest + 1)
    sizes, good = {}, np.ones(largest, bool)
    for layer in message.layer:
        bottoms = [sizes[name] for name in layer.bottom]
        out = bottoms[0] if bottoms else given
        if layer.type in ("Convolution", "Deconvolution"):
            kernel, stride, pad, dilation = (one[0] for one in geometry.kernel_stride_pad_dilation(layer.convolution_param, 2))
            extent = dilation * (kernel - 1) + 1
            out = (out + 2 * pad - extent) // stride + 1 if layer.type == "Convolution" else stride * (out - 1) + extent - 2 * pad
        elif layer.type == "Pooling":
            kernel, stride = layer.pooling_param.kernel_size, layer.pooling_param.stride
            out = -((kernel - out) // stride) + 1  # rounded up; no pooling here pads
        elif layer.type == "Crop":
            good &= layer.crop_param.offset[0] + bottoms[1] <= out
            out = bottoms[1]
        elif layer.type == "Eltwise":
            good &= bottoms[0] == bottoms[1]
        good &= out > 0
        for top in layer.top:
            sizes[top] = out
    return int((good & (sizes["score"] == given)).sum())


def least_padding():
    """Return the least padding of FCN-32s with which every size fits."""
    for pad in range(101):
        n = NetSpec()
        VOC.add(n, "deploy")
        top = parts.score(n, "score_fr", trunks.vgg16(n, n.data, True, pad=pad), 21)
        try:
            n.score = crop(parts.upscore(n, "upscore", top, 21, 64, 32), n.data)
        except Error:
            continue  # the scores do not reach the image's edge
        if sizes_covered(n.to_proto()) == LARGEST:
            return pad
    return None

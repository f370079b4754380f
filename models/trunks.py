"""Classification nets cast to fully convolutional ones: from the image to the features that are scored."""

from models import parts
from netspec.spec import layers as L
from netspec.spec import params as P

VGG16 = (  # (convolutions, channels) of the five stages; a 2x2 pooling ends each
    (2, 64), (2, 128), (3, 256), (3, 512), (3, 512),
)
SQUEEZENET = {  # fire module: channels of the squeezing and of each of the two expanding convolutions
    2: (16, 64), 3: (16, 64), 4: (32, 128),
    5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256),
    9: (64, 256),
}


def vgg16(n, bottom, deploy=False, tail="", first="conv1_1", pad=100, param=None, last=None):
    """Add VGG16 with fc6 and fc7 as convolutions; returns drop7 (in a deploy net relu7), at stride 32, field 404.

    The first convolution pads by `pad`: with 100 an image of any size keeps at least one output and every crop has
    whole, non-negative offsets. `tail` is appended to every name (two streams in one net), `first` names conv1_1.
    `param` are the layers' rate and decay factors; with `last`, such as "pool4", the trunk ends there.
    """
    for stage, (convolutions, channels) in enumerate(VGG16, start=1):
        for number in range(1, convolutions + 1):
            place = f"{stage}_{number}"
            opens = place == "1_1"
            bottom = parts.conv_relu(n, (first if opens else f"conv{place}") + tail, f"relu{place}{tail}", bottom,
                                     channels, pad=pad if opens else 1, param=param)
        bottom = parts.max_pool(n, f"pool{stage}{tail}", bottom)
        if last == f"pool{stage}":
            return bottom
    for number, kernel_size in ((6, 7), (7, 1)):
        bottom = parts.conv_relu(n, f"fc{number}{tail}", f"relu{number}{tail}", bottom, 4096, kernel_size, pad=0,
                                 param=param)
        bottom = parts.dropout(n, f"drop{number}{tail}", bottom, deploy)
    return bottom


def alexnet(n, bottom, deploy=False, pad=100, param=()):
    """Add CaffeNet (pooling before normalisation) as convolutions; returns drop7, at stride 32, field 355.

    As published its layers say no `param`: weights and biases learn and decay alike.
    """
    def conv(number, bottom, channels, kernel_size, stride=1, pad=0, group=1, prefix="conv"):
        return parts.conv_relu(n, f"{prefix}{number}", f"relu{number}", bottom, channels, kernel_size, stride, pad,
                               param=param, group=group)

    def normalised_pool(number, bottom):
        pool = parts.max_pool(n, f"pool{number}", bottom, 3, 2)
        n[f"norm{number}"] = L.LRN(pool, local_size=5, alpha=1e-4, beta=0.75)
        return n[f"norm{number}"]

    bottom = normalised_pool(1, conv(1, bottom, 96, 11, stride=4, pad=pad))
    bottom = normalised_pool(2, conv(2, bottom, 256, 5, pad=2, group=2))
    bottom = conv(3, bottom, 384, 3, pad=1)
    bottom = conv(4, bottom, 384, 3, pad=1, group=2)
    bottom = conv(5, bottom, 256, 3, pad=1, group=2)
    bottom = parts.max_pool(n, "pool5", bottom, 3, 2)
    for number, kernel_size in ((6, 6), (7, 1)):
        bottom = conv(number, bottom, 4096, kernel_size, prefix="fc")
        bottom = parts.dropout(n, f"drop{number}", bottom, deploy)
    return bottom


def squeezenet(n, bottom, deploy=False, pad=3, param=None):
    """Add SqueezeNet v1.0 up to drop9, with the layer names of its ImageNet weights; returns drop9, at stride 16 of bottom.

    Blobs for skips: ``fire4/concat`` at stride 4, ``fire8/concat`` at stride 8. The first convolution pads by `pad`
    (3 is the least that covers every image; the classifier has 0); `param` are its layers' rate and decay factors.
    """
    def conv(prefix, name, bottom, channels, kernel_size, stride=1, pad=0):
        return parts.conv_relu(n, f"{prefix}{name}", f"{prefix}relu_{name}", bottom, channels, kernel_size, stride, pad,
                               param, weight_filler={"type": "xavier"})

    bottom = conv("", "conv1", bottom, 96, 7, stride=2, pad=pad)
    bottom = parts.max_pool(n, "pool1", bottom, 3, 2)
    for number, (squeezed, expanded) in SQUEEZENET.items():
        fire = f"fire{number}/"
        narrow = conv(fire, "conv1x1_1", bottom, squeezed, 1)
        left = conv(fire, "conv1x1_2", narrow, expanded, 1)
        right = conv(fire, "conv3x3_2", narrow, expanded, 3, pad=1)
        n[f"{fire}concat"] = bottom = L.Concat(left, right)
        if number in (4, 8):
            bottom = parts.max_pool(n, f"pool{number}", bottom, 3, 2)
    return parts.dropout(n, "drop9", bottom, deploy)


GOOGLENET = {  # inception module: channels of 1x1, 3x3 (reduced to, to), 5x5 (reduced to, to) and behind the pooling
    "3a": (64, (96, 128), (16, 32), 32), "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64), "4b": (160, (112, 224), (24, 64), 64), "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64), "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128), "5b": (384, (192, 384), (48, 128), 128),
}


def googlenet(n, bottom, deploy=False, pad=100, average_pool=False, param=None):
    """Add GoogLeNet up to its last features, with BVLC's layer names; returns drop, at stride 32, field 715.

    The two classifiers on the side are left out ("only the final loss layer", paper 4.1) and so is the average pooling,
    which `average_pool` keeps as a 7x7 window: field 907. The first convolution pads by `pad` (the classifier's 3).
    """
    def conv(name, bottom, channels, kernel_size, stride=1, pad=None):
        place, _, last = name.rpartition("/")
        pad = kernel_size // 2 if pad is None else pad
        relu = f"{place}/relu_{last.removesuffix('_s2')}"
        return parts.conv_relu(n, name, relu, bottom, channels, kernel_size, stride, pad, param)

    def normalised(name, bottom):
        n[name] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
        return n[name]

    bottom = conv("conv1/7x7_s2", bottom, 64, 7, 2, pad)
    bottom = normalised("pool1/norm1", parts.max_pool(n, "pool1/3x3_s2", bottom, 3, 2))
    bottom = conv("conv2/3x3", conv("conv2/3x3_reduce", bottom, 64, 1), 192, 3)
    bottom = parts.max_pool(n, "pool2/3x3_s2", normalised("conv2/norm2", bottom), 3, 2)
    for place, (one, three, five, pooled) in GOOGLENET.items():
        name = f"inception_{place}/"
        branches = [conv(f"{name}1x1", bottom, one, 1)]
        for size, (reduced, channels) in (("3x3", three), ("5x5", five)):
            branches.append(conv(f"{name}{size}", conv(f"{name}{size}_reduce", bottom, reduced, 1), channels, int(size[0])))
        pool = parts.max_pool(n, f"{name}pool", bottom, 3, 1, pad=1)
        branches.append(conv(f"{name}pool_proj", pool, pooled, 1))
        n[f"{name}output"] = bottom = L.Concat(*branches)
        if place in ("3b", "4e"):
            bottom = parts.max_pool(n, f"pool{int(place[0])}/3x3_s2", bottom, 3, 2)
    if average_pool:
        n["pool5/7x7_s1"] = bottom = L.Pooling(bottom, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    return parts.dropout(n, "pool5/drop_7x7_s1", bottom, deploy, 0.4)


def narrow_vgg(n, bottom, widths, convolutions=2, fc_width=None, fc_kernel=3, deploy=False, dropout=0.0,
               param=None, last=None):
    """Add a small VGG that learns from scratch: `convolutions` of 3x3 to each of `widths`, a pooling after each stage.

    All convolutions keep the size (pad 1), their weights start with the msra filler. Ends in one convolution `fc6` of
    `fc_kernel` at the stride of the last pooling; its dropout is left out at ratio 0. `param` and `last` as in `vgg16`.
    """
    fields = {"weight_filler": {"type": "msra"}, "param": param}
    for stage, channels in enumerate(widths, start=1):
        for number in range(1, convolutions + 1):
            bottom = parts.conv_relu(n, f"conv{stage}_{number}", f"relu{stage}_{number}", bottom, channels, **fields)
        bottom = parts.max_pool(n, f"pool{stage}", bottom)
        if last == f"pool{stage}":
            return bottom
    bottom = parts.conv_relu(n, "fc6", "relu6", bottom, fc_width or widths[-1], fc_kernel, pad=fc_kernel // 2, **fields)
    return parts.dropout(n, "drop6", bottom, deploy, dropout) if dropout else bottom

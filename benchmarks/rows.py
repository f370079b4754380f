"""What is measured: the rows of the tables.

A row names a kind of work, a net and its sizes, which engines are timed beside ours, and its goals: the largest ratio of
our time to an engine's. Everywhere the goal against the best engine in float32 is 1.
"""

from typing import NamedTuple

from benchmarks import products

QUICK = ("ncnn", "openvino", "onnxruntime")  # the fastest; the others are timed where it says ALL
ALL = ("ncnn", "openvino", "openvino default", "onnxruntime", "opencv", "torch", "torch channels last")
LAYOUTS = ("torch", "torch channels last")
VOC = ((375, 500), (500, 375), (333, 500), (500, 334), (281, 500), (500, 500))  # sizes of PASCAL VOC's images
BEST = "best float32"
BETTER_TORCH = "torch, the better layout"


class Row(NamedTuple):
    """One row.

    Attributes
    ----------
    name : str
        What `--rows` is held against.
    kind : str
        "forward", "varying" (the sizes `VOC` in turn: calls on sizes met before have the goals, those that first met a size are a
        line of their own), "train", "product", "layers", "load", "parse" or "folder".
    net : str
        A name of `benchmarks.nets` or of `products.SHAPES`, or a pattern of files in models/.
    shape : tuple
        (N, 3, H, W).
    peers : tuple of str
    goals : dict
        Engine, or BEST or BETTER_TORCH -> the largest ratio.
    ours : str
        Which of our engines.
    """

    name: str
    kind: str
    net: str
    shape: tuple = ()
    peers: tuple = QUICK
    goals: dict = {BEST: 1.0}
    ours: str = "deepjet"


def _forward(name, net, height, width, images=1, **fields):
    return Row(f"{name} {height}x{width}" + (f", {images} images" if images > 1 else ""), "forward", net,
               (images, 3, height, width), **fields)


def _train(name, net, height, width, images=1, ratio=1.0):
    return Row(f"train {name} {height}x{width}" + (f", {images} images" if images > 1 else ""), "train", net,
               (images, 3, height, width), LAYOUTS, {BETTER_TORCH: ratio})


ROWS = (
    _forward("FCN-8s, border computed,", "fcn8s", 500, 500, ours="deepjet, whole", peers=ALL,
             goals={"ncnn": 0.5, "onnxruntime": 0.36, "openvino default": 1.0, BEST: 1.0}),
    _forward("FCN-8s", "fcn8s", 500, 500, peers=(*QUICK, "openvino default"),
             goals={"ncnn": 0.38, "openvino default": 1.0, BEST: 1.0}),
    Row("FCN-8s, VOC's sizes", "varying", "fcn8s", (1, 3, 500, 500), ("deepjet, one size", *QUICK),
        {"deepjet, one size": 1.15, BEST: 1.0}),
    _forward("FCN-8s", "fcn8s", 256, 256),
    _forward("FCN-8s", "fcn8s", 256, 256, 8),
    _forward("FCN-8s", "fcn8s", 1000, 1500),
    _forward("FCN-32s", "fcn32s", 500, 500),
    _forward("FCN-AlexNet", "fcn_alexnet", 500, 500),
    _forward("FCN-GoogLeNet", "fcn_googlenet", 500, 500),
    _forward("FCN-SqueezeNet", "fcn_squeezenet", 500, 500, peers=ALL),
    Row("FCN-SqueezeNet, VOC's sizes", "varying", "fcn_squeezenet", (1, 3, 500, 500), ("deepjet, one size", *QUICK),
        {"deepjet, one size": 1.15, BEST: 1.0}),
    _forward("VGG16", "vgg16", 224, 224, peers=ALL),
    _forward("VGG16", "vgg16", 224, 224, 8),
    _forward("SqueezeNet", "squeezenet", 227, 227, peers=ALL),
    _forward("SqueezeNet", "squeezenet", 227, 227, 8),
    _train("FCN-8s", "fcn8s", 500, 500, ratio=0.30),
    _train("FCN-8s", "fcn8s", 256, 256, 8),
    _train("FCN-32s", "fcn32s", 500, 500),
    _train("FCN-AlexNet", "fcn_alexnet", 500, 500),
    _train("FCN-GoogLeNet", "fcn_googlenet", 500, 500),
    _train("FCN-SqueezeNet", "fcn_squeezenet", 500, 500),
    _train("VGG16", "vgg16", 224, 224, 8),
    _train("SqueezeNet", "squeezenet", 227, 227, 8),
    Row("FCN-8s 500x500, layer by layer", "layers", "fcn8s", (1, 3, 500, 500), ("ncnn", "onnxruntime"),
        ours="deepjet, whole"),
    *(Row(f"SGEMM {name}", "product", name, (), ("numpy", "torch")) for name in products.SHAPES),
    Row("load FCN-8s's caffemodel", "load", "fcn8s", (1, 3, 500, 500), ("opencv", "read and copy"), {"opencv": 1.0}),
    Row("parse the largest prototxt", "parse", "*.prototxt", (), ("protobuf",), {}),
    Row("parse the largest deploy prototxt", "parse", "deploy.prototxt", (), ("opencv", "protobuf"), {"opencv": 1.0}),
    Row("100 photographs, FCN-SqueezeNet", "folder", "fcn_squeezenet", (1, 3, 500, 500), ("onnxruntime",),
        {"onnxruntime": 1.0}),
)

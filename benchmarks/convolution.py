"""Our convolution kernels against im2col and BLAS, layer by layer: equality first, then time in turns.

``python -m benchmarks.convolution [--seconds 3] [--pass forward] [name ...]`` prints milliseconds (wall medians) and the
ratios of the medians, im2col / ours, of wall and of processor time; for each the kernel chosen.
"""

import argparse
import sys

import numpy as np

from benchmarks.alternate import alternate
from layers.core.cpu import choose, convolve, parallel
from layers.core.cpu.convolve import Window
from layers.core.cpu.isa import ISA

# name: (images, channels, outputs, group, size, kernel, stride, pad, dilation): FCN-8s at 500 x 500, and others
LAYERS = {
    "conv1_1": (1, 3, 64, 1, 500, 3, 1, 100, 1), "conv1_2": (1, 64, 64, 1, 698, 3, 1, 1, 1),
    "conv2_1": (1, 64, 128, 1, 349, 3, 1, 1, 1), "conv2_2": (1, 128, 128, 1, 349, 3, 1, 1, 1),
    "conv3_1": (1, 128, 256, 1, 175, 3, 1, 1, 1), "conv3_2": (1, 256, 256, 1, 175, 3, 1, 1, 1),
    "conv4_1": (1, 256, 512, 1, 88, 3, 1, 1, 1), "conv4_2": (1, 512, 512, 1, 88, 3, 1, 1, 1),
    "conv5_1": (1, 512, 512, 1, 44, 3, 1, 1, 1), "fc6": (1, 512, 4096, 1, 22, 7, 1, 0, 1),
    "fc7": (1, 4096, 4096, 1, 16, 1, 1, 0, 1), "score_fr": (1, 4096, 21, 1, 16, 1, 1, 0, 1),
    "score_pool3": (1, 256, 21, 1, 88, 1, 1, 0, 1), "AlexNet conv1": (1, 3, 96, 1, 227, 11, 4, 0, 1),
    "AlexNet conv2": (1, 96, 256, 2, 27, 5, 1, 2, 1), "AlexNet conv1, 8 images": (8, 3, 96, 1, 227, 11, 4, 0, 1),
    "GoogLeNet conv1": (1, 3, 64, 1, 224, 7, 2, 3, 1), "GoogLeNet 5x5": (1, 32, 96, 1, 28, 5, 1, 2, 1),
    "GoogLeNet 1x1": (1, 480, 192, 1, 14, 1, 1, 0, 1), "dilated": (1, 128, 128, 1, 66, 3, 1, 2, 2),
    "SqueezeNet 3x3, 8 images": (8, 48, 192, 1, 27, 3, 1, 1, 1),
}


def cases(name):
    """Return (window, phase name -> (ours, other, result of ours, result of other))."""
    images, channels, outputs, group, size, kernel, stride, pad, dilation = LAYERS[name]
    out = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    window = Window(channels, outputs, group, (size,) * 2, (kernel,) * 2, (stride,) * 2, (pad,) * 2, (dilation,) * 2, (out,) * 2)
    rng = np.random.default_rng(0)
    image = np.maximum(rng.standard_normal((images, channels, size, size), dtype=np.float32), 0)
    weight = rng.standard_normal((outputs, channels // group, kernel, kernel), dtype=np.float32)
    weight *= np.float32(np.sqrt(2 / weight[0].size))
    bias = rng.standard_normal(outputs, dtype=np.float32)
    error = rng.standard_normal((images, outputs, out, out), dtype=np.float32)
    tops, bottoms, gradients = ([np.zeros_like(array) for _ in range(2)] for array in (error, image, weight))
    kernels = choose.Kernels(window)

    def added(function, gradient):
        def run():
            gradient[...] = 0
            function(window, image, error, gradient)

        return run

    return window, {
        "forward": (lambda: kernels.forward(image, weight, bias, tops[0]),
                    lambda: convolve.forward(window, image, weight, bias, tops[1]), *tops),
        "image": (lambda: kernels.image_gradient(error, weight, None, bottoms[0]),
                  lambda: convolve.backward_image(window, error, weight, None, bottoms[1]), *bottoms),
        "weight": (added(lambda window, *arrays: kernels.weight_gradient(*arrays), gradients[0]),
                   added(convolve.backward_weight, gradients[1]), *gradients),
    }


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(LAYERS))
    parser.add_argument("--pass", dest="passes", action="append", choices=("forward", "image", "weight"))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each layer and pass")
    args = parser.parse_args(argv)
    print(f"{ISA.name}, {parallel.threads()} threads; milliseconds")
    print(f"{'':25} {'pass':8} {'kernel':9} {'ours':>8} {'im2col':>8} {'wall':>5} {'processor':>9}  difference")
    for name in LAYERS:
        if args.names and name not in args.names:
            continue
        window, passes = cases(name)
        for what in args.passes or passes:
            ours, other, mine, theirs = passes[what]
            ours()
            other()
            difference = abs(mine - theirs).max() / abs(theirs).max()
            if not difference < 5e-5:
                raise SystemExit(f"error: {name}: {what} differs by {difference:.1e} of the largest value")
            (wall, used), (other_wall, other_used) = alternate([ours, other], args.seconds, least=3)
            print(f"{name:25} {what:8} {choose.choose(window, what).name:9} {wall * 1e3:8.1f} {other_wall * 1e3:8.1f} "
                  f"{other_wall / wall:5.2f} {other_used / used:9.2f}  {difference:.0e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

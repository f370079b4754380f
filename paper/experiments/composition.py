"""Kernel and stride under composition (section 3): the formula beside what a gradient reaches in the engine's own layers."""

import itertools

import numpy as np

from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import exact

TITLE = "Kernel size and stride under composition"
PLACE = "3"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
STACKS = 40


def run(context):
    """Draw stacks and hold the formula against each."""
    stacks = [draw_stack(context.seed + number) for number in range(STACKS)]
    right = sum(formula(stack) == measured(stack) for stack in stacks)
    deepest = max(len(stack) for stack in stacks)
    return {"rows": [exact(
        "f_ks o g_k's' = (f o g) with kernel k' + (k - 1) s' and stride s s'", "3",
        f"{STACKS} drawn stacks of 2 to {deepest} convolutions and poolings (kernels 1 to 5, strides 1 to 3): the formula folded "
        "over the stack beside which input pixels two neighbouring outputs have a gradient at", "exact",
        f"{right} of {STACKS} stacks", right == STACKS)],
        "numbers": {"largest_kernel": max(formula(stack)[0] for stack in stacks)}}


def draw_stack(seed):
    """Return layers from the input on: (kind, kernel, stride)."""
    rng = np.random.default_rng(seed)
    return [(("conv", "average", "max")[rng.integers(3)], int(rng.integers(1, 6)), int(rng.integers(1, 4)))
            for _ in range(rng.integers(2, 6))]


def formula(stack):
    """Return (kernel, stride) of the whole stack: the rule applied layer by layer."""
    kernel, stride = 1, 1
    for _, k, s in stack:
        kernel, stride = kernel + (k - 1) * stride, stride * s
    return kernel, stride


def measured(stack):
    """Return (kernel, stride) as the gradients of two neighbouring outputs show them.

    All weights are positive. A max-pooling hands its gradient to one pixel of its window: over many images every pixel wins once.
    """
    kernel, stride = formula(stack)
    n = NetSpec()
    top = nets.image(n, 1, 1, 1, kernel + stride)  # just enough for two outputs
    for number, (kind, k, s) in enumerate(stack):
        if kind == "conv":
            top = L.Convolution(top, num_output=1, bias_term=False, kernel_h=1, kernel_w=k, stride_h=1, stride_w=s)
        else:
            pool = P.Pooling.AVE if kind == "average" else P.Pooling.MAX
            top = L.Pooling(top, pool=pool, kernel_h=1, kernel_w=k, stride_h=1, stride_w=s)
        n[f"layer{number}"] = top
    nets.weighted_sum(n, top, (1, 1, 1, 2))
    net = nets.make(n, backward=True)
    for blobs in net.params.values():
        blobs[0].data[...] = 1
    reached, rng = [], np.random.default_rng(0)
    for output in (0, 1):
        net.blobs["loss_mask"].data[...] = np.arange(2) == output
        seen = np.zeros(kernel + stride, bool)
        for place in itertools.chain([None], range(kernel + stride)):
            data = rng.uniform(0.0, 0.1, kernel + stride)
            if place is not None:
                data[place] = 9  # the pixel that wins every max it takes part in
            net.blobs["data"].data[...] = data
            net.forward()
            net.backward()
            seen |= net.blobs["data"].diff[0, 0, 0] != 0
        reached.append(np.flatnonzero(seen))
    widths = {int(pixels[-1] - pixels[0]) + 1 for pixels in reached}
    return (widths.pop() if len(widths) == 1 else None), int(reached[1][0] - reached[0][0])

"""A check for layers that have bodies for cards: against the CPU's.

The card is numba's simulator with NUMBA_ENABLE_CUDASIM=1 (make test-sim), and compiled for the CPU else (`native`).
"""

import numpy as np

from layers.core.cuda import card as cards
from netspec import caffe_pb2
from tests.layers.core.cuda import native
from tests.support import make_layer

CARD = cards.find("gpu") if cards.simulated() else native.CARD


def no_host(*_):
    raise AssertionError("a body for the CPU was called, or values were brought to the host")


def on_card(text, bottoms, phase=caffe_pb2.TRAIN, params=None, in_place=False):
    """As `make_layer`, but on the card; with `in_place` the top is bottom 0."""
    layer, bottom, top = make_layer(text, bottoms, phase, params=params)
    assert layer.has_cuda()
    layer.card = CARD
    layer.forward = layer.backward = no_host
    return layer, bottom, [bottom[0], *top[1:]] if in_place else top


def check_on_card(text, bottoms, phase=caffe_pb2.TRAIN, params=None, wanted=None, in_place=False, tolerance=2e-6, backward=True,
                  seed=0):
    """Hold tops and gradients on a card against the CPU's, within `tolerance` of the largest (0: the same bits).

    `wanted` names the bottoms that get a gradient (all by default). What gradients hold before is NaN for bottoms and
    something for parameters, as in accumulation. Returns (layer, bottom, top) of the card.
    """
    bottoms = [np.asarray(values, "f4") for values in bottoms]
    wanted = [wanted is None or i in wanted for i in range(len(bottoms))]
    rng = np.random.RandomState(seed)
    ours = on_card(text, bottoms, phase, params, in_place)
    layer, bottom, top = make_layer(text, bottoms, phase, params=params)
    plain = layer, bottom, [bottom[0], *top[1:]] if in_place else top
    for layer, bottom, top in (ours, plain):
        layer.reshape(bottom, top)
        if layer.card is not None:
            layer.prepare_cuda(bottom, top)
        (layer.forward if layer.card is None else layer.forward_cuda)(bottom, top)
    ours[0].check_cuda(ours[1], ours[2])
    for number, (one, other) in enumerate(zip(ours[2], plain[2])):
        same(one.data, other.data, tolerance, f"top {number}")
    if not backward:
        return ours
    diffs = [rng.uniform(0.5, 1.5, blob.shape).astype("f4") for blob in plain[2]]
    before = [rng.uniform(-1, 1, blob.shape).astype("f4") for blob in plain[0].blobs]
    for layer, bottom, top in (ours, plain):
        for blob in bottom:
            blob.diff[...] = np.nan
        for blob, values in zip([*top, *layer.blobs], [*diffs, *before]):
            blob.diff[...] = values
        (layer.backward if layer.card is None else layer.backward_cuda)(top, wanted, bottom)
    for number, (one, other) in enumerate(zip(ours[1], plain[1])):
        if wanted[number]:
            same(one.diff, other.diff, tolerance, f"gradient of bottom {number}")
    for number, (one, other) in enumerate(zip(ours[0].blobs, plain[0].blobs)):
        same(one.diff, other.diff, tolerance, f"gradient of parameter {number}")
    return ours


def same(ours, theirs, tolerance, what):
    """Hold values against others; NaN where those are."""
    assert ours.shape == theirs.shape, what
    largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=1) if theirs.size else 1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * largest, err_msg=what)

"""What can be seen to be wrong with a net: values that are not finite, layers that can never learn."""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import squares
from netspec import caffe_pb2

BLOCK = 1 << 15  # values a partial sum holds: the order of the sum must not depend on the number of threads
# These put out 0 when their first parameter is 0.
WEIGHTED = ("Convolution", "DepthwiseConvolution", "Deconvolution", "InnerProduct", "Scale")
NOT_CARRIED = {"Crop": 1}  # bottoms from here on give only their shape


# --- finite or not ---------------------------------------------------------------------------------------------------


def sum_of_squares(array):
    """Return the sum of squares of a float array in double precision; the same bits for any number of threads.

    Float32 values cannot overflow it, so it is finite exactly when all of them are.
    """
    flat = array.reshape(-1)
    sums = np.zeros(-(-flat.size // BLOCK))
    parallel.run(squares_cpu, len(sums), flat, sums, work=flat.size)
    return float(sums.sum())


@cached
def squares_cpu(first, last, flat, sums):
    """Write the sum of squares of each block of `flat` into `sums`: four running sums, float64, added at the end."""
    for block in range(first, last):
        begin = block * BLOCK
        end = min(begin + BLOCK, flat.size)
        a = b = c = d = 0.0
        fours = begin + (end - begin) // 4 * 4
        for i in range(begin, fours, 4):
            a += np.float64(flat[i]) * flat[i]
            b += np.float64(flat[i + 1]) * flat[i + 1]
            c += np.float64(flat[i + 2]) * flat[i + 2]
            d += np.float64(flat[i + 3]) * flat[i + 3]
        for i in range(fours, end):
            a += np.float64(flat[i]) * flat[i]
        sums[block] = (a + b) + (c + d)


def sums_of_squares(net, blobs, diff=False):
    """Return the `sum_of_squares` of each blob's values (or gradients), computed where they are: on the net's card or here."""
    there = [blob for blob in blobs if blob.is_on(net.card, diff)] if net.card is not None else []
    sums = dict(zip(map(id, there), squares.sums_of_squares(net.card, there, diff))) if there else {}
    return [sums[id(blob)] if id(blob) in sums else sum_of_squares(blob.peek(diff)) for blob in blobs]


def is_finite(array):
    """Whether the array holds no NaN and no infinity."""
    return math.isfinite(sum_of_squares(array)) or bool(np.isfinite(array).all())


def bad_parameter(net):
    """Return the name of the first parameter that holds a NaN or an infinity, or None."""
    named = [(name, number, blob) for name, blobs in net.params.items() for number, blob in enumerate(blobs)]
    sums = sums_of_squares(net, [blob for _, _, blob in named])
    for (name, number, blob), total in zip(named, sums):
        if not math.isfinite(total) and not is_finite(blob.peek()):
            return f"parameter {number} of layer '{name}'"
    return None


def first_bad(net):
    """Return the name of the first blob, then parameter, that holds a NaN or an infinity; None if none does."""
    for name, blob in net.blobs.items():
        if not is_finite(blob.peek()):
            return f"blob '{name}'"
    return bad_parameter(net)


# --- can it learn ----------------------------------------------------------------------------------------------------


def is_zero(blob):
    """Whether all values of a blob are zero; looks at a few first, since most blobs are not."""
    flat = blob.data.reshape(-1)
    return not flat[:1024].any() and not flat.any()


def zero_layers(net):
    """Return the numbers of the layers whose output is zero because their weights are."""
    return [number for number, layer in enumerate(net.layers)
            if layer.type in WEIGHTED and layer.blobs and layer.blobs[0].count and is_zero(layer.blobs[0])]


def stuck_layers(net, zero=None):
    """Return the numbers of layers with zero weights that no gradient will ever move.

    A layer's weights move when data reaches it from below and a gradient from above; a layer with zero weights lets
    neither pass, and a ReLU passes no gradient where its input is zero. One zero layer (a score layer) moves in the
    first iteration and is no obstacle after it; two above each other, or one whose rate is 0, are stuck.
    `zero` are the numbers of the zero layers if they are known. Layers below no loss are not looked at.
    """
    _, below_loss = _reach(net, set(), set())
    zero = {n for n in (zero_layers(net) if zero is None else zero) if below_loss[n]}
    rates = [[net.params_lr[i] for i in ids] for ids in net.param_ids]
    bias = {n for n in zero if len(net.layers[n].blobs) > 1 and not is_zero(net.layers[n].blobs[1])}
    while True:
        alive, gradient = _reach(net, zero, bias)
        moves = {n for n in zero if rates[n] and rates[n][0] and alive[n] and gradient[n]}
        # A bias moves without data; from then on the layer feeds what is above it.
        lifted = {n for n in zero - bias if gradient[n] and len(rates[n]) > 1 and rates[n][1]}
        if not moves and not lifted:
            return sorted(zero)
        zero -= moves
        bias |= lifted


def _reach(net, zero, bias):
    """Return, for each layer, whether data reaches it and whether a gradient reaches its top: two lists."""
    layers = list(net.param.layer)
    alive, outputs = [], {}  # outputs: blob name -> whether it carries data, as of the layer that is looked at
    for number, layer in enumerate(layers):
        carried = layer.bottom[: NOT_CARRIED.get(layer.type)]
        product = layer.type == "Eltwise" and layer.eltwise_param.operation == caffe_pb2.EltwiseParameter.PROD
        values = [outputs[name] for name in carried]
        here = (all(values) if product else any(values)) if values else True
        alive.append(here)
        passes = (here and number not in zero) or number in bias
        outputs.update(dict.fromkeys(layer.top, passes))
    gradient = [False] * len(layers)
    wanted = set()  # blobs into which a gradient comes, as of the layer that is looked at, going down
    for number in range(len(layers) - 1, -1, -1):
        layer = layers[number]
        is_loss = any(net.layers[number].loss_weights)
        here = is_loss or any(name in wanted for name in layer.top)
        gradient[number] = here
        wanted.difference_update(layer.top)
        blocked = number in zero or (layer.type == "ReLU" and not layer.relu_param.negative_slope and not alive[number])
        if here and not blocked:
            wanted.update(layer.bottom[:1] if is_loss else layer.bottom[: NOT_CARRIED.get(layer.type)])
    return alive, gradient

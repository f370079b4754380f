"""One step of long short-term memory: what LSTM and LSTMUnit have in common.

For each of N streams, gates x (4 D values: input, forget, output, modulation), cells c' (D), and whether the sequence goes on:

    i, o = sigmoid(x)     f = cont sigmoid(x), 0 where cont is 0     g = tanh(x)     c = f c' + i g     h = o tanh(c)

    dc += dh o (1 - tanh(c)^2)     dc' = dc f     di = dc g i (1 - i)     df = dc c' f (1 - f)
    do = dh tanh(c) o (1 - o)      dg = dc i (1 - g^2)

`acts` holds i, f, o and g as x lies; it may be x. float32 by vectors on the CPU (`layers.core.cpu.exponential`). Source: Caffe's
LSTMUnitLayer (Zaremba and Sutskever 2014).
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import logistics, tanhs
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel

ONE = np.float32(1)


@cached
def forget_at(cont, gate):
    """Return f of an activated gate: 0 where a sequence begins, even if the gate is NaN."""
    return cont * gate if cont != 0 else cont


@cached
def cell_at(before, i, f, g):
    """Return c of one cell."""
    return f * before + i * g


@cached
def cell_slope_at(dc, dh, o, shaped, one):
    """Return the gradient of c of one cell; `shaped` is tanh(c)."""
    return dc + dh * o * (one - shaped * shaped)


@cached
def square_slope_at(y, one):
    """Return the slope of tanh where its value is y."""
    return one - y * y


@cached
def share_slope_at(y, one):
    """Return the slope of sigmoid where its value is y."""
    return y * (one - y)


@cached(error_model="numpy")
def logistic_at(x):
    """Return sigmoid(x), in float32 throughout: what cards compute."""
    return ONE / (ONE + math.exp(-x))


@compiled
def sigmoids(x, y):
    """y = sigmoid(x) of two rows; y may be x."""
    if x.itemsize == 4:
        logistics(np.intp(y.ctypes.data), np.intp(x.ctypes.data), np.float32(1), x.size)
    else:
        for i in range(x.size):
            y[i] = 0.5 * math.tanh(0.5 * x[i]) + 0.5


@compiled
def tangents(x, y):
    """y = tanh(x) of two rows; y may be x."""
    if x.itemsize == 4:
        tanhs(np.intp(y.ctypes.data), np.intp(x.ctypes.data), x.size)
    else:
        for i in range(x.size):
            y[i] = math.tanh(x[i])


@compiled
def tangents_cpu(first, last, x, y):
    """y = tanh(x) of elements [first, last); y may be x."""
    tangents(x[first:last], y[first:last])


@compiled
def lstm_unit_cpu(first, last, before, x, cont, acts, c, h):
    """Streams [first, last) of a step: x and acts (N, 4 D), the others (N, D), cont (N,)."""
    size = c.shape[1]
    for n in range(first, last):
        act = acts[n]
        sigmoids(x[n, :3 * size], act[:3 * size])
        tangents(x[n, 3 * size:], act[3 * size:])
        for d in range(size):
            act[size + d] = forget_at(cont[n], act[size + d])
            c[n, d] = cell_at(before[n, d], act[d], act[size + d], act[3 * size + d])
        tangents(c[n], h[n])
        for d in range(size):
            h[n, d] = act[2 * size + d] * h[n, d]


@compiled
def lstm_unit_backward_cpu(first, last, before, acts, c, dc, dh, dbefore, dx, one):
    """Streams [first, last) of a step; dbefore may be dc."""
    size = c.shape[1]
    shaped = np.empty(size, c.dtype)
    for n in range(first, last):
        tangents(c[n], shaped)
        for d in range(size):
            i, f, o, g = acts[n, d], acts[n, size + d], acts[n, 2 * size + d], acts[n, 3 * size + d]
            slope = cell_slope_at(dc[n, d], dh[n, d], o, shaped[d], one)
            dx[n, d] = slope * g * share_slope_at(i, one)
            dx[n, size + d] = slope * before[n, d] * share_slope_at(f, one)
            dx[n, 2 * size + d] = dh[n, d] * shaped[d] * share_slope_at(o, one)
            dx[n, 3 * size + d] = slope * i * square_slope_at(g, one)
            dbefore[n, d] = slope * f


@kernel("float*, float*, float*, float*, float*, float*, int, int")
def lstm_unit_cuda(before, x, cont, acts, c, h, size, count):
    """All cells of a step; acts may be x."""
    for at in range(cuda.grid(1), count, cuda.gridsize(1)):
        n = over(at, size)
        first = 3 * n * size + at
        i, o = logistic_at(x[first]), logistic_at(x[first + 2 * size])
        f, g = forget_at(cont[n], logistic_at(x[first + size])), math.tanh(x[first + 3 * size])
        acts[first], acts[first + size], acts[first + 2 * size], acts[first + 3 * size] = i, f, o, g
        cell = cell_at(before[at], i, f, g)
        c[at] = cell
        h[at] = o * math.tanh(cell)


@kernel("float*, float*, float*, float*, float*, float*, float*, float, int, int")
def lstm_unit_backward_cuda(before, acts, c, dc, dh, dbefore, dx, one, size, count):
    """All cells of a step; dbefore may be dc."""
    for at in range(cuda.grid(1), count, cuda.gridsize(1)):
        first = 3 * over(at, size) * size + at
        i, f, o, g = acts[first], acts[first + size], acts[first + 2 * size], acts[first + 3 * size]
        shaped = math.tanh(c[at])
        slope = cell_slope_at(dc[at], dh[at], o, shaped, one)
        dx[first] = slope * g * share_slope_at(i, one)
        dx[first + size] = slope * before[at] * share_slope_at(f, one)
        dx[first + 2 * size] = dh[at] * shaped * share_slope_at(o, one)
        dx[first + 3 * size] = slope * i * square_slope_at(g, one)
        dbefore[at] = slope * f

"""Mean and variance of groups of values, and values freed of them: what BatchNorm and MVN have in common.

Values lie as (outer, length, inner): there are `length` groups, each over outer and inner positions. Sums are float64: on the CPU
four running ones in each row of `inner` values, rows in order; on a card as `layers.core.cuda.sums` says. Mean and deviation are
rounded to the values' type before they meet them, as in Caffe.

    y = (x - mean) / deviation      dx = (dy - mean(dy) - y mean(dy y)) / deviation
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel


def moments(x, sizes):
    """Return the mean and the variance (divided by the count) of each group, float64."""
    outer, length, inner = sizes
    mean, variance = np.empty(length), np.empty(length)
    parallel.run(moments_cpu, length, x.reshape(-1), outer, length, inner, mean, variance, work=x.size)
    return mean, variance


def normalize(x, y, mean, deviation, sizes):
    """Write y = (x - mean) / deviation; y may be x; mean and deviation are of its type."""
    outer, length, inner = sizes
    parallel.run(normalize_cpu, outer * length, x.reshape(-1), y.reshape(-1), mean, deviation, length, inner, work=x.size)


def normalize_backward(y, dy, dx, deviation, sizes, scaled=True):
    """Write dx of values that were freed of their own mean and, if `scaled`, of their own deviation; dx may be dy."""
    outer, length, inner = sizes
    parallel.run(normalize_backward_cpu, length, y.reshape(-1), dy.reshape(-1), dx.reshape(-1), deviation, scaled, outer, length,
                 inner, work=dy.size)


def center_on_card(card, x, y, mean, variance, sizes):
    """Write each group's mean, y = x - mean and, unless `variance` is None, the mean of y^2; spans, y may be x."""
    outer, length, inner = sizes
    count = outer * length * inner
    share = 1 / max(1, outer * inner)
    sums.add_up(card, sums.VALUES, x, x, sizes, mean, share)
    card.run(center_cuda, count, x, mean, y, length, inner)
    if variance is not None:
        sums.add_up(card, sums.PRODUCTS, y, y, sizes, variance, share)


def normalize_on_card(card, x, y, mean, deviation, sizes):
    """As `normalize`, of spans."""
    outer, length, inner = sizes
    card.run(normalize_cuda, outer * length * inner, x, mean, deviation, y, length, inner)


def divide_on_card(card, x, deviation, y, sizes):
    """Write y = x / deviation; y may be x."""
    outer, length, inner = sizes
    card.run(divide_cuda, outer * length * inner, x, deviation, y, length, inner)


def normalize_backward_on_card(card, y, dy, dx, deviation, sizes, scaled=True):
    """As `normalize_backward`, of spans."""
    outer, length, inner = sizes
    share = 1 / max(1, outer * inner)
    both = card.arena.borrow(8 * length)
    plain, times = card.within(both.span, 0, 4 * length), card.within(both.span, 4 * length, 4 * length)
    sums.add_up(card, sums.VALUES, dy, dy, sizes, plain, share)
    if scaled:
        sums.add_up(card, sums.PRODUCTS, dy, y, sizes, times, share)
    card.run(normalize_backward_cuda, outer * length * inner, y, dy, dx, deviation, plain, times, scaled, length, inner)


@cached(error_model="numpy")
def normalize_at(x, mean, deviation):
    """Return one value of y."""
    return (x - mean) / deviation


@cached(error_model="numpy")
def normalize_slope_at(y, dy, plain, times, deviation):
    """Return one value of dx; `plain` and `times` are the means of dy and dy y."""
    return (dy - plain - times * y) / deviation


@cached
def row_sum(x, shift, square):
    """Return the sum of x - shift, or of its square, over a row: four running sums, float64, added at the end."""
    a = b = c = d = 0.0
    fours = x.size // 4 * 4
    for i in range(0, fours, 4):
        p, q, r, s = x[i] - shift, x[i + 1] - shift, x[i + 2] - shift, x[i + 3] - shift
        if square:
            a, b, c, d = a + p * p, b + q * q, c + r * r, d + s * s
        else:
            a, b, c, d = a + p, b + q, c + r, d + s
    for i in range(fours, x.size):
        p = x[i] - shift
        a += p * p if square else p
    return (a + b) + (c + d)


@cached
def moments_cpu(first, last, x, outer, length, inner, mean, variance):
    """Groups [first, last): first the mean, then the mean square of what is left."""
    for group in range(first, last):
        total = rest = 0.0
        for out in range(outer):
            start = (out * length + group) * inner
            total += row_sum(x[start:start + inner], 0.0, False)
        mean[group] = total / (outer * inner)
        for out in range(outer):
            start = (out * length + group) * inner
            rest += row_sum(x[start:start + inner], mean[group], True)
        variance[group] = rest / (outer * inner)


@cached
def normalize_cpu(first, last, x, y, mean, deviation, length, inner):
    """Rows [first, last) of `inner` values; y may be x."""
    for row in range(first, last):
        part, result = x[row * inner:(row + 1) * inner], y[row * inner:(row + 1) * inner]
        shift, by = mean[row % length], deviation[row % length]
        for i in range(inner):
            result[i] = normalize_at(part[i], shift, by)


@cached
def normalize_backward_cpu(first, last, y, dy, dx, deviation, scaled, outer, length, inner):
    """Groups [first, last); dx may be dy."""
    means = np.empty(2, dy.dtype)  # rounded to the values' type
    for group in range(first, last):
        plain = times = 0.0
        for out in range(outer):
            start = (out * length + group) * inner
            part, partner = dy[start:start + inner], y[start:start + inner]
            plain += row_sum(part, 0.0, False)
            if scaled:
                for i in range(inner):
                    times += float(part[i]) * float(partner[i])
        means[0], means[1] = plain / (outer * inner), times / (outer * inner)
        for out in range(outer):
            start = (out * length + group) * inner
            part, partner, result = dy[start:start + inner], y[start:start + inner], dx[start:start + inner]
            for i in range(inner):
                result[i] = normalize_slope_at(partner[i], part[i], means[0], means[1], deviation[group])


@kernel("float*, float*, float*, int, int, int")
def center_cuda(x, mean, y, length, inner, count):
    """All elements of y = x - mean; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        y[i] = x[i] - mean[row - over(row, length) * length]


@kernel("float*, float*, float*, float*, int, int, int")
def normalize_cuda(x, mean, deviation, y, length, inner, count):
    """All elements of y = (x - mean) / deviation; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        group = row - over(row, length) * length
        y[i] = normalize_at(x[i], mean[group], deviation[group])


@kernel("float*, float*, float*, int, int, int")
def divide_cuda(x, deviation, y, length, inner, count):
    """All elements of y = x / deviation; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        y[i] = x[i] / deviation[row - over(row, length) * length]


@kernel("float*, float*, float*, float*, float*, float*, bool, int, int, int")
def normalize_backward_cuda(y, dy, dx, deviation, plain, times, scaled, length, inner, count):
    """All elements of dx; dx may be dy."""
    zero = np.float32(0)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        group = row - over(row, length) * length
        dx[i] = normalize_slope_at(y[i] if scaled else zero, dy[i], plain[group], times[group] if scaled else zero,
                                   deviation[group])

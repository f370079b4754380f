"""exp of float32 vectors, and what is made of it: the logistic function and tanh.

    exp x = 2^n exp r,  n = round(x / ln 2),  r = x - n ln 2 (ln 2 in two parts),  exp r = 1 + r + r^2 p(r)

p has degree 4 and is fitted for the smallest relative error over |r| <= ln 2 / 2, 3e-9: what remains is rounding. Measured
against float64, of the value, where that is not subnormal: exp 8e-8 (0.7 of the last place), logistic and tanh 1.3e-7.
2^n is multiplied in two steps, so that subnormal results and infinity come out right; NaN stays NaN.

Loops end with a masked vector: each value's bits are the same wherever it lies.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK
from layers.core.cpu.vector_ir import ADDRESS, INT32, Emitter, emitted

LOW, HIGH = -104.0, 89.0  # below and above which exp is 0 and infinite
PER_LN2 = 1.4426950408889634
LN2 = 0.693359375, -2.12194440e-4  # the first has 9 bits: its products with n are exact
ROUND = 12582912.0  # 1.5 2^23: a float this large has no fraction left, and its last bits are the integer
SERIES = 0.49999994, 0.16666521, 0.04166839, 0.008368717, 0.00138146  # p, from r^0 on
TANH_SERIES = -0.333332807, 0.133314416, -0.0537397154, 0.0206390861, -0.00570498686  # q, from x^0 on
NEAR = 0.625  # |x| up to which tanh x = x + x^3 q(x^2), with an error of 4e-9; beyond it is 1 - 2 / (exp 2x + 1)


def polynomial(e, coefficients, x):
    """Emit the value of a polynomial, coefficients from x^0 on."""
    total = e.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = e.add_product(total, x, e.constant(coefficient))
    return total


def exponential(e, x):
    """Emit exp x."""
    builder, integers = e.builder, ir.VectorType(INT32, e.width)

    def integer(value):
        return ir.Constant(integers, [value] * e.width)

    x = builder.select(builder.fcmp_ordered("<", x, e.constant(LOW)), e.constant(LOW), x)
    x = builder.select(builder.fcmp_ordered(">", x, e.constant(HIGH)), e.constant(HIGH), x)
    rounded = e.add_product(x, e.constant(PER_LN2), e.constant(ROUND))
    bits = builder.sub(builder.bitcast(rounded, integers), builder.bitcast(e.constant(ROUND), integers))
    n = builder.fsub(rounded, e.constant(ROUND))
    r = e.add_product(n, e.constant(-LN2[0]), x)
    r = e.add_product(n, e.constant(-LN2[1]), r)
    result = builder.fadd(e.add_product(builder.fmul(r, r), polynomial(e, SERIES, r), r), e.constant(1))
    half = builder.ashr(bits, integer(1))
    for power in (half, builder.sub(bits, half)):
        shifted = builder.shl(builder.add(power, integer(127)), integer(23))
        result = builder.fmul(result, builder.bitcast(shifted, e.vector))
    return result


def logistic(e, x):
    """Emit 1 / (1 + exp(-x))."""
    return e.builder.fdiv(e.constant(1), e.builder.fadd(e.constant(1), exponential(e, e.builder.fneg(x))))


def hyperbolic(e, x):
    """Emit tanh x."""
    builder = e.builder
    square = builder.fmul(x, x)
    near = e.add_product(builder.fmul(x, square), polynomial(e, TANH_SERIES, square), x)
    size = builder.select(builder.fcmp_ordered("<", x, e.constant(0)), builder.fneg(x), x)
    far = builder.fdiv(e.constant(2), builder.fadd(exponential(e, builder.fadd(size, size)), e.constant(1)))
    result = builder.select(builder.fcmp_ordered("<", size, e.constant(NEAR)), near, builder.fsub(e.constant(1), far))
    kind = ir.FunctionType(e.vector, [e.vector] * 2)
    copysign = cgutils.get_or_insert_function(builder.module, kind, f"llvm.copysign.v{e.width}f32")
    return builder.call(copysign, [result, x])  # also of -0


def sixteen(name, compute, more=(), masked=False):
    """Return the intrinsic ``(target, source, *more)``, or ``(target, source, *more, count)`` if `masked`.

    target = compute(e, value of source, *more, part) of 16 floats, or of the first `count` of them.
    """

    def emit(builder, target, source, *others):
        e = Emitter(builder)
        for part in range(0, BLOCK, e.width):
            here, there = e.moved(e.pointer(target), part), e.moved(e.pointer(source), part)
            if masked:
                mask = e.first(builder.sub(others[-1], e.number(part)))
                e.store_first(compute(e, e.load_first(there, mask), *others[:-1], part, mask), here, mask)
            else:
                e.store(compute(e, e.load(there), *others, part, None), here)

    return emitted(name, [types.void, ADDRESS, ADDRESS, *more] + [ADDRESS] * masked, emit)


def _exp_less(e, value, less, part, mask):
    place = e.moved(e.pointer(less), part)
    return exponential(e, e.builder.fsub(value, e.load(place) if mask is None else e.load_first(place, mask)))


def _logistic(e, value, factor, part, mask):
    return logistic(e, e.builder.fmul(e.spread(factor), value))


def _tanh(e, value, part, mask):
    return hyperbolic(e, value)


exp_less16 = sixteen("exp_less16", _exp_less, [ADDRESS])
exp_less_first = sixteen("exp_less_first", _exp_less, [ADDRESS], masked=True)
logistic16 = sixteen("logistic16", _logistic, [types.float32])
logistic_first = sixteen("logistic_first", _logistic, [types.float32], masked=True)
tanh16 = sixteen("tanh16", _tanh)
tanh_first = sixteen("tanh_first", _tanh, masked=True)


@compiled
def exp_less(target, source, less, count):
    """target = exp(source - less) of `count` float32 at addresses; target may be source."""
    whole = count // BLOCK * BLOCK
    for i in range(0, whole, BLOCK):
        exp_less16(target + i * 4, source + i * 4, less + i * 4)
    if whole < count:
        exp_less_first(target + whole * 4, source + whole * 4, less + whole * 4, count - whole)


@compiled
def logistics(target, source, factor, count):
    """target = 1 / (1 + exp(-factor source)) of `count` float32 at addresses; target may be source."""
    whole = count // BLOCK * BLOCK
    for i in range(0, whole, BLOCK):
        logistic16(target + i * 4, source + i * 4, factor)
    if whole < count:
        logistic_first(target + whole * 4, source + whole * 4, factor, count - whole)


@compiled
def tanhs(target, source, count):
    """target = tanh(source) of `count` float32 at addresses; target may be source."""
    whole = count // BLOCK * BLOCK
    for i in range(0, whole, BLOCK):
        tanh16(target + i * 4, source + i * 4)
    if whole < count:
        tanh_first(target + whole * 4, source + whole * 4, count - whole)

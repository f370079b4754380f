"""Winograd's transforms as straight-line vector code, emitted from the exact matrices.

Each transforms 16 channels of one tile at once: Y = T X T^t, X (q, q), Y (p, p), every element a vector of channels. The
rows of T come in pairs that differ in the signs of some terms (points p and -p), and so do the columns; their common
parts are computed once.
"""

import contextlib
from fractions import Fraction

from numba import types

from layers.core.cpu import cook_toom
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.vector_ir import ADDRESS, DOUBLE, FLOAT, Emitter, emitted

PASSES = ISA.width == BLOCK  # a vector is a cache line: it can be stored past the caches as one


def combination(emitter, coefficients, values):
    """Return the sum of coefficients * values as a chain of fused multiply-adds, or None if it has no terms."""
    terms = [(c, x) for c, x in zip(coefficients, values) if c]
    if not terms:
        return None
    terms.sort(key=lambda term: (abs(term[0]) != 1, -term[0] if abs(term[0]) == 1 else 0))
    first, total = terms[0]
    if first != 1:
        total = emitter.builder.fmul(emitter.constant(first), total)
    for c, x in terms[1:]:
        if c == 1:
            total = emitter.builder.fadd(total, x)
        elif c == -1:
            total = emitter.builder.fsub(total, x)
        else:
            total = emitter.add_product(emitter.constant(c), x, total)
    return total


def multiplied(emitter, matrix, values):
    """Return the vectors matrix @ values, sharing what pairs of columns and of rows have in common."""
    builder, rows = emitter.builder, len(matrix)
    columns, left = [], list(range(len(values)))
    while left:  # a x + b y with a = b in some rows and a = -b in the others: sums and differences, each once
        i = left.pop(0)
        one = [row[i] for row in matrix]
        pair = next((j for j in left if _signs_differ(one, [row[j] for row in matrix])), None)
        if pair is None:
            columns.append((one, values[i]))
            continue
        left.remove(pair)
        other = [row[pair] for row in matrix]
        columns.append(([a if a == b else Fraction(0) for a, b in zip(one, other)],
                        builder.fadd(values[i], values[pair])))
        columns.append(([a if a != b else Fraction(0) for a, b in zip(one, other)],
                        builder.fsub(values[i], values[pair])))
    matrix = [[column[i] for column, _ in columns] for i in range(rows)]
    values = [value for _, value in columns]
    results = [None] * rows
    for i in range(rows):
        if results[i] is not None:
            continue
        for j in range(i + 1, rows):
            if results[j] is None and _signs_differ(matrix[i], matrix[j]):
                same = [a if a == b else Fraction(0) for a, b in zip(matrix[i], matrix[j])]
                turned = [a if a != b else Fraction(0) for a, b in zip(matrix[i], matrix[j])]
                even, odd = combination(emitter, same, values), combination(emitter, turned, values)
                results[i], results[j] = builder.fadd(even, odd), builder.fsub(even, odd)
                break
        else:
            total = combination(emitter, matrix[i], values)
            results[i] = emitter.constant(0) if total is None else total
    return results


def _signs_differ(one, other):
    """Whether the two are equal but for signs, differ, agree somewhere, and have enough terms to be worth it."""
    return (all(abs(a) == abs(b) for a, b in zip(one, other)) and one != other
            and any(a == b != 0 for a, b in zip(one, other)) and sum(1 for a in one if a) > 1)


def two_sided(emitter, matrix, element):
    """Return the rows of matrix X matrix^t; ``element(i, j)`` gives X's."""
    size = len(matrix[0])
    columns = [multiplied(emitter, matrix, [element(i, j) for i in range(size)]) for j in range(size)]
    return [multiplied(emitter, matrix, [column[i] for column in columns]) for i in range(len(matrix))]


def transform(name, matrix, real=FLOAT):
    """Return the intrinsic ``(source, its row's bytes, its column's bytes, target, row's bytes, column's bytes)``."""
    width = ISA.width if real is FLOAT else max(ISA.width // 2, 2)

    def emit(builder, source, source_row, source_column, target, target_row, target_column):
        e = Emitter(builder, width, real)
        rows = [builder.add(source, builder.mul(source_row, e.number(i))) for i in range(len(matrix[0]))]
        lines = [builder.add(target, builder.mul(target_row, e.number(i))) for i in range(len(matrix))]
        for part in range(0, BLOCK, width):
            result = two_sided(e, matrix, lambda i, j, part=part: e.load(e.after(rows[i], j, source_column), part))
            for line, values in zip(lines, result):
                for j, value in enumerate(values):
                    e.store(value, e.after(line, j, target_column), part)

    return emitted(name, [types.void] + [ADDRESS] * 6, emit)


def output_transform(name, matrix, pooled=False):
    """Return the intrinsic ``(source, point's bytes, bias, low, target, row's bytes, past[, pooled, its row's bytes])``.

    AT M A plus the bias, not below `low`, to rows of blocked pixels; with `pooled`, the maxima of 2 x 2 pixels too. `past`:
    whether to store past the caches, which must be possible (`PASSES`), and the target on a cache line.
    """
    outputs, size = len(matrix), len(matrix[0])

    def emit(builder, source, point, bias, low, target, row, past, *pool):
        e = Emitter(builder)
        least = e.spread(low)
        points = [e.after(source, i, point) for i in range(size * size)]
        lines = [e.after(target, i, row) for i in range(outputs)]
        below = [e.after(pool[0], i, pool[1]) for i in range(outputs // 2)] if pooled else []
        for part in range(0, BLOCK, ISA.width):
            shift = e.load(e.pointer(bias), part)
            result = two_sided(e, matrix, lambda i, j, part=part: e.load(points[i * size + j], part))
            result = [[e.clamp(builder.fadd(value, shift), least) for value in values] for values in result]
            for passing in (False, True) if PASSES else (False,):
                wanted = builder.icmp_signed("!=" if passing else "==", past, e.number(0))
                with builder.if_then(wanted) if PASSES else contextlib.nullcontext():
                    for line, values in zip(lines, result):
                        for j, value in enumerate(values):
                            e.store(value, line, j * BLOCK + part, passing)
            for i, line in enumerate(below):
                for j in range(outputs // 2):
                    most, *others = (result[y][x] for y in (2 * i, 2 * i + 1) for x in (2 * j, 2 * j + 1))
                    for value in others:
                        most = e.larger_number(most, value)
                    e.store(most, line, j * BLOCK + part)

    arguments = [ADDRESS] * 3 + [types.float32] + [ADDRESS] * (5 if pooled else 3)
    return emitted(name, [types.void, *arguments], emit)


_AT3, _G3, _BT3 = cook_toom.matrices(4, 3)
_AT7, _G7, _BT7 = cook_toom.matrices(2, 7)

# F(4 x 4, 3 x 3): an input tile has 6 x 6 pixels.
input3 = transform("input3", _BT3)
weight3 = transform("weight3", _G3, DOUBLE)  # in float64: once for each weight, and half of the whole error otherwise
output3 = output_transform("output3", _AT3)
output3_pooled = output_transform("output3_pooled", _AT3, pooled=True)
error3 = transform("error3", cook_toom.transposed(_AT3))  # of the output's gradient, for that of the weights
gradient3 = transform("gradient3", cook_toom.transposed(_G3), DOUBLE)  # back to the weights' gradient

# F(2 x 2, 7 x 7): an input tile has 8 x 8 pixels.
input7 = transform("input7", _BT7)
weight7 = transform("weight7", _G7, DOUBLE)
output7 = output_transform("output7", _AT7)

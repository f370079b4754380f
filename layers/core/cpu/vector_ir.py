"""LLVM IR for vectors of floats: what the kernels that numba's own loops cannot express are emitted with.

Addresses are plain integers (int64) on numba's side. Fused multiply-add is asked for with `llvm.fmuladd`: one
instruction where the processor has it, two where not (`llvm.fma` would call a function there).
"""

import inspect

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from layers.core.cpu.isa import BLOCK, ISA

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
INT64, INT32, INT8 = ir.IntType(64), ir.IntType(32), ir.IntType(8)
ADDRESS = types.intp  # of addresses, and of distances and counts beside them, on numba's side


class Emitter:
    """Emits vector instructions through an llvmlite builder.

    `real` is the type the vectors compute in. With DOUBLE, `load` and `store` still move floats and convert.
    """

    def __init__(self, builder, width=ISA.width, real=FLOAT):
        self.builder, self.width, self.real = builder, width, real
        self.vector = ir.VectorType(real, width)
        self.stored = ir.VectorType(FLOAT, width)
        self._add_product = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fmuladd.v{width}f{32 if real is FLOAT else 64}")

    @staticmethod
    def number(value):
        """An int64."""
        return ir.Constant(INT64, value)

    def constant(self, value):
        """A vector of one value."""
        return ir.Constant(self.vector, [float(value)] * self.width)

    def pointer(self, address):
        """The float* for an integer address."""
        return self.builder.inttoptr(address, FLOAT.as_pointer())

    def moved(self, pointer, count):
        """The pointer `count` floats on."""
        return self.builder.gep(pointer, [self.number(count)]) if count else pointer

    def after(self, address, count, step):
        """The pointer for address + count * step: `count` a Python int, `step` in bytes."""
        return self.pointer(self.builder.add(address, self.builder.mul(step, self.number(count))) if count else address)

    def load(self, pointer, offset=0):
        """A vector from `offset` floats behind the pointer; needs no alignment."""
        where = self.builder.bitcast(self.moved(pointer, offset), self.stored.as_pointer())
        value = self.builder.load(where)
        value.align = 4
        return value if self.real is FLOAT else self.builder.fpext(value, self.vector)

    def store(self, value, pointer, offset=0, past=False):
        """Store a vector `offset` floats behind the pointer; `past` the caches only if it is aligned to its size."""
        if self.real is not FLOAT:
            value = self.builder.fptrunc(value, self.stored)
        where = self.builder.bitcast(self.moved(pointer, offset), self.stored.as_pointer())
        stored = self.builder.store(value, where)
        stored.align = 4 * self.width if past else 4
        if past:
            stored.set_metadata("nontemporal", self.builder.module.add_metadata([ir.Constant(INT32, 1)]))

    def first(self, count):
        """The mask of a vector's first `count` floats, none to all."""
        lanes = ir.Constant(ir.VectorType(INT64, self.width), list(range(self.width)))
        nothing = ir.Constant(ir.VectorType(INT64, self.width), ir.Undefined)
        limit = self.builder.insert_element(nothing, count, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        return self.builder.icmp_signed("<", lanes, self.builder.shuffle_vector(limit, nothing, zeros))

    def load_first(self, pointer, mask):
        """The masked floats, and zeros; nothing else is read."""
        where = self.builder.bitcast(pointer, self.stored.as_pointer())
        kind = ir.FunctionType(self.stored, [where.type, INT32, mask.type, self.stored])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.load.v{self.width}f32.p0")
        return self.builder.call(function, [where, ir.Constant(INT32, 4), mask, self.constant(0)])

    def store_first(self, value, pointer, mask):
        """Store the masked floats; nothing else is written."""
        where = self.builder.bitcast(pointer, self.stored.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [self.stored, where.type, INT32, mask.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.store.v{self.width}f32.p0")
        self.builder.call(function, [value, where, ir.Constant(INT32, 4), mask])

    def spread(self, scalar):
        """A vector of one scalar."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, ir.Constant(INT32, 0))
        mask = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, nothing, mask)

    def add_product(self, a, b, c):
        """a * b + c."""
        return self.builder.call(self._add_product, [a, b, c])

    def clamp(self, value, low):
        """max(value, low), and NaN stays NaN, as in Caffe's ReLU."""
        return self.builder.select(self.builder.fcmp_ordered("<", value, low), low, value)

    def larger(self, most, value):
        """The running maximum of a pooling window: `value` if it is greater than `most`; NaN never is, as in Caffe."""
        return self.builder.select(self.builder.fcmp_ordered(">", value, most), value, most)

    def larger_number(self, most, value):
        """The larger of two, of which a number wins against NaN."""
        larger = self.builder.fcmp_ordered(">", value, most)
        return self.builder.select(self.builder.or_(larger, self.builder.fcmp_unordered("uno", most, most)), value, most)

    def prefetch(self, pointer):
        """Ask for a cache line that is soon read (into the second level)."""
        kind = ir.FunctionType(ir.VoidType(), [INT8.as_pointer(), INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        read, second_level, data = 0, 2, 1
        self.builder.call(function, [self.builder.bitcast(pointer, INT8.as_pointer()),
                                     *(ir.Constant(INT32, n) for n in (read, second_level, data))])


def emitted(name, signature, emit):
    """Return a numba intrinsic that calls ``emit(builder, *arguments)`` for its body.

    `signature` lists numba types: the result's (void for none), then the arguments'. The intrinsic must become a
    global of a module (see `compiled`).
    """
    result, *arguments = signature

    def typed(typingctx, *args):
        def codegen(context, builder, sig, values):
            value = emit(builder, *values)
            return context.get_dummy_value() if value is None else value

        return result(*arguments), codegen

    # numba asks the signature how many arguments there are.
    names = ["typingctx", *(f"a{i}" for i in range(len(arguments)))]
    typed.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
    typed.__name__ = typed.__qualname__ = name
    return intrinsic(typed)


def transposed16(emitter, rows):
    """Return 16 vectors of 16 floats transposed: blocks of 8, 4, 2, 1 are exchanged between pairs of rows."""
    builder, mask = emitter.builder, ir.VectorType(INT32, BLOCK)
    rows = list(rows)
    for step in (8, 4, 2, 1):
        low = ir.Constant(mask, [j if not j & step else BLOCK + (j ^ step) for j in range(BLOCK)])
        high = ir.Constant(mask, [j | step if not j & step else BLOCK + j for j in range(BLOCK)])
        for i in range(BLOCK):
            if not i & step:
                a, b = rows[i], rows[i + step]
                rows[i] = builder.shuffle_vector(a, b, low)
                rows[i + step] = builder.shuffle_vector(a, b, high)
    return rows

"""What kernels say of the card in PTX itself: wide loads, tensor cores, copies that go on by themselves (as numba intrinsics).

Each name has its double in plain Python in `ptx_simulated`, for numba's simulator; `ptx_turing` replaces what cards before
capability 8.0 lack. Pointers are those of kernels' arguments, `shared` is a `cuda.shared.array` of float32. Indices count
elements, are at least 0 and are taken in 32 bits: a blob has fewer than 2**31 elements, and numba's own are 64 bits wide. Where
there is an `offset` beside an index, a constant one costs nothing. Nothing is checked: 16-byte accesses need addresses that are
multiples of 16. Sources: NVIDIA's PTX ISA, sections
"cp.async", "mma.sync" and "cvt".
"""

from llvmlite import ir
from numba.core.errors import RequireLiteralValue
from numba.cuda import types
from numba.cuda.extending import intrinsic

FLOAT, INT, LONG, VOID = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()
WIDE = {types.float32: FLOAT, types.int32: INT}


def narrow(builder, number):
    """Return a whole number in 32 bits."""
    return builder.trunc(number, INT) if number.type.width > 32 else number


def base(context, builder, kind, array):
    """Return LLVM's pointer to a pointer's or a contiguous array's first element."""
    return array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value=array).data


def address(context, builder, kind, array, *indices):
    """Return LLVM's pointer to the element at the sum of the indices."""
    pointer = base(context, builder, kind, array)
    for index in indices:
        pointer = builder.gep(pointer, [narrow(builder, index)])
    return pointer


def shared_address(context, builder, kind, array, index):
    """Return the 32-bit address, within the block's shared memory, of an element of a shared array."""
    pointer = builder.addrspacecast(base(context, builder, kind, array), ir.PointerType(FLOAT, 3))
    return builder.add(builder.ptrtoint(pointer, INT), builder.shl(narrow(builder, index), INT(2)))


def say(builder, result, text, constraints, arguments, effect=True):
    """Put in one instruction of PTX; `effect`: it does more than return its result."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=effect), arguments)


@intrinsic
def load(typingctx, shared, index, offset):
    """Return element index + offset."""
    def codegen(context, builder, signature, arguments):
        return builder.load(address(context, builder, signature.args[0], *arguments))

    return types.float32(shared, index, offset), codegen


@intrinsic
def store(typingctx, shared, index, offset, x):
    """Write element index + offset."""
    def codegen(context, builder, signature, arguments):
        builder.store(arguments[3], address(context, builder, signature.args[0], *arguments[:3]))
        return context.get_dummy_value()

    return types.void(shared, index, offset, types.float32), codegen


@intrinsic
def load4(typingctx, pointer, index, offset):
    """Return the 4 elements from index + offset on, float32 or int32, in one load of 16 bytes."""
    number = WIDE[pointer.dtype]

    def codegen(context, builder, signature, arguments):
        at = address(context, builder, signature.args[0], *arguments)
        vector = builder.load(builder.bitcast(at, ir.PointerType(ir.VectorType(number, 4), at.type.addrspace)), align=16)
        return context.make_tuple(builder, signature.return_type, [builder.extract_element(vector, INT(i)) for i in range(4)])

    return types.UniTuple(pointer.dtype, 4)(pointer, index, offset), codegen


@intrinsic
def within(typingctx, number, limit):
    """Return whether 0 <= number < limit, both of 32 bits, in one comparison."""
    def codegen(context, builder, signature, arguments):
        return builder.icmp_unsigned("<", *(narrow(builder, argument) for argument in arguments))

    return types.boolean(number, limit), codegen


@intrinsic
def place(typingctx, number, pitch, more):
    """Return number * pitch + more in 32 bits: where something lies."""
    def codegen(context, builder, signature, arguments):
        number, pitch, more = (narrow(builder, argument) for argument in arguments)
        return builder.add(builder.mul(number, pitch), more)

    return types.int32(number, pitch, more), codegen


@intrinsic
def quotient(typingctx, number, divisor):
    """Return number // divisor, both of 31 bits and not negative: a fifth of what division in 64 bits takes."""
    def codegen(context, builder, signature, arguments):
        return builder.udiv(*(narrow(builder, argument) for argument in arguments))

    return types.int32(number, divisor), codegen


@intrinsic
def raise_to(typingctx, pointer, index, number):
    """Make the int32 at the index the larger of itself and `number`; in which order threads do so changes nothing."""
    def codegen(context, builder, signature, arguments):
        at = address(context, builder, signature.args[0], *arguments[:2])
        builder.atomic_rmw("max", at, narrow(builder, arguments[2]), "monotonic")
        return context.get_dummy_value()

    return types.void(pointer, index, number), codegen


def _copy(width, text):
    @intrinsic
    def copy(typingctx, shared, index, source, offset, valid):
        def codegen(context, builder, signature, arguments):
            shared, index, source, offset, valid = arguments
            target = shared_address(context, builder, signature.args[0], shared, index)
            origin = builder.ptrtoint(address(context, builder, signature.args[2], source, offset), LONG)
            count = builder.select(builder.trunc(valid, ir.IntType(1)), INT(width), INT(0))
            say(builder, VOID, text, "r,l,r,~{memory}", [target, origin, count])
            return context.get_dummy_value()

        return types.void(shared, index, source, offset, types.boolean), codegen

    return copy


# (shared, index, source, offset, valid): begin to copy 1 or 4 floats to shared memory; zeros, and nothing read, if not valid.
copy4 = _copy(4, "cp.async.ca.shared.global [$0], [$1], 4, $2;")
copy16 = _copy(16, "cp.async.cg.shared.global [$0], [$1], 16, $2;")


@intrinsic
def end_copies(typingctx):
    """Make the thread's copies since the last call one group."""
    def codegen(context, builder, signature, arguments):
        say(builder, VOID, "cp.async.commit_group;", "~{memory}", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def wait_copies(typingctx, left):
    """Wait until at most `left` (a constant) of the thread's groups of copies are under way."""
    if not isinstance(left, types.IntegerLiteral):
        raise RequireLiteralValue("left")

    def codegen(context, builder, signature, arguments):
        say(builder, VOID, f"cp.async.wait_group {left.literal_value};", "~{memory}", [])
        return context.get_dummy_value()

    return types.void(left), codegen


@intrinsic
def tf32(typingctx, x):
    """Return the bits of x with 10 bits of fraction, rounded to the nearest (ties away from zero)."""
    def codegen(context, builder, signature, arguments):
        return say(builder, INT, "cvt.rna.tf32.f32 $0, $1;", "=r,f", arguments, effect=False)

    return types.uint32(types.float32), codegen


@intrinsic
def value(typingctx, bits):
    """Return the float32 of 32 bits."""
    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.uint32), codegen


@intrinsic
def mma(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """Return a warp's D = A B + C, A 16 x 8 and B 8 x 8 of `tf32` bits, C and D 16 x 8 of float32: four values of D a thread.

    With row = lane // 4 and column = lane % 4 a thread holds A[row, column], A[row + 8, column], A[row, column + 4],
    A[row + 8, column + 4]; B[column, row], B[column + 4, row]; of C and D [row, 2 column], [row, 2 column + 1],
    [row + 8, 2 column] and [row + 8, 2 column + 1].
    """
    bits, number = types.uint32, types.float32

    def codegen(context, builder, signature, arguments):
        four = say(builder, ir.LiteralStructType([FLOAT] * 4),
                   "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
                   "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", arguments)
        return context.make_tuple(builder, signature.return_type, [builder.extract_value(four, i) for i in range(4)])

    return types.UniTuple(number, 4)(*[bits] * 6, *[number] * 4), codegen

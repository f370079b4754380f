"""The names of `layers.core.cuda.ptx` for cards of capability 7.5: copies to shared memory that the thread itself makes.

There are no tensor cores for tf32: what needs them is not for these cards.
"""

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from layers.core.cuda.ptx import FLOAT, address, load, load4, place, quotient, raise_to, store, within  # noqa: F401


def _copy(count):
    @intrinsic
    def copy(typingctx, shared, index, source, offset, valid):
        def codegen(context, builder, signature, arguments):
            shared, index, source, offset, valid = arguments
            kind = ir.VectorType(FLOAT, count) if count > 1 else FLOAT
            target = address(context, builder, signature.args[0], shared, index)
            target = builder.bitcast(target, ir.PointerType(kind, target.type.addrspace))
            zeros = ir.Constant(kind, [0.0] * count if count > 1 else 0.0)
            before = builder.block
            with builder.if_then(builder.trunc(valid, ir.IntType(1))):
                origin = address(context, builder, signature.args[2], source, offset)
                read = builder.load(builder.bitcast(origin, ir.PointerType(kind, origin.type.addrspace)), align=4 * count)
                inside = builder.block
            values = builder.phi(kind)
            values.add_incoming(zeros, before)
            values.add_incoming(read, inside)
            builder.store(values, target, align=4 * count)
            return context.get_dummy_value()

        return types.void(shared, index, source, offset, types.boolean), codegen

    return copy


copy4, copy16 = _copy(1), _copy(4)


@intrinsic
def end_copies(typingctx):
    """Nothing is under way."""
    return types.void(), lambda context, builder, signature, arguments: context.get_dummy_value()


@intrinsic
def wait_copies(typingctx, left):
    """Nothing to wait for."""
    return types.void(left), lambda context, builder, signature, arguments: context.get_dummy_value()

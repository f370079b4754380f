"""A card whose kernels numba compiles for the CPU: with the types that they have on a card, and fast enough for whole nets.

The simulator runs kernels in Python, whose numbers never overflow and are float64 as soon as they are none of numpy's. Here a
block is one thread, so only kernels can be run that take any number of threads (`Card.threads`), and that speak no PTX but
what stands in `PTX`.
"""

import ctypes
import types as python_types

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, models, overload_attribute, register_model, typeof_impl

from layers.core.cuda.card import SimulatedCard
from layers.core.cuda.kernel import bound

CTYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64,
          "uint64": ctypes.c_uint64, "uint8": ctypes.c_uint8}
BLOCK = np.zeros(1, np.int32)  # the number of the block that runs


class NativeCard(SimulatedCard):
    """As `SimulatedCard`, with compiled kernels."""

    name = "native"
    threads = 1

    def launch(self, kernel, grid, *arguments, threads=None):
        """Run a kernel, block by block."""
        assert threads == 1, f"{kernel} asks for a certain number of threads"
        if kernel not in self._functions:
            numbers = [getattr(types, name) for name, _ in kernel.arguments]
            signature = types.void(*(types.CPointer(number) if pointer else number
                                     for number, (_, pointer) in zip(numbers, kernel.arguments)))
            function = bound(kernel.function, CUDA, PTX, numba.njit(error_model="numpy"), self._parts)
            self._functions[kernel] = numba.cfunc(signature, error_model="numpy")(function).ctypes
        given = [ctypes.cast(one.address.ctypes.data, ctypes.POINTER(CTYPES[name])) if pointer
                 else np.dtype(name.removesuffix("ean")).type(one).item()
                 for (name, pointer), one in zip(kernel.arguments, arguments, strict=True)]

        def run():
            for BLOCK[0] in range(grid):
                self._functions[kernel](*given)

        self._now_or_then(run)

    def run(self, kernel, count, *arguments):
        """Run a kernel over `count` elements."""
        if count:
            self.launch(kernel, 1, *arguments, count, threads=1)


class BlockNumber:
    """`cuda.blockIdx`: its `x` is read when it is asked for."""


class _BlockNumberType(types.Type):
    def __init__(self):
        super().__init__("BlockNumber")


register_model(_BlockNumberType)(models.OpaqueModel)


@typeof_impl.register(BlockNumber)
def _typeof(value, context):
    return _BlockNumberType()


@lower_constant(_BlockNumberType)
def _lower(context, builder, kind, value):
    return context.get_dummy_value()


@intrinsic
def _block(typing_context):
    def emit(context, builder, signature, arguments):
        address = ir.Constant(ir.IntType(64), BLOCK.ctypes.data)
        return builder.load(builder.inttoptr(address, ir.IntType(32).as_pointer()))

    return types.int32(), emit


@overload_attribute(_BlockNumberType, "x")
def _block_number(number):
    return lambda number: _block()


@numba.njit
def _grid(axes):
    return np.int64(0)


@numba.njit
def _gridsize(axes):
    return np.int64(1)


@numba.njit
def _array(length, dtype):
    return np.empty(length, dtype)


@numba.njit
def _add(array, place, value):
    array[place] += value


@numba.njit
def _raise_to(array, place, value):
    array[place] = max(array[place], value)


@numba.njit
def _syncthreads():
    pass


def _module(name, **names):
    module = python_types.ModuleType(name)
    module.__dict__.update(names)
    return module


CUDA = _module("cuda", grid=_grid, gridsize=_gridsize, syncthreads=_syncthreads, blockIdx=BlockNumber(),
               threadIdx=_module("threadIdx", x=0), blockDim=_module("blockDim", x=1),
               shared=_module("shared", array=_array), atomic=_module("atomic", add=_add))
PTX = _module("ptx", raise_to=_raise_to)
CARD = NativeCard(0)

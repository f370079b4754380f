"""NVIDIA's driver in the few calls that are needed, each of which raises when it fails (through the package cuda-bindings)."""

import ctypes

import numpy as np

from layers.core.cuda import compiler
from netspec.errors import Error

try:
    from cuda.bindings import driver
except ImportError as error:
    driver, _missing = None, error

CTYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64,
          "uint64": ctypes.c_uint64, "uint8": ctypes.c_uint8, "boolean": ctypes.c_bool}


class CardError(Error):
    """A card does not do, in the middle of a run, what it should."""


class DriverError(CardError):
    """The driver refused; `number` is its code."""

    number = None


def call(name, *arguments):
    """Call ``cu<name>``; return what it gives beside its code: nothing, a value, or a tuple of them."""
    if driver is None:
        raise Error(f"no way to the NVIDIA driver: the package cuda-bindings is missing ({_missing}); {compiler.INSTALL}")
    try:
        code, *values = getattr(driver, f"cu{name}")(*arguments)
    except RuntimeError as error:  # the library itself was not found
        raise Error(f"no NVIDIA driver here ({error}); install the card's driver, or compute on the CPU") from error
    if code != driver.CUresult.CUDA_SUCCESS:
        error = DriverError(f"the NVIDIA driver refuses {name}: {_words(code)}")
        error.number = int(code)
        raise error
    return values[0] if len(values) == 1 else tuple(values) or None


def _words(code):
    said = driver.cuGetErrorString(code)[1]
    return f"{said.decode() if said else 'unknown error'} ({int(code)})"


def attribute(device, name):
    """Return a number that the driver gives for a card: ``CU_DEVICE_ATTRIBUTE_<name>``."""
    return call("DeviceGetAttribute", getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), device)


class Function:
    """A compiled kernel, loaded on the card whose context is current."""

    def __init__(self, kernel, capability):
        text, entry = compiler.ptx_of(kernel, capability)
        self.kernel = kernel
        image = np.frombuffer(text.encode() + b"\0", np.uint8)  # a name keeps it alive while the driver reads it
        self.module = call("ModuleLoadData", image.ctypes.data)
        self.handle = call("ModuleGetFunction", self.module, entry.encode())
        if kernel.shared > 48 << 10:
            call("FuncSetAttribute", self.handle, driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                 kernel.shared)
        self.types = [ctypes.c_uint64 if pointer else CTYPES[name] for name, pointer in kernel.arguments]

    def launch(self, grid, block, stream, arguments):
        """Queue the kernel; `grid` and `block` are triples, `arguments` numbers and addresses."""
        values = [kind(value) for kind, value in zip(self.types, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        call("LaunchKernel", self.handle, *grid, *block, self.kernel.shared, stream, ctypes.addressof(pointers), 0)

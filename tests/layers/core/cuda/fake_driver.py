"""Stands for the package cuda-bindings and a driver with cards: memory is the host's, kernels are only written down."""

import ctypes
import enum


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class FakeDriver:
    """Cards of `capabilities` with `most` bytes each; `called` lists all calls, `fails` gives codes to names of calls."""

    CUresult = CUresult
    CUdevice_attribute = enum.IntEnum("CUdevice_attribute", [f"CU_DEVICE_ATTRIBUTE_{name}" for name in (
        "COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "MULTIPROCESSOR_COUNT")])
    CUstreamCaptureMode = enum.IntEnum("CUstreamCaptureMode", ["CU_STREAM_CAPTURE_MODE_THREAD_LOCAL"])
    CUfunction_attribute = enum.IntEnum("CUfunction_attribute", ["CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"])

    def __init__(self, capabilities=((9, 0),), most=1 << 20):
        self.capabilities, self.most = capabilities, most
        self.called, self.fails, self.launched, self.buffers = [], {}, [], {}
        self.events = 0
        self.layout = []  # ctypes of the arguments of the next launches

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments):
            self.called.append((name[2:], *arguments))
            if name[2:] in self.fails:
                return (self.fails[name[2:]],)
            values = getattr(self, f"_{name[2:]}", lambda *_: ())(*arguments)
            return values if values and isinstance(values[0], CUresult) else (CUresult.CUDA_SUCCESS, *values)

        return call

    def _GetErrorString(self, code):
        return (CUresult(code).name.lower().encode(),)

    def _EventCreate(self, flags):
        self.events += 1
        return (f"event {self.events}",)

    def _EventElapsedTime(self, begin, end):
        return (2.5,)  # milliseconds

    def _DeviceGetCount(self):
        return (len(self.capabilities),)

    def _DeviceGet(self, number):
        return (number,)

    def _DeviceGetName(self, size, device):
        return (f"Fake {device}".encode() + b"\0" * 9,)

    def _DeviceTotalMem(self, device):
        return (self.most,)

    def _DeviceGetAttribute(self, which, device):
        major, minor = self.capabilities[device]
        return ({1: major, 2: minor, 3: 4}[which],)

    def _DevicePrimaryCtxRetain(self, device):
        return (f"context {device}",)

    def _StreamCreate(self, flags):
        return ("stream",)

    def _MemGetInfo(self):
        return self.most - sum(map(len, self.buffers.values())), self.most

    def _MemAlloc(self, nbytes):
        if nbytes > self._MemGetInfo()[0]:
            return (CUresult.CUDA_ERROR_OUT_OF_MEMORY,)
        buffer = ctypes.create_string_buffer(nbytes)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return (ctypes.addressof(buffer),)

    def _MemHostAlloc(self, nbytes, flags):
        self.pinned = ctypes.create_string_buffer(nbytes)
        return (ctypes.addressof(self.pinned),)

    def _MemFree(self, address):
        del self.buffers[address]
        return ()

    def _MemcpyHtoDAsync(self, to, source, nbytes, stream):
        ctypes.memmove(to, source, nbytes)
        return ()

    def _MemcpyDtoHAsync(self, to, source, nbytes, stream):
        ctypes.memmove(to, source, nbytes)
        return ()

    def _MemcpyDtoDAsync(self, to, source, nbytes, stream):
        ctypes.memmove(to, source, nbytes)
        return ()

    def _MemsetD8Async(self, to, value, nbytes, stream):
        ctypes.memset(to, value, nbytes)
        return ()

    def _ModuleLoadData(self, address):
        return (ctypes.string_at(address).decode(),)

    def _ModuleGetFunction(self, module, entry):
        return ((module, entry.decode()),)

    def _LaunchKernel(self, function, *rest):
        grid, block, shared, stream, pointers, extra = rest[:3], rest[3:6], *rest[6:]
        addresses = (ctypes.c_void_p * len(self.layout)).from_address(pointers)
        values = [kind.from_address(address).value for kind, address in zip(self.layout, addresses)]
        self.launched.append((function, grid, block, shared, stream, values, extra))
        return ()

    def _StreamEndCapture(self, stream):
        return ("graph",)

    def _GraphInstantiate(self, graph, flags):
        return (f"{graph} to run",)

"""Calls of the driver: what they give, and what is said when there is no package, no driver, or it refuses."""

import ctypes

import pytest

from layers.core.cuda import compiler, driver
from layers.core.cuda import kernel as kernels
from netspec.errors import Error
from tests.layers.core.cuda.fake_driver import CUresult, FakeDriver
from tests.layers.core.cuda.simulated import add_cuda


@pytest.fixture
def fake(monkeypatch):
    made = FakeDriver()
    monkeypatch.setattr(driver, "driver", made)
    monkeypatch.setattr(compiler, "ptx_of", lambda kernel, capability: (f"{kernel.name} {capability}", "entry"))
    return made


def test_a_call_gives_what_the_driver_gives_beside_its_code(fake):
    assert driver.call("Init", 0) is None
    assert driver.call("DeviceGetCount") == 1
    assert driver.call("MemGetInfo") == (1 << 20, 1 << 20)
    assert driver.attribute(0, "COMPUTE_CAPABILITY_MAJOR") == 9


def test_a_refusal_says_which_call_and_why(fake):
    fake.fails["MemAlloc"] = CUresult.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(driver.DriverError, match=r"refuses MemAlloc: cuda_error_out_of_memory \(2\)") as caught:
        driver.call("MemAlloc", 10)
    assert caught.value.number == 2


def test_no_package_and_no_driver_each_have_their_cure(fake, monkeypatch):
    def missing(*arguments):
        raise RuntimeError("libcuda.so.1 was not found")

    fake.cuInit = missing
    with pytest.raises(Error, match=r"no NVIDIA driver here \(libcuda.so.1 was not found\); install .* or compute on the CPU"):
        driver.call("Init", 0)
    monkeypatch.setattr(driver, "driver", None)
    monkeypatch.setattr(driver, "_missing", "No module named 'cuda'", raising=False)
    with pytest.raises(Error, match=r"the package cuda-bindings is missing .*pip install -e '\.\[cuda\]'"):
        driver.call("Init", 0)


def test_a_kernel_is_launched_with_its_arguments_by_value(fake):
    kernel = kernels.kernel("float*, float, double, int, long, byte, bool", threads=64, shared=100 << 10)(every_kind)
    del kernels.KERNELS[kernel.name]
    function = driver.Function(kernel, (9, 0))
    assert ("FuncSetAttribute", (f"{kernel.name} (9, 0)", "entry"), 1, 100 << 10) in fake.called
    fake.layout = [ctypes.c_uint64, ctypes.c_float, ctypes.c_double, ctypes.c_int32, ctypes.c_int64, ctypes.c_uint8,
                   ctypes.c_bool]
    values = [1 << 40, 0.5, 0.1, -3, -1 << 40, 200, True]
    function.launch((7, 1, 1), (64, 1, 1), "stream", values)
    assert fake.launched == [((f"{kernel.name} (9, 0)", "entry"), (7, 1, 1), (64, 1, 1), 100 << 10, "stream", values, 0)]


def test_a_wrong_number_of_arguments_is_refused(fake):
    with pytest.raises(ValueError, match="argument"):
        driver.Function(add_cuda, (9, 0)).launch((1, 1, 1), (1, 1, 1), 0, [1, 2.0])


def every_kind(a, b, c, d, e, f, g):
    """Takes one of each."""

"""Declarations of kernels: types in C's words, and what stands in their globals when they are compiled."""

import types

import pytest

from layers.core.cuda import kernel as kernels
from layers.core.cuda.kernel import bound, cuda, kernel, part, ptx


@pytest.fixture(autouse=True)
def forget():
    before = dict(kernels.KERNELS)
    yield
    kernels.KERNELS.clear()
    kernels.KERNELS.update(before)


def test_types_are_read_in_the_words_of_c():
    @kernel("float*, double *,int , long,byte*, bool", threads=64, shared=4096)
    def all_kinds(a, b, c, d, e, f):
        """Says something."""

    assert all_kinds.arguments == (("float32", True), ("float64", True), ("int32", False), ("int64", False), ("uint8", True),
                                   ("boolean", False))
    assert (all_kinds.threads, all_kinds.shared) == (64, 4096)
    assert all_kinds.__doc__ == "Says something." and all_kinds.__name__ == "all_kinds"
    assert kernels.KERNELS[all_kinds.name] is all_kinds and all_kinds.name.startswith(f"{__name__}.")


def test_declarations_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match=r"kernel .*one.*: 2 types for 1 arguments"):
        @kernel("float*, int")
        def one(x):
            pass
    with pytest.raises(TypeError, match=r"type 'half\*'; known are float, double, int, long, .*each with or without"):
        @kernel("half*")
        def two(x):
            pass


def test_neither_is_called_from_the_host():
    @kernel("int")
    def three(x):
        pass

    @part
    def four(x):
        return x

    with pytest.raises(TypeError, match=r"kernel .*three runs on a card: card\.run"):
        three(1)
    with pytest.raises(TypeError, match="four is a part of kernels"):
        four(1)


@part
def inner(x):
    return cuda + x


@part
def outer(x):
    return inner(x) * 2


@part
def lonely(x):
    return (lambda y: inner(y))(x) + ptx


@kernel("int")
def calls(x):
    return outer(x), lonely(x), inner(x)


def test_parts_within_parts_are_compiled_once_each():
    compiled = []

    def device(function):
        assert isinstance(function, types.FunctionType)
        compiled.append(function.__name__)
        return function

    parts = {}
    made = bound(calls.function, 10, 100, device, parts)
    assert made(1) == (22, 111, 11)
    assert sorted(compiled) == ["inner", "lonely", "outer"] and compiled.index("inner") < compiled.index("outer")
    bound(calls.function, 10, 100, device, parts)
    assert len(compiled) == 3
    assert cuda is None and calls.function.__globals__["cuda"] is None  # nobody else sees the modules

"""`@kernel`: a function that runs on a card, with the types of its arguments; `@part`: one that kernels call.

A kernel says what it takes in C's words, so it is one function and not one for each way of calling it, and every kernel can
be compiled where there is no card:

    @kernel("float*, float*, float, int")
    def relu_cuda(x, y, slope, count):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            y[i] = relu_at(x[i], slope, zero)

`cuda` and `ptx` in a kernel are the names below: numba's module and `layers.core.cuda.ptx` take their place when it is
compiled, so that whoever only imports a layer does not wait for them. Element functions of the CPU (`cached`) may be called.

Pointers are bare addresses: no shape travels, nothing is checked. Sums are taken in a fixed order and never by atomics, so
that the bits are the same on every run.
"""

import functools
import types

# Stand-ins: what kernels say, see above.
cuda = ptx = None

OLDEST = (7, 5)  # capability: Turing
KERNELS = {}  # "module.name" -> Kernel, of all modules that were imported
TYPES = {"float": "float32", "double": "float64", "int": "int32", "long": "int64", "ulong": "uint64", "byte": "uint8",
         "bool": "boolean"}


class Kernel:
    """A function for a card.

    Attributes
    ----------
    function : function
        What was decorated.
    arguments : tuple of (str, bool)
        numpy's name of each argument's type, and whether it is a pointer.
    threads : int
        Threads of a block, unless the launch says otherwise.
    shared : int
        Bytes of dynamic shared memory.
    since : (int, int)
        The oldest capability of a card that it runs on.
    """

    def __init__(self, function, arguments, threads, shared, since=OLDEST):
        self.function, self.threads, self.shared, self.since = function, threads, shared, since
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.arguments = tuple(_argument(text, self.name) for text in arguments.split(","))
        expected = function.__code__.co_argcount
        if len(self.arguments) != expected:
            raise TypeError(f"kernel {self.name}: {len(self.arguments)} types for {expected} arguments")
        functools.update_wrapper(self, function)

    def __call__(self, *_):
        raise TypeError(f"kernel {self.name} runs on a card: card.run(kernel, count, ...) or card.launch(kernel, blocks, ...)")

    def __repr__(self):
        return f"<Kernel {self.name}>"


class Part:
    """A function that kernels call; a card's own function, compiled with each of them."""

    def __init__(self, function):
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *_):
        raise TypeError(f"{self.function.__qualname__} is a part of kernels and runs on a card only")


def kernel(arguments, threads=256, shared=0, since=OLDEST, name=None):
    """Declare a kernel; `arguments`: C's types, "float*, int"; `name`: of one of several that a function makes."""
    def declare(function):
        function.__qualname__ = name or function.__qualname__
        made = Kernel(function, arguments, threads, shared, since)
        KERNELS[made.name] = made
        return made

    return declare


part = Part


def _argument(text, name):
    base = text.strip().removesuffix("*").strip()
    if base not in TYPES:
        raise TypeError(f"kernel {name}: type '{text.strip()}'; known are {', '.join(TYPES)}, each with or without *")
    return TYPES[base], text.strip().endswith("*")


def bound(function, cuda_module, ptx_module, device, parts):
    """Return a copy of `function` in whose globals the modules and compiled parts stand; `parts` keeps those made so far.

    `device` makes a function of the card (numba's ``cuda.jit(device=True)``).
    """
    names = dict(function.__globals__)
    names.update(cuda=cuda_module, ptx=ptx_module)
    for name in _names(function.__code__):
        found = names.get(name)
        if isinstance(found, Part):
            if found not in parts:
                parts[found] = device(bound(found.function, cuda_module, ptx_module, device, parts))
            names[name] = parts[found]
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__qualname__, copy.__module__, copy.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return copy


def _names(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)

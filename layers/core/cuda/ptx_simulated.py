"""The names of `layers.core.cuda.ptx` in plain Python, for numba's simulator."""

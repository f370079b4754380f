"""Kernels shared by several layers, and the threads that run them."""

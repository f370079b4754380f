"""What kernels say of the card in PTX itself: wide loads, tensor cores, copies that go on by themselves (as numba intrinsics)."""

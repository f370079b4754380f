"""Machines: Blob, Layer, Net, random streams, fillers; kernels for the CPU in `layers.core.cpu`."""

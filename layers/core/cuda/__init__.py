"""NVIDIA cards: memory, kernels, and what is common to all layers that run there."""

"""Matrix products (SGEMM) of the shapes that nets have."""

import numpy as np

# name: (rows, depth, columns, left stored transposed, right stored transposed)
SHAPES = {
    "conv1_1": (64, 27, 487204, 0, 0), "conv1_2 / 4": (64, 576, 121801, 0, 0), "conv2_2": (128, 1152, 121801, 0, 0),
    "conv3_2": (256, 2304, 30625, 0, 0), "conv4_2": (512, 4608, 7744, 0, 0), "conv5": (512, 4608, 1936, 0, 0),
    "fc6 / 4": (1024, 25088, 256, 0, 0), "fc7": (4096, 4096, 256, 0, 0), "score_fr": (21, 4096, 256, 0, 0),
    "2048": (2048, 2048, 2048, 0, 0), "2048, both turned": (2048, 2048, 2048, 1, 1), "batch of 64": (64, 4096, 1000, 0, 1),
    "weight gradient": (512, 1936, 4608, 0, 1), "columns' gradient": (2304, 256, 7656, 1, 0), "small": (64, 64, 64, 0, 0),
}


def operands(name):
    """Return (left (rows, depth), right (depth, columns)), float32; the ones stored transposed are views."""
    rows, depth, columns, left, right = SHAPES[name]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((depth, rows) if left else (rows, depth), dtype=np.float32)
    b = rng.standard_normal((columns, depth) if right else (depth, columns), dtype=np.float32)
    return a.T if left else a, b.T if right else b


def work(name):
    """Return billions of operations."""
    rows, depth, columns = SHAPES[name][:3]
    return 2e-9 * rows * depth * columns


class Product:
    """The job, but for what computes it: a subclass for each engine has `run`."""

    def __init__(self, settings):
        self.left, self.right = operands(settings["shape"])
        self.out = np.empty((self.left.shape[0], self.right.shape[1]), np.float32)

    def check(self):
        self.run(0)
        return {"output": self.out}

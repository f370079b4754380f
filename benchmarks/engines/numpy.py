"""numpy and its BLAS; and reading a file as plainly as it can be done."""

import numpy as np

from benchmarks import products

NEEDS = "pip install numpy"


def version():
    """Return numpy's version and its BLAS."""
    blas = np.show_config("dicts")["Build Dependencies"]["blas"]
    return f"{np.__version__} ({blas['name']} {blas['version']})"


class Product(products.Product):
    """A matrix product."""

    def run(self, number):
        np.matmul(self.left, self.right, out=self.out)


class Load:
    """A file's bytes read and copied once, into memory in huge pages: `open(path).read()` is slower for its page faults."""

    def __init__(self, settings):
        self.path = settings["weights"]

    def run(self, number):
        return np.fromfile(self.path, np.uint8).copy()

    def check(self):
        return {}


JOBS = {"product": Product, "load": Load}

"""google.protobuf's own reader of text."""

import google.protobuf
import numpy as np
from google.protobuf import text_format
from google.protobuf.internal import api_implementation

from netspec import caffe_pb2

NEEDS = "pip install protobuf"


def version():
    """Return protobuf's version and implementation."""
    return f"{google.protobuf.__version__} ({api_implementation.Type()})"


class Parse:
    """A prototxt read, neither checked nor upgraded."""

    def __init__(self, settings):
        self.path = settings["prototxt"]

    def run(self, number):
        with open(self.path) as file:
            return text_format.Parse(file.read(), caffe_pb2.NetParameter())

    def check(self):
        return {"layers": np.array([len(self.run(0).layer)])}


JOBS = {"parse": Parse}

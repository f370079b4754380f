"""OpenCV's dnn module with its reader of Caffe's files (OpenCV 4; 5 has none)."""

import cv2
import numpy as np

from benchmarks import machine
from benchmarks.engines import inputs_of

NEEDS = "pip install 'opencv-python-headless>=4.9,<5'"


def version():
    """Return its version."""
    return cv2.__version__


class Forward:
    """One forward pass."""

    def __init__(self, settings):
        cv2.setNumThreads(machine.threads())
        self.net = cv2.dnn.readNetFromCaffe(settings["prototxt"], settings["weights"])
        self.net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        self.inputs, self.output = inputs_of(settings), settings["output"]

    def run(self, number):
        for name, array in self.inputs[number].items():
            self.net.setInput(array, name)
        return self.net.forward(self.output)

    def check(self):
        return {"output": self.run(0)}


class Load:
    """A net made of a prototxt and a caffemodel."""

    def __init__(self, settings):
        self.settings = settings

    def run(self, number):
        return cv2.dnn.readNetFromCaffe(self.settings["prototxt"], self.settings["weights"])

    def check(self):
        return {"first weights": np.array(self.run(0).getParam(self.settings["first"], 0))}


class Parse:
    """A prototxt read into a net of no weights."""

    def __init__(self, settings):
        self.path = settings["prototxt"]

    def run(self, number):
        return cv2.dnn.readNetFromCaffe(self.path)

    def check(self):
        self.run(0)
        return {}


JOBS = {"forward": Forward, "load": Load, "parse": Parse}

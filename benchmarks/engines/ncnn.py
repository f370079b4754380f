"""ncnn in float32: its 16-bit storage and arithmetic are switched off. An image at a time, for it knows no batches."""

import os
import tempfile

import ncnn
import numpy as np

from benchmarks import machine
from benchmarks.engines import arrays_of, inputs_of
from benchmarks.engines.ncnn_net import to_ncnn
from netspec import text

NEEDS = "pip install ncnn"


def version():
    """Return its version."""
    return ncnn.__version__


class Forward:
    """One inference for each image of the batch."""

    def __init__(self, settings):
        self.inputs, self.output = inputs_of(settings), settings["output"]
        self.net = ncnn.Net()
        self.net.opt.num_threads = machine.threads()
        for option in dir(self.net.opt):
            if option.startswith(("use_fp16", "use_bf16", "use_int8")):
                setattr(self.net.opt, option, False)
        with tempfile.TemporaryDirectory() as folder:
            param, weights = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
            with open(param, "w") as file, open(weights, "wb") as binary:
                self.blob = to_ncnn(text.read_net(settings["prototxt"]), arrays_of(settings["weights"]), file, binary,
                                    self.output)
            if self.net.load_param(param) or self.net.load_model(weights):
                raise RuntimeError("ncnn refuses the net")

    def run(self, number):
        images = self.inputs[number]
        results = []
        for image in range(len(next(iter(images.values())))):
            extractor = self.net.create_extractor()
            for name, array in images.items():
                extractor.input(name, ncnn.Mat(array[image]).clone())
            failed, result = extractor.extract(self.blob)
            if failed:
                raise RuntimeError(f"ncnn fails with {failed}")
            results.append(np.array(result))
        return results[0][None] if len(results) == 1 else np.stack(results)

    def check(self):
        return {"output": self.run(0)}


JOBS = {"forward": Forward}

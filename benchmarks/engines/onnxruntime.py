"""onnxruntime on the net that `netspec.onnx_graph` makes."""

import onnxruntime

from benchmarks import machine
from benchmarks.engines import arrays_of, inputs_of
from netspec import text
from netspec.onnx_graph import to_onnx

NEEDS = "pip install onnxruntime onnx"


def version():
    """Return its version."""
    return onnxruntime.__version__


def session(model):
    """Return a session on a model's bytes or path."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Forward:
    """One inference."""

    def __init__(self, settings):
        self.inputs, self.output = inputs_of(settings), settings["output"]
        shapes = {name: array.shape for name, array in self.inputs[0].items()}
        net = text.read_net(settings["prototxt"])
        model = to_onnx(net, arrays_of(settings["weights"]), shapes, [self.output], free=len(self.inputs) > 1)
        self.session = session(model.SerializeToString())

    def run(self, number):
        return self.session.run([self.output], self.inputs[number])[0]

    def check(self):
        return {"output": self.run(0)}


JOBS = {"forward": Forward}

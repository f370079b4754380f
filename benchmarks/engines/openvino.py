"""OpenVINO on the net that `netspec.onnx_graph` makes: float32 asked for, or the precision it chooses itself."""

import openvino

from benchmarks import machine
from benchmarks.engines import arrays_of, inputs_of
from netspec import text
from netspec.onnx_graph import to_onnx

NEEDS = "pip install openvino onnx"


def version():
    """Return its version."""
    return openvino.__version__


class Forward:
    """One inference."""

    def __init__(self, settings, precision=None):
        self.inputs, output = inputs_of(settings), settings["output"]
        shapes = {name: array.shape for name, array in self.inputs[0].items()}
        net = text.read_net(settings["prototxt"])
        model = to_onnx(net, arrays_of(settings["weights"]), shapes, [output], free=len(self.inputs) > 1)
        hints = {"INFERENCE_NUM_THREADS": machine.threads(), "PERFORMANCE_HINT": "LATENCY"}
        if precision:
            hints["INFERENCE_PRECISION_HINT"] = precision
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
        self.request = compiled.create_infer_request()

    def run(self, number):
        return self.request.infer(self.inputs[number])[0]

    def check(self):
        return {"output": self.run(0)}


JOBS = {"forward": Forward}

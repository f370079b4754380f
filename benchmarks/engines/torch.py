"""PyTorch on a module made of the same prototxt."""

import numpy as np
import torch

from benchmarks import machine, products
from benchmarks.engines import inputs_of
from benchmarks.engines.torch_net import TorchNet
from netspec import text

NEEDS = "pip install torch"
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def version():
    """Return its version."""
    torch.set_num_threads(machine.threads())
    return f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"


def _tensors(inputs, layout):
    return {name: torch.from_numpy(array).to(memory_format=layout) if array.ndim == 4 else torch.from_numpy(array)
            for name, array in inputs.items()}


class Forward:
    """One forward pass in inference mode."""

    def __init__(self, settings, layout="contiguous"):
        torch.set_num_threads(machine.threads())
        layout = LAYOUTS[layout]
        self.net = TorchNet(text.read_net(settings["prototxt"]), settings["weights"]).to(memory_format=layout).eval()
        self.inputs = [_tensors(one, layout) for one in inputs_of(settings)]
        self.output = settings["output"]

    def run(self, number):
        with torch.inference_mode():
            return self.net(self.inputs[number], self.output)

    def check(self):
        return {"output": self.run(0).numpy()}


class Train:
    """Forward, backward and SGD with momentum and weight decay."""

    def __init__(self, settings, layout="contiguous"):
        torch.set_num_threads(machine.threads())
        layout = LAYOUTS[layout]
        self.net = TorchNet(text.read_net(settings["prototxt"]), settings["weights"]).to(memory_format=layout).train()
        self.input = _tensors(inputs_of(settings)[0], layout)
        learned = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.solver = torch.optim.SGD(learned, lr=1e-14, momentum=0.99, weight_decay=5e-4)

    def run(self, number):
        self.solver.zero_grad()
        self.net(self.input).backward()
        self.solver.step()

    def check(self):
        self.net.dropping = False
        loss = self.net(self.input)
        loss.backward()
        result = {"loss": np.float64(loss.item()), "gradient": self.net.first.grad.contiguous().numpy().copy()}
        self.solver.zero_grad()
        self.net.dropping = True
        return result


class Product(products.Product):
    """A matrix product."""

    def __init__(self, settings):
        super().__init__(settings)
        torch.set_num_threads(machine.threads())
        self.tensors = [torch.from_numpy(array) for array in (self.left, self.right, self.out)]

    def run(self, number):
        torch.mm(*self.tensors[:2], out=self.tensors[2])


JOBS = {"forward": Forward, "train": Train, "product": Product}

"""This project."""

import numpy as np

from benchmarks import products
from benchmarks.engines import inputs_of
from layers.core.cpu import gemm, parallel
from layers.core.cpu.isa import ISA
from layers.core.net import Net
from netspec import caffe_pb2, text
from solvers import solver

NEEDS = "pip install -e ."


def version():
    """Return the vector unit and threads that kernels use."""
    return f"this revision ({ISA.name}, {parallel.threads()} threads)"


class Forward:
    """One forward pass in TEST: the input is written, the output read."""

    def __init__(self, settings, border=True):
        self.net = Net(settings["prototxt"], caffe_pb2.TEST, weights=settings["weights"], border=border)
        self.inputs, self.output = inputs_of(settings), settings["output"]

    def run(self, number):
        for name, array in self.inputs[number].items():
            blob = self.net.blobs[name]
            if blob.shape != array.shape:
                blob.reshape(*array.shape)
            blob.data[...] = array
        self.net.forward()
        return self.net.blobs[self.output].data

    def check(self):
        return {"output": self.run(0)}


class Part:
    """Some layers of a net that has run: `first` to `last`, on the blobs that lie there."""

    nets = {}  # path of a prototxt -> its Net: all its layers are measured on one

    def __init__(self, settings, border=True):
        path = settings["prototxt"]
        if path not in self.nets:
            self.nets[path] = Net(path, caffe_pb2.TEST, weights=settings["weights"], border=False)
            for name, array in inputs_of(settings)[0].items():
                self.nets[path].blobs[name].data[...] = array
        self.net = self.nets[path]
        self.net.forward()
        for name, target in settings["bottoms"].items():
            np.save(target, self.net.blobs[name].data)
        self.first, self.last, self.output = settings["first"], settings["last"], settings["output"]

    def run(self, number):
        self.net.forward(self.first, self.last)

    def check(self):
        output = np.array(self.net.blobs[self.output].data)
        self.net.forward()  # what was looked at goes back to the layout that the net keeps it in
        return {"output": output}


class Train:
    """Forward, backward and update, one image or batch."""

    def __init__(self, settings):
        param = text.read_net(settings["prototxt"])
        self.trainer = solver.make(caffe_pb2.SolverParameter(
            train_net_param=param, base_lr=1e-14, lr_policy="fixed", momentum=0.99, weight_decay=5e-4, max_iter=10**6,
            snapshot_prefix="unused"))
        self.net = self.trainer.net
        self.net.copy_from(settings["weights"])
        for name, array in inputs_of(settings)[0].items():
            self.net.blobs[name].data[...] = array
        self.first = next(name for name in self.net.params if self.net.layer_dict[name].type == "Convolution")

    def run(self, number):
        self.trainer.step(1)

    def check(self):
        dropouts = [layer for layer in self.net.layers if layer.type == "Dropout"]
        for layer in dropouts:
            layer.active = False
        self.net.clear_param_diffs()
        loss = self.net.forward_backward()
        result = {"loss": np.float64(loss), "gradient": np.array(self.net.params[self.first][0].diff)}
        self.net.clear_param_diffs()
        for layer in dropouts:
            layer.active = True
        return result


class Product(products.Product):
    """A matrix product."""

    def run(self, number):
        gemm.gemm(self.left, self.right, self.out)


class Load:
    """A net made of a prototxt and a caffemodel."""

    def __init__(self, settings):
        self.settings = settings

    def run(self, number):
        return Net(self.settings["prototxt"], caffe_pb2.TEST, weights=self.settings["weights"])

    def check(self):
        net = self.run(0)
        return {"first weights": np.array(net.params[self.settings["first"]][0].data)}


class Parse:
    """A prototxt read, checked and upgraded."""

    def __init__(self, settings):
        self.path = settings["prototxt"]

    def run(self, number):
        return text.read_net(self.path)

    def check(self):
        return {"layers": np.array([len(self.run(0).layer)])}


JOBS = {"forward": Forward, "part": Part, "train": Train, "product": Product, "load": Load, "parse": Parse}

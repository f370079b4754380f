"""Random nets and random things done to them: what can be seen is the same with the plan and without."""

import random

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, text
from netspec.errors import Error
from tests.layers.core.nets import unplan

SEEDS, EACH = 40, 5  # tests, and nets in each


class Writer:
    """Writes the prototxt of a random net: branches, joins, layers in place, odd channels."""

    def __init__(self, chance, train):
        self.chance, self.train, self.lines = chance, train, []
        self.blobs = {}  # name -> (a number for its height and width, channels)
        self.read = {"data"}  # blobs that a layer in place may no longer change
        self.sizes = 0
        shape = [chance.choice([1, 1, 2, 3]), chance.choice([1, 3, 16, 21, 32]), chance.randint(6, 30), chance.randint(6, 30)]
        self.layer("Input", [], "data", f"input_param {{ shape {{ {' '.join(f'dim: {n}' for n in shape)} }} }}")
        self.blobs["data"] = 0, shape[1]
        for number in range(chance.randint(3, 11)):
            self.bottom = chance.choice(list(self.blobs)[-3:] if chance.random() < 0.7 else list(self.blobs))
            self.where, self.channels = self.blobs[self.bottom]
            self.name = f"b{number}"
            kinds = {self.convolution: 30, self.pooling: 10, self.neuron: 16, self.concat: 8, self.eltwise: 9, self.lrn: 4,
                     self.scale: 6, self.reshape: 2, self.deconvolution: 1, self.slice: 2, self.power: 3}
            chance.choices(list(kinds), list(kinds.values()))[0]()

    def layer(self, kind, bottoms, tops, inside=""):
        bottom = " ".join(f'bottom: "{name}"' for name in bottoms)
        top = " ".join(f'top: "{name}"' for name in tops.split())
        self.lines.append(f'layer {{ name: "l{len(self.lines)}" type: "{kind}" {bottom} {top} {inside} }}')
        self.read.update(set(bottoms) - set(tops.split()))

    def made(self, channels=None, elsewhere=False):
        self.sizes += elsewhere
        self.blobs[self.name] = self.sizes if elsewhere else self.where, channels or self.channels

    def in_place(self, likely):
        return self.chance.random() < likely and self.bottom not in self.read

    def convolution(self):
        outputs, one = self.chance.choice([4, 16, 16, 20, 32, 33]), self.chance.choice
        kind = one(["same"] * 5 + ["point"] * 4 + ["group", "depthwise", "stride", "pad"])
        window, elsewhere = "kernel_size: 3 pad: 1", kind in ("stride", "pad")
        if kind == "point":
            window = "kernel_size: 1"
        elif kind == "group":
            outputs, window = 2 * outputs, window + f" group: {2 - self.channels % 2}"
        elif kind == "depthwise":
            outputs, window = self.channels, window + f" group: {self.channels}"
        elif kind == "stride":
            window = f"kernel_size: {one([3, 5])} stride: {one([1, 2])} pad: 2 dilation: {one([1, 2])}"
        elif kind == "pad":
            window = f"kernel_size: {one([3, 5])} pad: {one([5, 20])}"
        self.layer("Convolution", [self.bottom], self.name, f"""convolution_param {{ num_output: {outputs} {window}
          weight_filler {{ type: "msra" }} bias_filler {{ type: "gaussian" std: 0.5 }} }}""")
        self.made(outputs, elsewhere)

    def pooling(self):
        window = self.chance.choice([(2, 2, 0), (2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0)])
        self.layer("Pooling", [self.bottom], self.name, f"""pooling_param {{ pool: {self.chance.choice(['MAX', 'MAX', 'AVE'])}
          kernel_size: {window[0]} stride: {window[1]} pad: {window[2]} }}""")
        self.made(elsewhere=window != (3, 1, 1))

    def neuron(self):
        kind = self.chance.choice(["ReLU"] * 7 + ["leaky"] * 5 + ["Dropout"] * 3)
        slope = "relu_param { negative_slope: 0.1 }" if kind == "leaky" else ""
        in_place = self.in_place(0.7)
        self.layer("ReLU" if slope else kind, [self.bottom], self.bottom if in_place else self.name, slope)
        if not in_place:
            self.made()

    def scale(self):
        in_place, frozen = self.in_place(0.5), "param { lr_mult: 0 } param { lr_mult: 0 }" * self.chance.randint(0, 1)
        self.layer("Scale", [self.bottom], self.bottom if in_place else self.name, f"""{frozen} scale_param {{ bias_term: true
          filler {{ type: "gaussian" std: 1 }} bias_filler {{ type: "gaussian" std: 1 }} }}""")
        if not in_place:
            self.made()

    def concat(self):
        others = [name for name, (where, _) in self.blobs.items() if where == self.where]
        bottoms = [self.chance.choice(others) for _ in range(self.chance.randint(1, 3))]
        self.layer("Concat", bottoms, self.name)
        self.made(sum(self.blobs[name][1] for name in bottoms))

    def eltwise(self):
        others = [name for name in self.blobs if self.blobs[name] == self.blobs[self.bottom]]
        bottoms = [self.bottom, *(self.chance.choice(others) for _ in range(self.chance.randint(1, 2)))]
        operation = self.chance.choice(["SUM", "SUM", "PROD", "MAX"])
        in_place = operation == "SUM" and self.bottom not in bottoms[1:] and self.in_place(0.3)
        self.layer("Eltwise", bottoms, self.bottom if in_place else self.name, f"eltwise_param {{ operation: {operation} }}")
        if not in_place:
            self.made()

    def lrn(self):
        region = "norm_region: WITHIN_CHANNEL" * (self.chance.random() < 0.2)
        self.layer("LRN", [self.bottom], self.name, f"lrn_param {{ local_size: 5 alpha: 0.001 {region} }}")
        self.made()

    def power(self):
        self.layer("Power", [self.bottom], self.name, "power_param { scale: 0.5 shift: 1 }")
        self.made()

    def reshape(self):
        self.layer("Reshape", [self.bottom], self.name, "reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 } }")
        self.read.add(self.name)
        self.made()

    def deconvolution(self):
        self.layer("Deconvolution", [self.bottom], self.name, """convolution_param { num_output: 16 kernel_size: 4 stride: 2
          pad: 1 weight_filler { type: "msra" } }""")
        self.made(16, elsewhere=True)

    def slice(self):
        cuts = [cut for cut in (1, 5, 16, self.channels // 2) if 0 < cut < self.channels]
        if cuts:
            cut = self.chance.choice(cuts)
            self.layer("Slice", [self.bottom], f"{self.name} {self.name}x", f"slice_param {{ slice_point: {cut} }}")
            self.blobs[self.name], self.blobs[self.name + "x"] = (self.where, cut), (self.where, self.channels - cut)

    def message(self):
        """Return the net, with a loss on all that nobody reads."""
        net = text.parse("\n".join(self.lines), caffe_pb2.NetParameter())
        net.force_backward = self.chance.random() < 0.5
        used = {name for layer in net.layer for name in layer.bottom}
        for name in [name for layer in net.layer for name in layer.top if name not in used | {"data"}]:
            if not any(name in layer.bottom for layer in net.layer):
                layer = net.layer.add(name=f"loss {name}", type="Reduction", bottom=[name], top=[f"loss {name}"],
                                      loss_weight=[0.01])
                layer.reduction_param.operation = caffe_pb2.ReductionParameter.SUMSQ
        return net


def agree(a, b, tolerance, what):
    """Assert that two arrays are finite in the same places, and there nearly equal."""
    assert a.shape == b.shape, what
    finite = np.isfinite(a)
    assert np.array_equal(finite, np.isfinite(b)), what
    if finite.any():
        assert abs(a[finite].astype(np.float64) - b[finite]).max() <= tolerance * max(abs(b[finite]).max(), 1e-20), what


class Pair:
    """One net with its plan and one without, and what is done to both."""

    def __init__(self, seed):
        self.seed, self.chance, self.values = seed, random.Random(seed), np.random.default_rng(seed)
        self.train = self.chance.random() < 0.5
        message = Writer(self.chance, self.train).message()
        math = self.chance.choice(["fast", "strict"])
        self.nets = [Net(message, caffe_pb2.TRAIN if self.train else caffe_pb2.TEST, seed=seed, math=math) for _ in range(2)]
        unplan(self.nets[1])
        self.names, self.layers = list(self.nets[0].blobs), len(self.nets[0].layers)
        self.done, self.views = [], []
        self.feed()
        self.both(lambda net: net.forward())

    def both(self, do):
        for net in self.nets:
            do(net)

    def feed(self, shape=None):
        shape = shape or self.nets[0].blobs["data"].shape
        values = self.values.standard_normal(shape)
        for net in self.nets:
            net.blobs["data"].reshape(*shape)
            net.blobs["data"].data[...] = values

    def compare(self, names):
        for name in names:
            one, other = (net.blobs[name].data for net in self.nets)
            agree(one, other, 2e-4, (self.seed, self.done, name))

    def step(self):
        chance, shape = self.chance, self.nets[0].blobs["data"].shape
        kind = chance.choices(["forward", "size", "batch", "part", "write", "weight", "read", "hold", "let go", "hook", "learn"],
                              [6, 4, 1, 7, 5, 3, 5, 2, 2, 1, 5 * self.train])[0]
        name, first = chance.choice(self.names), chance.randrange(self.layers)
        last = chance.randrange(first, self.layers)
        self.done.append((kind, name, first, last))
        if kind == "size":
            self.feed((*shape[:2], chance.randint(6, 40), chance.randint(6, 40)))
        elif kind == "batch":
            self.feed((chance.randint(1, 3), *shape[1:]))
        elif kind == "part":
            self.both(lambda net: net.forward_from_to(first, last))
        elif kind == "write":
            self.both(lambda net: net.blobs[name].data.reshape(-1)[::3].fill(1.5))
        elif kind == "weight" and self.nets[0].params:
            layer = chance.choice(list(self.nets[0].params))
            values = self.values.standard_normal(self.nets[0].params[layer][0].shape) * 0.1
            self.both(lambda net: net.params[layer][0].data.__setitem__(..., values))
        elif kind == "read":
            self.compare([name])
        elif kind == "hold":
            self.views.append([net.blobs[name].data for net in self.nets])
        elif kind == "let go":
            self.views.clear()
        elif kind == "hook":
            self.both(lambda net: net.after_forward(lambda number: None))
            self.both(lambda net: net.forward())
            self.both(lambda net: net._hooks["after_forward"].clear())
        elif kind == "learn":
            self.both(lambda net: (net.clear_param_diffs(), net.forward_backward()))
            for layer, blobs in self.nets[0].params.items():
                for blob, other in zip(blobs, self.nets[1].params[layer]):
                    agree(blob.diff, other.diff, 1e-3, (self.seed, self.done, layer))
        if kind in ("forward", "size", "batch"):
            self.both(lambda net: net.forward())
        for one, other in self.views:
            agree(one, other, 2e-4, (self.seed, self.done, "a view that is held"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_plan_cannot_be_seen(seed):
    run = 0
    for number in range(seed * EACH, (seed + 1) * EACH):
        try:
            pair = Pair(number)
        except Error:
            continue  # the net's sizes do not fit
        run += 1
        for _ in range(pair.chance.randint(3, 9)):
            pair.step()
        pair.compare(pair.names)
    assert run

"""The parts of `benchmarks.gpu`: each is run in a process of its own, so that one that fails leaves the others alone.

    python -m benchmarks.gpu_parts NAME FOLDER RESULT.json [--toy]

What a part has found is written to the file as it goes. Times are those of the card's own events, medians, taken in turns with
PyTorch where there is a PyTorch with CUDA; an unmeasured warm-up comes before.
"""

import gc
import importlib.metadata
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np

from benchmarks import machine, nets, rows
from layers.core.cuda import card as cards
from layers.core.cuda import compiler, convolution, driver, gemm, resources, tiles
from layers.core.cuda.recording import record
from netspec import caffe_pb2, geometry, text

MATHS = {"fp32": "fast", "tf32": "tf32"}  # our words of the tables -> Net's
SIZE, SMALL, TOY = (1, 3, 500, 500), (1, 3, 64, 64), (1, 3, 8, 8)
NETS = {"FCN-8s": "fcn8s", "FCN-32s": "fcn32s", "FCN-AlexNet": "fcn_alexnet", "FCN-GoogLeNet": "fcn_googlenet"}
GOLDENS = "test_layer_equals_caffe or narrow_fcn8s or narrow_fcn32s"
TURN, TURNS = 0.03, 3  # seconds of one turn's calls, and turns at least
STEPS = 10  # of training that are queued before somebody looks at a loss
WAITING = 12  # times that one kernel is replayed to time it


class Part:
    """What parts need: the card, files, and where results go.

    Attributes
    ----------
    card : layers.core.cuda.card.Card
    torch : module or None
        PyTorch, if it has CUDA.
    result : dict
        What `keep` writes.
    """

    def __init__(self, folder, path, toy):
        self.folder, self.path, self.toy = folder, path, toy
        self.card = cards.find("gpu")
        self.result = {}
        self.size, self.steps = (TOY, 2) if toy else (SIZE, STEPS)

    def __getattr__(self, name):
        if name != "torch":
            raise AttributeError(name)
        try:
            import torch
        except ImportError:
            torch = None
        self.torch = torch if torch is not None and torch.cuda.is_available() and not cards.simulated() else None
        return self.torch

    def keep(self, **found):
        """Add to the result, and write it."""
        self.result.update(found)
        with open(f"{self.path}.part", "w") as file:
            json.dump(self.result, file)
        os.replace(f"{self.path}.part", self.path)

    def nets(self):
        """Return {name in tables: name of `benchmarks.nets`}."""
        return {"toy": "toy"} if self.toy else NETS

    def files(self, name, shape=None, train=False):
        """Return the paths of a net's prototxt, its weights, and its inputs."""
        shape = shape or self.size
        prototxt, model = nets.write(name, self.folder, shape, train)
        inputs = nets.write_image(self.folder, shape)
        if train:
            inputs.update(nets.write_labels(self.folder, nets.message(name, shape, True), 3 if name == "toy" else nets.CLASSES))
        return prototxt, model, {blob: np.load(path) for blob, path in inputs.items()}

    def net(self, name, kind, device="gpu", shape=None, **options):
        """Return a Net in TEST with its input written."""
        from layers.core.net import Net

        prototxt, model, inputs = self.files(name, shape)
        made = Net(prototxt, caffe_pb2.TEST, weights=model, device=device, math=kind, **options)
        for blob, array in inputs.items():
            made.blobs[blob].data[...] = array
        return made

    def trainer(self, kind, plain=False, **fields):
        """Return a solver with the heavy learning of the FCN paper, one image, momentum 0.99.

        `plain`: it waits for each pass and records nothing; `fields` of the SolverParameter are added.
        """
        from solvers import solver

        os.environ.update(DEEPJET_DEVICE="gpu", DEEPJET_MATH=kind)
        prototxt, model, inputs = self.files("toy" if self.toy else "fcn8s", train=True)
        made = solver.make(caffe_pb2.SolverParameter(
            train_net_param=text.read_net(prototxt), base_lr=1e-14, lr_policy="fixed", momentum=0.99, weight_decay=5e-4,
            max_iter=10**6, snapshot_prefix=os.path.join(self.folder, "unused"), random_seed=1, **fields))
        if plain:
            made.on_card.can = lambda: False
            made.net._find_what_repeats = lambda *_: ((), ())
        made.net.copy_from(model)
        for blob, array in inputs.items():
            made.net.blobs[blob].data[...] = array
        return made

    def maths(self):
        """Return the arithmetics that the card has, of MATHS."""
        return {name: kind for name, kind in MATHS.items() if name == "fp32" or self.card.capability >= tiles.TENSOR}

    def ours(self, work, calls):
        """Return the card's seconds of one call."""
        begin = self.card.mark()
        for _ in range(calls):
            work()
        return self.card.seconds(begin, self.card.mark()) / calls

    def theirs(self, work, calls):
        """Return the seconds of one call of PyTorch's, by its events."""
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls

    def turns(self, ours, others, seconds=1.0):
        """Time {name: work} of ours and of PyTorch's in turns; return {name: median seconds of a call}."""
        timers = [(name, self.ours, work) for name, work in ours.items()]
        timers += [(name, self.theirs, work) for name, work in others.items()]
        calls = {}
        for name, timer, work in timers:
            for _ in range(1 if self.toy else 4):  # ours: plain, recorded, replayed
                work()
            took = timer(work, 1)
            calls[name] = 1 if self.toy else max(1, min(200, round(TURN / max(took, 1e-6))))
        found = {name: [] for name in calls}
        begun = time.perf_counter()
        while True:
            for name, timer, work in timers:
                found[name].append(timer(work, calls[name]))
            turns = len(found[timers[0][0]])
            if self.toy or turns >= TURNS and time.perf_counter() - begun > seconds:
                return {name: statistics.median(times) for name, times in found.items()}

    def use_tf32(self, on):
        """Switch PyTorch's TF32."""
        self.torch.backends.cuda.matmul.allow_tf32 = on
        self.torch.backends.cudnn.allow_tf32 = on

    def switched(self, on, work):
        """Return `work` of PyTorch's, done with TF32 on or off."""
        def switch():
            self.use_tf32(on)
            with self.torch.no_grad():
                return work()

        return switch

    def torch_pairs(self, work):
        """Return {name: work} of PyTorch's for both arithmetics; none without PyTorch."""
        if self.torch is None:
            return {}
        self.torch.backends.cudnn.benchmark = True  # cuDNN's fastest for each size
        return {"torch fp32": self.switched(False, work), "torch tf32": self.switched(True, work)}


# --- correctness -----------------------------------------------------------------------------------------------------


def about(part):
    """What machine this is."""
    card = part.card
    found = machine.describe(len(os.sched_getaffinity(0)))
    found |= {"card": card.name, "capability": ".".join(map(str, card.capability)), "multiprocessors": str(card.processors),
              "memory": f"{card.memory()[0] / 2**30:.1f} GiB, {card.memory()[1] / 2**30:.1f} free"}
    if not cards.simulated():
        version = driver.call("DriverGetVersion")
        found["driver takes CUDA"] = f"{version // 1000}.{version % 1000 // 10}"
    for package in ("numba-cuda", "cuda-bindings", "nvidia-nvvm", "torch"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    try:
        asked = "driver_version,clocks.max.sm,clocks.max.mem,power.limit,clocks.sm,temperature.gpu"
        said = subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader", f"--id={card.number}"],
                              capture_output=True, text=True, timeout=10)
        found["nvidia-smi"] = said.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        pass
    part.keep(about=found)
    if part.torch is not None:
        found["torch's CUDA, cuDNN"] = f"{part.torch.version.cuda}, {part.torch.backends.cudnn.version()}"
    part.keep(about=found)


def compile_kernels(part):
    """Compile all kernels for the card, in processes side by side; what the driver makes of them comes as they are used."""
    names = [kernel.name for kernel in resources.all_kernels(part.card.capability)]
    if cards.simulated():
        part.keep(kernels=len(names), seconds=None)
        return
    import concurrent.futures
    import multiprocessing

    begun = time.perf_counter()
    workers = max(1, min(16, len(os.sched_getaffinity(0)), len(names)))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        each = dict(zip(names, pool.map(_compile, names, [part.card.capability] * len(names), chunksize=4)))
    part.keep(kernels=len(names), seconds=time.perf_counter() - begun, processes=workers,
              slowest=sorted(each.items(), key=lambda one: -one[1])[:5])


def _compile(name, capability):
    begun = time.perf_counter()
    logging.getLogger("deepjet").setLevel(logging.ERROR)
    compiler.ptx_of(next(kernel for kernel in resources.all_kernels(capability) if kernel.name == name), capability)
    return time.perf_counter() - begun


def goldens(part):
    """Caffe's recorded layers and nets, on the card."""
    report = os.path.join(part.folder, "goldens.xml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", f"--junitxml={report}",
               "tests/layers/test_goldens.py", "-k", "relu" if part.toy else GOLDENS]
    environment = {**os.environ, "DEEPJET_DEVICE": "gpu", "DEEPJET_MATH": "fast"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True,
                          cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    counts, failed = {"passed": 0, "failed": 0, "skipped": 0}, []
    if os.path.exists(report):
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            what = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            counts[what] += 1
            if what == "failed":
                failed.append(case.get("name"))
    part.keep(counts=counts, failed=failed, said=(done.stdout + done.stderr)[-2000:] if done.returncode else "",
              good=done.returncode == 0 and counts["passed"] > 0)


PRODUCTS = ((67, 131, 93), (257, 65, 1030), (1, 1000, 513), (128, 256, 64))
# channels, outputs, group, image, kernel, stride, pad, dilation
WINDOWS = ((3, 5, 1, (31, 37), (3, 3), (1, 1), (100, 1), (1, 1)), (18, 70, 1, (13, 50), (3, 2), (2, 1), (1, 1), (1, 2)),
           (12, 34, 2, (21, 19), (5, 5), (2, 3), (2, 2), (1, 1)), (65, 130, 1, (17, 16), (1, 1), (1, 1), (0, 0), (1, 1)),
           (4, 4, 4, (33, 35), (9, 9), (4, 4), (2, 2), (1, 1)), (33, 21, 1, (8, 9), (7, 7), (1, 1), (0, 0), (1, 1)))
TOYS = ((5, 9, 19),), ((3, 5, 1, (7, 6), (3, 2), (1, 1), (1, 0), (1, 1)),)
CLOSE = {tiles.FLOAT32: 5e-6, tiles.SPLIT: 5e-6, tiles.TF32: 3e-3}  # of the largest value; sums of at most a few thousand terms


def kernels(part):
    """Fast kernels against their plain twins, at odd sizes."""
    rng = np.random.default_rng(0)
    gemm.LEAST = convolution.LEAST = convolution.ROWS = 0  # small ones go by tiles, too
    products, windows = TOYS if part.toy else (PRODUCTS, WINDOWS)
    hows = [how for how in range(3) if part.card.capability >= tiles.since(how)]
    found = []

    def compare(what, how, plain, fast):
        difference = float(abs(plain - fast).max() / max(abs(plain).max(), 1e-30)) if np.isfinite(fast).all() else math.inf
        found.append({"what": what, "how": tiles.NAMES[how], "difference": difference, "limit": CLOSE[how],
                      "good": difference <= CLOSE[how]})
        part.keep(comparisons=found, good=all(one["good"] for one in found))

    for m, n, k in products:
        for ta, tb in ((False, False), (False, True), (True, False)):
            a, b = (rng.standard_normal(shape).astype("f4") for shape in ((m, k), (k, n)))
            one, two = _put(part.card, a.T if ta else a), _put(part.card, b.T if tb else b)
            out = _put(part.card, np.full((m, n), np.nan))
            gemm.gemm_plain(part.card, one.span, two.span, out.span, m, n, k, ta, tb)
            plain = _get(part.card, out, (m, n))
            compare(f"gemm_cuda against numpy {m} {n} {k}", tiles.FLOAT32, a.astype("f8") @ b, plain)
            for how in hows:
                gemm.gemm(part.card, one.span, two.span, out.span, m, n, k, ta, tb, how=how)
                compare(f"gemm {m} {n} {k} {'nt'[ta]}{'nt'[tb]}", how, plain, _get(part.card, out, (m, n)))
    for sizes in windows:
        _compare_window(part, sizes, hows, rng, compare)


def _compare_window(part, sizes, hows, rng, compare):
    from layers.core.cpu.convolve import Window

    card, batch = part.card, 1 if part.toy else 2
    output = tuple(geometry.conv_out(*lengths, fail=_fail) for lengths in zip(*sizes[3:]))
    window = Window(*sizes, output)
    x, y, w = (rng.standard_normal(shape).astype("f4") for shape in (
        (batch, sizes[0], *sizes[3]), (batch, sizes[1], *output), (sizes[1], sizes[0] // sizes[2], *sizes[4])))
    image, error, weight = (_put(card, array) for array in (x, y, w))

    def all_three(how):
        ours = convolution.CardWindow(card, window, "plain")
        ours.how = how
        outs = [_put(card, np.full_like(array, fill)) for array, fill in ((y, np.nan), (x, np.nan), (w, 0.5))]
        ours.forward(image.span, weight.span, None, outs[0].span, batch)
        ours.image_gradient(error.span, weight.span, None, outs[1].span, batch)
        ours.weight_gradient(image.span, error.span, outs[2].span, batch)
        return [_get(card, out, array.shape) for out, array in zip(outs, (y, x, w))]

    plain = all_three(None)
    for how in hows:
        for what, one, other in zip(("forward", "image gradient", "weight gradient"), plain, all_three(how)):
            compare(f"convolution {' '.join(map(str, sizes))}: {what}", how, one, other)


def _fail(message):
    raise ValueError(message)


def _put(card, array):
    array = np.ascontiguousarray(array, np.float32)
    memory = card.arena.take(array.nbytes)
    card.upload(memory.span, array)
    card.synchronize()
    return memory


def _get(card, memory, shape):
    array = np.empty(shape, np.float32)
    card.download(array, memory.span)
    return array


def accuracy(part):
    """FCN-8s' scores against the CPU's, and the same bits on every run."""
    name = "toy" if part.toy else "fcn8s"
    expected = {}

    def error(kind, shape):
        if shape not in expected:
            net = part.net(name, "strict", "cpu", shape, **({} if shape == SIZE else {"dtype": np.float64}))
            net.forward()
            expected[shape] = np.array(net.blobs["score"].data, np.float64)
        net = part.net(name, kind, "gpu", shape)
        runs = []
        for _ in range(4):  # plainly, recorded, replayed
            net.forward()
            runs.append(np.array(net.blobs["score"].data))
        reference = expected[shape]
        return {"error": float(abs(runs[0] - reference).max() / abs(reference).max()),
                "same class": float((runs[0].argmax(1) == reference.argmax(1)).mean()),
                "same bits": all(np.array_equal(runs[0], run) for run in runs)}

    found = {}
    for shape in [TOY] if part.toy else [SMALL, SIZE]:
        for label, kind in part.maths().items():
            found[f"{label} {shape[2]}x{shape[3]} against {'float32' if shape == SIZE else 'float64'}"] = error(kind, shape)
            part.keep(scores=found)
    for label, fields in (("", {}), (", accumulated and clipped", {"iter_size": 2, "clip_gradients": 1e-3})):
        runs = []
        for plain in (True, False):
            trainer = part.trainer("fast", plain, average_loss=100, **fields)
            trainer.step(5)
            graph = trainer.net._repeated.recording is not None
            blobs = [*trainer.net.learnable_params[:4], *trainer.history.blobs[:4]]
            runs.append([np.array(trainer.losses), *(np.array(blob.data) for blob in blobs)])
            del trainer, blobs
            gc.collect()
        found = {"same bits": all(np.array_equal(*pair) for pair in zip(*runs)), "loss": float(runs[0][0][-1]), "graph": graph}
        part.keep(**{f"training{label}": found})


# --- times -----------------------------------------------------------------------------------------------------------


def ceilings(part):
    """What the card can do: copies, and large products."""
    card, count = part.card, 16 if part.toy else 4096
    nbytes = 1 << 12 if part.toy else 1 << 30
    one, two = (card.arena.take(nbytes) for _ in range(2))
    card.clear(one.span)
    others = {}
    if part.torch is not None:
        a, b = (part.torch.zeros(nbytes // 4, device="cuda") for _ in range(2))
        others["torch"] = lambda: b.copy_(a)
    copied = part.turns({"ours": lambda: card.copy(two.span, one.span, nbytes)}, others, 0.5)
    part.keep(copies={name: 2 * nbytes / seconds for name, seconds in copied.items()})
    array = np.random.default_rng(0).standard_normal((count, count), dtype=np.float32)
    left, right, out = (_put(card, array) for _ in range(3))

    def product(how):
        return lambda: gemm.gemm(card, left.span, right.span, out.span, count, count, count, how=how)

    gemm.LEAST = 0
    ours = {tiles.NAMES[how]: product(how) for how in range(3) if card.capability >= tiles.since(how)}
    if part.torch is not None:
        c, d = (part.torch.from_numpy(array).cuda() for _ in range(2))
    others = part.torch_pairs(lambda: c @ d)
    part.keep(products={name: 2 * count**3 / seconds for name, seconds in part.turns(ours, others, 2).items()}, count=count)


def steps(part):
    """FCN-8s step by step: ours inside the net, PyTorch's as nets of one step, on the same values."""
    name = "toy" if part.toy else "fcn8s"
    made = {label: part.net(name, kind) for label, kind in part.maths().items()}
    net = made["fp32"]
    for one in made.values():
        one.forward()
    message = nets.message(name, part.size)
    shapes = {blob: tuple(net.blobs[blob].shape) for blob in net.blobs}
    found = []
    for label, layers in nets.segments(message):
        small, bottoms = nets.part(layers, shapes)
        others, difference = {}, None
        if part.torch is not None:
            theirs, values = _torch_step(part, net, small, bottoms, name)
            others = part.torch_pairs(lambda theirs=theirs, values=values: theirs(values))
        first, last = layers[0].name, layers[-1].name
        ours = {kind: lambda one=one, first=first, last=last: one.forward(first, last) for kind, one in made.items()}
        for one in made.values():
            one.forward()  # blobs written in place are what they were
        if others:
            ours["fp32"]()
            mine = np.array(net.blobs[layers[-1].top[0]].data)
            answer = others["torch fp32"]().cpu().numpy()
            difference = float(abs(mine - answer).max() / max(abs(answer).max(), 1e-30))
        took = part.turns(ours, others, 0.3)
        found.append({"name": label, "seconds": took, "difference": difference, **_work(net, layers, bottoms)})
        part.keep(steps=found)


def _torch_step(part, net, small, bottoms, name):
    from benchmarks.engines.torch_net import TorchNet

    values = {blob: part.torch.from_numpy(np.array(net.blobs[blob].data)).cuda() for blob in bottoms}
    return TorchNet(small, os.path.join(part.folder, f"{name}.caffemodel")).cuda().eval(), values


def _work(net, layers, bottoms):
    """Return {"operations", "bytes"} that a step cannot do without: its products, and each value moved once."""
    operations = 0
    moved = sum(net.blobs[name].count for name in bottoms) + net.blobs[layers[-1].top[0]].count
    for layer in layers:
        weights = net.params[layer.name][0].shape if layer.name in net.params else ()
        if layer.type == "Convolution":
            operations += 2 * net.blobs[layer.top[0]].count * math.prod(weights[1:])
            moved += math.prod(weights)
        elif layer.type == "Deconvolution":  # one kernel a channel: of its taps few meet a pixel
            _, stride, _, _ = geometry.kernel_stride_pad_dilation(layer.convolution_param, 2)
            operations += 2 * net.blobs[layer.top[0]].count * math.prod(-(-k // s) for k, s in zip(weights[2:], stride))
    return {"operations": operations, "bytes": 4 * moved}


def forwards(part):
    """Whole nets forward."""
    found = {}
    for label, name in part.nets().items():
        made = {kind: part.net(name, how) for kind, how in part.maths().items()}
        others = {}
        if part.torch is not None:
            theirs, values = _torch_net(part, name)
            others = part.torch_pairs(lambda theirs=theirs, values=values: theirs(values, "score"))
        for one in made.values():
            one.forward()
        difference = {}
        if others:
            answer = others["torch fp32"]().cpu().numpy()
            largest = abs(answer).max()
            difference = {kind: float(abs(one.blobs["score"].data - answer).max() / largest) for kind, one in made.items()}
        took = part.turns({kind: one.forward for kind, one in made.items()}, others, 2)
        found[label] = {"seconds": took, "difference": difference,
                        "graph": {kind: one._repeated.recording is not None for kind, one in made.items()}}
        part.keep(nets=found)
        others = theirs = values = made = one = None
        gc.collect()


def _torch_net(part, name, train=False):
    from benchmarks.engines.torch_net import TorchNet

    prototxt, model, inputs = part.files(name, train=train)
    net = TorchNet(text.read_net(prototxt), model).cuda()
    return net.train(train), {blob: part.torch.from_numpy(array).cuda() for blob, array in inputs.items()}


def _torch_training(part):
    net, values = _torch_net(part, "fcn8s", True)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    update = part.torch.optim.SGD(learned, lr=1e-14, momentum=0.99, weight_decay=5e-4, fused=True)

    def step():
        update.zero_grad()
        with part.torch.enable_grad():
            net(values).backward()
        update.step()

    return step


def training(part):
    """One step of FCN-8s' heavy learning: forward, backward, update; ours brings losses to the host every STEPS steps."""
    for label, kind in part.maths().items():
        trainer, others = part.trainer(kind), {}
        if part.torch is not None:
            step = part.torch_pairs(_torch_training(part))[f"torch {label}"]
            others = {f"torch {label}": lambda step=step: [step() for _ in range(part.steps)]}
        took = part.turns({label: lambda trainer=trainer: trainer.step(part.steps)}, others, 3)
        part.keep(seconds={**part.result.get("seconds", {}), **{name: seconds / part.steps for name, seconds in took.items()}},
                  graph={**part.result.get("graph", {}), label: trainer.net._repeated.recording is not None})
        trainer = others = None
        gc.collect()


def idle(part):
    """How long the card does nothing: the whole against the sum of what was queued, each alone."""
    from solvers import snapshot

    name = "toy" if part.toy else "fcn8s"
    net = part.net(name, "fast")
    net.forward()
    queued = _queued(part.card, net.forward, net)
    replayed = part.turns({"it": net.forward}, {}, 1)["it"]
    graph = net._repeated.recording is not None
    net._find_what_repeats, net._repeats = lambda *_: ((), ()), {}  # plainly each time
    plain = part.turns({"it": net.forward}, {}, 1)["it"]
    begun = time.perf_counter()
    net.forward()
    host = time.perf_counter() - begun
    part.card.synchronize()
    each = _each(part, queued)
    part.keep(forward={"replayed": replayed, "plain": plain, "graph": graph, "launches": len(queued), "host": host,
                       "busy": sum(seconds for _, seconds in each), "kernels": _by_name(each)})
    net = None
    gc.collect()
    trainer = part.trainer("fast")
    trainer.step(2)
    queued = _queued(part.card, lambda: trainer.step(1), trainer.net)
    replayed = part.turns({"it": lambda: trainer.step(part.steps)}, {}, 1)["it"] / part.steps
    graph = trainer.net._repeated.recording is not None
    begun = time.perf_counter()
    trainer.net.clear_param_diffs()
    trainer.on_card.queue(snapshot.record(trainer))
    trainer.iter += 1
    host = time.perf_counter() - begun
    trainer.settle()
    each = _each(part, queued)
    part.keep(training={"replayed": replayed, "graph": graph, "host": host, "launches": len(queued),
                        "busy": sum(seconds for _, seconds in each), "kernels": _by_name(each)})
    trainer = None
    gc.collect()
    trainer = part.trainer("fast", plain=True)
    part.keep(training={**part.result["training"], "plain": part.turns({"it": lambda: trainer.step(1)}, {}, 1)["it"]})


def _queued(card, work, net):
    """Return [(name, function that queues it again), ...] of what `work` queues on a card when it is done plainly."""
    found, launch, clear, copy = [], card.launch, card.clear, card.copy

    def note(name, function, arguments, options):
        if card.recording is None:
            found.append((name, lambda: function(*arguments, **options)))
        function(*arguments, **options)

    card.launch = lambda kernel, *rest, **options: note(kernel.name.removeprefix("layers."), launch, (kernel, *rest), options)
    card.clear = lambda *arguments, **options: note("clear", clear, arguments, options)
    card.copy = lambda *arguments, **options: note("copy", copy, arguments, options)
    try:
        net._repeated.key = None  # so that it is done plainly
        work()
    finally:
        del card.launch, card.clear, card.copy
    return found


def _each(part, queued):
    """Return [(name, seconds), ...]: each alone, recorded a few times in a row so that no launch is waited for."""
    found, times = [], 1 if part.toy else WAITING
    for name, again in queued:
        with record(part.card) as recording:
            for _ in range(times):
                again()
        if not part.toy:
            recording.replay()
        found.append((name, part.ours(recording.replay, 1) / times))
    return found


def _by_name(each):
    found = {}
    for name, seconds in each:
        count, total = found.get(name, (0, 0.0))
        found[name] = count + 1, total + seconds
    return dict(sorted(found.items(), key=lambda one: -one[1][1])[:25])


def sizes(part):
    """Images of varying size: what the first of each size takes, and how many kernels are compiled for it."""
    net = part.net("toy" if part.toy else "fcn_alexnet", "fast")
    for _ in range(3):
        net.forward()
    rng, found, before = np.random.default_rng(5), [], len(part.card._functions)
    for height, width in ((7, 9), (8, 8)) if part.toy else rows.VOC:
        net.blobs["data"].reshape(1, 3, height, width)
        net.blobs["data"].data[...] = rng.standard_normal((1, 3, height, width), dtype=np.float32) * nets.SPREAD
        found.append({"size": f"{height}x{width}", "first": part.ours(net.forward, 1), "then": part.turns(
            {"it": net.forward}, {}, 0.2)["it"]})
        part.keep(sizes=found, kernels=[before, len(part.card._functions)])


def memory_ours(part):
    """The most memory that our forward and training step of FCN-8s take."""
    arena, name = part.card.arena, "toy" if part.toy else "fcn8s"
    net = part.net(name, "fast")
    for _ in range(3):
        net.forward()
    part.card.synchronize()
    part.keep(forward=[arena.peak, arena.capacity])
    del net
    gc.collect()
    arena.peak = arena.taken
    trainer = part.trainer("fast")
    trainer.step(5)
    part.keep(training=[arena.peak, arena.capacity])


def memory_torch(part):
    """The most memory that PyTorch's take, with its choice of algorithms as it comes."""
    torch = part.torch
    if torch is None:
        return
    part.use_tf32(False)
    net, values = _torch_net(part, "fcn8s")
    with torch.no_grad():
        for _ in range(3):
            net(values, "score")
    torch.cuda.synchronize()
    part.keep(forward=[torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()])
    del net, values
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = _torch_training(part)
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    part.keep(training=[torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()])


def traced(net, values):
    """Return a PyTorch net as a graph of its operators alone: what its layers ask of messages cannot be compiled."""
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(lambda data: net({"data": data}, "score"))(values["data"])


def compiled(part):
    """FCN-8s forward by torch.compile."""
    if part.torch is None:
        return
    torch = part.torch
    net, values = _torch_net(part, "fcn8s")
    nets_ = {kind: part.net("fcn8s", how) for kind, how in part.maths().items()}
    took = {}
    for label, on in (("fp32", False), ("tf32", True)):
        if label not in nets_:
            continue
        torch.compiler.reset()
        part.use_tf32(on)
        begun = time.perf_counter()
        with torch.no_grad():
            function = torch.compile(traced(net, values))
            function(values["data"])
        torch.cuda.synchronize()
        found = part.turns({label: nets_[label].forward},
                           {f"torch.compile {label}": part.switched(on, lambda function=function: function(values["data"]))}, 1.5)
        took |= found
        part.keep(seconds=took, **{f"seconds to compile {label}": time.perf_counter() - begun})


def weights(part):
    """Draw the nets' weights once, for all parts."""
    begun = time.perf_counter()
    for name in part.nets().values():
        part.files(name)
    part.keep(seconds=time.perf_counter() - begun)


# name -> (function, limit in seconds), in the order in which they run: what counts most first.
PARTS = {
    "machine": (about, 25), "compile": (compile_kernels, 75), "goldens": (goldens, 50), "kernels": (kernels, 40),
    "weights": (weights, 50), "accuracy": (accuracy, 75), "ceilings": (ceilings, 30), "forwards": (forwards, 60),
    "training": (training, 45), "steps": (steps, 50), "idle": (idle, 35), "memory ours": (memory_ours, 25),
    "memory torch": (memory_torch, 25), "sizes": (sizes, 25), "torch.compile": (compiled, 75),
}


def main(argv=None):
    """Run one part."""
    name, folder, path, *options = sys.argv[1:] if argv is None else argv
    part = Part(folder, path, "--toy" in options)
    begun = time.perf_counter()
    PARTS[name][0](part)
    part.keep(**{"seconds in all": time.perf_counter() - begun})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Caffe's command line under its own names: `python -m caffe train -solver lenet_solver.prototxt`."""

import argparse
import functools
import importlib
import os
import sys

from caffe.pycaffe import Net
from layers.core.cpu import parallel
from layers.core.cpu.isa import ISA
from layers.core.cuda import card as cards
from netspec import caffe_pb2, files, text
from netspec.errors import Error, UnknownName, nearest, run_door
from solvers import engine, log, nets, solver, testing, timing, training

EXAMPLES = """examples:
  python -m caffe train -solver solver.prototxt -weights vgg16.caffemodel
  python -m caffe train -solver solver.prototxt -snapshot train_iter_4000.solverstate -gpu 0
  python -m caffe test -model val.prototxt -weights net.caffemodel -iterations 100
  python -m caffe time -model deploy.prototxt -iterations 10
  python -m caffe device_query -gpu all
  python -m caffe upgrade_net_proto_text old.prototxt new.prototxt

Flags are written as Caffe takes them: -flag VALUE, --flag VALUE or -flag=VALUE.
"""
# Caffe's other programs, which are commands of their own here.
TOOLS = {"upgrade_net_proto_text": "netspec.upgrade_file", "upgrade_net_proto_binary": "netspec.upgrade_file",
         "upgrade_solver_proto_text": "netspec.upgrade_file", "convert_imageset": "data.convert_imageset",
         "compute_image_mean": "data.compute_image_mean"}
EFFECTS = ("stop", "snapshot", "none")
ITERATIONS = 50


def main(argv=None):
    """Run one of Caffe's commands."""
    argv = sys.argv[1:] if argv is None else list(argv)
    commands = {"train": train, "test": test, "time": time, "device_query": device_query}
    command = next((word for word in argv if not word.startswith("-")), None)
    if argv and argv[0] in TOOLS:
        return importlib.import_module(TOOLS[argv[0]]).main(argv[1:])
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        known = [*commands, *TOOLS]
        raise UnknownName(f"unknown command '{command}'{nearest(command, known)}; commands: {', '.join(known)}")
    options = _parser(commands).parse_args(argv)
    log.start()
    return commands[options.command](options)


def _parser(commands):
    parser = argparse.ArgumentParser(prog="python -m caffe", description="Caffe's commands.", epilog=EXAMPLES, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    below = parser.add_subparsers(dest="command", required=True, metavar="COMMAND",
                                  help=f"{', '.join(commands)}; also {', '.join(TOOLS)}, which have a --help of their own")
    for name, command in commands.items():
        one = below.add_parser(name, help=command.__doc__.splitlines()[0], description=command.__doc__, allow_abbrev=False)
        for flag, about in FLAGS.items():
            if name in about["of"]:
                one.add_argument(f"-{flag}", f"--{flag}", **{key: value for key, value in about.items() if key != "of"})
        one.add_argument("-threads", "--threads", metavar="N", type=engine.positive, help="threads to compute with (all cores)")
    return parser


RUN = ("train", "test", "time")
FLAGS = {
    "solver": {"of": ("train",), "required": True, "metavar": "FILE", "help": "the solver's prototxt"},
    "model": {"of": ("test", "time"), "required": True, "metavar": "FILE", "help": "the net's prototxt"},
    "snapshot": {"of": ("train",), "metavar": "FILE", "help": "the solver state to go on from"},
    "weights": {"of": RUN, "metavar": "A,B", "help": "weights to begin with; test needs them"},
    "iterations": {"of": ("test", "time"), "type": engine.positive, "default": ITERATIONS, "metavar": "N",
                   "help": f"how many batches (default {ITERATIONS})"},
    "gpu": {"of": (*RUN, "device_query"), "metavar": "N",
            "help": "the NVIDIA card, counted from 0 (device_query: also 0,1 or all)"},
    "phase": {"of": ("time",), "choices": ("TRAIN", "TEST"), "default": "TRAIN", "help": "default TRAIN, as in Caffe"},
    "level": {"of": RUN, "type": int, "default": 0, "metavar": "N", "help": "of include and exclude rules"},
    "stage": {"of": RUN, "default": "", "metavar": "A,B", "help": "of include and exclude rules"},
    "sigint_effect": {"of": ("train",), "choices": EFFECTS, "default": "stop", "help": "what Ctrl-C does (stop)"},
    "sighup_effect": {"of": ("train",), "choices": EFFECTS, "default": "snapshot", "help": "what SIGHUP does (snapshot)"},
}


def train(options):
    """Train a net, from scratch, from weights or on from a snapshot."""
    if options.snapshot and options.weights:
        raise UnknownName("give -snapshot to resume training or -weights to finetune, but not both")
    path = files.find(options.solver, what="solver")
    path = options.solver if os.path.exists(options.solver) else path
    param = text.read_solver(path)
    param.train_state.level = options.level
    param.train_state.stage.extend(_stages(options))
    given = options.weights.split(",") if options.weights else [name for line in param.weights for name in line.split(",")]
    given = [files.find(name.strip(), beside=path, what="weights") for name in given if name.strip()]
    param.ClearField("weights")
    machine = solver.make(param, path=path, net_class=functools.partial(Net, device=_use(options, param)))
    try:
        if options.snapshot:
            log.info("caffe.cpp:248", f"Resuming from {options.snapshot}")
            machine.restore(options.snapshot)
        else:
            training.first_values(machine, given)
        log.info("caffe.cpp:253", "Starting Optimization")
        again = ["python", "-m", "caffe", "train", "-solver", options.solver, "-snapshot"]
        code = training.solve(machine, lambda state, left: [*again, state],
                              training.Signals(options.sigint_effect, options.sighup_effect))
        log.info("caffe.cpp:260", "Optimization Done.")
        return code
    finally:
        machine.close()


def test(options):
    """Score a net: every output of every batch, then the means."""
    if not options.weights:
        raise UnknownName("test needs -weights FILE: a net without them has nothing to score")
    net = _open(options, caffe_pb2.TEST)
    try:
        testing.test(net, options.iterations, lambda batches: nets.progress(batches, "test", "batch"))
    finally:
        net.close()
    return 0


def time(options):
    """Time a net layer by layer, forward and backward, beside the machine's peak."""
    net = _open(options, getattr(caffe_pb2, options.phase))
    try:
        found = timing.measure(net, options.iterations, lambda passes: nets.progress(passes, "time", "pass"))
        timing.say(net, *found, options.iterations, timing.peak(net.card))
    finally:
        net.close()
    return 0


def device_query(options):
    """Say what can compute here: the processor, and each NVIDIA card (or those of -gpu)."""
    found = cards.cards()
    wanted = range(len(found)) if options.gpu in (None, "all") else [_number(word) for word in options.gpu.split(",")]
    missing = [number for number in wanted if number >= len(found)]
    if missing:
        cards.find(missing[0])  # says why there is none
        raise Error(f"no card {missing[0]}: there are {len(found)}")
    print(f"CPU: {parallel.threads()} threads, {ISA.name}")
    for number in wanted:
        name, (major, minor), memory = found[number]
        for what, value in (("Device id", number), ("Major revision number", major), ("Minor revision number", minor),
                            ("Name", name), ("Total global memory", memory)):
            print(f"{what + ':':31}{value}")
    if not found:
        try:
            cards.find(0)
        except Error as error:
            print(f"No NVIDIA card: {error}")
    return 0


def _number(word):
    if not word.strip().isdecimal():
        raise UnknownName(f"-gpu takes a card's number, several as 0,1, or all; got '{word}'")
    return int(word)


def _stages(options):
    return [stage for stage in options.stage.split(",") if stage]


def _use(options, param=None):
    """Use the threads; return the device that -gpu or a solver file names, and log it as Caffe does."""
    if options.threads is not None:
        parallel.set_threads(options.threads)
    if options.gpu is not None and ("," in options.gpu or options.gpu == "all"):
        raise Error(f"-gpu {options.gpu}: deepjet runs a net on one card so far; name one, such as -gpu 0")
    device = engine.device(options.gpu, param)
    log.info("caffe.cpp:203", f"Using GPU {device}" if device not in (None, "cpu") else "Use CPU.")
    return device


def _open(options, phase):
    """Return the net of -model with the values of -weights."""
    path = files.find(options.model, what="net")
    path = options.model if os.path.exists(options.model) else path
    net = Net(path, phase=phase, level=options.level, stages=_stages(options), device=_use(options))
    for name in filter(None, (options.weights or "").split(",")):
        report = net.copy_from(files.find(name.strip(), beside=path, what="weights"))
        if not report.copied:
            raise Error(f"'{name}' has no layer of '{path}': weights are matched by layer name")
    return net


if __name__ == "__main__":
    sys.exit(run_door(main))

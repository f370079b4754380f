"""Train a net: `python -m solvers.run models/fcn8s/solver.prototxt`."""

import argparse
import contextlib
import functools
import os
import sys

from layers.core.net import Net
from netspec import files, recipes, text
from netspec.errors import Error, UnknownName, run_door
from netspec.options import dropped_by, key_values, say_dropped
from solvers import data_layers, engine, log, solver, training

EXAMPLES = """examples:
  python -m solvers.run models/fcn_sample/solver.prototxt --sample
  python -m solvers.run models/fcn32s/solver.prototxt --weights vgg16-fcn.caffemodel
  python -m solvers.run models/fcn32s/solver.prototxt --snapshot models/fcn32s/snapshot/train_iter_4000.solverstate

Ctrl-C finishes the iteration, writes a snapshot and stops; a second one stops at once. SIGHUP writes a snapshot.
"""


def main(argv=None):
    """Train, from weights or a snapshot."""
    options = _parser().parse_args(argv)
    if options.weights and options.snapshot:
        raise UnknownName("--weights begins anew, --snapshot goes on: give one of them")
    log.start()
    with contextlib.ExitStack() as stack:
        if options.log:
            stack.enter_context(log.copied_to(options.log))
        return _train(options)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.run", description="Train a net as a solver prototxt says.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solver", metavar="SOLVER", help="solver prototxt, its folder, or the name of a model")
    parser.add_argument("--weights", metavar="A,B", help="caffemodel or HDF5 files to start from, by layer names")
    parser.add_argument("--snapshot", metavar="S", help="solverstate (binary or HDF5) to go on from")
    parser.add_argument("--iterations", metavar="N", type=engine.positive,
                        help="train N more iterations, whatever max_iter says (which becomes their number, for lr_policy poly)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="KEY=VALUE", action="append",
                       help="set a parameter of the data layers, such as voc_dir=PATH (a folder only where a layer has one of "
                       "that name); may be repeated")
    where.add_argument("--sample", action="store_true",
                       help="train on the embedded sample images instead of the net's own data set; layers that would "
                       "be zero get random values (--fill msra)")
    parser.add_argument("--fill", choices=("msra", "xavier"),
                        help="random first values for layers that are all zero, but for those named "
                        f"{training.KEPT_AT_ZERO}*; seeded by random_seed")
    parser.add_argument("--log", metavar="FILE", help="append the log to this file too")
    engine.add_options(parser)
    return parser


def find_solver(name):
    """Return the path of a solver prototxt, which `name` is, or whose folder or model it names."""
    for path in (name, os.path.join(name, "solver.prototxt")):
        if os.path.isfile(path):
            return path
    if os.path.sep not in name and not name.endswith(".prototxt"):
        name = os.path.join(recipes.FOLDER, recipes.find(name, "no solver file and no model"), "solver.prototxt")
    return files.find(name, what="solver")


def _train(options):
    path = find_solver(options.solver)
    dropped = dropped_by(options)
    param = text.read_solver(path, dropped)
    say_dropped(dropped)
    given = options.weights.split(",") if options.weights else [w for line in param.weights for w in line.split(",")]
    given = [files.find(name.strip(), beside=path, what="weights") for name in given if name.strip()]
    param.ClearField("weights")
    edit = data_layers.use_sample if options.sample else None
    if options.data:
        edit = data_layers.Settings(key_values(options.data))
    machine = solver.make(param, net_class=functools.partial(Net, **engine.use(options, param)), path=path, edit=edit,
                          allow_unknown=options.allow_unknown)
    engine.say_plan(options, machine.net)
    if options.data:
        edit.refuse_unused()
    try:
        if options.snapshot:
            log.info("run.py:1", f"Restoring previous solver status from {options.snapshot}")
            machine.restore(options.snapshot)
        else:
            training.first_values(machine, given, options.fill or ("msra" if options.sample and not given else None))
        if options.iterations:
            machine.param.max_iter = machine.iter + options.iterations
        if machine.iter >= machine.param.max_iter:
            raise Error(f"nothing to do: iteration {machine.iter} is reached and max_iter is {machine.param.max_iter}; "
                        "--iterations N trains N more")
        return training.solve(machine, lambda state, left: [
            "python", "-m", "solvers.run", options.solver, "--snapshot", state,
            *(["--iterations", str(left)] if options.iterations else []), *(["--sample"] if options.sample else [])])
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(run_door(main))

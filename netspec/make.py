"""Make prototxts from the recipes in models/: `python -m netspec.make fcn8s > models/fcn8s/train.prototxt`."""

import argparse
import importlib
import os
import sys

from netspec import caffe_pb2, files, recipes, text
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import key_values

EXAMPLES = """examples:
  python -m netspec.make --list
  python -m netspec.make fcn8s > models/fcn8s/train.prototxt
  python -m netspec.make fcn8s --split val --data voc_dir=/data/VOC2011
  python -m netspec.make voc-fcn8s --split deploy --classes 5
  python -m netspec.make fcn16s --set interpolation=learned
  python -m netspec.make fcn32s --split solver --set learning=accum
  python -m netspec.make fcn_sample --set finest=16 --set stages=staged --into runs/sample16s
  python -m netspec.make --all"""

OURS = ("# Made by `python -m netspec.make ", '"""First values, as those of models/')  # how our files begin
START = '''"""First values, as those of models/{name}."""

from models.{name}.net import start  # noqa: F401
'''


def main(argv=None):
    """Print one prototxt, the list of models, or write all prototxts beside their recipes."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.make", description="Print the prototxt of a model.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="model, see --list; published names such as voc-fcn8s are known")
    parser.add_argument("--split", help="train, val, trainval, test, deploy or solver (default: what it trains on)")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes, background included")
    parser.add_argument("--data", action="append", default=[], metavar="KEY=VALUE",
                        help="set a parameter of the data layer, such as a folder; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="set an option of the model; --list NAME says which it has; for --split solver also a "
                             "field of the solver; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the models; with a model, its options")
    parser.add_argument("--all", action="store_true", help="write every model's prototxts into its folder")
    parser.add_argument("--into", metavar="FOLDER", help="write all splits and the solver into a folder, to be run there")
    options = parser.parse_args(argv)
    if options.list or options.all:
        others = options.split, options.classes is not None, options.data, options.set, options.into
        if any(others) or (options.all and options.name):
            parser.error("--list takes no option but a model, --all none and no model")
        if options.name:
            return list_options(options.name)
        return list_models() if options.list else write_all()
    if not options.name:
        parser.error(f"which model? one of {', '.join(recipes.names())}")
    settings = key_values(options.set, "--set", "finest=16")
    if options.into:
        if options.split or options.data:
            parser.error("--into writes every split, whose data layers differ; it takes no --split and no --data")
        return write_into(options.into, options.name, options.classes, settings)
    sys.stdout.write(make(options.name, options.split, options.classes, key_values(options.data), settings))
    return 0


def recipe(name):
    """Return the module models/<name>/net.py."""
    module = importlib.import_module(f"models.{name}.net")
    missing = [what for what in ("DESCRIPTION", "SPLITS", "net", "solver") if not hasattr(module, what)]
    if missing:
        raise Error(f"models/{name}/net.py does not define {', '.join(missing)}")
    return module


def splits_of(module):
    """Return what can be made of a recipe: its nets, its solver and its other SOLVERS."""
    return (*module.SPLITS, "solver", *(f"solver_{name}" for name in getattr(module, "SOLVERS", {})))


def make(name, split=None, classes=None, data=None, settings=None):
    """Return the prototxt of a model as text.

    Parameters
    ----------
    name : str
        A model, see `recipes.find`.
    split : str
        One of the model's SPLITS (the first when None), "solver", or "solver_<name>" for one of its SOLVERS.
    classes : int
        Number of classes instead of the data set's own.
    data : dict
        Parameters of the data layer to set.
    settings : dict
        Options of the model (its OPTIONS); for the solver also fields of the SolverParameter.
    """
    name = recipes.find(name)
    module = recipe(name)
    splits = splits_of(module)
    split = split or splits[0]
    if split not in splits:
        raise UnknownName(f"{name} has no split '{split}'{nearest(split, splits)}; it has {', '.join(splits)}")
    command = f"{name} --split {split}"
    settings = check_settings(name, module, split, settings or {})
    if split not in module.SPLITS:
        if classes is not None or data:
            raise Error("a solver has no classes and no data layer; choose another --split")
        message = module.solver(**{**getattr(module, "SOLVERS", {}).get(split.removeprefix("solver_"), {}), **settings})
    else:
        fields = {"data": data or {}, **settings}
        if classes is not None:
            fields["classes"] = classes
            command += f" --classes {classes}"
        message = module.net(split, **fields)
        command += "".join(f" --data {key}={value}" for key, value in (data or {}).items())
    command += "".join(f" --set {key}={value}" for key, value in settings.items())
    command = " ".join(command.split())  # a line break in a value would end the comment
    return f"# Made by `python -m netspec.make {command}`; change models/{name}/net.py instead.\n{text.dump(message)}"


def check_settings(name, module, split, settings):
    """Return the `settings` of a model, refused when it has no such option."""
    known = list(getattr(module, "OPTIONS", {}))
    if split not in module.SPLITS:
        known += [field.name for field in caffe_pb2.SolverParameter.DESCRIPTOR.fields]
    for key in settings:
        if key not in known:
            good = ", ".join(getattr(module, "OPTIONS", {})) or "none"
            raise UnknownName(f"{name} has no option '{key}'{nearest(key, known)}; it has {good}"
                              + (", and the fields of a solver" if split not in module.SPLITS else ""))
    return settings


def list_models():
    """Print a table of name, splits, place in the paper, what it is."""
    rows = []
    for name in recipes.names():
        module = recipe(name)
        rows.append((name, " ".join(splits_of(module)), getattr(module, "SECTION", ""), module.DESCRIPTION))
    wide = [max(map(len, column)) for column in list(zip(*rows))[:3]]
    for row in rows:
        print("  ".join((*(f"{cell:{width}}" for cell, width in zip(row, wide)), row[3])))
    return 0


def list_options(name):
    """Print the options that a model takes with --set."""
    name = recipes.find(name)
    known = getattr(recipe(name), "OPTIONS", {})
    wide = max(map(len, known), default=0)
    for key, text_of_it in known.items():
        print(f"{key:{wide}}  {text_of_it}")
    if not known:
        print(f"{name} has no options", file=sys.stderr)
    return 0


def write_into(folder, name, classes=None, settings=None):
    """Write every split, the solver and, where the model has a `start`, a net.py with it into `folder`.

    Settings that are fields of the solver go to the solver alone. Snapshots go to ``<folder>/snapshot/``. Files that
    were made otherwise are never overwritten.
    """
    name = recipes.find(name)
    module = recipe(name)
    settings = settings or {}
    check_settings(name, module, "solver", settings)
    options = {key: value for key, value in settings.items() if key in getattr(module, "OPTIONS", {})}
    solver = {"snapshot_prefix": f"{folder}/snapshot/{module.SPLITS[0]}", **settings}
    contents = {f"{split}.prototxt": make(name, split, classes, None, options) for split in module.SPLITS}
    contents["solver.prototxt"] = make(name, "solver", None, None, solver)
    if hasattr(module, "start"):
        contents["net.py"] = START.format(name=name)
    os.makedirs(folder, exist_ok=True)
    for file in contents:
        path = os.path.join(folder, file)
        if os.path.exists(path) and not files.read_text(path).startswith(OURS):
            raise Error(f"'{path}' is there and was not made by this command; nothing is written. Choose another folder")
    for file, content in contents.items():
        files.write_text(os.path.join(folder, file), content)
        print(os.path.join(folder, file))
    return 0


def write_all():
    """Write <split>.prototxt and solver.prototxt of every model, each file only when it changes."""
    written = 0
    for name in recipes.names():
        for split in splits_of(recipe(name)):
            path = recipes.FOLDER / name / f"{split}.prototxt"
            content = make(name, split)
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                files.write_text(path, content)
                written += 1
    print(f"{len(recipes.names())} models, {written} files changed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))

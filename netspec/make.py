"""Make prototxts from the recipes in models/: `python -m netspec.make fcn8s > models/fcn8s/train.prototxt`."""

import argparse
import importlib
import sys

from netspec import files, recipes, text
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import key_values

EXAMPLES = """examples:
  python -m netspec.make --list
  python -m netspec.make fcn8s > models/fcn8s/train.prototxt
  python -m netspec.make fcn8s --split val --data voc_dir=/data/VOC2011
  python -m netspec.make voc-fcn8s --split deploy --classes 5
  python -m netspec.make --all"""


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
    parser.add_argument("--list", action="store_true", help="list the models")
    parser.add_argument("--all", action="store_true", help="write every model's prototxts into its folder")
    options = parser.parse_args(argv)
    if options.list or options.all:
        if options.name or options.split or options.classes is not None or options.data:
            parser.error("--list and --all take no model and no other option")
        return list_models() if options.list else write_all()
    if not options.name:
        parser.error(f"which model? one of {', '.join(recipes.names())}")
    sys.stdout.write(make(options.name, options.split, options.classes, key_values(options.data)))
    return 0


def recipe(name):
    """Return the module models/<name>/net.py."""
    module = importlib.import_module(f"models.{name}.net")
    missing = [what for what in ("DESCRIPTION", "SPLITS", "net", "solver") if not hasattr(module, what)]
    if missing:
        raise Error(f"models/{name}/net.py does not define {', '.join(missing)}")
    return module


def make(name, split=None, classes=None, data=None):
    """Return the prototxt of a model as text.

    Parameters
    ----------
    name : str
        A model, see `recipes.find`.
    split : str
        One of the model's SPLITS (the first when None), or "solver".
    classes : int
        Number of classes instead of the data set's own.
    data : dict
        Parameters of the data layer to set.
    """
    name = recipes.find(name)
    module = recipe(name)
    splits = (*module.SPLITS, "solver")
    split = split or splits[0]
    if split not in splits:
        raise UnknownName(f"{name} has no split '{split}'{nearest(split, splits)}; it has {', '.join(splits)}")
    command = f"{name} --split {split}"
    if split == "solver":
        if classes is not None or data:
            raise Error("a solver has no classes and no data layer; choose another --split")
        message = module.solver()
    else:
        fields = {"data": data or {}}
        if classes is not None:
            fields["classes"] = classes
            command += f" --classes {classes}"
        message = module.net(split, **fields)
        command += "".join(f" --data {key}={value}" for key, value in (data or {}).items())
    command = " ".join(command.split())  # a line break in a value would end the comment
    return f"# Made by `python -m netspec.make {command}`; change models/{name}/net.py instead.\n{text.dump(message)}"


def list_models():
    """Print a table of name, what it is, splits."""
    rows = [(name, " ".join((*recipe(name).SPLITS, "solver")), recipe(name).DESCRIPTION) for name in recipes.names()]
    wide, wider = (max(map(len, column)) for column in list(zip(*rows))[:2])
    for name, splits, description in rows:
        print(f"{name:{wide}}  {splits:{wider}}  {description}")
    return 0


def write_all():
    """Write <split>.prototxt and solver.prototxt of every model, each file only when it changes."""
    written = 0
    for name in recipes.names():
        for split in (*recipe(name).SPLITS, "solver"):
            path = recipes.FOLDER / name / f"{split}.prototxt"
            content = make(name, split)
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                files.write_text(path, content)
                written += 1
    print(f"{len(recipes.names())} models, {written} files changed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))

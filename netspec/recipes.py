"""Which models there are: the folders of models/ that hold a net.py, under their names here and the published ones."""

import os

from netspec import files
from netspec.errors import Error, UnknownName, nearest

FOLDER = files.ROOT / "models"


def names():
    """Return the names of all models, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob("*/net.py"))


def find(name, unknown="unknown model"):
    """Return the folder name of a model, which may be given by a published one (voc-fcn8s, nyud-fcn32s-color-hha).

    `unknown` is how the error begins for a name that is none.
    """
    known = names()
    folded = name.lower().replace("-", "_").removeprefix("voc_")
    if folded not in known:
        raise UnknownName(f"{unknown} '{name}'{nearest(folded, known)}; models: {', '.join(known) or 'none'}")
    return folded


def find_net(name, splits):
    """Return the path of a prototxt: `name` itself, or ``<split>.prototxt`` of the first such split in a folder.

    The folder is `name`, or that of the model `name` (see `find`).
    """
    name = os.fspath(name)
    if os.path.sep in name or name.endswith((".prototxt", ".pt", ".txt")) or os.path.exists(name):
        folder = path = files.find(name, what="net")
        if not os.path.isdir(path):
            return path
        cure = "give a prototxt or the name of a model"
    else:
        model = find(name, "no file and no model")
        folder = os.path.join(FOLDER, model)
        cure = f"write it with: python -m netspec.make {model} --split {splits[0]} > {folder}/{splits[0]}.prototxt"
    for split in splits:
        path = os.path.join(folder, f"{split}.prototxt")
        if os.path.isfile(path):
            return path
    raise Error(f"folder '{folder}' has no {' or '.join(f'{split}.prototxt' for split in splits)}; {cure}")

"""All layer types as a table, printed from their files: `python -m layers.core.list`.

What a layer is, is the first sentence of its file. With the tests beside the layers (in a clone, not in an installed package) it
is also said what each type's numbers are held against:

    Caffe          numbers that Caffe 1.0 recorded, tests/goldens: cases of the layer alone
    gradient       tests/layers/test_<layer>.py holds backward against differences
    loops          all else that this test says: plain loops, mostly
    OpenCV         that test asks OpenCV 4's importer of Caffe nets, or tests/layers/test_opencv.py names the type
    onnxruntime    tests/netspec/test_onnx_graph.py runs the type's ONNX form in it
"""

import argparse
import ast
import importlib
import re
import sys
from typing import NamedTuple

import numpy as np

from layers.core import catalogue
from layers.core.layer import Layer
from layers.core.neuron import Neuron
from netspec import files
from netspec.errors import run_door

TESTS = catalogue.FOLDER.parent / "tests"
PAGE = catalogue.FOLDER.parent / "docs" / "layers.md"
EXAMPLES = """examples:
  python -m layers.core.list                  # type, where it computes, what it is
  python -m layers.core.list --markdown       # with what each is held against: docs/layers.md
  python -m layers.core.list --write          # and write that page"""
HEAD = """# Layers

Written by `python -m layers.core.list --write` from the layers' files and from the tests. A layer is the file of its name in
`layers/`, its test `tests/layers/test_<file>`; formulas, edge cases and sources stand at the file's head.

- **Caffe**: cases of the layer alone that Caffe 1.0 recorded (`tests/goldens`), forward and backward; they run on the CPU and in
  the simulator of cards.
- **gradient**: backward is held against differences. **loops**: a test of its own, against plain loops or the like.
- **OpenCV**: OpenCV 4's Caffe importer computes the same. **onnxruntime**: so does the layer's ONNX form, where onnx and
  onnxruntime are installed.
- **card**: has kernels for NVIDIA cards; the others compute on the CPU between them.
"""
CHECKS = ("check_gradient", "check_elementwise")  # of tests/support.py and tests/layers/elementwise.py


class Row(NamedTuple):
    """One layer type."""

    type: str
    file: str  # below layers/
    what: str
    caffes: bool  # whether Caffe 1.0 has it
    card: bool  # whether there are kernels for cards
    in_place: bool
    cases: int  # that Caffe recorded of it
    tested: bool  # whether it has a test of its own
    gradient: bool
    opencv: bool
    onnx: bool


def rows(tests=TESTS):
    """Return a `Row` for each layer type of the catalogue, sorted."""
    recorded = [kind_of(path) for path in sorted((tests / "goldens" / "layers").glob("*.npz"))]
    seconds, exported = (_words(tests / path) for path in ("layers/test_opencv.py", "netspec/test_onnx_graph.py"))
    found = []
    for name in catalogue.types():
        kind = catalogue.find(name)
        stem = kind.__module__.removeprefix("layers.")
        test = tests / "layers" / f"test_{stem}.py"
        words = _words(test)
        gradient = any(word in CHECKS or word.startswith("test_gradient") for word in words)
        found.append(Row(name, f"{stem}.py", sentence(kind), name in catalogue.CAFFE.split(), _computes_on_cards(kind),
                         kind.works_in_place, recorded.count(name), bool(words), gradient,
                         name in seconds or "tests.layers.opencv" in words, name in exported and hasattr(kind, "onnx")))
    return found


def kind_of(path):
    """Return the layer type of a case that Caffe recorded."""
    return re.search(r'name: "it" type: "(\w+)"', str(np.load(path)["prototxt"])).group(1)


def sentence(kind):
    """Return the first sentence of a layer's file, without the type's name."""
    text = importlib.import_module(kind.__module__).__doc__.split("\n\n")[0]
    return " ".join(text.split()).removeprefix(f"{kind.__name__}: ").rstrip(".")


def _computes_on_cards(kind):
    base = Neuron if issubclass(kind, Neuron) else Layer
    return kind.forward_cuda is not base.forward_cuda or base is Neuron and kind.kernels_cuda is not Neuron.kernels_cuda


def _words(path):
    """Return what a file of tests names: what it defines, imports, calls and says in strings; nothing if there is none."""
    if not path.exists():
        return set()
    words = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            words.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            words.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words.add(node.func.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
            words.update(re.findall(r'type: "(\w+)"', node.value))
    return words


def table(found):
    """Return the rows as lines of text."""
    wide = max(len(row.type) for row in found)
    return [*(f"{row.type:{wide}}  {'CPU, card' if row.card else 'CPU':9}  {'in place' if row.in_place else '':8}  {row.what}"
              for row in found), counts(found)]


def counts(found):
    """Return in a line how many there are."""
    caffes = sum(row.caffes for row in found)
    missing = sorted(set(catalogue.CAFFE.split()) - {row.type for row in found})
    return (f"{len(found)} layer types: {caffes} of Caffe 1.0's {len(catalogue.CAFFE.split())}"
            f"{' (missing: ' + ', '.join(missing) + ')' if missing else ''}, {len(found) - caffes} of forks and our own")


def markdown(found):
    """Return the page: what each layer is and what its numbers are held against."""
    def yes(value):
        return "yes" if value else ""

    lines = [HEAD, f"{counts(found)}.", ""]
    for title, caffes in (("Caffe 1.0", True), ("Forks", False)):
        lines += [f"## {title}", "", "| layer | what | Caffe | gradient | loops | OpenCV | onnxruntime | card | in place |",
                  "|---|---|---|---|---|---|---|---|---|"]
        lines += [f"| [`{row.type}`](../layers/{row.file}) | {row.what.replace('|', chr(92) + '|')} | "
                  f"{row.cases or ''} | {yes(row.gradient)} | {yes(row.tested)} | {yes(row.opencv)} | {yes(row.onnx)} | "
                  f"{yes(row.card)} | {yes(row.in_place)} |" for row in found if row.caffes == caffes]
        lines.append("")
    alone = [row.type for row in found if not (row.cases or row.gradient or row.opencv or row.onnx)]
    lines += ["## What has no other oracle than the loops of its own test", "", ", ".join(alone) or "None.", ""]
    return "\n".join(lines)


def main(argv=None):
    """Print the table of layers."""
    parser = argparse.ArgumentParser(prog="python -m layers.core.list", description="All layer types, from their files.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print the page docs/layers.md")
    parser.add_argument("--write", action="store_true", help="write that page (in a clone, beside the tests)")
    options = parser.parse_args(argv)
    found = rows()
    if options.write:
        PAGE.parent.mkdir(exist_ok=True)
        files.write_text(PAGE, markdown(found))
        print(f"{PAGE}: {counts(found)}", file=sys.stderr)
    else:
        print(markdown(found) if options.markdown else "\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))

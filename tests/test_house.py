"""The house's rules: imports go down only, siblings do not import each other, nobody imports a door."""

import ast
import collections

import pytest

from tests.support import ROOT

FLOOR = {"netspec": 0, "data": 0, "layers.core": 1, "layers": 2, "solvers": 3, "models": 4, "caffe": 5, "paper": 5}
# What the two rooms of the ground floor and everybody else stand on.
GROUND = {"netspec.errors", "netspec.files", "netspec.caffe_pb2", "netspec.binaryproto"}
# models are recipes: they speak netspec's words and name data sets, and need no engine.
MAY = {
    "netspec": {"netspec"},
    "data": {"data"},
    "layers.core": {"layers.core", "netspec", "data"},
    "layers": {"layers.core", "netspec", "data"},
    "solvers": {"solvers", "layers", "layers.core", "netspec", "data"},
    "models": {"models", "netspec", "data"},
    "caffe": set(FLOOR) - {"paper"},
    "paper": set(FLOOR) - {"caffe"},
}


def room(module):
    """Return the room of a dotted module name: `layers.core` or its first part."""
    return "layers.core" if f"{module}.".startswith("layers.core.") else module.split(".")[0]


def sources():
    for folder in ("netspec", "data", "layers", "solvers", "models", "caffe", "paper"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "caffe_pb2.py":
                yield path


def imports(path):
    """Yield (line, dotted name) for each import of the house in a file, `from a import b` as a.b when b is a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import; the house writes names in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                here = ROOT.joinpath(*full.split("."))
                yield node.lineno, full if here.with_suffix(".py").exists() or here.is_dir() else node.module


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_door(path):
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_imports_go_down_only(path):
    here = module_of(path)
    for line, name in imports(path):
        if name.split(".")[0] not in FLOOR or name in GROUND:
            continue
        assert room(name) in MAY[room(here)], f"{path}:{line}: {here} may not import {name}"
        if room(here) == "layers":
            assert room(name) != "layers", f"{path}:{line}: a layer type may not import another ({name})"


def test_no_import_circles():
    graph = collections.defaultdict(set)
    names = {module_of(path) for path in sources()}
    for path in sources():
        graph[module_of(path)] |= {n for _, n in imports(path) if n in names and n != module_of(path)}
    done, walking = set(), []

    def visit(name):
        if name in done:
            return
        assert name not in walking, f"circle: {' -> '.join([*walking[walking.index(name):], name])}"
        walking.append(name)
        for other in graph[name]:
            visit(other)
        walking.pop()
        done.add(name)

    for name in sorted(names):
        visit(name)


def test_words_and_food_need_no_numba():
    for path in sources():
        if room(module_of(path)) in ("netspec", "data"):
            assert not [n for _, n in imports(path) if n.split(".")[0] == "numba"], path


def test_a_commands_main_is_only_called_by_itself():
    doors = {module_of(p): p for p in sources() if is_door(p)}
    assert "netspec.make" in doors and "solvers.run" in doors
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in doors:
                assert "main" not in [a.name for a in node.names], f"{path}:{node.lineno} imports a door's main"

"""The engine: solvers, snapshots, and the commands that run nets."""

from netspec.errors import let_imports_be_interrupted

let_imports_be_interrupted()

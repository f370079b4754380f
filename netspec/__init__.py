"""Words: all that can be said of a net without running it (text, graph, shapes, weights in files)."""

from netspec.errors import let_imports_be_interrupted

let_imports_be_interrupted()

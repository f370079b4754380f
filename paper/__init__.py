"""The paper, experiment by experiment: what it claims, what was run here, both numbers, and a verdict.

An experiment is a file of `paper/experiments/` (see `paper.experiment`); ``python -m paper.run`` runs those that have no kept
result and writes docs/paper.md and docs/paper.html from all results in `paper/results/`.
"""

from netspec.errors import let_imports_be_interrupted

let_imports_be_interrupted()

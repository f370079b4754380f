"""Recipes of nets: one folder a model, with `net.py` in it and the prototxts made from it.

`net.py` says DESCRIPTION, SECTION (its place in the paper), SPLITS, OPTIONS, `net(split, classes, data, **options)`,
`solver(**options and fields)`, where it has more solvers SOLVERS (name -> what they are given), and, where a run needs it,
`start(net, weights)`. What the models share is beside them: `trunks` (VGG16, AlexNet, GoogLeNet, SqueezeNet), `parts`
(score, upscore, skip), `streams` (from features to scores), `losses`, `dense` and `forms` (section 3.2), `families` and
`small` (whole nets), `design` (the options), `datasets` (data layers and solvers of each data set), `start` (first values).

To add a model, write `models/NAME/net.py`; `python -m netspec.make` finds it by its folder.
"""

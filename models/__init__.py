"""Recipes of nets: one folder a model, with `net.py` in it and the prototxts made from it.

`net.py` says DESCRIPTION, SPLITS, `net(split, classes, data)`, `solver()` and, where a run needs it, `start(net,
weights)`. What the models share is beside them: `trunks` (VGG16, AlexNet, SqueezeNet), `parts` (score, upscore, skip),
`datasets` (data layers and solvers of each data set), `families` (whole nets), `start` (first values of parameters).

To add a model, write `models/NAME/net.py`; `python -m netspec.make` finds it by its folder.
"""

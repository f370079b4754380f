"""What the recipes know of each data set: its data layers, its splits, its number of classes and its solver.

Folders are relative to the project's root; ``python -m netspec.make fcn8s --data sbdd_dir=/there`` names others.
"""

from models.design import NAMES, PUBLISHED, apart, design
from netspec import caffe_pb2
from netspec.errors import Error, UnknownName, nearest
from netspec.spec import assign_proto
from netspec.spec import layers as L

SEED = 1337
VOC_MEAN = (104.00699, 116.66877, 122.67892)  # BGR, of the training images
IMAGENET_MEAN = (104.0, 117.0, 123.0)  # BGR, what SqueezeNet was trained with
INPUT_SIZE = (500, 500)  # what a deploy net says; the net takes any size


class DataSet:
    """The splits of a data set, each with its Python data layer, and the solver fields that all its models share.

    Parameters
    ----------
    classes : int
        Number of scores, background included.
    module : str
        Where the Python layer finds the data layer's class.
    splits : dict
        Split name -> (class, param_str as a dict). The first is trained on, the second scored on.
    test_images : int
        Images of the second split.
    loop : int
        Iterations of the published solve.py where they are not the solver's max_iter.
    training_sets : dict
        Name -> (class, param_str) of other images to train on.
    solver : dict
        SolverParameter fields.
    """

    def __init__(self, classes, module, splits, test_images, loop=None, training_sets=None, **solver):
        self.classes = classes
        self.module = module
        self._layers = splits
        self.splits = (*splits, "deploy")
        self.test_images = test_images
        self._loop = loop
        self._training_sets = training_sets or {}
        self._solver = solver

    def check_split(self, split):
        """Refuse a split that the data set does not have."""
        if split not in self.splits:
            raise UnknownName(f"no split '{split}'{nearest(split, self.splits)}; "
                              f"this model has {', '.join(self.splits)} and solver")

    def add(self, n, split, data=None, plan=PUBLISHED, tops=("data", "label"), params=None, inputs=(("data", 3),)):
        """Add the data layer of `split` to the NetSpec `n`; for "deploy" an Input layer for each of `inputs`.

        `data` are the user's keys of the param_str, which replace those given here; an unknown one is refused.
        `plan` is the net's Design; `params` are keys that this model adds, `inputs` pairs of a blob's name and channels.
        """
        self.check_split(split)
        data = dict(data or {})
        if split == "deploy":
            if data:
                raise Error(f"a deploy net has no data layer to set '{next(iter(data))}' in; choose another --split")
            for top, channels in inputs:
                name = "input" if top == "data" else f"input_{top}"  # "input" in the published deploy net
                n[top] = L.Input(name=name, input_param={"shape": {"dim": [1, channels, *INPUT_SIZE]}})
            return
        layer, keys = self._layers[split]
        if split == self.splits[0]:
            layer, keys = self._training_sets.get(plan.training_set, (layer, keys))
        keys = {**keys, "seed": SEED, **(params or {}), **plan.keys(split, self.splits)}
        for key in data:
            if key not in keys:
                raise UnknownName(f"{layer} has no parameter '{key}' in its {split} net{nearest(key, keys)}; "
                                  f"it takes {', '.join(keys)}")
        values = L.Python(module=self.module, layer=layer, param_str=str({**keys, **data}), ntop=len(tops))
        for name, top in zip(tops, values):
            n[name] = top

    def solver(self, model, own=None, given=None, paper_rate=None):
        """Return the SolverParameter of `model`: SGD at a fixed rate, as published.

        ``train_net`` and ``test_net`` are found beside the solver file; snapshots go to ``models/<model>/snapshot/``
        below the working directory. The test net is never run by the solver itself (scoring is a command).

        Parameters
        ----------
        own : dict
            What this model has otherwise: solver fields, and options of its `Design`.
        given : dict
            What the user sets: options, which change the fields, and solver fields, which have the last word.
        paper_rate : float
            The rate that the paper's text gives this net, where it is another.
        """
        train, test = self.splits[:2]
        say = {
            "train_net": f"{train}.prototxt", "test_net": [f"{test}.prototxt"], "test_iter": [self.test_images],
            "test_interval": 999999999, "test_initialization": False,
            "display": 20, "average_loss": 20, "lr_policy": "fixed", "base_lr": 1e-10, "momentum": 0.99, "iter_size": 1,
            "max_iter": 100000, "weight_decay": 0.0005, "snapshot": 4000,
            "snapshot_prefix": f"models/{model}/snapshot/{train}",
        }
        options, fields = apart(own or {})
        more, last = apart(given or {})
        fields = design({**options, **more}).solver({**say, **self._solver, **fields}, paper_rate, self._loop)
        for key in last:
            if key not in caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name:
                raise UnknownName(f"a solver has no field and no option '{key}'"
                                  f"{nearest(key, (*NAMES, *caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name))}")
        message = caffe_pb2.SolverParameter(**fields)
        for key, value in last.items():
            message.ClearField(key)
            assign_proto(message, key, value)
        return message


# The published nets learn from SBD's training images and are scored on what VOC 2011's validation set adds to them.
VOC = DataSet(21, "voc_layers", {
    "train": ("SBDDSegDataLayer", {"sbdd_dir": "data/sbdd/dataset", "split": "train", "mean": VOC_MEAN}),
    "val": ("VOCSegDataLayer", {"voc_dir": "data/pascal/VOC2011", "split": "seg11valid", "mean": VOC_MEAN}),
}, test_images=736, training_sets={
    "voc": ("VOCSegDataLayer", {"voc_dir": "data/pascal/VOC2011", "split": "train", "mean": VOC_MEAN}),
})

# VOC's own images on both sides, for models that are not of the paper.
VOC_ONLY = DataSet(21, "voc_layers", {
    "train": ("VOCSegDataLayer", {"voc_dir": "data/pascal/VOC2011", "split": "train", "mean": IMAGENET_MEAN}),
    "val": ("VOCSegDataLayer", {"voc_dir": "data/pascal/VOC2011", "split": "seg11valid", "mean": IMAGENET_MEAN}),
}, test_images=736)

NYUD = DataSet(40, "nyud_layers", {
    split: ("NYUDSegDataLayer", {"nyud_dir": "data/nyud", "split": split}) for split in ("trainval", "test")
}, test_images=654, loop=100000, max_iter=300000, snapshot=2000)

# The published solvers say no `snapshot`, so that the weights of a whole training are lost: here they are kept.
SIFTFLOW = DataSet(33, "siftflow_layers", {
    split: ("SIFTFlowSegDataLayer", {"siftflow_dir": "data/sift-flow", "split": split})
    for split in ("trainval", "test")
}, test_images=200, loop=100000, max_iter=300000, snapshot=2000)

PASCALCONTEXT = DataSet(60, "pascalcontext_layers", {
    split: ("PASCALContextSegDataLayer",
            {"voc_dir": "data/pascal", "context_dir": "data/pascal-context", "split": split})
    for split in ("train", "val")
}, test_images=5105, loop=400000, max_iter=300000)

# The embedded images that `python -m data.sample` draws.
SAMPLE = DataSet(6, "voc_layers", {
    split: ("VOCSegDataLayer", {"voc_dir": "data/sample", "split": split, "mean": VOC_MEAN})
    for split in ("train", "val")
}, test_images=30)

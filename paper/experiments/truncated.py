"""Scoring intermediate layers alone and fixed features (Table 3): the nets' geometry, what is computed and what changes."""

import functools

import numpy as np

from layers.core.net import Net
from models import families
from models.datasets import VOC
from netspec import caffe_pb2
from netspec.measure import measure
from paper import nets
from paper.experiment import exact
from solvers import solver

TITLE = "Truncated nets and fixed features"
PLACE = "Table 3"
MINUTES = 0.2
NEEDS = ()
DEPENDS = ("paper/nets.py",)
STRIDES = {"pool5": 32, "pool4": 16, "pool3": 8}
SIZE, WIDTH, STEPS = (96, 128), 8, 4


def run(context):
    """Measure the truncated nets, train with fixed features."""
    found = {pool: geometry(pool) for pool in STRIDES}
    strides = {pool: one["stride"] for pool, one in found.items()}
    changed, kept, computed = fixed_features(context.seed)
    said = "; ".join(f"{pool}: field {one['field']}, crop {one['crop']}, {one['learned'] / 1e6:.2f}M learned"
                     for pool, one in found.items())
    return {"rows": [
        exact("FCN-pool5, -pool4 and -pool3 are truncated nets with the strides of FCN-32s, -16s and -8s", "4.3, Table 3",
              "the recipes' prototxts, measured", "32, 16, 8", ", ".join(str(one) for one in strides.values()),
              strides == STRIDES, said + "."),
        exact("FCN-32s fixed fixes all features: only the score layer learns", "4.4, Table 3",
              f"{STEPS} iterations of the solver with `features=fixed` (VGG16's layers at {WIDTH} channels)",
              "one layer learns", f"{', '.join(changed)} changed, {kept} other layers kept every bit", changed == ["score_fr"],
              f"Backward runs through {computed} of the net's layers: nothing below the score is computed."),
    ], "numbers": found}


def geometry(pool):
    """Return field, stride, crop and learned parameters of the net that scores one pooling."""
    rows = measure(families.vgg(VOC, "deploy", 21, only=pool))
    score = next(row for row in rows if row.layer == f"score_{pool}")
    crop = next(layer for layer in families.vgg(VOC, "deploy", 21, only=pool).layer if layer.type == "Crop")
    return {"field": int(score.field[0]), "stride": int(score.stride[0]), "crop": crop.crop_param.offset[0],
            "learned": sum(row.learned for row in rows)}


def fixed_features(seed):
    """Return (layers whose parameters changed, number of others, "n of m" layers that backward runs through)."""
    message = nets.thin(nets.with_inputs(families.vgg(VOC, "train", 21, features="fixed"), {
        "data": (1, 3, *SIZE), "label": (1, 1, *SIZE)}), WIDTH)
    param = caffe_pb2.SolverParameter(base_lr=1e-6, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, max_iter=STEPS, display=0,
                                      random_seed=1, train_net_param=message, snapshot_after_train=False)
    machine = solver.make(param, net_class=functools.partial(Net, device="cpu"))
    net = machine.net
    nets.draw(net, seed)
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = 50 * rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.integers(0, 21, net.blobs["label"].shape)
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    machine.step(STEPS)
    changed = [name for name, blobs in net.params.items()
               if any((blob.data != old).any() for blob, old in zip(blobs, before[name]))]
    needed = sum(map(bool, net.layer_need_backward))
    machine.close()
    return changed, len(before) - len(changed), f"{needed} of {len(net.layers)}"

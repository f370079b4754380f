"""A classifier of drawn pictures: the weights that the experiments on the sample data start from.

The paper's nets begin as classifiers of ImageNet. Ours begin as a classifier of the five drawn objects: `trunks.narrow_vgg`
under an average over all positions and a softmax, trained on crops of 64x64 around one object of a picture (others may
reach into it) that say what it is, not where. The pictures are drawn from other seeds than those that are segmented.
"""

import functools
import json
import math

import h5py
import numpy as np

from data import sample, transform
from layers.core.net import Net
from models import parts, trunks
from models.datasets import VOC_MEAN
from netspec import caffe_pb2, files
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import training
from solvers import solver

SIDE, BATCH = 64, 16
OBJECTS = len(sample.CLASSES) - 1


def pretrained(context, widths, convolutions=2, fc_width=128, pictures=480, held_out=96, iterations=300, seed=7):
    """Return (caffemodel, accuracy on held-out crops) of the classifier; it is trained once for all experiments."""
    settings = [list(widths), convolutions, fc_width, pictures, held_out, iterations, seed]
    folder = training.shared(context) / ("classifier-" + "-".join(str(one) for one in (*widths, *settings[1:])))
    done, model = folder / "done.json", folder / "classifier.caffemodel"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        context.say(f"training the classifier that the others start from: {iterations} iterations")
        with training.logged(folder / "train.log"):
            _write_crops(folder, "train", pictures, seed)
            _write_crops(folder, "val", held_out, seed)
            accuracy = _train(context, folder, model, settings)
        files.write_text(done, json.dumps({"accuracy": accuracy}))
    return str(model), json.loads(files.read_text(done))["accuracy"]


def crops(split, count, seed):
    """Yield `count` pairs of a picture (3, 64, 64) float32, BGR minus mean, and the number of its object, from 0."""
    for number in range(1, count + 1):
        rng = np.random.default_rng([seed, {"train": 11, "val": 12}[split], number])
        image, label = sample.scene(rng, number)
        shown = np.bincount(label[label < len(sample.CLASSES)], minlength=len(sample.CLASSES))[1:]
        kind = int(shown.argmax())
        ys, xs = np.nonzero(label == kind + 1)
        top, left = (int(np.clip(round(middle) - SIDE // 2, 0, length - SIDE))
                     for middle, length in zip((ys.mean(), xs.mean()), label.shape))
        crop = image[top:top + SIDE, left:left + SIDE]
        yield transform.preprocess(crop[:, ::-1] if rng.random() < 0.5 else crop, VOC_MEAN), kind


def _write_crops(folder, split, count, seed):
    data, label = zip(*crops(split, count, seed))
    with h5py.File(folder / f"{split}.h5", "w") as file:
        file["data"], file["label"] = np.stack(data), np.array(label, np.float32)[:, None]
    files.write_text(folder / f"{split}.txt", f"{folder / split}.h5\n")


def _net(folder, split, widths, convolutions, fc_width, batch):
    n = NetSpec()
    n.data, n.label = L.HDF5Data(hdf5_data_param={"source": str(folder / f"{split}.txt"), "batch_size": batch,
                                                  "shuffle": split == "train"}, ntop=2)
    top = parts.fixed_scale(n, "scaled", n.data, 1 / 64)
    top = trunks.narrow_vgg(n, top, widths, convolutions, fc_width, 3, True)
    n.average = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.objects = L.InnerProduct(n.average, num_output=OBJECTS, param=parts.LEARNED)
    n.loss = L.SoftmaxWithLoss(n.objects, n.label)
    n.accuracy = L.Accuracy(n.objects, n.label)
    return n.to_proto()


def _train(context, folder, model, settings):
    widths, convolutions, fc_width, _, held_out, iterations, seed = settings
    param = caffe_pb2.SolverParameter(
        type="SGD", base_lr=0.01, lr_policy="poly", power=1.0, momentum=0.9, weight_decay=0.0005, max_iter=iterations,
        display=20, average_loss=20, random_seed=seed, snapshot_prefix=str(folder / "net"), snapshot_after_train=False)
    param.train_net_param.CopyFrom(_net(folder, "train", widths, convolutions, fc_width, BATCH))
    machine = solver.make(param, net_class=functools.partial(Net, device=context.device))
    batch = math.gcd(BATCH, held_out)
    judge = Net(_net(folder, "val", widths, convolutions, fc_width, batch), caffe_pb2.TEST, device=context.device, seed=seed)
    try:
        machine.step(iterations)
        judge.share_with(machine.net)
        right = []
        for _ in range(held_out // batch):
            judge.forward_from_to(0, len(judge.layers) - 1)
            right.append(float(judge.blobs["accuracy"].data.reshape(-1)[0]))
        machine.net.save(str(model))
        return float(np.mean(right))
    finally:
        machine.close()
        judge.close()

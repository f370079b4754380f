"""Score a trained net over a data set: the four scores of the paper's section 5, a table of the classes, the loss.

    python -m solvers.score models/fcn8s/val.prototxt fcn8s.caffemodel --split seg11valid

The confusion matrix is summed over the whole split, one forward pass an image (or batch), and scored once.

For scripts: `score_net` and `score_heads` run a net and return the matrices; `seg_tests` and `do_seg_tests` are called
as those of the published score.py, with a solver or a net, and print the same lines.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import re
import sys

import numpy as np
from PIL import Image

from data import colors, metrics
from data.report import write_report
from netspec import caffe_pb2, files
from netspec.errors import Error, UnknownName, nearest, run_door
from solvers import nets
from solvers.pixel_loss import PixelLoss

SCORES = (("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy"), ("mean IU", "mean_iu"),
          ("frequency weighted IU", "frequency_weighted_iu"))


def main(argv=None):
    """Score a net and print the report."""
    options = _parser().parse_args(argv)
    if options.iterations is not None and options.iterations < 1:
        raise UnknownName(f"--iterations must be 1 or more, got {options.iterations}")
    path = nets.find(options.net, ("val", "test"))
    message = nets.read(path)
    if options.sample:
        nets.use_sample(message)
    losses = read_losses(files.find(options.log, what="log")) if options.log else []
    given = nets.key_values(options.data)
    if options.split:
        given["split"] = options.split
    nets.set_data(message, given)
    _visit_in_order(message)
    net = nets.open_net(message, path, caffe_pb2.TEST, files.find(options.weights, what="weights"))
    try:
        dataset = nets.dataset_of(net)
        heads = _heads(message, net, options)
        count = options.iterations or _length(net, dataset, path)
        saver = Saver(os.path.join(options.save, "predictions"), dataset, len(heads) > 1) if options.save else None
        pixel_loss = PixelLoss(net)
        hists, loss = score_heads(net, nets.progress(range(count), "score", "image"), heads, saver, pixel_loss.add)
    finally:
        net.close()
    report = make_report(hists, heads, dataset, options.exclude)
    report.update(net=path, weights=options.weights, iterations=count, loss=loss, **_about(dataset))
    report["loss_per_pixel"] = {name: value for name, value, _, _ in pixel_loss.rows()}
    print_report(report)
    if options.save:
        write_page(options.save, report, dataset, losses, options.shown)
    if options.json:
        files.write_text(options.json, json.dumps(_plain(report), indent=1) + "\n")
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.score", description="Score a trained net over a data set.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m solvers.score models/fcn8s/val.prototxt fcn8s.caffemodel "
               "--data voc_dir=data/VOC2011 --split seg11valid\n"
               "  python -m solvers.score fcn_sample fcn_sample.caffemodel --sample")
    parser.add_argument("net", metavar="NET", help="prototxt with a data layer, or a model (its val or test net)")
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    parser.add_argument("--split", metavar="S", help="the data layer's split instead of the prototxt's")
    parser.add_argument("--data", metavar="KEY=VALUE", action="append",
                        help="set a parameter of the data layer, such as voc_dir=PATH; may be repeated")
    parser.add_argument("--sample", action="store_true", help="score on the embedded sample data set")
    parser.add_argument("--iterations", metavar="N", type=int, help="forward passes (default: the data set once)")
    parser.add_argument("--score", metavar="BLOB,...", help="score blobs (default: those that the losses read)")
    parser.add_argument("--label", metavar="BLOB,...", help="label blobs, as many")
    parser.add_argument("--exclude", metavar="CLASS,...", default="",
                        help="classes (names or numbers, or 'absent') left out of mean accuracy and mean IU")
    parser.add_argument("--save", metavar="FOLDER", help="write predictions/ID.png (palette PNGs), and index.html with "
                                                         "input, truth and prediction side by side")
    parser.add_argument("--log", metavar="FILE", help="training log whose loss curve goes onto the page")
    parser.add_argument("--shown", metavar="N", type=int, default=12, help="pictures there (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    return parser


# --- running ---------------------------------------------------------------------------------------------------------


def score_net(net, iterations, score="score", label="label", save=None):
    """Run a net and compare the arg max of one blob with another; see `score_heads`. Returns (hist, loss)."""
    hists, loss = score_heads(net, iterations, [(score, label)], save)
    return hists[0], loss


def score_heads(net, iterations, heads, save=None, watch=None):
    """Run `net` forward and count, for each head, which class was predicted where which was true.

    Parameters
    ----------
    net : a Net (of deepjet's or of its pycaffe face).
    iterations : int, or anything to loop over (a progress bar, a list of ids).
    heads : pairs (score blob, label blob). Scores are (N, classes, ...), labels as many numbers as (N, ...); labels
        that are no class, such as 255, do not count.
    save : callable (net, prediction (N, ...) uint8, number of the head), called after every pass.
    watch : callable without arguments, called after every pass.

    Returns
    -------
    (list of (classes, classes) int64 matrices, row = truth; mean of the net's loss over the passes, nan without loss).
    """
    for name in {name for head in heads for name in head}:
        if name not in net.blobs:
            raise Error(f"net '{net.name}' has no blob '{name}'{nearest(name, list(net.blobs))}")
    hists, losses = [None] * len(heads), []
    for _ in range(iterations) if isinstance(iterations, int) else iterations:
        losses.append(_forward(net))
        if watch:
            watch()
        for number, (score, label) in enumerate(heads):
            scores, truth = net.blobs[score].data, net.blobs[label].data
            prediction = predict(scores, score, net)
            if truth.size != prediction.size:
                raise Error(f"label '{label}' {list(truth.shape)} does not fit score '{score}' {list(scores.shape)}: "
                            f"{truth.size} and {prediction.size} positions{_sample(net)}")
            hist = metrics.confusion(_labels(truth, label, net), prediction, scores.shape[1])
            hists[number] = hist if hists[number] is None else hists[number] + hist
            if save:
                save(net, prediction, number)
    if not losses:
        raise Error("nothing to score: 0 iterations")
    return hists, float(np.mean(losses))


def predict(scores, name="score", net=None):
    """Return the class of highest score, (N, ...) uint8 or wider, of (N, classes, ...); ties go to the lower class."""
    if scores.ndim < 2 or scores.shape[1] < 1:
        raise Error(f"'{name}' {list(scores.shape)} is no score: it needs the axes (N, classes, ...)")
    # A NaN spoils the sum, which is quicker to see than every element.
    with np.errstate(all="ignore"):
        if np.isnan(scores.sum()) and np.isnan(scores).any():
            raise Error(f"'{name}' holds NaN{_sample(net)}; the weights are damaged or training has diverged")
    return scores.argmax(axis=1).astype(np.uint8 if scores.shape[1] <= 256 else np.int32)


def _labels(truth, name, net):
    # Labels come as float32; as integers they are exact. NaN or 2.5 is no label.
    with np.errstate(all="ignore"):
        labels = truth.astype(np.int32)
    if not np.array_equal(labels, truth):
        bad = truth[labels != truth].flat[0]
        raise Error(f"label '{name}' holds {bad:g}{_sample(net)}; labels are whole numbers")
    return labels


def _forward(net):
    # The loss of one pass, nan for a net without one. (`forward` of the pycaffe face returns blobs.)
    loss = net.forward_from_to(0, len(net.layers) - 1)
    return loss if any(any(layer.loss_weights) for layer in net.layers) else math.nan


def _sample(net):
    for layer in getattr(net, "layers", ()):
        if getattr(layer, "current", None):
            return f" (sample {layer.current})"
    return ""


# --- as the published score.py is called -----------------------------------------------------------------------------


def seg_tests(solver, save_format, dataset, layer="score", gt="label"):
    """Score the first test net of `solver` with the weights that are being trained, and print the lines."""
    print(">>>", datetime.datetime.now(), "Begin seg tests")
    solver.test_nets[0].share_with(solver.net)
    return do_seg_tests(solver.test_nets[0], solver.iter, save_format, dataset, layer, gt)


def do_seg_tests(net, iteration, save_format, dataset, layer="score", gt="label"):
    """Score `net` over `dataset` and print the loss and the four scores; return the confusion matrix.

    Parameters
    ----------
    iteration : for the printed lines and for `save_format`.
    save_format : folder for the predictions, in which ``{}`` becomes the iteration; False or None for none.
    dataset : ids (only their number and, for the pictures' names, their text count), a number of passes, or the path
        of a list with an id a line.
    """
    if isinstance(dataset, (str, os.PathLike)):
        dataset = files.read_text(files.find(dataset, what="list")).split()
    ids = None if isinstance(dataset, int) else [str(name) for name in dataset]
    save = None
    if save_format:
        save = Saver(str(save_format).format(iteration), None, False, ids)
    hist, loss = score_net(net, dataset if ids is None else len(ids), layer, gt, save)
    result = metrics.scores(hist)
    for name, value in (("loss", loss), ("overall accuracy", result["pixel_accuracy"]),
                        ("mean accuracy", result["mean_accuracy"]), ("mean IU", result["mean_iu"]),
                        ("fwavacc", result["frequency_weighted_iu"])):
        print(">>>", datetime.datetime.now(), "Iteration", iteration, name, value)
    return hist


class Saver:
    """Writes predictions as palette PNGs, named after the data set's ids where they are known."""

    def __init__(self, folder, dataset=None, several=False, ids=None):
        self.folder, self.several = os.fspath(folder), several
        self.ids = ids if ids is not None else getattr(dataset, "ids", None)
        self.counts = {}

    def __call__(self, net, prediction, head):
        """Write one file for each picture of the batch."""
        for one in prediction:
            number = self.counts.get(head, 0)
            self.counts[head] = number + 1
            name = str(self.ids[number]) if self.ids is not None and number < len(self.ids) else f"{number:06d}"
            label = one.reshape(1, -1) if one.ndim < 2 else one.reshape(-1, one.shape[-1])
            colors.save_palette_png(_file(self.folder, name + (f"_{head}" if self.several else "")), label)


def _file(folder, name):
    # Ids such as those of ImageData lists may be paths.
    return os.path.join(folder, f"{name.replace(os.path.sep, '_')}.png")


# --- what is scored --------------------------------------------------------------------------------------------------


def _visit_in_order(message):
    # A training split would be drawn at random, some pictures twice and some never.
    for layer in nets.data_layers(message):
        if layer.type == "Python":
            params = nets.param_dict(layer)
            if "train" in str(params.get("split", "")):
                layer.python_param.param_str = repr({**params, "randomize": False})


def _heads(message, net, options):
    if options.score or options.label:
        scores = (options.score or "score").split(",")
        labels = (options.label or ",".join(["label"] * len(scores))).split(",")
        if len(scores) != len(labels):
            raise UnknownName(f"--score names {len(scores)} blobs and --label {len(labels)}; give as many")
        heads = list(zip(scores, labels))
    else:
        heads = nets.heads(message)
        if not heads and "score" in net.blobs and "label" in net.blobs:
            heads = [("score", "label")]
        if not heads:
            raise UnknownName(f"net '{net.name}' has no SoftmaxWithLoss that tells what to score; name the blobs with "
                              f"--score and --label; blobs: {', '.join(net.blobs)}")
    for name in {name for head in heads for name in head}:
        if name not in net.blobs:
            raise UnknownName(f"net '{net.name}' has no blob '{name}'{nearest(name, list(net.blobs))}; "
                              f"blobs: {', '.join(net.blobs)}")
    return heads


def _length(net, dataset, path):
    if dataset is not None:
        batch = max((net.blobs[top].shape[0] for top in _data_tops(net) if net.blobs[top].shape), default=1)
        return -(-len(dataset) // max(batch, 1))
    raise UnknownName(f"'{path}': the data layer does not say how many images it has; give --iterations N")


def _data_tops(net):
    return [top for layer, names in zip(net.layers, net.top_names.values()) if nets.brings_data(layer.param)
            for top in names]


# --- the report ------------------------------------------------------------------------------------------------------


def make_report(hists, heads, dataset=None, exclude=""):
    """Return the report of the matrices of `score_heads`: {"heads": [scores with blob, names, hist]}."""
    found = []
    for hist, (score, label) in zip(hists, heads):
        names = nets.class_names(len(hist), dataset if len(heads) == 1 else None)
        excluded = [int(one) if one.lstrip("-").isdigit() else one for one in exclude.split(",") if one]
        found.append({"score": score, "label": label, **metrics.scores(hist, excluded, names), "hist": hist})
    return {"heads": found}


def _about(dataset):
    if dataset is None:
        return {"data": None, "split": None, "images": None}
    return {"data": getattr(dataset, "title", type(dataset).__name__), "split": getattr(dataset, "split", None),
            "folder": getattr(dataset, "folder", None), "images": len(dataset)}


def print_report(report):
    """Print a report as text."""
    print(f"net      {report['net']}\nweights  {report['weights']}")
    if report["data"]:
        print(f"data     {report['folder']} (read as {report['data']})")
        print(f"split    {report['split']}, {report['images']} images")
    print(f"n        {report['iterations']} forward passes")
    if not math.isnan(report["loss"]):
        print(f"loss     {report['loss']:.6g} (mean over the passes)")
    for name, value in report["loss_per_pixel"].items():
        print(f"         {value:.6g} per valid pixel" + (f" of {name}" if len(report["loss_per_pixel"]) > 1 else ""))
    for head in report["heads"]:
        if len(report["heads"]) > 1:
            print(f"\n{head['score']} against {head['label']}")
        width = max(map(len, head["names"]))
        print(f"\n{'class':{width}}  {'pixels':>12}  {'accuracy':>8}  {'IU':>8}")
        for number, name in enumerate(head["names"]):
            left = "  excluded" if number in head["excluded"] else ""
            print(f"{name:{width}}  {head['class_pixels'][number]:12d}  {_number(head['class_accuracy'][number])}  "
                  f"{_number(head['class_iu'][number])}{left}")
        print()
        for title, key in SCORES:
            print(f"{title:22} {_number(head[key])}")
        print(f"{head['pixels']} pixels counted; {head['rule']}")


def write_page(folder, report, dataset, losses=(), shown=12):
    """Write index.html and sheet.png into `folder`: pictures spread over the data set, their truth and predictions
    (read back from predictions/), the loss curve of (iteration, loss) pairs and the scores of the first head."""
    head = report["heads"][0]
    count = min(report["iterations"], len(dataset)) if hasattr(dataset, "pair") else 0
    tail = "_0" if len(report["heads"]) > 1 else ""
    rows = []
    for number in np.unique(np.linspace(0, count - 1, min(count, max(shown, 0))).round().astype(int)):
        name = dataset.ids[number]
        with Image.open(_file(os.path.join(folder, "predictions"), f"{name}{tail}")) as picture:
            rows.append((name, *dataset.pair(name), np.asarray(picture)))
    notes = [("net", report["net"]), ("weights", report["weights"])]
    if report["data"]:
        notes.append(("data", f"{report['data']}, split {report['split']}, {report['images']} images"))
    notes += [("loss per valid pixel", f"{value:.4g}") for value in list(report["loss_per_pixel"].values())[:1]]
    title = f"{os.path.basename(os.path.dirname(os.path.abspath(report['net'])))}: what it sees"
    page, _ = write_report(folder, title, rows, head["names"], losses, head, notes)
    print(f"wrote {page}", file=sys.stderr)


def read_losses(path):
    """Return the (iteration, loss) pairs of a training log in Caffe's form."""
    pairs = re.findall(r"Iteration (\d+)(?: \([^)]*\))?, loss = (\S+)", files.read_text(path))
    found = []
    for iteration, loss in pairs:
        with contextlib.suppress(ValueError):
            found.append((int(iteration), float(loss)))
    if not found:
        print(f"warning: '{path}' has no lines 'Iteration N, loss = ...'", file=sys.stderr)
    return found


def _number(value):
    return f"{'-':>8}" if math.isnan(value) else f"{value:8.4f}"


def _plain(value):
    # For JSON: arrays as lists, nan as null.
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


if __name__ == "__main__":
    sys.exit(run_door(main))

"""Score a trained net over a data set: the four scores of the paper's section 5, a table of the classes, the loss.

    python -m solvers.score models/fcn8s/val.prototxt fcn8s.caffemodel --split seg11valid

The confusion matrix is summed over the whole split, one forward pass an image (or batch), and scored once.

For scripts: `score_net` and `score_heads` run a net and return the matrices; `seg_tests` and `do_seg_tests` are called
as those of the published score.py, with a solver or a net, and print the same lines.
"""

import argparse
import datetime
import json
import math
import os
import sys

import numpy as np

from data import augment, metrics
from layers.core.cuda import scoring
from netspec import caffe_pb2, files
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import key_values
from solvers import data_layers, engine, nets, score_report
from solvers.pixel_loss import PixelLoss
from solvers.predictions import Saver, predict, sample_of


def main(argv=None):
    """Score a net and print the report."""
    options = _parser().parse_args(argv)
    if options.iterations is not None and options.iterations < 1:
        raise UnknownName(f"--iterations must be 1 or more, got {options.iterations}")
    path = nets.find(options.net, ("val", "test"))
    message = nets.read(path, allow_unknown=options.allow_unknown)
    if options.sample:
        data_layers.use_sample(message)
    losses = score_report.read_losses(files.find(options.log, what="log")) if options.log else []
    given = key_values(options.data)
    if options.split:
        given["split"] = options.split
    data_layers.set_params(message, given)
    _visit_in_order(message)
    net = nets.open_net(message, path, caffe_pb2.TEST, files.find(options.weights, what="weights"),
                        **engine.use(options))
    engine.say_plan(options, net)
    try:
        dataset = data_layers.dataset_of(net)
        heads = _heads(message, net, options)
        count = options.iterations or _length(net, dataset, path)
        classes = [net.blobs[score].shape[1] for score, _ in heads if net.blobs[score].num_axes > 1]
        # A class that is not there is better said before hours of scoring than after them.
        score_report.make_report([np.zeros((number, number), int) for number in classes], heads, dataset, options.exclude)
        saver = Saver(os.path.join(options.save, "predictions"), dataset, len(heads) > 1) if options.save else None
        pixel_loss = PixelLoss(net)
        hists, loss = score_heads(net, nets.progress(range(count), "score", "image"), heads, saver, pixel_loss.add)
    finally:
        net.close()
    report = score_report.make_report(hists, heads, dataset, options.exclude)
    report.update(net=path, weights=options.weights, iterations=count, loss=loss, **score_report.about(dataset))
    report["loss_per_pixel"] = {name: value for name, value, _, _ in pixel_loss.rows()}
    score_report.print_report(report)
    if options.save:
        score_report.write_page(options.save, report, dataset, losses, options.shown)
    if options.json:
        files.write_text(options.json, json.dumps(score_report.plain(report), indent=1) + "\n")
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
    parser.add_argument("--exclude", metavar="CLASS,...",
                        help="classes (names or numbers, 'absent' or 'none') left out of mean accuracy and mean IU "
                             "(default: as the data set has it: 'absent' for SIFT Flow)")
    parser.add_argument("--save", metavar="FOLDER", help="write predictions/ID.png (palette PNGs), and index.html with "
                                                         "input, truth and prediction side by side")
    parser.add_argument("--log", metavar="FILE", help="training log whose loss curve goes onto the page")
    parser.add_argument("--shown", metavar="N", type=int, default=12, help="pictures there (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    engine.add_options(parser, low_memory=False)
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
            hist, prediction = _compare(net, score, label, save is not None)
            hists[number] = hist if hists[number] is None else hists[number] + hist
            if save:
                save(net, prediction, number)
    if not losses:
        raise Error("nothing to score: 0 iterations")
    return hists, float(np.mean(losses))


def _compare(net, score, label, wanted):
    """Return (confusion matrix, prediction) of the pass that has just been; the prediction may be None unless `wanted`."""
    scores, truth = net.blobs[score], net.blobs[label]
    if net.card is not None and scores.num_axes > 1 and truth.count * scores.shape[1] == scores.count > 0:
        found = scoring.compare(net.card, scores, truth, wanted)
        if found is not None:
            return found  # else the host says what is wrong
    scores, truth = scores.data, truth.data
    prediction = predict(scores, score, net)
    if truth.size != prediction.size:
        raise Error(f"label '{label}' {list(truth.shape)} does not fit score '{score}' {list(scores.shape)}: "
                    f"{truth.size} and {prediction.size} positions{sample_of(net)}")
    return metrics.confusion(_labels(truth, label, net), prediction, scores.shape[1]), prediction


def _labels(truth, name, net):
    # Labels come as float32; as integers they are exact. NaN or 2.5 is no label.
    with np.errstate(all="ignore"):
        labels = truth.astype(np.int32)
    if not np.array_equal(labels, truth):
        bad = truth[labels != truth].flat[0]
        raise Error(f"label '{name}' holds {bad:g}{sample_of(net)}; labels are whole numbers")
    return labels


def _forward(net):
    # The loss of one pass, nan for a net without one. (`forward` of the pycaffe face returns blobs.)
    loss = net.forward_from_to(0, len(net.layers) - 1)
    return loss if any(any(layer.loss_weights) for layer in net.layers) else math.nan


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


# --- what is scored --------------------------------------------------------------------------------------------------


def _visit_in_order(message):
    # A training split would be drawn at random, some pictures twice and some never; and what is drawn for training
    # (mirrored pictures, labels left out) is not what is to be scored.
    for layer in data_layers.find(message):
        if layer.type == "Python":
            params = data_layers.param_dict(layer)
            if "train" in str(params.get("split", "")):
                kept = {key: value for key, value in params.items() if key not in augment.DRAWN}
                layer.python_param.param_str = repr({**kept, "randomize": False})


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
    return [top for layer, names in zip(net.layers, net.top_names.values()) if data_layers.brings_data(layer.param)
            for top in names]


if __name__ == "__main__":
    sys.exit(run_door(main))

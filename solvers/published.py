"""Score the published weights on the paper's splits and hold the scores against the published ones.

    python -m solvers.published weights/ data/
    make published WEIGHTS=weights DATA=data

Looks in the folder of weights for the 14 files that were published with the paper, by their names (also in folders named
as the published models, such as voc-fcn8s/), scores each over the split of the paper and prints ours, the published figure
and the difference, all in per cent. A dump of another engine's blobs beside the weights, with their name and the ending
.npz or .h5 (`solvers.compare` tells what is in one), is held against every blob of ours.

Figures of four digits are those that the README of wkentaro/fcn gives for the released weights; of one digit, the
paper's tables 5 to 7 and, for FCN-AlexNet, the README of the published models. SIFT Flow's means leave out the classes
that its test split does not hold (the paper's footnote 6).
"""

import argparse
import collections
import hashlib
import json
import math
import os
import sys

import numpy as np

from data import metrics
from netspec import caffe_pb2, files, recipes
from netspec.errors import Error, PathError, UnknownName, nearest, run_door
from netspec.options import key_values
from solvers import compare, data_layers, engine, nets, score_report, stand_ins
from solvers.dumps import Dump
from solvers.score import score_heads

ADDRESS = "http://dl.caffe.berkeleyvision.org/"
RELEASED, PAPER_5, PAPER_6, PAPER_7 = "of the released weights", "paper, Table 5", "paper, Table 6", "paper, Table 7"

# One published file. scores: {score blob: (pixel accuracy, mean accuracy, mean IU, frequency weighted IU) in per cent, None
# where nothing is published}; sha1 where a public list of downloads gives one.
Published = collections.namedtuple("Published", "file folder scores source sha1", defaults=("", None))

FILES = {
    "fcn32s": Published("fcn32s-heavy-pascal.caffemodel", "voc-fcn32s", {
        "score": (90.4810, 76.4824, 63.6261, 83.4580)}, RELEASED),
    "fcn16s": Published("fcn16s-heavy-pascal.caffemodel", "voc-fcn16s", {
        "score": (90.9971, 78.0710, 65.0050, 84.2614)}, RELEASED),
    # OpenCV's list of test models has the digest; its size is 513 MiB.
    "fcn8s": Published("fcn8s-heavy-pascal.caffemodel", "voc-fcn8s", {
        "score": (91.2212, 77.6146, 65.5126, 84.5445)}, RELEASED, "c449ea74dd7d83751d1357d6a8c323fcf4038962"),
    "fcn8s_atonce": Published("fcn8s-atonce-pascal.caffemodel", "voc-fcn8s-atonce", {
        "score": (91.1288, 78.4979, 65.3998, 84.4326)}, RELEASED),
    "fcn_alexnet": Published("fcn-alexnet-pascal.caffemodel", "voc-fcn-alexnet", {
        "score": (None, None, 48.0, None)}, "README of the published models"),
    "nyud_fcn32s_color": Published("nyud-fcn32s-color-heavy.caffemodel", "nyud-fcn32s-color", {
        "score": (61.8, 44.7, 31.6, 46.0)}, PAPER_5),
    "nyud_fcn32s_hha": Published("nyud-fcn32s-hha-heavy.caffemodel", "nyud-fcn32s-hha", {
        "score": (58.3, 35.7, 25.2, 41.7)}, PAPER_5),
    "nyud_fcn32s_color_hha": Published("nyud-fcn32s-color-hha-heavy.caffemodel", "nyud-fcn32s-color-hha", {
        "score": (65.3, 44.0, 33.3, 48.6)}, PAPER_5),
    "siftflow_fcn32s": Published("siftflow-fcn32s-heavy.caffemodel", "siftflow-fcn32s", {}),
    "siftflow_fcn16s": Published("siftflow-fcn16s-heavy.caffemodel", "siftflow-fcn16s", {}),
    "siftflow_fcn8s": Published("siftflow-fcn8s-heavy.caffemodel", "siftflow-fcn8s", {
        "score_sem": (85.9, 53.9, 41.2, 77.2), "score_geo": (94.6, None, None, None)}, PAPER_6),
    "pascalcontext_fcn32s": Published("pascalcontext-fcn32s-heavy.caffemodel", "pascalcontext-fcn32s", {
        "score": (65.5, 49.1, 36.7, 50.9)}, PAPER_7),
    "pascalcontext_fcn16s": Published("pascalcontext-fcn16s-heavy.caffemodel", "pascalcontext-fcn16s", {
        "score": (66.9, 51.3, 38.4, 52.3)}, PAPER_7),
    "pascalcontext_fcn8s": Published("pascalcontext-fcn8s-heavy.caffemodel", "pascalcontext-fcn8s", {
        "score": (67.5, 52.3, 39.1, 53.0)}, PAPER_7),
}


def main(argv=None):
    """Score what is there; list what is not."""
    options = _parser().parse_args(argv)
    if options.iterations is not None and options.iterations < 1:
        raise UnknownName(f"--iterations must be 1 or more, got {options.iterations}")
    names = _names(options.models)
    folder = files.find(options.weights, what="folder of weights")
    if not os.path.isdir(folder):
        raise PathError(f"'{folder}' is a file; give the folder that holds the published weights")
    if options.data is not None:
        options.data = files.find(options.data, what="folder of data")
    found = {name: path for name in names if (path := find_weights(folder, FILES[name]))}
    reports, failed = [], 0
    for name, path in found.items():
        try:
            reports.append(_one(name, path, options))
        except Error as error:
            failed += 1
            print(f"error: {name}: {error}", file=sys.stderr)
    _say_missing([name for name in names if name not in found], folder)
    if options.json and reports:
        files.write_text(options.json, json.dumps(score_report.plain(reports), indent=1) + "\n")
    if not found:
        raise Error(f"none of the {len(names)} published files is in '{folder}'{_others(folder)}")
    if failed:
        print(f"error: {failed} of {len(found)} models could not be scored", file=sys.stderr)
    departs = any(report["dump"] and report["dump"]["departs"] for report in reports)
    return 1 if failed or departs else 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.published",
        description="Score the published weights on the paper's splits and print the difference from the published scores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m solvers.published weights/ data/\n"
               "  python -m solvers.published weights/ /data/VOC2011 --models fcn32s,fcn8s --gpu 0")
    parser.add_argument("weights", metavar="WEIGHTS", help="folder with the published caffemodels")
    parser.add_argument("data", metavar="DATA", nargs="?",
                        help="folder that holds pascal/VOC2011 (or VOC2011, or is it), nyud, sift-flow, pascal-context "
                        "(default: where the prototxts say, data/ of the project)")
    parser.add_argument("--models", metavar="NAME,...", help="only these (default: all whose weights are there)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append",
                        help="set a parameter of the data layers, such as split=val; may be repeated")
    parser.add_argument("--nets", metavar="FOLDER", default=str(recipes.FOLDER),
                        help="folder of folders with val.prototxt or test.prototxt, one a model (default: models/)")
    parser.add_argument("--iterations", metavar="N", type=int, help="only the first N images")
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="T",
                        help="of blobs against a dump, relative to a blob's largest value (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the reports as JSON")
    engine.add_options(parser, low_memory=False)
    return parser


def _names(given):
    # The models that are asked for, in the table's order.
    if not given:
        return list(FILES)
    wanted = []
    for one in given.split(","):
        name = recipes.find(one)
        if name not in FILES:
            raise UnknownName(f"no weights of '{one}' were published{nearest(name, FILES)}; published: {', '.join(FILES)}")
        wanted.append(name)
    return [name for name in FILES if name in wanted]


# --- what is there ---------------------------------------------------------------------------------------------------


def find_weights(folder, published):
    """Return the path of a published file in `folder`, or in the folder of its model there; None when it is not there."""
    for place in (os.path.join(folder, published.file), os.path.join(folder, published.folder, published.file)):
        if os.path.isfile(place):
            return place
    return None


def find_data(folder, default):
    """Return where in `folder` lies what a prototxt looks for at `default` (data/pascal/VOC2011): else `folder` itself."""
    inner = default.removeprefix("data/")
    last = os.path.basename(default)
    for place in (inner, last, os.path.join("VOCdevkit", last)):
        if os.path.isdir(os.path.join(folder, place)):
            return os.path.join(folder, place)
    return folder


def _others(folder):
    others = sorted(name for name in os.listdir(folder) if ".caffemodel" in name)
    return (f"; other weights there: {', '.join(others[:4])}{', ...' if len(others) > 4 else ''} "
            "(python -m solvers.score scores any)" if others else "")


def _say_missing(names, folder):
    if names:
        print(f"not in {folder}, and where they come from:")
        for name in names:
            print(f"  {name:22} {ADDRESS}{FILES[name].file}")


def sha1(path):
    """Return the SHA-1 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


# --- one model -------------------------------------------------------------------------------------------------------


def _one(name, path, options):
    """Score one model, print its rows and return its report."""
    published = FILES[name]
    digest = sha1(path)
    known = {None: "no digest of it is known here", digest: "as known"}.get(
        published.sha1, f"NOT the known {published.sha1}: damaged, or other weights of this name")
    print(f"{name}  {path}\n  {os.path.getsize(path)} bytes, sha1 {digest} ({known})", flush=True)
    report = score_published(name, path, options.nets, options.data, key_values(options.set), options.iterations,
                             **engine.use(options))
    report.update(sha1=digest, bytes=os.path.getsize(path), dump=None)
    print(f"  {report['split']}, {report['iterations']} of {report['images']} images of {report['folder']}")
    _print_scores(report, published)
    for ending in (".npz", ".h5"):
        dump = path.removesuffix(".caffemodel") + ending
        if os.path.isfile(dump):
            report["dump"] = _against(dump, name, path, options)
    print(flush=True)
    return report


def score_published(name, weights, folder=recipes.FOLDER, data=None, given=None, iterations=None, **how):
    """Score the model `name` with the file `weights`; return the report of `solvers.score` with `differences`.

    Parameters
    ----------
    folder : where <name>/val.prototxt or test.prototxt is.
    data : folder in which the data layers' folders are looked for (see `find_data`); None: as the prototxt says.
    given : keys of the data layers' param_str to set.
    iterations : how many images, from the first; None: all.

    ``report["differences"]`` = {score blob: four numbers in per cent, ours less the published, None where nothing is published}.
    """
    path = nets.find(os.path.join(folder, name), ("val", "test"))
    message = nets.read(path)
    for layer in data_layers.find(message):
        if layer.type == "Python" and data is not None:
            params = data_layers.param_dict(layer)
            params.update({key: find_data(data, value) for key, value in params.items() if key.endswith("_dir")})
            layer.python_param.param_str = repr(params)
    data_layers.set_params(message, given or {})
    net = nets.open_net(message, path, caffe_pb2.TEST, weights, **how)
    try:
        dataset = data_layers.dataset_of(net)
        if dataset is None:
            raise Error(f"'{path}': its data layer does not say how many images it has, so its split cannot be scored")
        heads = nets.heads(message)
        if not heads:
            raise Error(f"'{path}' has no SoftmaxWithLoss that tells what to score")
        count = min(iterations or len(dataset), len(dataset))
        hists, loss = score_heads(net, nets.progress(range(count), name, "image"), heads)
    finally:
        net.close()
    report = score_report.make_report(hists, heads, dataset)
    report.update(model=name, net=path, weights=weights, iterations=count, loss=loss, **score_report.about(dataset))
    report["differences"] = {}
    for head in report["heads"]:
        figures = FILES[name].scores.get(head["score"])
        ours = [100 * head[key] for _, key in score_report.SCORES]
        if figures:
            report["differences"][head["score"]] = [None if one is None else mine - one for mine, one in zip(ours, figures)]
    return report


def _print_scores(report, published):
    titles = [title for title, _ in score_report.SCORES]
    for head in report["heads"]:
        if len(report["heads"]) > 1:
            print(f"  {head['score']}")
        figures = published.scores.get(head["score"]) or [None] * len(titles)
        rows = [("here", [100 * head[key] for _, key in score_report.SCORES]), ("published", figures),
                ("difference", report["differences"].get(head["score"], [None] * len(titles)))]
        print(f"  {'':10}  " + "  ".join(titles))
        for what, values in rows:
            signed = "+" if what == "difference" else ""
            text = "  ".join(f"{'-' if value is None or math.isnan(value) else format(value, f'{signed}.4f'):>{len(title)}}"
                             for title, value in zip(titles, values))
            print(f"  {what:10}  {text}" + (f"  ({published.source})" if what == "published" and published.source else ""))
        print(f"  {head['pixels']} pixels counted; {metrics.RULE if not head['excluded'] else head['rule']}")
    if report["iterations"] < report["images"]:
        print("  only a part of the split: the difference says little")


def _against(dump, name, weights, options):
    """Hold every blob of the model's deploy net against a dump; print and return what was found."""
    path = nets.find(os.path.join(options.nets, name), ("deploy", "val", "test"))
    reference = Dump(dump)
    message = nets.read(path)
    tops = [top for layer in message.layer if layer.type == "Input" or data_layers.brings_data(layer) for top in layer.top]
    shapes = {top: np.shape(array) for top in tops if (array := reference.array(top)) is not None}
    net = nets.open_net(stand_ins.without_judges(stand_ins.without_data(message, shapes)), path, caffe_pb2.TEST, weights,
                        **engine.use(options))
    try:
        said = compare.feed(net, reference)
        net.forward_from_to(0, len(net.layers) - 1)
        differences = compare.compare(net, reference, compare.made_by(net), options.tolerance)
    finally:
        net.close()
    if not differences:
        raise Error(f"'{dump}' holds no blob of the net; it holds {', '.join(reference.names[:6]) or 'nothing'}")
    worst = max(differences, key=lambda one: one.relative)
    departs = [one.blob for one in differences if one.departs]
    print(f"  blobs against {dump}: {len(differences)} compared on {said}, {len(departs)} depart"
          + (f", the first is '{departs[0]}'" if departs else "")
          + f"; largest relative difference {worst.relative:.3g} ('{worst.blob}')")
    return {"file": dump, "compared": len(differences), "departs": departs, "largest": worst.relative, "blob": worst.blob}


if __name__ == "__main__":
    sys.exit(run_door(main))

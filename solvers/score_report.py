"""The report of a score: as text, as JSON and as a page with pictures and the loss curve."""

import math
import os
import sys

import numpy as np
from PIL import Image

from data import metrics
from data.report import write_report
from netspec.errors import Error
from solvers import nets, predictions, train_log

SCORES = (("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy"), ("mean IU", "mean_iu"),
          ("frequency weighted IU", "frequency_weighted_iu"))


def make_report(hists, heads, dataset=None, exclude=None):
    """Return the report of the matrices of `score_heads`: {"heads": [scores with blob, names, hist]}.

    `exclude` are classes (names or numbers by commas, or "absent"); None: as the data set says, "none": none.
    """
    if exclude is None:
        exclude = getattr(dataset, "score_exclude", "")
    exclude = "" if exclude == "none" else exclude
    found = []
    for hist, (score, label) in zip(hists, heads):
        names = nets.class_names(len(hist), dataset, label)
        excluded = [int(one) if one.lstrip("-").isdigit() else one for one in exclude.split(",") if one]
        found.append({"score": score, "label": label, **metrics.scores(hist, excluded, names), "hist": hist})
    return {"heads": found}


def about(dataset):
    """Return what a report says of the data set (None: unknown)."""
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
        print(f"{head['pixels']} pixels counted; {head['rule']}"
              + (f": {', '.join(head['names'][number] for number in head['excluded'])}" if head["excluded"] else ""))


def write_page(folder, report, dataset, losses=(), shown=12):
    """Write index.html and sheet.png into `folder`: pictures spread over the data set, their truth and predictions
    (read back from predictions/), the loss curve of (iteration, loss) pairs and the scores of the first head."""
    head = report["heads"][0]
    count = min(report["iterations"], len(dataset)) if hasattr(dataset, "pair") else 0
    tail = "_0" if len(report["heads"]) > 1 else ""
    rows = []
    for number in np.unique(np.linspace(0, count - 1, min(count, max(shown, 0))).round().astype(int)):
        name = dataset.ids[number]
        with Image.open(predictions.path_of(os.path.join(folder, "predictions"), f"{name}{tail}")) as picture:
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
    try:
        found = train_log.read_log(path).get("loss")
    except Error as error:
        print(f"warning: {error}", file=sys.stderr)
        found = None
    return [(x, y) for x, y in zip(found.x, found.y) if y is not None] if found else []


def _number(value):
    return f"{'-':>8}" if math.isnan(value) else f"{value:8.4f}"


def plain(value):
    """Return a report as JSON takes it: arrays as lists, nan as null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value

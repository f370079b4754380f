"""Segment pictures with a trained net: a palette PNG and an overlay for each.

    python -m solvers.infer models/fcn8s/deploy.prototxt fcn8s.caffemodel photo.jpg folder/ --out segmented

Every picture keeps its own size: the net is reshaped to it. A picture that cannot be read is reported and the others
are done; the exit code is then 1.
"""

import argparse
import os
import sys

import numpy as np
from PIL import Image

from data import colors, pictures, transform
from layers.core.cuda import scoring
from netspec import caffe_pb2, files
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import three_numbers
from solvers import data_layers, engine, nets, predictions, stand_ins


def main(argv=None):
    """Segment pictures."""
    options = _parser().parse_args(argv)
    path = nets.find(options.net, ("deploy", "val", "test"))
    mean = _mean(options.mean, path)
    paths = pictures.find_all(options.images)
    targets = _targets(paths, options.out)
    message = nets.read(path, allow_unknown=options.allow_unknown)
    message = stand_ins.without_judges(stand_ins.without_data(message))
    net = nets.open_net(message, path, caffe_pb2.TEST, files.find(options.weights, what="weights"),
                        keep=[options.score] if options.score else [], **engine.use(options))
    segment = Segmenter(net, mean, options.score)
    given = files.read_text(options.names).split("\n") if options.names else None
    names = [name.strip() for name in given if name.strip()] if given else None
    failed = 0
    for picture in nets.progress(paths, "infer", "image"):
        try:
            image = pictures.read_photo(picture)
            blob = segment.run(image)
            engine.say_plan(options, net)
            options.plan = False  # once is enough
            label = segment.label(blob)
            written = _write(targets[picture], image, label, blob.data[0] if options.npy else None, options.overlay)
        except Error as error:
            failed += 1
            print(f"error: {error}" if picture in str(error) else f"error: '{picture}': {error}", file=sys.stderr)
            continue
        print(f"{picture}  {image.shape[1]}x{image.shape[0]}  {_shares(label, blob.shape[1], names)}  -> {written}",
              flush=True)
    if failed:
        print(f"error: {failed} of {len(paths)} pictures failed", file=sys.stderr)
    return 1 if failed else 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.infer", description="Segment pictures with a trained net.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m solvers.infer models/fcn8s/deploy.prototxt fcn8s.caffemodel photo.jpg folder/ "
               "--out segmented")
    parser.add_argument("net", metavar="NET", help="deploy prototxt, or a model's name")
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    parser.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="pictures, or folders of pictures")
    parser.add_argument("--out", metavar="FOLDER", default="segmented", help="where to (default: %(default)s)")
    parser.add_argument("--mean", metavar="B,G,R", help="to subtract (default: that of the data layer in a prototxt "
                                                       "beside NET, else PASCAL VOC's)")
    parser.add_argument("--palette", choices=["voc"], default="voc", help="colours (default: %(default)s)")
    parser.add_argument("--overlay", action=argparse.BooleanOptionalAction, default=True,
                        help="also write the colours blended over the picture")
    parser.add_argument("--score", metavar="BLOB", help="the score blob (default: 'score', else the only output)")
    parser.add_argument("--names", metavar="FILE", help="names of the classes, one a line (a data set's classes.txt)")
    parser.add_argument("--npy", action="store_true", help="also write the scores, (classes, H, W) float32")
    engine.add_options(parser)
    return parser


def _mean(option, path):
    if option:
        return three_numbers(option)
    mean, where = data_layers.mean_beside(path)
    if mean is None:
        mean, where = transform.VOC_MEAN, "PASCAL VOC's"
    print(f"mean (blue, green, red): {', '.join(f'{value:g}' for value in mean)} ({where})", file=sys.stderr)
    return mean


def _targets(paths, folder):
    # {picture: path of its palette PNG}; pictures of one name keep their suffix or get a number.
    stems = [os.path.splitext(os.path.basename(picture))[0] for picture in paths]
    targets, taken = {}, set()
    for picture, stem in zip(paths, stems):
        name = stem if stems.count(stem) == 1 else os.path.basename(picture)
        number, free = 2, name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        taken.add(free)
        targets[picture] = os.path.join(folder, f"{free}.png")
    sources = {os.path.realpath(picture) for picture in paths}
    for target in targets.values():
        for written in (target, overlay_path(target)):
            if os.path.realpath(written) in sources:
                raise Error(f"'{written}' would overwrite a picture that is to be segmented; choose another --out")
    return targets


def overlay_path(target):
    """Return where the overlay of the palette PNG `target` goes."""
    return os.path.splitext(target)[0] + "_overlay.png"


# --- the net ---------------------------------------------------------------------------------------------------------


class Segmenter:
    """A net that answers pictures with the class of every pixel.

    Parameters
    ----------
    net : Net with one input of three channels.
    mean : three numbers, BGR, subtracted from the picture.
    score : name of the score blob, (1, classes, H, W); None: 'score', else the only output.
    """

    def __init__(self, net, mean=transform.VOC_MEAN, score=None):
        self.net, self.mean = net, mean
        if len(net.inputs) != 1:
            raise Error(f"infer feeds nets with one input; '{net.name}' has {len(net.inputs)}: {', '.join(net.inputs)}"
                        + ("" if net.inputs else "; give the deploy net, with an Input layer"))
        self.input = net.inputs[0]
        shape = net.blobs[self.input].shape
        if len(shape) != 4 or shape[1] != 3:
            raise Error(f"infer feeds colour pictures to an input of shape 1 x 3 x H x W; '{self.input}' is "
                        f"{list(shape)}")
        if score is None:
            score = "score" if "score" in net.blobs else net.outputs[0] if len(net.outputs) == 1 else None
            if score is None:
                raise UnknownName(f"which blob holds the scores? Name one with --score: {', '.join(net.outputs)}")
        if score not in net.blobs:
            raise UnknownName(f"net '{net.name}' has no blob '{score}'{nearest(score, list(net.blobs))}; "
                              f"outputs: {', '.join(net.outputs)}")
        self.score = score

    def run(self, image):
        """Return the blob with the scores of an (H, W, 3) RGB picture, (1, classes, H, W)."""
        blob = self.net.blobs[self.input]
        blob.reshape(1, 3, *image.shape[:2])
        blob.data[0] = transform.preprocess(image, self.mean)
        self.net.forward()
        scores = self.net.blobs[self.score]
        if scores.num_axes != 4 or scores.shape[2:] != image.shape[:2]:
            raise Error(f"'{self.score}' is {list(scores.shape)} for a picture of {image.shape[0]} x {image.shape[1]} "
                        "(height x width); segmentation needs a score for every pixel: is it a net that classifies?")
        return scores

    def label(self, scores):
        """Return the class of highest score of every pixel, (H, W) uint8, of what `run` returned."""
        if scores.shape[1] > 256:
            raise Error(f"{scores.shape[1]} classes do not fit into a palette of 256 colours")
        found = None
        if self.net.card is not None and scores.is_on(self.net.card):
            found = scoring.classes(self.net.card, scores)  # a number for each pixel comes to the host instead of all scores
        return (predictions.predict(scores.data, self.score) if found is None else found)[0]


# --- output ----------------------------------------------------------------------------------------------------------


def _write(target, image, label, scores, overlay):
    colors.save_palette_png(target, label)
    if overlay:
        with files.atomic(overlay_path(target)) as file:
            Image.fromarray(colors.overlay(image, label)).save(file, "PNG")
    if scores is not None:
        with files.atomic(os.path.splitext(target)[0] + ".npy") as file:
            np.save(file, scores)
    return target


def _shares(label, classes, names):
    # "background 71.2%, person 20.1%": the classes found, the largest first.
    names = names if names and len(names) >= classes else nets.class_names(classes)
    counts = np.bincount(label.reshape(-1), minlength=classes)
    order = [number for number in np.argsort(-counts, kind="stable") if counts[number]]
    return ", ".join(f"{names[number]} {100 * counts[number] / label.size:.1f}%" for number in order)


if __name__ == "__main__":
    sys.exit(run_door(main))

"""DetectionOutput: SSD's predictions -> a list of detections, those that others overlap left out.

Bottoms: locations (N, P * L * 4) for P prior boxes, with L = 1 (`share_location`, default) or num_classes; confidences
(N, P * num_classes); the prior boxes and their variances (1, 2, P * 4), see PriorBox. (A fourth, the image, is for `visualize`.)
Top: (1, 1, K, 7), a row for each detection: number of the image, class, confidence, xmin, ymin, xmax, ymax; K is known only when
it has run. Where nothing was found there is one row for each image, its number and six times -1.

A location is decoded with its prior box p (centre, width, height) and the variances v (which are 1 with
`variance_encoded_in_target`): CORNER: p's corners + v * location; CENTER_SIZE: the centre is p's + v * location * p's size, the
size p's times exp(v * location); CORNER_SIZE: p's corners + v * location * p's size. Boxes are not cut to the image.

For each image and each class but `background_label_id`: confidences above `confidence_threshold`, the best `nms_param.top_k`
of them (of equal ones the first), best first, each kept unless its box overlaps one that was kept by more than `nms_threshold`
(intersection over union); after each that was kept the threshold, while above 0.5, is multiplied by `eta`. Of all classes of an
image the best `keep_top_k` stay, the others are dropped. Rows go by image, class and confidence.

Boxes are decoded in float64 and rounded to float32, overlaps are float64. There is no gradient. A card decodes and the host makes
the list, as in SSD: how long it is must be known there. Nothing is written for `save_output_param`, and nothing drawn for
`visualize`. Source: SSD's DetectionOutputLayer.
"""

import logging
import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from netspec import caffe_pb2

log = logging.getLogger("deepjet")
CORNER, CENTER_SIZE, CORNER_SIZE = (caffe_pb2.PriorBoxParameter.CodeType.Value(name)
                                    for name in ("CORNER", "CENTER_SIZE", "CORNER_SIZE"))


class DetectionOutput(Layer):
    """Decoding and non-maximum suppression."""

    min_bottoms, max_bottoms, exact_tops = 3, 4, 1
    repeats = False

    def check(self):
        """Refuse numbers that make no sense."""
        param = self.param.detection_output_param
        if param.num_classes < 1:
            self.fail("num_classes is missing or 0; give the number of classes, the background's included")
        if not param.nms_param.nms_threshold >= 0:
            self.fail(f"nms_threshold is {param.nms_param.nms_threshold:g}; it must be 0 or more")
        if not 0 < param.nms_param.eta <= 1:
            self.fail(f"eta is {param.nms_param.eta:g}; it must be above 0 and at most 1")
        if param.background_label_id >= param.num_classes:
            self.fail(f"background_label_id is {param.background_label_id}, and classes are 0 to {param.num_classes - 1}; give "
                      "-1 if there is no background")

    def setup(self, bottom, top):
        """Say what is not done."""
        super().setup(bottom, top)
        param = self.param.detection_output_param
        for name, wanted in (("save_output_param", param.save_output_param.output_directory), ("visualize", param.visualize)):
            if wanted:
                log.warning("layer '%s' (DetectionOutput): '%s' is not done here; the detections are in the top '%s'", self.name,
                            name, top[0].name)

    def top_shapes(self, bottom_shapes):
        """Return the shape of one row: how many there will be is not known."""
        param = self.param.detection_output_param
        locations, confidences, priors = (math.prod(shape[1:]) for shape in bottom_shapes[:3])
        shapes = [list(shape) for shape in bottom_shapes]
        if len(shapes[2]) < 2 or shapes[2][0] != 1 or shapes[2][1] != 2 or priors % 8:
            self.fail(f"the prior boxes {self.called(2)} {shapes[2]} must be (1, 2, 4 times their number)")
        count, classes = priors // 8, 1 if param.share_location else param.num_classes
        for number, found, wanted, what in ((0, locations, count * classes * 4, f"{count} x {classes} x 4 locations"),
                                            (1, confidences, count * param.num_classes,
                                             f"{count} x {param.num_classes} confidences")):
            if found != wanted or not shapes[number]:
                self.fail(f"{self.called(number)} {shapes[number]} must hold {what} for each image, one for each of the {count} "
                          f"prior boxes of {self.called(2)}; it holds {found}")
        if shapes[0][0] != shapes[1][0]:
            self.fail(f"{self.called(0)} {shapes[0]} and {self.called(1)} {shapes[1]} must be of as many images")
        return [(1, 1, 1, 7)]

    def forward(self, bottom, top):
        """Decode, suppress, list."""
        param = self.param.detection_output_param
        images, classes = bottom[0].shape[0], param.num_classes
        priors = bottom[2].peek().reshape(2, -1, 4)
        boxes = np.empty(self._sizes(bottom), self.dtype)
        parallel.run(decode_cpu, images * boxes.shape[1], bottom[0].peek().reshape(images, -1, boxes.shape[1], 4), priors, boxes,
                     param.code_type, param.variance_encoded_in_target, work=boxes.size)
        self._list(boxes, bottom[1].peek().reshape(images, -1, classes), top)

    def _sizes(self, bottom):
        """Return (images, classes that have boxes of their own, prior boxes, 4)."""
        param = self.param.detection_output_param
        return bottom[0].shape[0], 1 if param.share_location else param.num_classes, bottom[2].count // 8, 4

    def forward_cuda(self, bottom, top):
        """Decode there, suppress and list here."""
        card, param, sizes = self.card, self.param.detection_output_param, self._sizes(bottom)
        boxes = np.empty(sizes, np.float32)
        held = card.arena.take(max(boxes.nbytes, 4))
        card.run(decode_cuda, boxes.size // 4, bottom[0].on(card), bottom[2].on(card), held.span, param.code_type,
                 param.variance_encoded_in_target, *sizes[1:3])
        card.download(boxes, held.span)
        self._list(boxes, bottom[1].peek().reshape(sizes[0], -1, param.num_classes), top)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the boxes, within forward."""
        return 0, self._scratch

    def reshape(self, bottom, top):
        """Shape the top: how many rows there will be is not known."""
        super().reshape(bottom, top)
        self._scratch = 4 * math.prod(self._sizes(bottom))

    def _list(self, boxes, confidences, top):
        """Write the detections among decoded boxes."""
        param = self.param.detection_output_param
        images, count, classes = confidences.shape
        nms = param.nms_param
        kept, lengths = np.empty((images, classes, count), np.int32), np.zeros((images, classes), np.int64)
        least = param.confidence_threshold if param.HasField("confidence_threshold") else -math.inf
        parallel.run(suppress_cpu, images * classes, confidences, boxes, kept, lengths, param.background_label_id, float(least),
                     nms.top_k if nms.HasField("top_k") else -1, float(nms.nms_threshold), float(nms.eta), work=confidences.size)
        rows = [self._rows(image, confidences[image], boxes[image], kept[image], lengths[image]) for image in range(images)]
        found = np.concatenate(rows) if rows else np.empty((0, 7))
        if not len(found):
            found = np.full((images, 7), -1.0)
            found[:, 0] = np.arange(images)
        top[0].reshape(1, 1, len(found), 7)
        top[0].data[...] = found.reshape(top[0].shape)

    def _rows(self, image, confidences, boxes, kept, lengths):
        """Return the rows of an image: those that were kept of each class, the best `keep_top_k`."""
        most = self.param.detection_output_param.keep_top_k
        classes = np.repeat(np.arange(len(lengths)), lengths)
        numbers = np.concatenate([kept[c, :length] for c, length in enumerate(lengths)])
        if -1 < most < len(numbers):
            best = np.sort(np.argsort(-confidences[numbers, classes], kind="stable")[:most])
            classes, numbers = classes[best], numbers[best]
        rows = np.empty((len(numbers), 7), self.dtype)
        rows[:, 0], rows[:, 1], rows[:, 2] = image, classes, confidences[numbers, classes]
        rows[:, 3:] = boxes[classes if len(boxes) > 1 else 0, numbers]
        return rows

    def backward(self, top, propagate_down, bottom):
        """Fail where a gradient is asked for."""
        if any(propagate_down):
            self.fail("has no gradient; set propagate_down: false for its bottoms")

    backward_cuda = backward


@cached
def decode_at(code, left, top, right, bottom, a, b, d, e):
    """Return one box, float64, for a prior box and what is predicted, times the variances."""
    wide, tall = right - left, bottom - top
    if code == CENTER_SIZE:
        x, y = a * wide + (left + right) / 2, b * tall + (top + bottom) / 2
        half_wide, half_tall = math.exp(d) * wide / 2, math.exp(e) * tall / 2
        return x - half_wide, y - half_tall, x + half_wide, y + half_tall
    if code == CORNER_SIZE:
        return left + a * wide, top + b * tall, right + d * wide, bottom + e * tall
    return left + a, top + b, right + d, bottom + e


@cached
def decode_cpu(first, last, locations, priors, boxes, code, encoded):
    """Boxes of images and classes [first, last)."""
    located, count = boxes.shape[1], boxes.shape[2]
    for number in range(first, last):
        image, c = number // located, number % located
        for p in range(count):
            prior, place, box = priors[0, p], locations[image, p, c], boxes[image, c, p]
            a, b, d, e = float(place[0]), float(place[1]), float(place[2]), float(place[3])
            if not encoded:
                a, b, d, e = a * priors[1, p, 0], b * priors[1, p, 1], d * priors[1, p, 2], e * priors[1, p, 3]
            box[0], box[1], box[2], box[3] = decode_at(code, float(prior[0]), float(prior[1]), float(prior[2]), float(prior[3]),
                                                       a, b, d, e)


@cached
def area_at(box):
    """Return a box's area; one that is turned inside out has none."""
    wide, tall = float(box[2]) - float(box[0]), float(box[3]) - float(box[1])
    return 0.0 if wide < 0 or tall < 0 else wide * tall


@cached
def overlap_at(a, b):
    """Return intersection over union of two boxes, in float64."""
    left, top = max(float(a[0]), float(b[0])), max(float(a[1]), float(b[1]))
    right, bottom = min(float(a[2]), float(b[2])), min(float(a[3]), float(b[3]))
    if right <= left or bottom <= top:
        return 0.0
    common = (right - left) * (bottom - top)
    return common / (area_at(a) + area_at(b) - common)


@cached
def suppress_cpu(first, last, confidences, boxes, kept, lengths, background, least, most, threshold, eta):
    """For images and classes [first, last): the numbers of the boxes that are kept, best first, and how many."""
    classes = confidences.shape[2]
    for number in range(first, last):
        image, c = number // classes, number % classes
        if c == background:
            continue
        scores, near = confidences[image, :, c], boxes[image, c if boxes.shape[1] > 1 else 0]
        candidates = np.nonzero(scores > least)[0]
        order = candidates[np.argsort(-scores[candidates], kind="mergesort")]
        if -1 < most < order.size:
            order = order[:most]
        limit, length = threshold, 0
        for p in order:
            free = True
            for other in range(length):
                if overlap_at(near[p], near[kept[image, c, other]]) > limit:
                    free = False
                    break
            if free:
                kept[image, c, length] = p
                length += 1
                if eta < 1 and limit > 0.5:
                    limit *= eta
        lengths[image, c] = length


@kernel("float*, float*, float*, int, bool, int, int, int")
def decode_cuda(locations, priors, boxes, code, encoded, located, priors_count, count):
    """All boxes; as `decode_cpu`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, priors_count)
        p = i - row * priors_count
        image = over(row, located)
        place, prior, spread = 4 * ((image * priors_count + p) * located + row - image * located), 4 * p, 4 * (priors_count + p)
        a, b = np.float64(locations[place]), np.float64(locations[place + 1])
        d, e = np.float64(locations[place + 2]), np.float64(locations[place + 3])
        if not encoded:
            a, b, d, e = a * priors[spread], b * priors[spread + 1], d * priors[spread + 2], e * priors[spread + 3]
        left, top, right, bottom = decode_at(code, np.float64(priors[prior]), np.float64(priors[prior + 1]),
                                             np.float64(priors[prior + 2]), np.float64(priors[prior + 3]), a, b, d, e)
        boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3] = left, top, right, bottom

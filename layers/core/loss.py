"""LossLayer: what loss layers have in common: normalisation, ignored labels, label positions for messages."""

import math

import numpy as np

from layers.core.cuda.losses import LossOnCard
from layers.core.layer import Layer
from netspec import caffe_pb2

FULL, VALID, BATCH_SIZE, NONE = (caffe_pb2.LossParameter.NormalizationMode.Value(name)
                                 for name in ("FULL", "VALID", "BATCH_SIZE", "NONE"))


class LossLayer(Layer):
    """Two bottoms, predictions and labels (or targets); top 0 is the loss, one value with loss weight 1.

    The gradient is scaled by the loss weight, which the net keeps in top 0's diff.
    """

    exact_bottoms = 2
    exact_tops = 1
    is_loss = True
    auto_top_blobs = True
    _loss_on_card = None

    def allow_force_backward(self, bottom):
        """Labels have no gradient."""
        return bottom != 1

    def top_shapes(self, bottom_shapes):
        """Return no axes: one value."""
        self.check_first_axis(bottom_shapes)
        return [()]

    def check_first_axis(self, bottom_shapes):
        """Refuse predictions and labels for different numbers of images."""
        data, label = bottom_shapes
        if data[:1] != label[:1]:
            self.fail(f"{self.called(0)} {list(data)} and {self.called(1)} {list(label)} must have the same first "
                      "axis: one label map for each image")

    def refuse_label_gradient(self, propagate_down):
        """Fail when the gradient with respect to the labels is asked for."""
        if propagate_down[1]:
            self.fail(f"cannot backpropagate to label inputs ({self.called(1)}); set propagate_down: false for it")

    def loss_on_card(self):
        """Return the layer's `LossOnCard`."""
        if self._loss_on_card is None:
            self._loss_on_card = LossOnCard(self.card)
        return self._loss_on_card

    @property
    def ignore_label(self):
        """The label that has no loss and no gradient, or None."""
        return self.param.loss_param.ignore_label if self.param.loss_param.HasField("ignore_label") else None


def normalization(loss_param, default):
    """Return the mode that a LossParameter asks for; `normalize` is the older form (true: VALID, false: BATCH_SIZE)."""
    if loss_param.HasField("normalization"):
        return loss_param.normalization
    if loss_param.HasField("normalize"):
        return VALID if loss_param.normalize else BATCH_SIZE
    return default


def normalizer(mode, outer, inner, valid):
    """Return what the summed loss is divided by, never below 1.

    FULL: all positions; VALID: those whose label is not ignored; BATCH_SIZE: the images; NONE: 1.
    """
    return max(1.0, float({FULL: outer * inner, VALID: valid, BATCH_SIZE: outer, NONE: 1}[mode]))


def normalizer_on_card(mode, outer, inner):
    """Return the same for a card, None if only the card knows: where labels are counted."""
    return None if mode == VALID else normalizer(mode, outer, inner, 0)


def split_axes(shape, axis):
    """Return (outer, length, inner): the products of the lengths before, at and after `axis`."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])


def label_position(index, shape, axis):
    """Return in words where label number `index` lies, for predictions of `shape` with classes along `axis`."""
    place = np.unravel_index(index, shape[:axis] + shape[axis + 1:])
    if axis == 1 and len(place) == 3:
        return "n {}, row {}, column {}".format(*place)
    return f"n {place[0]}" if len(place) == 1 else f"position {[int(p) for p in place]}"


def bad_label(layer, value, index, shape, axis):
    """Fail with the value and place of a label that is no class number."""
    where = f"label {value:g} at {label_position(index, shape, axis)} of {layer.called(1)}"
    classes = shape[axis]
    if math.isnan(value) or (math.isfinite(value) and value != math.floor(value)):
        layer.fail(f"{where} is not a whole number")
    layer.fail(f"{where} is out of range: {layer.called(0)} has {classes} classes (0 to {classes - 1}); mend the "
               "label, raise num_output, or mark such places with ignore_label")


def find_bad_label(layer, labels, ignored, shape, axis):
    """Fail with the first label that is no class number nor `ignored` (or None): a kernel has seen that there is one."""
    labels = labels.reshape(-1)
    good = (labels >= 0) & (labels < shape[axis]) & (labels == np.floor(labels))
    if ignored is not None:
        good |= labels == ignored
    index = int(np.argmin(good))
    bad_label(layer, float(labels[index]), index, shape, axis)

"""pycaffe's Classifier: a net whose output says what is in a picture."""

import numpy as np

from caffe import io
from caffe.pycaffe import Net
from netspec.caffe_pb2 import TEST
from netspec.errors import Error


class _Pictures(Net):
    """A net with one input that takes pictures through `transformer`."""

    def __init__(self, model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap):
        super().__init__(model_file, TEST, weights=pretrained_file)
        if len(self.inputs) != 1:
            raise Error(f"'{model_file}' has {len(self.inputs)} inputs; a classifier has one, an Input layer as in a deploy net")
        name = self.inputs[0]
        self.transformer = io.Transformer({name: self.blobs[name].shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        for value, put in ((mean, self.transformer.set_mean), (input_scale, self.transformer.set_input_scale),
                           (raw_scale, self.transformer.set_raw_scale), (channel_swap, self.transformer.set_channel_swap)):
            if value is not None:
                put(name, value)

    def _answers(self, crops):
        """Return the net's first output for (H, W, channels) crops of its input's size."""
        name = self.inputs[0]
        fed = np.array([self.transformer.preprocess(name, crop) for crop in crops], np.float32)
        return self.forward_all(**{name: fed})[self.outputs[0]]


class Classifier(_Pictures):
    """A classifier.

    Parameters
    ----------
    model_file, pretrained_file : path
        A deploy prototxt and its weights.
    image_dims : (int, int), optional
        Size that pictures are resized to before they are cropped; the input's size if not given.
    mean, input_scale, raw_scale, channel_swap :
        As `caffe.io.Transformer` takes them.
    """

    def __init__(self, model_file, pretrained_file, image_dims=None, mean=None, input_scale=None, raw_scale=None,
                 channel_swap=None):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = tuple(image_dims) if image_dims is not None and len(image_dims) else tuple(self.crop_dims)

    def predict(self, inputs, oversample=True):
        """Return (N, classes): the net's answers for N pictures (H, W, channels).

        With `oversample` the mean over ten crops (corners, centre, mirrored), else the centre's.
        """
        images = np.array([io.resize_image(image, self.image_dims) for image in inputs], np.float32)
        if oversample:
            answers = self._answers(io.oversample(images, self.crop_dims))
            return answers.reshape(len(images), 10, -1).mean(axis=1)
        top, left = ((np.array(self.image_dims) - self.crop_dims) / 2.0).astype(int)
        height, width = self.crop_dims
        return self._answers(images[:, top:top + height, left:left + width])

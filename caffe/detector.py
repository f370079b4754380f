"""pycaffe's Detector: a classifier over windows of pictures, as in R-CNN."""

import numpy as np

from caffe import io
from caffe.classifier import _Pictures
from netspec.errors import Error


class Detector(_Pictures):
    """A classifier of windows.

    Parameters
    ----------
    model_file, pretrained_file : path
        A deploy prototxt and its weights.
    mean, input_scale, raw_scale, channel_swap :
        As `caffe.io.Transformer` takes them.
    context_pad : int, optional
        Pixels of the net's input, on each side, that show what is around the window (16 in R-CNN).
    """

    def __init__(self, model_file, pretrained_file, mean=None, input_scale=None, raw_scale=None, channel_swap=None,
                 context_pad=None):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.context_pad = context_pad
        if context_pad:
            # The value of a pixel that the net would see as 0: what stands beyond the picture.
            shape = self.blobs[self.inputs[0]].shape[1:]
            self.crop_mean = self.transformer.deprocess(self.inputs[0], np.zeros(shape, np.float32))

    def detect_windows(self, images_windows):
        """Return a list of {"window", "prediction", "filename"}, one for each window.

        `images_windows` are (file name, windows) with windows (top, left, bottom, right) in pixels, bottom and right outside.
        """
        crops, found = [], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in np.asarray(windows).reshape(-1, 4):
                crops.append(self.crop(image, window))
                found.append({"window": window, "filename": filename})
        if not crops:
            return []
        size = self.blobs[self.inputs[0]].shape[2:]
        answers = self._answers([io.resize_image(crop, size) for crop in crops])
        for one, answer in zip(found, answers.reshape(len(crops), -1)):
            one["prediction"] = answer
        return found

    def detect_selective_search(self, filenames):
        """Refuse: the windows come from a MATLAB program that is not part of Caffe either."""
        raise Error("selective search is a MATLAB program of its own; compute the windows with it and use detect_windows")

    def crop(self, image, window):
        """Return the window's pixels, with `context_pad` at the net's size and what is around it."""
        top, left, bottom, right = (int(edge) for edge in window)
        inside = image[max(top, 0):bottom, max(left, 0):right]
        if not inside.size:
            raise Error(f"the window {list(window)} (top, left, bottom, right) holds no pixels of a picture of "
                        f"{image.shape[0]}x{image.shape[1]}")
        if not self.context_pad:
            return inside
        # The window grows so that, at the net's size, it has context_pad pixels around it; beyond the picture is the mean.
        height, width = self.crop_mean.shape[:2]
        grow = height / (height - 2 * self.context_pad)
        half = (bottom - top + 1) / 2 * grow, (right - left + 1) / 2 * grow
        centre = top + (bottom - top + 1) / 2, left + (right - left + 1) / 2
        low = [round(c - h) for c, h in zip(centre, half)]
        high = [round(c + h) for c, h in zip(centre, half)]
        scales = [size / (last - first + 1) for size, first, last in zip((height, width), low, high)]
        skip = [round(max(0, -first) * scale) for first, scale in zip(low, scales)]
        first = [min(max(0, edge), whole) for edge, whole in zip(low, image.shape)]
        last = [min(max(0, edge), whole) for edge, whole in zip(high, image.shape)]
        part = image[first[0]:last[0], first[1]:last[1]]
        # As in Caffe the last row and column count here, though they are not cut out.
        size = [min(round((end - begin + 1) * scale), whole - gap)
                for begin, end, scale, whole, gap in zip(first, last, scales, (height, width), skip)]
        out = np.array(np.broadcast_to(self.crop_mean, (height, width, image.shape[2])), np.float32)
        out[skip[0]:skip[0] + size[0], skip[1]:skip[1] + size[1]] = io.resize_image(part, size)
        return out

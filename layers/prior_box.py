"""PriorBox: the default boxes of SSD, some for each pixel of a feature map, in parts of the image's size.

Bottoms: features (N, C, H, W) and the image (N, C, img_h, img_w); only their sizes count. Top: (1, 2, H * W * P * 4): first
xmin, ymin, xmax, ymax of each box, row by row, pixel by pixel, box by box; then the variances of the same four.

The boxes of pixel (h, w) have their centres at ((w + offset) * step_w, (h + offset) * step_h); a step is the image's size over
the features' unless `step`, or `step_h` and `step_w`, are given, and the image's size the second bottom's unless `img_size`, or
`img_h` and `img_w`, are. For each `min_size` in turn: a square of that size; with `max_size` (as many) a square of
sqrt(min * max); for each aspect ratio but 1 a box of min * sqrt(ratio) x min / sqrt(ratio), `flip` (default) adding each
ratio's inverse behind it. Ratios that were met are left out. P is their number. Sizes lose their fractions, as in SSD.
`clip` cuts boxes to the image. `variance`: four numbers, or one for all, 0.1 by default.

Places are float32, boxes are computed in float64 and rounded. There is no gradient: the bottoms get 0. Source: SSD's
PriorBoxLayer.
"""

import math

import numpy as np

from layers.core.cuda import small
from layers.core.layer import Layer


class PriorBox(Layer):
    """Default boxes."""

    exact_bottoms, exact_tops = 2, 1
    _made_for = _on_card = None

    def check(self):
        """Refuse sizes that make no boxes; list the ratios."""
        param = self.param.prior_box_param
        if not param.min_size:
            self.fail("min_size is missing; give the boxes' sizes in pixels")
        if param.max_size and len(param.max_size) != len(param.min_size):
            self.fail(f"max_size is given {len(param.max_size)} times and min_size {len(param.min_size)} times; once for each or "
                      "never")
        for number, least in enumerate(param.min_size):
            if least < 1:
                self.fail(f"min_size is {least:g}; it must be at least 1")
            if param.max_size and param.max_size[number] <= least:
                self.fail(f"max_size {param.max_size[number]:g} must be above its min_size {least:g}")
        if len(param.variance) not in (0, 1, 4) or any(value <= 0 for value in param.variance):
            self.fail(f"variance is {list(param.variance)}; give 1 or 4 numbers above 0")
        for whole, parts in (("img_size", ("img_h", "img_w")), ("step", ("step_h", "step_w"))):
            given = [name for name in parts if param.HasField(name)]
            if param.HasField(whole) and given:
                self.fail(f"{whole} and {given[0]} are both given; give {whole}, or {' and '.join(parts)}")
            if len(given) == 1:
                self.fail(f"{' and '.join(parts)} go together; give both")
            for name in (whole, *parts):
                if param.HasField(name) and getattr(param, name) <= 0:
                    self.fail(f"{name} is {getattr(param, name):g}; it must be above 0")
        ratios = [1.0]
        for value in param.aspect_ratio:
            if value <= 0:
                self.fail(f"aspect_ratio is {value:g}; it must be above 0")
            if all(abs(value - other) >= 1e-6 for other in ratios):
                ratios.append(value)
                if param.flip:
                    ratios.append(float(np.float32(1 / value)))
        self.ratios = ratios[1:]

    def boxes(self):
        """Return [(width, height)] of a pixel's boxes, in the image's pixels, float32."""
        param, found = self.param.prior_box_param, []
        for number, size in enumerate(map(int, param.min_size)):
            found.append((size, size))
            if param.max_size:
                found.append((math.sqrt(size * int(param.max_size[number])),) * 2)
            found += [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in self.ratios]
        return np.array(found, np.float32)

    def top_shapes(self, bottom_shapes):
        """Return two rows of all boxes."""
        for number, shape in enumerate(bottom_shapes):
            if len(shape) != 4:
                self.fail(f"takes blobs of 4 axes (num, channels, height, width), {self.called(number)} has {list(shape)}")
        return [(1, 2, bottom_shapes[0][2] * bottom_shapes[0][3] * len(self.boxes()) * 4)]

    def reshape(self, bottom, top):
        """Shape the top, and compute the boxes when a size changed."""
        super().reshape(bottom, top)
        sizes = bottom[0].shape[2:], bottom[1].shape[2:]
        if sizes != self._made_for:
            self._values, self._on_card = self.compute(*sizes), None
            self._made_for = sizes

    def compute(self, features, image):
        """Return the top's values for features and an image of these (height, width)."""
        param = self.param.prior_box_param
        if param.HasField("img_size"):
            image = param.img_size, param.img_size
        elif param.HasField("img_h"):
            image = param.img_h, param.img_w
        if param.HasField("step"):
            steps = param.step, param.step
        elif param.HasField("step_h"):
            steps = param.step_h, param.step_w
        else:
            steps = [size / pixels for size, pixels in zip(image, features)]
        y, x = ((np.arange(pixels, dtype=np.float32) + np.float32(param.offset)) * np.float32(step)
                for pixels, step in zip(features, steps))
        centres = np.empty((*features, 1, 2))
        centres[..., 0, 0], centres[..., 0, 1] = x, y[:, None]
        half = self.boxes().astype(np.float64) / 2
        corners = np.concatenate([centres - half, centres + half], 3) / np.array([image[1], image[0]] * 2, np.float64)
        if param.clip:
            corners = corners.clip(0, 1)
        variance = list(param.variance) or [0.1]
        values = np.empty((1, 2, corners.size), self.dtype)
        values[0, 0] = corners.reshape(-1)
        values[0, 1] = np.resize(variance * (4 // len(variance)), corners.size)
        return values

    def forward(self, bottom, top):
        """Write the boxes."""
        top[0].data[...] = self._values

    def backward(self, top, propagate_down, bottom):
        """Set the gradients to zero (one that nobody touched is zero already)."""
        for blob, wanted in zip(bottom, propagate_down):
            if wanted and blob.has_diff:
                blob.diff.fill(0)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the boxes."""
        return self._values.nbytes, 0

    def forward_cuda(self, bottom, top):
        """Write the boxes, which went to the card when their sizes were new."""
        if self._on_card is None:
            self._on_card = small.uploaded(self.card, self._values)
        self.card.copy(top[0].write_on(self.card), self._on_card.span, self._values.nbytes)

    def backward_cuda(self, top, propagate_down, bottom):
        """As `backward`."""
        for blob, wanted in zip(bottom, propagate_down):
            if wanted and blob.has_diff:
                self.card.clear(blob.write_on(self.card, diff=True))

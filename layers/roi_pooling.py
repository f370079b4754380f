"""ROIPooling: the largest value of each cell of a grid that is laid over each region of interest.

Bottoms: features (N, C, H, W), and regions (R, 5, ...): number of the image, x1, y1, x2, y2 in the image's pixels, which
`spatial_scale` takes to the features' and halves are rounded away from zero. A region covers both of its corners, at least one
pixel; its height over `pooled_h` and width over `pooled_w` are a cell's size, in float32, and cell p goes from floor(p * size) up
to ceil((p + 1) * size), cut at the borders of the features: cells may overlap. Top: (R, C, pooled_h, pooled_w); an empty cell
gives 0. Of equal values the first in scan order wins, and takes the gradient; what several cells give one value adds up in
float64, region by region. NaN loses against any number; a cell of nothing else gives -FLT_MAX, as in Fast R-CNN.

The regions get a gradient of 0. A number that is no image's is an error, on a card found when the forward pass has ended.
Source: Fast R-CNN's ROIPoolingLayer.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.small import Flag
from layers.core.layer import Layer

LOWEST = np.float32(-3.4028234663852886e38)  # -FLT_MAX


class ROIPooling(Layer):
    """Max pooling of regions to one size."""

    exact_bottoms, exact_tops = 2, 1
    _flag = _winners = _winners_on_card = None

    def check(self):
        """Refuse an empty grid."""
        param = self.param.roi_pooling_param
        for name in ("pooled_h", "pooled_w"):
            if not getattr(param, name):
                self.fail(f"{name} is missing or 0; give the number of cells")

    def top_shapes(self, bottom_shapes):
        """Return a grid for each region and channel."""
        features, regions = map(tuple, bottom_shapes)
        if len(features) != 4:
            self.fail(f"pools blobs of 4 axes (num, channels, height, width), {self.called(0)} has {list(features)}")
        if len(regions) < 2 or math.prod(regions[1:]) != 5:
            self.fail(f"{self.called(1)} {list(regions)} must hold 5 numbers for each region: image, x1, y1, x2, y2")
        param = self.param.roi_pooling_param
        return [(regions[0], features[1], param.pooled_h, param.pooled_w)]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        param, self.count = self.param.roi_pooling_param, top[0].count
        # What all kernels take: channels, height, width, pooled_h, pooled_w, spatial_scale.
        self.sizes = *bottom[0].shape[1:], param.pooled_h, param.pooled_w, self.dtype.type(param.spatial_scale)

    def allow_force_backward(self, bottom):
        """Regions have no gradient."""
        return bottom == 0

    def forward(self, bottom, top):
        """Pool."""
        regions = bottom[1].peek().reshape(-1)
        self._refuse_strangers(regions[::5], bottom[0].shape[0])
        if self._winners is None or self._winners.size < self.count:
            self._winners = np.empty(self.count, np.int32)
        parallel.run(roi_cpu, self.count, bottom[0].peek().reshape(-1), regions, top[0].data.reshape(-1), self._winners,
                     *self.sizes, work=bottom[0].count)

    def _refuse_strangers(self, numbers, images):
        good = (numbers >= 0) & (numbers < images) & (numbers == np.floor(numbers))
        if not good.all():
            region = int(np.argmin(good))
            self.fail(f"region {region} of {self.called(1)} is of image {numbers[region]:g}; {self.called(0)} has images 0 to "
                      f"{images - 1}")

    def backward(self, top, propagate_down, bottom):
        """Give each winner its gradient."""
        if propagate_down[0]:
            planes = math.prod(bottom[0].shape[:2])
            parallel.run(roi_backward_cpu, planes, bottom[1].peek().reshape(-1), top[0].peek(diff=True).reshape(-1),
                         bottom[0].diff.reshape(-1), self._winners, bottom[1].shape[0], *self.sizes, work=bottom[0].count)
        if propagate_down[1] and bottom[1].has_diff:
            bottom[1].diff.fill(0)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the winners."""
        return 4 * self.count + 4, 0

    def forward_cuda(self, bottom, top):
        """Pool."""
        card = self.card
        if self._flag is None:
            self._flag = Flag(card)
        if self._winners_on_card is None or self._winners_on_card.span.nbytes < 4 * self.count:
            self._winners_on_card = None  # first it goes back
            self._winners_on_card = card.arena.take(4 * self.count)
        card.run(roi_cuda, self.count, bottom[0].on(card), bottom[1].on(card), top[0].write_on(card), self._winners_on_card.span,
                 self._flag.lowered(), bottom[0].shape[0], *self.sizes)

    def flag_cuda(self):
        """Return the flag of a region of no image."""
        return self._flag.span

    def check_cuda(self, bottom, top):
        """Refuse a region of no image."""
        if self._flag.raised():
            self._refuse_strangers(bottom[1].peek().reshape(-1)[::5], bottom[0].shape[0])

    def backward_cuda(self, top, propagate_down, bottom):
        """Give each winner its gradient."""
        card = self.card
        if propagate_down[0]:
            card.run(roi_backward_cuda, bottom[0].count, bottom[1].on(card), top[0].on(card, diff=True),
                     bottom[0].write_on(card, diff=True), self._winners_on_card.span, bottom[1].shape[0], *self.sizes)
        if propagate_down[1] and bottom[1].has_diff:
            card.clear(bottom[1].write_on(card, diff=True))


@cached
def rounded_at(x):
    """Return x rounded to a whole number, halves away from zero, as C's round."""
    return np.int32(math.floor(x + 0.5)) if x >= 0 else np.int32(math.ceil(x - 0.5))


@cached
def region_at(low, high, scale):
    """Return (first pixel, pixels) of a region along an axis."""
    start = rounded_at(low * scale)
    return start, max(rounded_at(high * scale) - start + 1, 1)


@cached
def cell_at(p, cells, start, length, size):
    """Return (first, last) of cell p along an axis of the features, which has `size` pixels; last is the one behind."""
    # Rounded as in Fast R-CNN: the last of 7 cells of 57 pixels ends at 58.
    long = np.float32(length) / np.float32(cells)
    first, last = int(math.floor(np.float32(p) * long)), int(math.ceil(np.float32(p + 1) * long))
    return min(max(first + start, 0), size), min(max(last + start, 0), size)


@cached
def cells_at(distance, cells, length):
    """Return (first, last) of the cells along an axis that can cover a pixel so far from the region's begin, or one more."""
    return max(distance * cells // length - 1, 0), min(((distance + 1) * cells - 1) // length + 1, cells - 1)


@cached
def winner_at(x, plane, top, bottom, left, right, width, lowest):
    """Return (largest value, its index in the plane) of a cell; 0 and -1 if it is empty."""
    if bottom <= top or right <= left:
        return lowest * 0, -1
    best, winner = lowest, -1
    for row in range(top, bottom):
        for column in range(left, right):
            value = x[plane + row * width + column]
            if value > best:
                best, winner = value, row * width + column
    return best, winner


@cached
def roi_cpu(first, last, x, regions, y, winners, channels, height, width, pooled_h, pooled_w, scale):
    """Elements [first, last) of the top."""
    lowest = x.dtype.type(LOWEST)
    for i in range(first, last):
        pw, ph, plane = i % pooled_w, i // pooled_w % pooled_h, i // (pooled_w * pooled_h)
        c, r = plane % channels, plane // channels
        region = regions[5 * r:5 * r + 5]
        left, wide = region_at(region[1], region[3], scale)
        top, tall = region_at(region[2], region[4], scale)
        y0, y1 = cell_at(ph, pooled_h, top, tall, height)
        x0, x1 = cell_at(pw, pooled_w, left, wide, width)
        plane = (int(region[0]) * channels + c) * height * width
        y[i], winners[i] = winner_at(x, plane, y0, y1, x0, x1, width, lowest)


@cached
def roi_backward_cpu(first, last, regions, dy, dx, winners, count, channels, height, width, pooled_h, pooled_w, scale):
    """Planes [first, last) of the features' gradient: what the cells of each region of the plane's image give, in order."""
    cells = pooled_h * pooled_w
    total = np.empty(height * width)
    for plane in range(first, last):
        total[:] = 0
        for r in range(count):
            if regions[5 * r] == plane // channels:
                start = (r * channels + plane % channels) * cells
                for i in range(start, start + cells):
                    if winners[i] >= 0:
                        total[winners[i]] += dy[i]
        target = dx[plane * height * width:(plane + 1) * height * width]
        for i in range(target.size):
            target[i] = total[i]


@kernel("float*, float*, float*, int*, int*, int, int, int, int, int, int, float, int")
def roi_cuda(x, regions, y, winners, flag, images, channels, height, width, pooled_h, pooled_w, scale, count):
    """All elements of the top; as `roi_cpu`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rows = over(i, pooled_w)
        planes = over(rows, pooled_h)
        r = over(planes, channels)
        image = regions[5 * r]
        if not 0 <= image < images or image != math.floor(image):
            flag[0] = 1
            y[i], winners[i] = 0, -1
            continue
        left, wide = region_at(regions[5 * r + 1], regions[5 * r + 3], scale)
        top, tall = region_at(regions[5 * r + 2], regions[5 * r + 4], scale)
        y0, y1 = cell_at(rows - planes * pooled_h, pooled_h, top, tall, height)
        x0, x1 = cell_at(i - rows * pooled_w, pooled_w, left, wide, width)
        plane = (np.int64(image) * channels + planes - r * channels) * height * width
        best, winner = np.float32(0), -1
        if y0 < y1 and x0 < x1:
            best = LOWEST
            for row in range(y0, y1):
                for column in range(x0, x1):
                    value = x[plane + row * width + column]
                    if value > best:
                        best, winner = value, row * width + column
        y[i], winners[i] = best, winner


@kernel("float*, float*, float*, int*, int, int, int, int, int, int, float, int")
def roi_backward_cuda(regions, dy, dx, winners, regions_count, channels, height, width, pooled_h, pooled_w, scale, count):
    """All elements of the features' gradient: what the cells give that cover it and that it won, in order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane = over(i, height * width)
        image = over(plane, channels)
        place = np.int32(i - plane * (height * width))
        row = place // width
        column = place - row * width
        total = 0.0
        for r in range(regions_count):
            region = 5 * r
            if regions[region] != image:
                continue
            left, wide = region_at(regions[region + 1], regions[region + 3], scale)
            top, tall = region_at(regions[region + 2], regions[region + 4], scale)
            if not (top <= row <= top + tall and left <= column <= left + wide):  # rounding may put one pixel more into a cell
                continue
            first_row, last_row = cells_at(row - top, pooled_h, tall)
            first_column, last_column = cells_at(column - left, pooled_w, wide)
            base = (r * channels + plane - image * channels) * pooled_h
            for ph in range(first_row, last_row + 1):
                for cell in range((base + ph) * pooled_w + first_column, (base + ph) * pooled_w + last_column + 1):
                    if winners[cell] == place:
                        total += dy[cell]
        dx[i] = total

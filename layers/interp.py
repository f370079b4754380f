"""Interp: images of another size by bilinear interpolation whose corner pixels stay corner pixels ("align corners").

    y[h, w] = mix of the 4 pixels of x around (h * (H - 1) / (oh - 1), w * (W - 1) / (ow - 1))

Bottom: (N, C, height, width), cut first by -`pad_beg` rows and columns at the begin and -`pad_end` at the end (both are 0 or
less), which leaves H x W. The size (oh, ow) is one of: `height` and `width`; `shrink_factor`: (H - 1) / shrink + 1, rounded down;
`zoom_factor`: H + (H - 1) * (zoom - 1); both: shrunk first; or that of a second bottom, which gets a gradient of 0. Places and
weights are float32; where no size changes the pixels are copied. The gradient is summed in float64, pixel by pixel in scan order.
Source: the InterpLayer of DeepLab and PSPNet.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel, part
from layers.core.layer import Layer


class Interp(Layer):
    """Bilinear interpolation between aligned corners."""

    min_bottoms, max_bottoms = 1, 2
    exact_tops = 1

    def check(self):
        """Refuse sizes and padding that mean nothing, and PSPNet's other kind of interpolation."""
        param = self.param.interp_param
        if param.interp_type != "bilinear":
            self.fail(f"interp_type is '{param.interp_type}'; only 'bilinear' is known here")
        for name in ("pad_beg", "pad_end"):
            if getattr(param, name) > 0:
                self.fail(f"{name} is {getattr(param, name)}; give 0 or less, which cuts pixels off")
        if param.HasField("height") != param.HasField("width"):
            self.fail("height and width go together; give both")
        for name in ("height", "width", "zoom_factor", "shrink_factor"):
            if param.HasField(name) and getattr(param, name) < 1:
                self.fail(f"{name} is {getattr(param, name)}; it must be at least 1")

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with the new size."""
        shape, param = tuple(bottom_shapes[0]), self.param.interp_param
        ways = [" and ".join(name for name in names if param.HasField(name))
                for names in (("height", "width"), ("shrink_factor", "zoom_factor"))]
        ways = [*filter(None, ways), *(["a second bottom"] if len(bottom_shapes) > 1 else [])]
        if len(ways) != 1:
            self.fail(f"the top's size is given by {', by '.join(ways) or 'nothing'}; give height and width, or zoom_factor or "
                      "shrink_factor or both, or a second bottom")
        if len(shape) != 4:
            self.fail(f"takes blobs of 4 axes (num, channels, height, width), {self.called(0)} has {list(shape)}")
        sizes = self._cut(shape)
        if min(sizes) < 1:
            self.fail(f"pad_beg {param.pad_beg} and pad_end {param.pad_end} leave nothing of the {shape[2]}x{shape[3]} pixels of "
                      f"{self.called(0)}")
        if len(bottom_shapes) > 1:
            if len(bottom_shapes[1]) != 4:
                self.fail(f"takes its size from a blob of 4 axes, {self.called(1)} has {list(bottom_shapes[1])}")
            sizes = bottom_shapes[1][2:]
        elif param.HasField("height"):
            sizes = param.height, param.width
        else:
            if param.HasField("shrink_factor"):
                sizes = [(size - 1) // param.shrink_factor + 1 for size in sizes]
            if param.HasField("zoom_factor"):
                sizes = [size + (size - 1) * (param.zoom_factor - 1) for size in sizes]
        return [(*shape[:2], *sizes)]

    def _cut(self, shape):
        """Return the height and width that the padding leaves."""
        param = self.param.interp_param
        return [size + param.pad_beg + param.pad_end for size in shape[2:]]

    def reshape(self, bottom, top):
        """Shape the top, and find where its rows and columns come from when a size changed."""
        shape = self.top_shapes([blob.shape for blob in bottom])[0]
        top[0].reshape(shape)
        made_for = bottom[0].shape, shape
        if getattr(self, "_made_for", None) == made_for:
            return
        self.planes, cut = math.prod(shape[:2]), self._cut(bottom[0].shape)
        self.begin = -self.param.interp_param.pad_beg
        self.ratios = [ratio(*sizes, self.dtype) for sizes in zip(cut, shape[2:])]
        # For rows and for columns: the first pixel, the weight of the second, and which of the top begin where.
        self.lines = [places(size, out, step) for size, out, step in zip(cut, shape[2:], self.ratios)]
        self.lengths = *bottom[0].shape[2:], *cut, *shape[2:]
        self._made_for = made_for

    def allow_force_backward(self, bottom):
        """A second bottom has no gradient."""
        return bottom == 0

    def forward(self, bottom, top):
        """Interpolate."""
        (rows, row_weights, _), (columns, column_weights, _) = self.lines
        height = self.lengths[4]
        parallel.run(interp_cpu, self.planes * height, bottom[0].peek().reshape(self.planes, *bottom[0].shape[2:]),
                     top[0].data.reshape(self.planes, *top[0].shape[2:]), rows, row_weights, columns, column_weights,
                     *self.lengths[2:4], self.begin, self.dtype.type(1), work=top[0].count)

    def backward(self, top, propagate_down, bottom):
        """Gather the gradient."""
        if propagate_down[0]:
            (rows, row_weights, row_ends), (columns, column_weights, column_ends) = self.lines
            parallel.run(interp_backward_cpu, self.planes * self.lengths[0],
                         top[0].peek(diff=True).reshape(self.planes, *top[0].shape[2:]),
                         bottom[0].diff.reshape(self.planes, *bottom[0].shape[2:]), rows, row_weights, row_ends, columns,
                         column_weights, column_ends, self.begin, work=max(top[0].count, bottom[0].count))
        if len(bottom) > 1 and propagate_down[1] and bottom[1].has_diff:
            bottom[1].diff.fill(0)

    def forward_cuda(self, bottom, top):
        """Interpolate."""
        self.card.run(interp_cuda, top[0].count, bottom[0].on(self.card), top[0].write_on(self.card), *self.lengths, self.begin,
                      *self.ratios)

    def backward_cuda(self, top, propagate_down, bottom):
        """Gather the gradient."""
        if propagate_down[0]:
            self.card.run(interp_backward_cuda, bottom[0].count, top[0].on(self.card, diff=True),
                          bottom[0].write_on(self.card, diff=True), *self.lengths, self.begin, *self.ratios)
        if len(bottom) > 1 and propagate_down[1] and bottom[1].has_diff:
            self.card.clear(bottom[1].write_on(self.card, diff=True))

    @staticmethod
    def onnx(export, param, source, *size):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.interp_param
        if size:
            export.needs_fixed_size()
        if own.pad_beg or own.pad_end:
            ends = export.constant([own.pad_end or 2**31, own.pad_end or 2**31])
            source = export.node("Slice", source, export.constant([-own.pad_beg] * 2), ends, export.constant([2, 3]))
        if export.free and not own.HasField("height"):
            export.needs_fixed_size()
        shape = export.constant([*export.bottoms[0][:2], *export.tops[0][2:]])
        return [export.node("Resize", source, "", "", shape, mode="linear", coordinate_transformation_mode="align_corners")]


def ratio(size, out, dtype):
    """Return how many pixels of the bottom go by from one of the top to the next."""
    return dtype.type(size - 1) / dtype.type(out - 1) if out > 1 else dtype.type(0)


def places(size, out, step):
    """Return (first pixels, weights of the second ones, ends) of the top's pixels along an axis.

    ends[i], for i from 0 to size + 1, is how many of the top's pixels have a first pixel below i.
    """
    exact = np.arange(out).astype(step.dtype) * step
    first = np.minimum(exact.astype(np.int64), size - 1)
    weights = np.where(first < size - 1, exact - first.astype(step.dtype), 0).astype(step.dtype)
    return first, weights, np.searchsorted(first, np.arange(size + 1))


@cached
def interp_cpu(first, last, x, y, rows, row_weights, columns, column_weights, height, width, begin, one):
    """Rows [first, last) of the top, counted over all planes; where a weight is 0 its pixel is not looked at."""
    oh, ow = y.shape[1], y.shape[2]
    for number in range(first, last):
        plane, h = number // oh, number % oh
        row, lower = rows[h], row_weights[h]
        above = x[plane, begin + row, begin:begin + width]
        below = x[plane, begin + row + 1, begin:begin + width] if lower > 0 else above
        target, upper = y[plane, h], one - lower
        for w in range(ow):
            column, right = columns[w], column_weights[w]
            if right > 0:
                left = one - right
                first_value = left * above[column] + right * above[column + 1]
                second_value = left * below[column] + right * below[column + 1]
            else:
                first_value, second_value = above[column], below[column]
            target[w] = upper * first_value + lower * second_value if lower > 0 else first_value


@cached
def interp_backward_cpu(first, last, dy, dx, rows, row_weights, row_ends, columns, column_weights, column_ends, begin):
    """Rows [first, last) of the bottom's gradient, counted over all planes: what the top's pixels around give, in scan order."""
    for number in range(first, last):
        plane, row = number // dx.shape[1], number % dx.shape[1] - begin
        target = dx[plane, row + begin]
        if not 0 <= row < row_ends.size - 1:
            target[:] = 0
            continue
        first_row, last_row = row_ends[max(row - 1, 0)], row_ends[row + 1]
        for place in range(target.size):
            column, total = place - begin, 0.0
            if 0 <= column < column_ends.size - 1:
                first_column, last_column = column_ends[max(column - 1, 0)], column_ends[column + 1]
                for h in range(first_row, last_row):
                    lower = float(row_weights[h])
                    share = 1 - lower if rows[h] == row else lower
                    for w in range(first_column, last_column):
                        right = float(column_weights[w])
                        total += share * (1 - right if columns[w] == column else right) * dy[plane, h, w]
            target[place] = total


@part
def place_at(number, size, step):
    """Return (first pixel, weight of the second) of pixel `number` of the top along an axis; as `places`."""
    exact = np.float32(number) * step
    first = min(np.int64(exact), size - 1)
    return first, exact - np.float32(first) if first < size - 1 else np.float32(0)


@part
def share_at(number, place, size, step):
    """Return how much pixel `number` of the top takes from pixel `place` along an axis, in float64."""
    first, second = place_at(number, size, step)
    if first == place:
        return 1 - np.float64(second)
    return np.float64(second) if first == place - 1 else 0.0


@part
def reach_at(place, out, step):
    """Return (first, last) of the top's pixels that may take from pixel `place` along an axis; last is the one behind."""
    if step <= 0:
        return np.int64(0), np.int64(out)
    # float32 may be off by one each way
    return max(np.int64(np.float64(place - 1) / step) - 1, 0), min(np.int64(np.float64(place + 1) / step) + 2, out)


@kernel("float*, float*, int, int, int, int, int, int, int, float, float, int")
def interp_cuda(x, y, image_height, image_width, height, width, oh, ow, begin, row_step, column_step, count):
    """All elements of the top; as `interp_cpu`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        lines = over(i, ow)
        plane = over(lines, oh)
        row, lower = place_at(lines - plane * oh, height, row_step)
        column, right = place_at(i - lines * ow, width, column_step)
        at = (plane * image_height + begin + row) * image_width + begin + column
        above = x[at]
        if right > 0:
            above = (1 - right) * above + right * x[at + 1]
        if lower > 0:
            at += image_width
            below = x[at]
            if right > 0:
                below = (1 - right) * below + right * x[at + 1]
            above = (1 - lower) * above + lower * below
        y[i] = above


@kernel("float*, float*, int, int, int, int, int, int, int, float, float, int")
def interp_backward_cuda(dy, dx, image_height, image_width, height, width, oh, ow, begin, row_step, column_step, count):
    """All elements of the bottom's gradient; as `interp_backward_cpu`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        lines = over(i, image_width)
        plane = over(lines, image_height)
        row, column = lines - plane * image_height - begin, i - lines * image_width - begin
        total = 0.0
        if 0 <= row < height and 0 <= column < width:
            first_row, last_row = reach_at(row, oh, row_step)
            first_column, last_column = reach_at(column, ow, column_step)
            for h in range(first_row, last_row):
                share = share_at(h, row, height, row_step)
                if share > 0:
                    for w in range(first_column, last_column):
                        total += share * share_at(w, column, width, column_step) * dy[(plane * oh + h) * ow + w]
        dx[i] = total

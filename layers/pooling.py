"""Pooling: the largest, the mean or a random value of every window of a channel.

x (N, C, H, W) -> y (N, C, oh, ow), oh = ceil((H + 2 pad - kernel) / stride) + 1 (`round_mode: FLOOR` rounds down); with
padding the last window must start inside the image or the first padding, else it is dropped.

MAX         the largest value; ties go to the first in scan order, and so does the gradient. A second top holds the
            winner's index h * W + w as a float. NaN loses against any number, as in Caffe. Where a window holds
            nothing above -FLT_MAX Caffe records position -1 and its backward pass writes outside the blob; here such
            a window gives its first value that is not NaN, or NaN where all are: so NaN stays to be seen.
AVE         the sum divided by the window's area, of which padding counts, but only up to one pad beyond the image.
STOCHASTIC  TRAIN: a value drawn with a probability proportional to itself; TEST: sum x^2 / sum x. For x >= 0 (after a
            ReLU); no padding. Caffe has it on the GPU only.

A window wholly outside the image (stride > kernel, no padding, rounding up) gives -FLT_MAX with index -1 in MAX, as in
Caffe, and 0 in the others; it has no gradient. Sums are float64, in scan order. Source: Caffe's PoolingLayer.
"""

import math

import numpy as np

from layers.core.border import Step
from layers.core.cpu import parallel, pool_blocked
from layers.core.cpu.blocked import Blocked, convert
from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.im2col import inside_at
from layers.core.cpu.pool_rows import max_row
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel, part
from layers.core.cuda.small import Numbers
from layers.core.layer import Layer
from layers.core.rng import bits_at
from netspec import caffe_pb2, geometry

POOL = caffe_pb2.PoolingParameter
PICTURES = {POOL.MAX: pool_blocked.max_pictures, POOL.AVE: pool_blocked.average_pictures}
LOWEST = np.float32(-3.4028234663852886e38)  # -FLT_MAX


class Pooling(Layer):
    """Windows over the last two axes; see the file's head."""

    exact_bottoms = 1
    min_tops, max_tops = 1, 2

    def check(self):
        param = self.param.pooling_param
        if param.pool != param.MAX:
            self.max_tops = 1  # only MAX has winners to tell of

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) != 4:
            self.fail(f"pools blobs of 4 axes (num, channels, height, width), the bottom has {list(shape)}")
        param = self.param.pooling_param
        kernel, stride, pad = geometry.pool_kernel_stride_pad(param, *shape[2:], self.fail)
        out = tuple(
            geometry.pool_out(*lengths, ceil=param.round_mode == param.CEIL, padded=any(pad), fail=self.fail)
            for lengths in zip(shape[2:], kernel, stride, pad)
        )
        return [(*shape[:2], *out)] * (2 if len(self.param.top) == 2 else 1)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self._shape, self._winners = None, np.empty(0, np.int32)
        self._made = None  # the top in blocks, where it was made so and is wanted in NCHW
        self._winners_known = True
        self._winners_on_card = self._drawn_on_card = None
        pool = self.param.pooling_param
        self._blocks = self.dtype == np.float32 and len(top) == 1 and pool.pool in (pool.MAX, pool.AVE)

    def reshape(self, bottom, top):
        shape = bottom[0].shape
        if shape != self._shape:
            self._top_shape = self.top_shapes([shape])[0]
            each = geometry.pool_kernel_stride_pad(self.param.pooling_param, *shape[2:], self.fail)
            self._numbers = np.array(each, np.int64).reshape(-1)
            self._shape = shape
            self.pools = (self._blocks and self.param.pooling_param.pool == self.param.pooling_param.MAX
                          and self._numbers.tolist() == [2, 2, 2, 2, 0, 0])
        for blob in top:
            blob.reshape(self._top_shape)

    # --- plan -------------------------------------------------------------------------------------------------------

    def reads_blocks(self):
        return self._blocks

    def writes_blocks(self):
        return self._blocks

    def backward_in_blocks(self):
        return self._blocks

    def kept_bytes(self):
        return 0 if self._made is None else self._made.nbytes

    def was_done(self):
        self._winners_known = False

    def border_step(self, rectify):
        if not self._blocks:
            return None
        numbers, shape = self._numbers, self._shape
        each = list(zip(*numbers.reshape(3, 2).tolist()))
        pooling = self.param.pooling_param
        if pooling.global_pooling:
            return None

        def out(*sizes):
            return tuple(self.top_shapes([(*shape[:2], *sizes)])[0][2:])

        def slide(axis, number, size):
            return axis.slide(size, *each[number])

        def compute(source, target):
            PICTURES[pooling.pool](numbers, *source, *target)

        return Step((self.name, *numbers.tolist()), shape[1], compute, slide, out)

    # --- running ----------------------------------------------------------------------------------------------------

    def forward(self, bottom, top):
        self.forward_fused(bottom, top)

    def forward_fused(self, bottom, top, rectify=False, pooled=None, box=None):
        pool = self.param.pooling_param
        if self._blocks and (top[0].blocks or bottom[0].memory().in_blocks(self._shape)):
            target = top[0].write()
            if target.picture.blocked:
                source = bottom[0].in_blocks()
                self._winners_known = False
                PICTURES[pool.pool](self._numbers, source.address, source.picture, *target, box)
                return
            if bottom[0].memory().in_blocks(self._shape):
                # The top is less to move to NCHW than the bottom.
                if self._made is None:
                    self._made = Blocked(self._top_shape, border=0)
                self._made.reshape(self._top_shape)
                self._winners_known = False
                PICTURES[pool.pool](self._numbers, *bottom[0].place(), *self._made.place)
                convert(None, *self._made.place, *target)
                return
        image, out = _planes(bottom[0].peek()), _planes(top[0].data)
        rows, work = out.shape[0] * out.shape[1], image.size
        # In TEST a backward pass is seldom asked for: it finds the winners itself.
        self._winners_known = self.phase == caffe_pb2.TRAIN or len(top) > 1
        if pool.pool == pool.MAX:
            kept = self._kept(out) if self._winners_known else np.empty((0, 0, 0), np.int32)
            parallel.run(max_cpu, rows, self._numbers, image, out, kept, work=work)
            if len(top) > 1:
                top[1].data.reshape(-1)[...] = self._winners[: out.size]
        elif pool.pool == pool.AVE:
            parallel.run(average_cpu, rows, self._numbers, image, out, work=work)
        elif self.phase == caffe_pb2.TRAIN:
            key, start = self.rng.take(out.size)
            parallel.run(draw_cpu, rows, self._numbers, image, out, self._kept(out), key, start, work=work)
        else:
            parallel.run(expect_cpu, rows, self._numbers, image, out, work=work)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        pool = self.param.pooling_param
        if self._blocks and bottom[0].diff_blocks and all(
                memory.to_blocks(shape) for memory, shape in ((bottom[0].memory(), self._shape),
                                                              (top[0].memory(diff=True), self._top_shape))):
            target = bottom[0].write(diff=True)
            if target.picture.blocked:
                error = top[0].place(diff=True)
                if pool.pool == pool.MAX:
                    pool_blocked.max_backward_pictures(self._numbers, *bottom[0].place(), *error, *target)
                else:
                    pool_blocked.average_backward_pictures(self._numbers, *error, *target)
                return
        error, image_error = _planes(top[0].peek(diff=True)), _planes(bottom[0].diff)
        planes, work = error.shape[0], image_error.size
        if pool.pool == pool.AVE:
            parallel.run(average_backward_cpu, planes, self._numbers, error, image_error, work=work)
        elif pool.pool == pool.STOCHASTIC and self.phase != caffe_pb2.TRAIN:
            parallel.run(expect_backward_cpu, planes, self._numbers, _planes(bottom[0].peek()), _planes(top[0].peek()),
                         error, image_error, work=work)
        else:
            if pool.pool == pool.MAX and not self._winners_known:
                self._find_winners(_planes(bottom[0].peek()), error)
            parallel.run(winners_backward_cpu, planes, self._kept(error), error, image_error, work=work)

    def _find_winners(self, image, error):
        """Find the winners of a forward pass that did not tell them."""
        again = np.empty_like(error)
        parallel.run(max_cpu, again.shape[0] * again.shape[1], self._numbers, image, again, self._kept(again), work=image.size)
        self._winners_known = True

    def _kept(self, out):
        """Return the winners' indices in their planes, int32 of the top's shape (-1: none); memory never shrinks."""
        if self._winners.size < out.size:
            self._winners = np.full(out.size, -1, np.int32)
        return self._winners[: out.size].reshape(out.shape)

    def _lengths(self):
        """Return kernel, stride, pad, the image's and the top's lengths, each for rows and columns: what kernels take."""
        return (*self._numbers.tolist(), *self._shape[2:], *self._top_shape[2:])

    def bytes_cuda(self):
        keeps = self.phase == caffe_pb2.TRAIN and self.param.pooling_param.pool != POOL.AVE
        return 4 * math.prod(self._top_shape) * keeps, 0  # the winners

    def prepare_cuda(self, bottom, top):
        if self._draws and self.phase == caffe_pb2.TRAIN:
            self._drawn_on_card = self._drawn_on_card or Numbers(self.card, 2, np.uint64)
            self._drawn_on_card.write(self.rng.take(top[0].count))

    def forward_cuda(self, bottom, top):
        card, count, lengths, pool = self.card, top[0].count, self._lengths(), self.param.pooling_param.pool
        x, y = bottom[0].on(card), top[0].write_on(card)
        self._winners_known = self.phase == caffe_pb2.TRAIN or len(top) > 1
        if pool == POOL.MAX:
            mask = top[1].write_on(card) if len(top) > 1 else y
            winners = self._kept_on_card(count) if self._winners_known else y
            card.run(max_cuda, count, x, y, winners, mask, self._winners_known, len(top) > 1, *lengths)
        elif pool == POOL.AVE:
            card.run(average_cuda, count, x, y, *lengths)
        elif self.phase == caffe_pb2.TRAIN:
            card.run(draw_cuda, count, x, y, self._kept_on_card(count), self._drawn_on_card.span, *lengths)
        else:
            card.run(expect_cuda, count, x, y, *lengths)

    def backward_cuda(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        card, count, lengths, pool = self.card, bottom[0].count, self._lengths(), self.param.pooling_param.pool
        dy = top[0].on(card, diff=True)
        if pool == POOL.AVE:
            card.run(average_backward_cuda, count, dy, bottom[0].write_on(card, diff=True), *lengths)
        elif pool == POOL.STOCHASTIC and self.phase != caffe_pb2.TRAIN:
            x, y = bottom[0].on(card), top[0].on(card)
            card.run(expect_backward_cuda, count, x, y, dy, bottom[0].write_on(card, diff=True), *lengths)
        else:
            winners = self._kept_on_card(top[0].count)
            if not self._winners_known:  # and they are not known then: the next forward may be a recorded one
                again = card.arena.borrow(4 * top[0].count)  # y, which nobody needs; it is ours until the kernel is queued
                card.run(max_cuda, top[0].count, bottom[0].on(card), again.span, winners, again.span, True, False, *lengths)
            card.run(winners_backward_cuda, count, winners, dy, bottom[0].write_on(card, diff=True), *lengths)

    def _kept_on_card(self, count):
        """As `_kept`: the span of `count` int32; all are written before they are read."""
        if self._winners_on_card is None or self._winners_on_card.span.nbytes < 4 * count:
            self._winners_on_card = None  # first it goes back
            self._winners_on_card = self.card.arena.take(4 * count)
        return self._winners_on_card.span

    @property
    def _draws(self):
        return self.param.pooling_param.pool == POOL.STOCHASTIC

    def state(self):
        return self.rng.state() if self._draws else None

    def set_state(self, state):
        self.rng.set_state(state)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, shape = param.pooling_param, export.bottoms[0]
        if len(export.tops) > 1:
            export.fail("has a second top (the winners' places), which has no equal in ONNX")
        if own.pool == own.STOCHASTIC:
            export.fail("draws its values; only MAX and AVE have an equal in ONNX")
        if own.global_pooling:
            return [export.node("GlobalMaxPool" if own.pool == own.MAX else "GlobalAveragePool", source)]
        kernel, stride, pad = geometry.pool_kernel_stride_pad(own, *shape[2:], export.fail)
        ceil = own.round_mode == own.CEIL
        attributes = {"kernel_shape": kernel, "strides": stride}
        if export.free:
            attributes.update(export.free_pads(kernel, stride, pad, ceil, own.pool == own.AVE))
            more = 0
        else:
            # Caffe's size in plain numbers: what the last window reaches beyond the image is padding at the end.
            sizes = zip(export.tops[0][2:], stride, kernel, shape[2:], pad)
            reach = [(out - 1) * s + k - size - p for out, s, k, size, p in sizes]
            end = tuple(max(0, more) for more in reach)
            if any(e >= k for e, k in zip(end, kernel)):
                export.fail(f"has windows wholly outside its bottom {list(shape)}; ONNX has none")
            more = max(e - p for e, p in zip(end, pad))
            attributes["pads"] = pad + end
        if own.pool == own.MAX:
            return [export.node("MaxPool", source, **attributes)]
        if max(pad) == 0:
            return [export.node("AveragePool", source, count_include_pad=0, **attributes)]
        if more <= 0:
            return [export.node("AveragePool", source, count_include_pad=1, **attributes)]
        # Of the padding one pad is counted by Caffe and what is beyond is not: pad by one pad first, then count what is there.
        padded = export.node("Pad", source, export.constant([0, 0, *pad, 0, 0, *pad]))
        attributes["pads"] = (0, 0, *(max(0, e - p) for e, p in zip(end, pad)))
        return [export.node("AveragePool", padded, count_include_pad=0, **attributes)]


def _planes(array):
    return array.reshape(-1, *array.shape[2:])


@cached
def window_at(numbers, row, column, height, width):
    """Return (top, bottom, left, right) of an output pixel's window, clipped to the image."""
    top = row * numbers[2] - numbers[4]
    left = column * numbers[3] - numbers[5]
    return max(top, 0), min(top + numbers[0], height), max(left, 0), min(left + numbers[1], width)


@cached
def area_at(numbers, row, column, height, width):
    """Return what AVE divides by: the window's area, clipped one pad beyond the image."""
    top = row * numbers[2] - numbers[4]
    left = column * numbers[3] - numbers[5]
    tall = min(top + numbers[0], height + numbers[4]) - top
    wide = min(left + numbers[1], width + numbers[5]) - left
    return max(tall, 0) * max(wide, 0)


@cached
def larger_at(best, winner, i, value, place):
    """Keep the larger of the best so far and `value`; without a branch, so that the loops become vectors."""
    larger = value > best[i]
    best[i] = value if larger else best[i]
    winner[i] = place if larger else winner[i]


@cached
def first_at(image, plane, top, bottom, left, right):
    """Return the index of a window's first value that is not NaN, or of its first; -1 if the window is empty."""
    width = image.shape[2]
    for y in range(top, bottom):
        for x in range(left, right):
            if not np.isnan(image[plane, y, x]):
                return y * width + x
    return top * width + left if top < bottom and left < right else -1


@cached
def largest_at(image, plane, top, bottom, left, right):
    """Return the largest value of a window and its index: LOWEST and -1 if nothing is above."""
    best, winner = LOWEST, -1
    for y in range(top, bottom):
        for x in range(left, right):
            if image[plane, y, x] > best:
                best, winner = image[plane, y, x], y * image.shape[2] + x
    return best, winner


@compiled
def max_cpu(first, last, numbers, image, out, winners):
    """MAX for output rows [first, last), counted over all planes; `winners` is of no planes where nobody asks for them.

    Windows inside of the image with a kernel and stride that `pool_rows` knows are done by vectors of windows; others a row
    at a time, tap after tap of the kernel.
    """
    height, width, columns = image.shape[1], image.shape[2], out.shape[2]
    kw, sw, pw = numbers[1], numbers[3], numbers[5]
    keeps, unwanted = winners.shape[0] > 0, np.empty(columns, np.int32)
    low, high = min(columns, (pw + sw - 1) // sw), max(0, min(columns, (width - kw + pw) // sw + 1))  # windows inside
    for index in range(first, last):
        plane, row = index // out.shape[1], index % out.shape[1]
        target = out[plane, row]
        kept = winners[plane, row] if keeps else unwanted
        top, bottom, _, _ = window_at(numbers, row, 0, height, width)
        done = False
        if image.itemsize == 4 and bottom - top == numbers[0] == kw:
            start = (plane * height + top) * width + low * sw - pw
            done = max_row(kw, sw, high - low, np.intp(target.ctypes.data) + low * 4, np.intp(image.ctypes.data) + start * 4,
                           width * 4, np.intp(kept.ctypes.data) + low * 4 if keeps else 0, top * width + low * sw - pw, width)
        if done:
            for i in range(low + columns - high):
                column = i if i < low else high + i - low
                target[column], kept[column] = largest_at(image, plane, *window_at(numbers, row, column, height, width))
        else:
            taps_cpu(numbers, image, plane, top, bottom, target, kept)
        missing = 0
        for column in range(columns):
            missing += target[column] == LOWEST
        if missing:
            for column in range(columns):
                if target[column] == LOWEST:  # nothing above -FLT_MAX
                    winner = first_at(image, plane, *window_at(numbers, row, column, height, width))
                    if winner >= 0:
                        target[column], kept[column] = image[plane, winner // width, winner % width], winner


@cached
def taps_cpu(numbers, image, plane, top, bottom, target, kept):
    """MAX for a row of windows over rows [top, bottom) of the image: tap after tap of the kernel."""
    width, kw, sw, pw = image.shape[2], numbers[1], numbers[3], numbers[5]
    for column in range(target.size):
        target[column], kept[column] = LOWEST, -1
    for y in range(top, bottom):
        for x in range(kw):
            low, high = inside_at(x - pw, sw, width, target.size)
            if low >= high:
                continue
            best, winner = target[low:high], kept[low:high]
            start = low * sw + x - pw
            source, place = image[plane, y, start:], np.int32(y * width + start)
            if sw == 1:  # a step that the compiler knows makes it twice as fast
                for i in range(best.size):
                    larger_at(best, winner, i, source[i], place + np.int32(i))
            elif sw == 2:
                for i in range(best.size):
                    larger_at(best, winner, i, source[2 * i], place + np.int32(2 * i))
            else:
                for i in range(best.size):
                    larger_at(best, winner, i, source[i * sw], place + np.int32(i * sw))


@cached
def sum_at(image, plane, top, bottom, left, right):
    """Return the sum of a window's values, row by row, in float64."""
    total = 0.0
    for y in range(top, bottom):
        for x in range(left, right):
            total += image[plane, y, x]
    return total


@cached
def areas_at(numbers, row, height, width, areas):
    """Write what AVE divides by, for each window of a row; at least 1, for windows that hold nothing."""
    for column in range(areas.size):
        areas[column] = max(1, area_at(numbers, row, column, height, width))


@cached(error_model="numpy")  # no test for zero in every division
def average_cpu(first, last, numbers, image, out):
    """AVE for output rows [first, last): a row at a time, tap after tap of the kernel."""
    height, width = image.shape[1], image.shape[2]
    kw, sw, pw = numbers[1], numbers[3], numbers[5]
    totals, areas = np.empty(out.shape[2]), np.empty(out.shape[2])
    for index in range(first, last):
        plane, row = index // out.shape[1], index % out.shape[1]
        top, bottom, _, _ = window_at(numbers, row, 0, height, width)
        totals[:] = 0
        for y in range(top, bottom):
            for x in range(kw):
                low, high = inside_at(x - pw, sw, width, totals.size)
                if low < high:
                    total, source = totals[low:high], image[plane, y, low * sw + x - pw:]
                    if sw == 1:
                        for i in range(total.size):
                            total[i] += source[i]
                    elif sw == 2:
                        for i in range(total.size):
                            total[i] += source[2 * i]
                    else:
                        for i in range(total.size):
                            total[i] += source[i * sw]
        areas_at(numbers, row, height, width, areas)
        target = out[plane, row]
        for column in range(target.size):
            target[column] = totals[column] / areas[column]


@cached
def draw_cpu(first, last, numbers, image, out, winners, key, start):
    """STOCHASTIC in TRAIN for output rows [first, last): the first value at which the sum reaches its random part."""
    height, width = image.shape[1], image.shape[2]
    for index in range(first, last):
        plane, row = index // out.shape[1], index % out.shape[1]
        for column in range(out.shape[2]):
            top, bottom, left, right = window_at(numbers, row, column, height, width)
            total = sum_at(image, plane, top, bottom, left, right)
            bits = bits_at(key, start + np.uint64(index * out.shape[2] + column))
            wanted = (bits >> np.uint64(11)) * 2.0**-53 * total  # 53 bits: a float64 in [0, 1)
            winner, last_one, total = -1, -1, 0.0
            for y in range(top, bottom):
                for x in range(left, right):
                    last_one = y * width + x
                    total += image[plane, y, x]
                    if winner < 0 and total > wanted:
                        winner = last_one
            if winner < 0:
                winner = last_one  # all 0, or NaN
            winners[plane, row, column] = winner
            out[plane, row, column] = image[plane, winner // width, winner % width] if winner >= 0 else 0.0


@cached
def expect_cpu(first, last, numbers, image, out):
    """STOCHASTIC in TEST for output rows [first, last): the value to be expected in TRAIN."""
    height, width = image.shape[1], image.shape[2]
    for index in range(first, last):
        plane, row = index // out.shape[1], index % out.shape[1]
        for column in range(out.shape[2]):
            top, bottom, left, right = window_at(numbers, row, column, height, width)
            total = squares = 0.0
            for y in range(top, bottom):
                for x in range(left, right):
                    value = np.float64(image[plane, y, x])
                    total += value
                    squares += value * value
            out[plane, row, column] = squares / total if total > 0 else 0.0


@cached
def winners_backward_cpu(first, last, winners, error, image_error):
    """MAX and STOCHASTIC backward for planes [first, last): each error goes to its winner."""
    for plane in range(first, last):
        target = image_error[plane].reshape(-1)
        for i in range(target.size):
            target[i] = 0
        kept, source = winners[plane].reshape(-1), error[plane].reshape(-1)
        for i in range(source.size):
            if kept[i] >= 0:
                target[kept[i]] += source[i]


@cached(error_model="numpy")
def average_backward_cpu(first, last, numbers, error, image_error):
    """AVE backward for planes [first, last): a row at a time; the last tap first, so that windows add up in scan order."""
    height, width = image_error.shape[1], image_error.shape[2]
    kw, sw, pw = numbers[1], numbers[3], numbers[5]
    shares, areas = np.empty(error.shape[2], error.dtype), np.empty(error.shape[2], error.dtype)
    for plane in range(first, last):
        image_error[plane] = 0
        for row in range(error.shape[1]):
            top, bottom, _, _ = window_at(numbers, row, 0, height, width)
            areas_at(numbers, row, height, width, areas)
            source = error[plane, row]
            for column in range(shares.size):
                shares[column] = source[column] / areas[column]
            for y in range(top, bottom):
                for x in range(kw - 1, -1, -1):
                    low, high = inside_at(x - pw, sw, width, shares.size)
                    if low < high:
                        share, target = shares[low:high], image_error[plane, y, low * sw + x - pw:]
                        if sw == 1:
                            for i in range(share.size):
                                target[i] += share[i]
                        else:
                            for i in range(share.size):
                                target[i * sw] += share[i]


@cached
def expect_backward_cpu(first, last, numbers, image, out, error, image_error):
    """STOCHASTIC backward in TEST for planes [first, last): d(sum x^2 / sum x) = (2 x - y) / sum x."""
    height, width = image.shape[1], image.shape[2]
    for plane in range(first, last):
        image_error[plane] = 0
        for row in range(error.shape[1]):
            for column in range(error.shape[2]):
                top, bottom, left, right = window_at(numbers, row, column, height, width)
                total = 0.0
                for y in range(top, bottom):
                    for x in range(left, right):
                        total += image[plane, y, x]
                if total > 0:
                    share = error[plane, row, column] / total
                    for y in range(top, bottom):
                        for x in range(left, right):
                            value = 2.0 * image[plane, y, x] - out[plane, row, column]
                            image_error[plane, y, x] += share * value


@part
def window(i, kernel, stride, pad, size):
    """Return the range [low, high) of an axis that window i covers, clipped to the image."""
    start = i * stride - pad
    return max(start, 0), min(start + kernel, size)


@part
def share(i, kernel, stride, pad, size):
    """Return what window i's area counts along an axis: clipped one pad beyond the image."""
    start = i * stride - pad
    return max(min(start + kernel, size + pad) - start, 0)


@part
def covering(i, kernel, stride, pad, windows):
    """Return the range [low, high) of the windows that cover position i of an axis."""
    below = i + pad - kernel
    return over(below, stride) + 1 if below >= 0 else 0, min(over(i + pad, stride) + 1, windows)


@part
def place_of(i, height, width):
    """Return (plane, row, column) of element i."""
    line = over(i, width)
    plane = over(line, height)
    return plane, line - plane * height, i - line * width


@kernel("float*, float*, int*, float*, bool, bool, int, int, int, int, int, int, int, int, int, int, int")
def max_cuda(x, y, winners, mask, keeps, tells, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """MAX for all windows; winners are kept for backward, told in `mask`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, out_height, out_width)
        top, bottom = window(row, kh, sh, ph, height)
        left, right = window(column, kw, sw, pw, width)
        image = plane * height * width
        best, winner = LOWEST, np.int64(-1)
        for line in range(top, bottom):
            for at in range(image + line * width + left, image + line * width + right):
                value = x[at]
                if value > best:
                    best, winner = value, at - image
        if winner < 0 and top < bottom and left < right:  # nothing above -FLT_MAX: the first that is not NaN, or the first
            for line in range(bottom - 1, top - 1, -1):
                for at in range(image + line * width + right - 1, image + line * width + left - 1, -1):
                    if x[at] == x[at]:
                        winner = at - image
            winner = winner if winner >= 0 else np.int64(top * width + left)
            best = x[image + winner]
        y[i] = best
        if keeps:
            winners[i] = winner
        if tells:
            mask[i] = winner


@kernel("int*, float*, float*, int, int, int, int, int, int, int, int, int, int, int")
def winners_backward_cuda(winners, dy, dx, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """MAX and STOCHASTIC backward for all values of the bottom: the errors of the windows that it won, in scan order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, height, width)
        top, bottom = covering(row, kh, sh, ph, out_height)
        left, right = covering(column, kw, sw, pw, out_width)
        own, total = row * width + column, np.float32(0)
        for line in range(top, bottom):
            start = (plane * out_height + line) * out_width
            for at in range(start + left, start + right):
                if winners[at] == own:
                    total += dy[at]
        dx[i] = total


@kernel("float*, float*, int, int, int, int, int, int, int, int, int, int, int")
def average_cuda(x, y, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """AVE for all windows."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, out_height, out_width)
        top, bottom = window(row, kh, sh, ph, height)
        left, right = window(column, kw, sw, pw, width)
        total = 0.0
        for line in range(top, bottom):
            start = (plane * height + line) * width
            for at in range(start + left, start + right):
                total += x[at]
        y[i] = total / max(share(row, kh, sh, ph, height) * share(column, kw, sw, pw, width), 1)


@cached(error_model="numpy")
def divided_at(value, count):
    """Return value / count in float32."""
    return value / np.float32(count)


@kernel("float*, float*, int, int, int, int, int, int, int, int, int, int, int")
def average_backward_cuda(dy, dx, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """AVE backward for all values of the bottom: what each window gives, in scan order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, height, width)
        top, bottom = covering(row, kh, sh, ph, out_height)
        left, right = covering(column, kw, sw, pw, out_width)
        total = np.float32(0)
        for line in range(top, bottom):
            start, tall = (plane * out_height + line) * out_width, share(line, kh, sh, ph, height)
            for at in range(left, right):
                total += divided_at(dy[start + at], max(tall * share(at, kw, sw, pw, width), 1))
        dx[i] = total


@cached
def wanted_at(key, index, total):
    """Return a random part of `total`: with 53 bits, a float64 in [0, 1)."""
    return (bits_at(key, index) >> np.uint64(11)) * 2.0**-53 * total


@kernel("float*, float*, int*, ulong*, int, int, int, int, int, int, int, int, int, int, int")
def draw_cuda(x, y, winners, drawn, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """STOCHASTIC in TRAIN for all windows: the first value at which the sum reaches its random part; `drawn`: key and start."""
    key, first = drawn[0], drawn[1]
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, out_height, out_width)
        top, bottom = window(row, kh, sh, ph, height)
        left, right = window(column, kw, sw, pw, width)
        image, total = plane * height * width, 0.0
        for line in range(top, bottom):
            for at in range(image + line * width + left, image + line * width + right):
                total += x[at]
        wanted = wanted_at(key, first + np.uint64(i), total)
        winner = last = np.int64(-1)
        total = 0.0
        for line in range(top, bottom):
            for at in range(image + line * width + left, image + line * width + right):
                last = at - image
                total += x[at]
                if winner < 0 and total > wanted:
                    winner = last
        if winner < 0:
            winner = last  # all 0, or NaN
        winners[i] = winner
        y[i] = x[image + winner] if winner >= 0 else np.float32(0)


@cached(error_model="numpy")
def expected_at(squares, total):
    """Return the value to be expected of a window."""
    return squares / total if total > 0 else 0.0


@kernel("float*, float*, int, int, int, int, int, int, int, int, int, int, int")
def expect_cuda(x, y, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """STOCHASTIC in TEST for all windows: the value to be expected in TRAIN."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, out_height, out_width)
        top, bottom = window(row, kh, sh, ph, height)
        left, right = window(column, kw, sw, pw, width)
        total = squares = 0.0
        for line in range(top, bottom):
            start = (plane * height + line) * width
            for at in range(start + left, start + right):
                value = np.float64(x[at])
                total += value
                squares += value * value
        y[i] = expected_at(squares, total)


@cached(error_model="numpy")
def expected_slope_at(x, y, dy, total):
    """Return what a window gives to the gradient of one of its values: d(sum x^2 / sum x) = (2 x - y) / sum x."""
    return dy / total * (2.0 * x - y) if total > 0 else 0.0


@kernel("float*, float*, float*, float*, int, int, int, int, int, int, int, int, int, int, int")
def expect_backward_cuda(x, y, dy, dx, kh, kw, sh, sw, ph, pw, height, width, out_height, out_width, count):
    """STOCHASTIC backward in TEST for all values of the bottom: what each window gives, in scan order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        plane, row, column = place_of(i, height, width)
        first_line, last_line = covering(row, kh, sh, ph, out_height)
        first, last = covering(column, kw, sw, pw, out_width)
        gradient = np.float32(0)
        for line in range(first_line, last_line):
            top, bottom = window(line, kh, sh, ph, height)
            for at in range(first, last):
                left, right = window(at, kw, sw, pw, width)
                total = 0.0
                for other in range(top, bottom):
                    start = (plane * height + other) * width
                    for value in range(start + left, start + right):
                        total += x[value]
                here = (plane * out_height + line) * out_width + at
                gradient = np.float32(gradient + expected_slope_at(x[i], y[here], dy[here], total))
        dx[i] = gradient

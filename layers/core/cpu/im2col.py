"""im2col and col2im: patches of an image as the columns of a matrix, and back.

A convolution is then one matrix product. Row k = (c, kz, ky, kx) of the columns holds, for every output pixel, what
the kernel's tap (kz, ky, kx) sees of channel c; taps in the padding see 0. Up to three spatial axes: images are
(C, D, H, W), one or two axes have D (and H) 1. Only some rows of the output are made at a time: `row` counts the
output's (depth, height) pairs.

`numbers` are a window's lengths as `Window.numbers` gives them (`layers.core.cpu.convolve`).
"""


import numpy as np

from layers.core.cpu.compiled import cached


def im2col(image, kernel, stride, pad, dilation, output):
    """Return the columns of an image (C, *spatial) of any number of axes, in plain numpy: (C * taps, pixels)."""
    padded = np.pad(image, [(0, 0)] + [(p, p) for p in pad])
    columns = np.empty((image.shape[0], int(np.prod(kernel)), int(np.prod(output))), image.dtype)
    for tap, offset in enumerate(np.ndindex(*kernel)):
        seen = tuple(slice(d * o, d * o + s * (n - 1) + 1, s)
                     for o, d, s, n in zip(offset, dilation, stride, output))
        columns[:, tap] = padded[(slice(None), *seen)].reshape(image.shape[0], -1)
    return columns.reshape(-1, columns.shape[2])


def col2im(columns, spatial, kernel, stride, pad, dilation, output):
    """Return the sum of the columns where they came from, in plain numpy: the transpose of `im2col`."""
    columns = columns.reshape(-1, int(np.prod(kernel)), *output)
    padded = np.zeros((columns.shape[0], *(n + 2 * p for n, p in zip(spatial, pad))), columns.dtype)
    for tap, offset in enumerate(np.ndindex(*kernel)):
        seen = tuple(slice(d * o, d * o + s * (n - 1) + 1, s)
                     for o, d, s, n in zip(offset, dilation, stride, output))
        padded[(slice(None), *seen)] += columns[:, tap]
    return padded[(slice(None), *(slice(p, p + n) for n, p in zip(spatial, pad)))]


@cached
def inside_at(shift, stride, size, count):
    """Return the range [low, high) of the i in [0, count) with 0 <= i * stride + shift < size."""
    low = min(max((stride - 1 - shift) // stride, 0), count)
    high = max(min((size - shift + stride - 1) // stride, count), low)
    return low, high


@cached
def im2col_cpu(first, last, numbers, image, row_first, row_last, columns):
    """Write rows [first, last) of the columns for the output rows [row_first, row_last).

    Equal to `im2col` there. image (C, D, H, W), columns (>= last, pixels of these rows). Pads may be negative: the
    image is then cropped.
    """
    kd, kh, kw = numbers[0], numbers[1], numbers[2]
    sd, sh, sw = numbers[3], numbers[4], numbers[5]
    pd, ph, pw = numbers[6], numbers[7], numbers[8]
    dd, dh, dw = numbers[9], numbers[10], numbers[11]
    out_height, out_width = numbers[13], numbers[14]
    depth, height, width = image.shape[1], image.shape[2], image.shape[3]
    for k in range(first, last):
        kx = k % kw
        ky = k // kw % kh
        kz = k // (kw * kh) % kd
        c = k // (kw * kh * kd)
        shift = kx * dw - pw
        low, high = inside_at(shift, sw, width, out_width)
        for row in range(row_first, row_last):
            z = row // out_height * sd - pd + kz * dd
            y = row % out_height * sh - ph + ky * dh
            start = (row - row_first) * out_width
            target = columns[k, start : start + out_width]
            if z < 0 or z >= depth or y < 0 or y >= height:
                for i in range(out_width):
                    target[i] = 0
                continue
            for i in range(low):
                target[i] = 0
            if low < high:
                middle = target[low:high]
                source = image[c, z, y, low * sw + shift :]
                if sw == 1:
                    for i in range(middle.size):
                        middle[i] = source[i]
                else:
                    for i in range(middle.size):
                        middle[i] = source[i * sw]
            for i in range(high, out_width):
                target[i] = 0


@cached
def col2im_cpu(first, last, numbers, columns, row_first, row_last, image, line_first, line_last):
    """Add the columns of the output rows [row_first, row_last) onto lines [line_first, line_last) of the image.

    Channels [first, last) of image (C, D, H, W); a line is a (depth, height) pair. Each line gathers its columns in
    the order of the taps, on top of what it holds, whatever other lines do. columns (C * taps, pixels of these rows).
    """
    kd, kh, kw = numbers[0], numbers[1], numbers[2]
    sd, sh, sw = numbers[3], numbers[4], numbers[5]
    pd, ph, pw = numbers[6], numbers[7], numbers[8]
    dd, dh, dw = numbers[9], numbers[10], numbers[11]
    out_depth, out_height, out_width = numbers[12], numbers[13], numbers[14]
    height, width = image.shape[2], image.shape[3]
    for c in range(first, last):
        for line in range(line_first, line_last):
            target = image[c, line // height, line % height]
            for kz in range(kd):
                z = line // height + pd - kz * dd
                if z < 0 or z % sd != 0 or z // sd >= out_depth:
                    continue
                for ky in range(kh):
                    y = line % height + ph - ky * dh
                    if y < 0 or y % sh != 0 or y // sh >= out_height:
                        continue
                    row = z // sd * out_height + y // sh
                    if row < row_first or row >= row_last:
                        continue
                    start = (row - row_first) * out_width
                    for kx in range(kw):
                        shift = kx * dw - pw
                        low, high = inside_at(shift, sw, width, out_width)
                        if low >= high:
                            continue
                        k = ((c * kd + kz) * kh + ky) * kw + kx
                        source = columns[k, start + low : start + high]
                        onto = target[low * sw + shift :]
                        if sw == 1:
                            for i in range(source.size):
                                onto[i] += source[i]
                        else:
                            for i in range(source.size):
                                onto[i * sw] += source[i]

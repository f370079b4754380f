"""What a convolution's window sees, read straight from the image: im2col without the columns in memory.

Row k = (c, kz, ky, kx) of the columns holds, for every output pixel, the value that tap (kz, ky, kx) sees of channel c,
and 0 in the padding. The matrix product packs its operands panel by panel anyway; these functions let it pack from the
image, so that the columns (1.1 GB for 64 channels of 698 x 698) never exist.

`geometry` is `Window.numbers` (kernel, stride, pad, dilation, output; three axes each) and the image's three lengths.
"""

from layers.core.cpu.compiled import compiled
from layers.core.cpu.moves import copy, get, put, zero


@compiled
def seen(shift, stride, size, first, last):
    """Return the part [low, high) of outputs [first, last) whose tap, at output * stride + shift, is inside [0, size)."""
    low = max(first, (stride - 1 - shift) // stride)
    high = min(last, (size - shift + stride - 1) // stride)
    low = min(low, last)
    return low, max(low, high)


@compiled
def patch_row(geometry, image, k, pixel, count, target):
    """Write what row k of the columns holds for output pixels [pixel, pixel + count) to the address `target`."""
    kh, kw, kd = geometry[1], geometry[2], geometry[0]
    out_height, out_width = geometry[13], geometry[14]
    depth, height, width = geometry[15], geometry[16], geometry[17]
    stride = geometry[5]
    kx, ky, kz = k % kw, k // kw % kh, k // (kw * kh) % kd
    plane = image + k // (kw * kh * kd) * depth * height * width * 4
    shift = kx * geometry[11] - geometry[8]
    row, x = pixel // out_width, pixel % out_width
    while count > 0:
        take = min(count, out_width - x)
        z = row // out_height * geometry[3] - geometry[6] + kz * geometry[9]
        y = row % out_height * geometry[4] - geometry[7] + ky * geometry[10]
        if z < 0 or z >= depth or y < 0 or y >= height:
            zero(target, take)
        else:
            low, high = seen(shift, stride, width, x, x + take)
            source = plane + ((z * height + y) * width + low * stride + shift) * 4
            if low > x:
                zero(target, low - x)
            if stride == 1:
                copy(target + (low - x) * 4, source, high - low)
            else:
                for i in range(high - low):
                    put(target + (low - x + i) * 4, get(source + i * stride * 4))
            if high < x + take:
                zero(target + (high - x) * 4, x + take - high)
        target += take * 4
        count -= take
        x = 0
        row += 1

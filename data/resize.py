"""Bilinear resizing with OpenCV's bits: what Caffe does to a picture when new_height and new_width are given.

Output column x takes the input at ``(x + 0.5) * W / width - 0.5`` (half-pixel centres, no antialiasing), between its two
neighbours, weights in 11 bits; sums are cut to 8 bits as OpenCV's vector code does. Halving both sides takes the mean of
2 x 2 pixels. Source: OpenCV's `cv2.resize` with INTER_LINEAR, which the tests hold it against, bit by bit.
"""

import numpy as np

BITS = 11  # of a weight


def resize(picture, height, width):
    """Return (height, width[, C]) uint8 of an (H, W[, C]) uint8 picture; one of that size already is returned as it is."""
    tall, wide = picture.shape[:2]
    if (tall, wide) == (height, width):
        return picture
    if (tall, wide) == (2 * height, 2 * width):
        sums = picture[0::2, 0::2].astype(np.uint16) + picture[1::2, 0::2] + picture[0::2, 1::2] + picture[1::2, 1::2]
        return ((sums + 2) >> 2).astype(np.uint8)
    channels = picture.size // (tall * wide)
    x, left, right = _weights(width, wide)
    y, above, below = _weights(height, tall)
    inside = (x >= 0) & (x < wide - 1)
    # Beyond the first and last column there is nothing to weigh; rows are weighed even there, as OpenCV does.
    left, right = np.where(inside, left, 1 << BITS).astype(np.int32), np.where(inside, right, 0).astype(np.int32)
    x = np.clip(x, 0, wide - 1)
    # Columns of all channels side by side: NumPy gathers single values faster than triples.
    one, other = (((column[:, None] * channels) + np.arange(channels)).ravel() for column in (x, np.minimum(x + 1, wide - 1)))
    left, right = np.repeat(left, channels), np.repeat(right, channels)
    first, second = np.clip(y, 0, tall - 1), np.clip(y + 1, 0, tall - 1)
    # Only the rows that are used are weighed across, each of them once.
    used, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    rows = picture.reshape(tall, -1)[used]
    across = rows[:, one] * left
    across += rows[:, other] * right
    across >>= 4
    sums, more = across[place[:height]], across[place[height:]]
    sums *= above[:, None]
    more *= below[:, None]
    sums >>= 16
    more >>= 16
    sums += more
    sums += 2
    return (sums >> 2).astype(np.uint8).reshape(height, width, *picture.shape[2:])


def _weights(count, length):
    # (neighbour before each output position, its weight, that of the next one), int32
    scale = 1 / (count / length)  # rounded twice, as OpenCV does
    places = ((np.arange(count) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(places)
    share = places - before

    def bits(weight):
        return np.rint(weight * np.float32(1 << BITS)).astype(np.int32)

    return before.astype(np.int64), bits(np.float32(1) - share), bits(share)

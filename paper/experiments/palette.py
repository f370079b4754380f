"""The colours of Figures 3, 4, 6 and 7: PASCAL VOC's palette, and label maps as PNG files."""

import io

import numpy as np
from PIL import Image

from data import colors
from paper.experiment import exact

TITLE = "The palette of the figures"
PLACE = "Fig. 6"
MINUTES = 0.05
NEEDS = ()
DEPENDS = ("data/colors.py",)
# A few of VOC's colours as its development kit's colour map has them.
KNOWN = {0: (0, 0, 0), 1: (128, 0, 0), 7: (128, 128, 128), 12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128),
         255: (224, 224, 192)}


def run(context):
    """Compare colours, carry labels through a PNG, draw the palette."""
    right = sum(tuple(int(one) for one in colors.PALETTE[number]) == colour for number, colour in KNOWN.items())
    interleaved = sum(tuple(int(one) for one in colors.PALETTE[number]) == bits(number) for number in range(256))
    cells = np.arange(21).reshape(3, 7)
    return {"rows": [
        exact("Outputs are drawn in PASCAL VOC's colours", "5, Fig. 6", "256 colours beside the rule (bits of the class dealt to "
              "red, green, blue from the highest bit on), and known ones", "VOC's palette",
              f"{interleaved} of 256; {right} of {len(KNOWN)}",
              interleaved == 256 and right == len(KNOWN)),
        exact("A label map is a palette PNG that keeps class numbers and the ignored border", "5, Fig. 6",
              "all 256 labels through a PNG file and back", "exact", "exact" if round_trip() else "differs", round_trip()),
    ], "pictures": {"palette_of_21_classes": np.kron(colors.colorize(cells.astype(np.uint8)), np.ones((24, 24, 1), np.uint8))}}


def bits(number):
    """Return the colour of a class by the rule, one bit at a time."""
    colour = [0, 0, 0]
    for place in range(24):
        colour[place % 3] |= ((number >> place) & 1) << (7 - place // 3)
    return tuple(colour)


def round_trip():
    """Say whether all labels come back from a palette PNG."""
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(label, mode="P")
    picture.putpalette(colors.PALETTE.ravel().tolist())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    again = Image.open(buffer)
    return bool((np.asarray(again) == label).all() and (np.asarray(again.convert("RGB")) == colors.colorize(label)).all())

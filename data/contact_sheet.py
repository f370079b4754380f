"""The contact sheet: all rows of pictures on one."""

import math

from PIL import Image, ImageDraw, ImageFont

from data import colors
from data.rows import COLUMNS, caption_of, cells, class_name, classes_shown


def contact_sheet(rows, classes, cell=150, gap=10):
    """Return one PIL picture of all rows: input, truth, prediction, overlay; two rows abreast when there are many."""
    abreast = 2 if len(rows) > 6 else 1
    ink, paper, faint = (34, 36, 42), (252, 252, 250), (120, 122, 128)
    font, small = _font(15), _font(12)
    deep = math.ceil(len(rows) / abreast)
    block = 4 * cell + 3 * gap
    shown = classes_shown(rows, len(classes))
    chips, x, line = [], 0, 0
    width = abreast * block + (abreast + 1) * 3 * gap
    for number in shown:
        wide = 22 + int(small.getlength(class_name(number, classes))) + 16
        if x and x + wide > width - 6 * gap:
            x, line = 0, line + 1
        chips.append((number, x, line))
        x += wide
    top, foot = 34, 22 * (line + 1) + 2 * gap
    picture = Image.new("RGB", (width, top + deep * (cell + 20 + gap) + foot), paper)
    pen = ImageDraw.Draw(picture)
    for group in range(abreast):
        left = 3 * gap + group * (block + 3 * gap)
        for column, title in enumerate(COLUMNS):
            pen.text((left + column * (cell + gap), 12), title, ink, font)
    for number, (name, image, truth, prediction) in enumerate(rows):
        left = 3 * gap + (number // deep) * (block + 3 * gap)
        y = top + (number % deep) * (cell + 20 + gap)
        for column, array in enumerate(cells(image, truth, prediction)):
            x = left + column * (cell + gap)
            if array is None:
                continue
            how = Image.Resampling.NEAREST if column in (1, 2) else Image.Resampling.BICUBIC
            tile = Image.fromarray(array)
            scale = cell / max(tile.size)
            tile = tile.resize([max(1, round(side * scale)) for side in tile.size], how)
            picture.paste(tile, (x + (cell - tile.width) // 2, y + (cell - tile.height) // 2))
        pen.text((left, y + cell + 2), caption_of(name, truth, prediction, len(classes)), faint, small)
    for number, x, line in chips:
        x, y = x + 3 * gap, picture.height - foot + gap + 22 * line
        pen.rectangle((x, y + 1, x + 14, y + 13), tuple(colors.PALETTE[number].tolist()), faint)
        pen.text((x + 20, y), class_name(number, classes), ink, small)
    return picture


def _font(size):
    try:
        return ImageFont.load_default(size)
    except (OSError, ImportError, TypeError):  # a Pillow without FreeType has one size only
        return ImageFont.load_default()

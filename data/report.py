"""One page that shows what a net learned: input, truth, prediction side by side, the loss curve, the scores.

The page is a single HTML file that needs nothing else (pictures embedded, the curve drawn here as SVG); beside it goes
a contact sheet of the same rows as one PNG.
"""

import base64
import html
import io
import math
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data import colors, metrics
from data.transform import rgb
from netspec import files
from netspec.errors import Error

COLUMNS = ("input", "truth", "prediction", "overlay")


def write_report(folder, title, rows, classes, losses=(), scores=None, notes=(), page="index.html", sheet="sheet.png"):
    """Write the page and the contact sheet into `folder`.

    Parameters
    ----------
    rows : list of (id, picture (H, W, 3) uint8 RGB, truth (H, W) or None, prediction (H, W)).
    classes : class names, number 0 first.
    losses : (iteration, loss) pairs of the curve; values that are not finite leave a gap.
    scores : what `data.metrics.scores` returns, or None.
    notes : (key, value) pairs to print below the title, such as the net, the iterations, the seconds.
    page, sheet : file names.

    Returns (path of the page, path of the sheet). Both are written atomically.
    """
    rows, classes = [_check_row(row, len(classes)) for row in rows], [str(name) for name in classes]
    page, sheet = os.path.join(folder, page), os.path.join(folder, sheet)
    with files.atomic(sheet) as file:
        contact_sheet(rows, classes).save(file, "PNG", optimize=True)
    files.write_text(page, _page(str(title), rows, classes, list(losses), scores, list(notes)))
    return page, sheet


def _check_row(row, classes):
    name, image, truth, prediction = row
    image, prediction = np.ascontiguousarray(rgb(image), np.uint8), np.asarray(prediction)
    truth = None if truth is None else np.asarray(truth)
    for what, label in (("truth", truth), ("prediction", prediction)):
        if label is not None and label.shape != image.shape[:2]:
            raise Error(f"report row '{name}': {what} is {label.shape}, its picture {image.shape[:2]}")
    if prediction.size and not (prediction.min() >= 0 and prediction.max() < max(classes, 1)):
        raise Error(f"report row '{name}': prediction {int(prediction.max())} has no name among the {classes} classes")
    return str(name), image, truth, prediction


# ---------------------------------------------------------------------------------------------------------------------
# contact sheet


def contact_sheet(rows, classes, cell=150, gap=10):
    """Return one PIL picture of all rows: input, truth, prediction, overlay; two rows abreast when there are many."""
    abreast = 2 if len(rows) > 6 else 1
    ink, paper, faint = (34, 36, 42), (252, 252, 250), (120, 122, 128)
    font, small = _font(15), _font(12)
    deep = math.ceil(len(rows) / abreast)
    block = 4 * cell + 3 * gap
    shown = _classes_shown(rows, len(classes))
    chips, x, line = [], 0, 0
    width = abreast * block + (abreast + 1) * 3 * gap
    for number in shown:
        wide = 22 + int(small.getlength(_name(number, classes))) + 16
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
        for column, array in enumerate(_cells(image, truth, prediction)):
            x = left + column * (cell + gap)
            if array is None:
                continue
            how = Image.Resampling.NEAREST if column in (1, 2) else Image.Resampling.BICUBIC
            tile = Image.fromarray(array)
            scale = cell / max(tile.size)
            tile = tile.resize([max(1, round(side * scale)) for side in tile.size], how)
            picture.paste(tile, (x + (cell - tile.width) // 2, y + (cell - tile.height) // 2))
        pen.text((left, y + cell + 2), _caption(name, truth, prediction, len(classes)), faint, small)
    for number, x, line in chips:
        x, y = x + 3 * gap, picture.height - foot + gap + 22 * line
        pen.rectangle((x, y + 1, x + 14, y + 13), tuple(colors.PALETTE[number].tolist()), faint)
        pen.text((x + 20, y), _name(number, classes), ink, small)
    return picture


def _font(size):
    try:
        return ImageFont.load_default(size)
    except (OSError, ImportError, TypeError):  # a Pillow without FreeType has one size only
        return ImageFont.load_default()


def _cells(image, truth, prediction):
    return (image, None if truth is None else colors.colorize(truth), colors.colorize(prediction),
            colors.overlay(image, prediction, 0.55))


def _classes_shown(rows, count):
    # The classes that the rows hold, the background first, the ignored border last.
    held = np.zeros(256, bool)
    for _, _, truth, prediction in rows:
        for label in (truth, prediction):
            if label is not None:
                held[np.unique(label)] = True
    return [i for i in range(256) if held[i] and (i < count or i == colors.IGNORE)]


def _name(number, classes):
    return classes[number] if number < len(classes) else "ignored"


def _caption(name, truth, prediction, classes):
    if truth is None:
        return name
    score = metrics.scores(metrics.confusion(truth, prediction, classes))
    if not score["pixels"]:
        return name
    return f"{name}    pixels right {score['pixel_accuracy']:.1%}    mean IU {score['mean_iu']:.3f}"


# ---------------------------------------------------------------------------------------------------------------------
# page


def _page(title, rows, classes, losses, scores, notes):
    parts = [f"<header><h1>{_text(title)}</h1>"]
    if notes:
        parts.append("<dl class=notes>" + "".join(
            f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>" for key, value in notes) + "</dl>")
    parts.append("</header>")
    if scores:
        parts.append(_cards(scores))
    curve = loss_curve(losses)
    table = _table(scores, classes) if scores else ""
    if curve or table:
        parts.append("<div class=pair>")
        if curve:
            parts.append(f"<section><h2>Loss</h2>{curve}</section>")
        if table:
            parts.append(f"<section><h2>Classes</h2>{table}</section>")
        parts.append("</div>")
    parts.append(_gallery(rows, classes))
    if scores and scores.get("rule"):
        parts.append(f"<footer><p>How it is scored: {_text(scores['rule'])}.</p></footer>")
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="color-scheme" content="light dark">\n<title>{_text(title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n")


def _cards(scores):
    named = (("mean_iu", "mean IU"), ("pixel_accuracy", "pixel accuracy"), ("mean_accuracy", "mean accuracy"),
             ("frequency_weighted_iu", "frequency weighted IU"))
    cards = "".join(f"<div><b>{_number(scores[key])}</b><span>{name}</span></div>"
                    for key, name in named if key in scores)
    return f"<section class=cards>{cards}</section>"


def _table(scores, classes):
    # One bar a class: the IU's length in the class' colour.
    lines = []
    for number, name in enumerate(classes[:len(scores["class_iu"])]):
        union, accuracy = float(scores["class_iu"][number]), float(scores["class_accuracy"][number])
        width = 0 if math.isnan(union) else 100 * union
        out = " class=out" if math.isnan(union) or number in scores.get("excluded", ()) else ""
        lines.append(
            f"<tr{out}><th scope=row>{_chip(number)}{_text(name)}</th>"
            f'<td class=bar><i style="width:{width:.1f}%;background:{_hex(number)}"></i></td>'
            f"<td>{_number(union)}</td><td>{_number(accuracy)}</td></tr>")
    return ("<div class=scroll><table><thead><tr><th scope=col>class</th><th></th><th scope=col>IU</th>"
            "<th scope=col>accuracy</th></tr></thead><tbody>" + "".join(lines) + "</tbody></table></div>")


def _gallery(rows, classes):
    if not rows:
        return ""
    legend = "".join(f"<li>{_chip(number)}{_text(_name(number, classes))}</li>"
                     for number in _classes_shown(rows, len(classes)))
    parts = [f"<section class=gallery><h2>Pictures</h2><ul class=legend>{legend}</ul>"]
    for name, image, truth, prediction in rows:
        caption = [part for part in _caption(name, truth, prediction, len(classes)).split("    ") if part]
        parts.append(f"<article><p class=caption><b>{_text(caption[0])}</b>"
                     + "".join(f"<span>{_text(part)}</span>" for part in caption[1:]) + "</p><div class=row>")
        for title, array in zip(COLUMNS, _cells(image, truth, prediction)):
            if array is None:
                continue
            flat = title in ("truth", "prediction")
            height, width = array.shape[:2]
            # Upright pictures would fill the screen at full width: 15rem is the height of a row.
            parts.append(f'<figure><img src="{_embed(array, flat)}" width={width} height={height} '
                         f'style="width:min(100%,{15 * width / height:.2f}rem)" alt="{_text(name)}: {title}"'
                         f'{" class=flat" if flat else ""}><figcaption>{title}</figcaption>'
                         "</figure>")
        parts.append("</div></article>")
    return "\n".join(parts) + "</section>"


def loss_curve(losses, width=640, height=300):
    """Draw (iteration, loss) pairs as inline SVG: every value in a pale line, their running mean in a strong one.

    The axis is logarithmic when the losses span more than a factor of 30. Empty when fewer than two are finite.
    """
    points = [(float(i), float(v)) for i, v in losses]
    good = [(i, v) for i, v in points if math.isfinite(v) and math.isfinite(i)]
    if len(good) < 2:
        return ""
    values = np.array([v for _, v in good])
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high / low > 30
    first, last = good[0][0], max(good[-1][0], good[0][0] + 1)
    if logarithmic:
        bottom, top = math.floor(math.log10(low) * 2) / 2, math.ceil(math.log10(high) * 2) / 2
        ticks = [10.0 ** k for k in range(math.ceil(bottom), math.floor(top) + 1)]
        if len(ticks) < 3:
            ticks = sorted([*ticks, *(3 * 10.0 ** k for k in range(math.floor(bottom), math.floor(top) + 1)
                                      if bottom <= math.log10(3) + k <= top)])
    else:
        ticks = _ticks(min(0.0, low), high, 5)
        bottom, top = min(ticks[0], low), max(ticks[-1], high)
    left, right, above, below = 58, 20, 12, 40  # right: half a number of the last tick

    def at(i, v):
        v = math.log10(v) if logarithmic else v
        return (left + (width - left - right) * (i - first) / (last - first),
                above + (height - above - below) * (top - v) / ((top - bottom) or 1))

    parts = [f'<svg class=curve viewBox="0 0 {width} {height}" role=img aria-label="loss over iterations">']
    for tick in ticks:
        y = at(first, tick)[1]
        parts.append(f'<line class=grid x1={left} x2={width - right} y1={y:.1f} y2={y:.1f} />'
                     f'<text x={left - 8} y={y + 4:.1f} text-anchor=end>{_short(tick)}</text>')
    for tick in _ticks(first, last, 6):
        if first <= tick <= last:
            x = at(tick, ticks[0])[0]
            parts.append(f'<line class=tick x1={x:.1f} x2={x:.1f} y1={height - below} y2={height - below + 5} />'
                         f'<text x={x:.1f} y={height - below + 19} text-anchor=middle>{_short(tick)}</text>')
    parts.append(f'<text class=title x={(left + width - right) / 2} y={height - 4} text-anchor=middle>iteration</text>')
    window = max(1, round(len(good) / 25))
    parts.append(_path(_thin(points), at, "raw" if window > 1 else "mean"))
    if window > 1:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        ends = np.arange(1, len(values) + 1)
        begins = np.maximum(0, ends - window)
        smooth = (sums[ends] - sums[begins]) / (ends - begins)
        parts.append(_path(_thin([(i, float(v)) for (i, _), v in zip(good, smooth)]), at, "mean"))
    parts.append("</svg>")
    note = f"{_short(values[0])} at iteration {good[0][0]:.0f}, {_short(values[-1])} at {good[-1][0]:.0f}"
    note += f"; strong line: mean of {window} values" if window > 1 else ""
    note += "; logarithmic" if logarithmic else ""
    note += f"; {len(points) - len(good)} values not finite" if len(points) > len(good) else ""
    return "".join(parts) + f"<p class=caption>{note}</p>"


def _thin(points, most=800):
    # Of many points the lowest and the highest of each of `most` / 2 stretches: no peak is lost.
    if len(points) <= most:
        return points
    kept = []
    for part in np.array_split(np.arange(len(points)), most // 2):
        finite = [k for k in part if math.isfinite(points[k][1])]
        kept += sorted({min(finite, key=lambda k: points[k][1]), max(finite, key=lambda k: points[k][1])} if finite
                       else {int(part[0])})
    return [points[k] for k in kept]


def _path(points, at, kind):
    # A path that is broken where a value is not finite.
    steps, pen = [], "M"
    for i, v in points:
        if not (math.isfinite(v) and math.isfinite(i)):
            pen = "M"
            continue
        x, y = at(i, v)
        steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return f'<path class={kind} d="{"".join(steps)}" />'


def _ticks(low, high, count):
    # Round numbers (1, 2, 2.5, 5 times a power of ten) from at or below `low` to at or above `high`.
    rough = (high - low or 1) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    start = math.floor(low / step + 1e-9)
    return [round(k * step, 12) for k in range(start, math.ceil(high / step - 1e-9) + 1)]


def _short(value):
    # 0.25, 1200, 35k, 2.5M
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.4g}{letter}"
    return f"{value:.4g}"


def _number(value):
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _chip(number):
    return f'<i class=chip style="background:{_hex(number)}"></i>'


def _hex(number):
    return "#" + bytes(colors.PALETTE[number].tolist()).hex()


def _text(value):
    return html.escape(str(value))


def _embed(array, flat):
    # Flat colours as PNG, exact; photographs as JPEG, a tenth of the size.
    buffer = io.BytesIO()
    if flat:
        Image.fromarray(array).quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(array).save(buffer, "JPEG", quality=92, subsampling=0)
    kind = "png" if flat else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


STYLE = """
:root { --paper: #fbfaf7; --card: #fff; --ink: #22242a; --soft: #6a6d75; --line: #e4e2dc; --accent: #2f6f9f;
        --pale: #2f6f9f3d; --serif: "Iowan Old Style", Charter, "Palatino Linotype", Georgia, serif }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --card: #1e2126; --ink: #e7e5e0; --soft: #9a9da5; --line: #32353c; --accent: #7fb8e0;
          --pale: #7fb8e048 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
       font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100% }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 3rem }
h1 { font: 600 clamp(1.6rem, 4vw, 2.2rem)/1.2 var(--serif); margin: 0 0 .8rem }
h2 { font: 600 1.15rem/1.3 var(--serif); margin: 0 0 .7rem }
section { margin-top: 2rem }
.notes { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 0 }
.notes dt { color: var(--soft); font-size: .8rem }
.notes dd { margin: 0; overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem }
.cards b { display: block; font-size: 1.75rem; line-height: 1.15; font-weight: 600 }
.cards div:first-child b { color: var(--accent) }
.cards span { color: var(--soft); font-size: .85rem }
.pair { display: grid; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); gap: 0 2.5rem }
.pair section:only-child { grid-column: 1 / -1 }
.curve { display: block; width: 100%; height: auto }
.curve text { font-size: 13px; fill: var(--soft) }
.curve .grid { stroke: var(--line) }
.curve .tick { stroke: var(--soft) }
.curve path { fill: none; stroke: var(--accent); stroke-linejoin: round }
.curve .raw { stroke: var(--pale); stroke-width: 1 }
.curve .mean { stroke-width: 2.25 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { padding: .32rem 0 .32rem .8rem; text-align: right; font-weight: 400 }
tbody tr { border-top: 1px solid var(--line) }
thead th { color: var(--soft); font-size: .8rem }
th:first-child { text-align: left; padding-left: 0; white-space: nowrap }
td.bar { width: 45%; min-width: 4rem }
td.bar i { display: block; height: .62rem; border-radius: 2px; box-shadow: inset 0 0 0 1px #8886 }
tr.out { color: var(--soft) }
.chip { display: inline-block; width: .8rem; height: .8rem; margin-right: .5rem; border-radius: 3px;
        box-shadow: inset 0 0 0 1px #8888; vertical-align: -.06rem }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 1rem; padding: 0;
          font-size: .9rem }
article { margin-bottom: 1.4rem }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; align-items: start }
figure { margin: 0 }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line) }
img.flat { image-rendering: pixelated }
figcaption { color: var(--soft); font-size: .8rem; padding-top: .15rem }
.caption { margin: .15rem 0 .3rem; color: var(--soft); font-size: .85rem }
.caption b { color: var(--ink); font-weight: 600 }
.caption span { margin-left: 1.2rem }
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
         font-size: .85rem }
footer p { margin: 0; max-width: 70ch }
@media (max-width: 720px) {
  main { padding-top: 1.5rem }
  .cards, .row { grid-template-columns: repeat(2, 1fr) }
  .pair { grid-template-columns: minmax(0, 1fr) }
  .caption span { margin-left: .8rem } }
"""

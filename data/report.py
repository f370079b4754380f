"""One page that shows what a net learned: input, truth, prediction side by side, the loss curve, the scores.

The page is a single HTML file that needs nothing else (pictures embedded, the curve drawn as SVG); beside it goes a
contact sheet of the same rows as one PNG.
"""

import base64
import html
import io
import math
import os

from PIL import Image

from data import colors
from data.contact_sheet import contact_sheet
from data.loss_curve import loss_curve
from data.rows import COLUMNS, caption_of, cells, checked, class_name, classes_shown
from netspec import files


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
    rows, classes = [checked(row, len(classes)) for row in rows], [str(name) for name in classes]
    page, sheet = os.path.join(folder, page), os.path.join(folder, sheet)
    with files.atomic(sheet) as file:
        contact_sheet(rows, classes).save(file, "PNG", optimize=True)
    files.write_text(page, _page(str(title), rows, classes, list(losses), scores, list(notes)))
    return page, sheet


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
    legend = "".join(f"<li>{_chip(number)}{_text(class_name(number, classes))}</li>"
                     for number in classes_shown(rows, len(classes)))
    parts = [f"<section class=gallery><h2>Pictures</h2><ul class=legend>{legend}</ul>"]
    for name, image, truth, prediction in rows:
        caption = [part for part in caption_of(name, truth, prediction, len(classes)).split("    ") if part]
        parts.append(f"<article><p class=caption><b>{_text(caption[0])}</b>"
                     + "".join(f"<span>{_text(part)}</span>" for part in caption[1:]) + "</p><div class=row>")
        for title, array in zip(COLUMNS, cells(image, truth, prediction)):
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

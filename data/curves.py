"""Curves over common axes: as inline SVG, whose page says the colours (classes c0 to c7), and as a picture."""

import html
import math

from PIL import Image, ImageDraw, ImageFont

COLOURS = 8
PALETTE = ("#2f6fde", "#d9480f", "#2b8a3e", "#9c36b5", "#c92a2a", "#0c8599", "#e67700", "#5c677d")  # of a picture
MOST = 600  # points of a curve that are drawn


def drawing(title, curves, width=640, height=320):
    """Draw curves {name: {"x", "y", "label", ...}} over common axes; return the SVG with its legend, "" if nothing is finite.

    An axis is logarithmic when its values are positive and span more than a factor of 30. None leaves a gap.
    """
    lines = _finite(curves)
    if not lines:
        return ""
    across, up = _axes(lines)
    first = next(iter(curves.values()))
    left, right, above, below = 56, 18, 30 if first.get("y_label") else 10, 44

    def at(x, y):
        return left + (width - left - right) * across.part(x), above + (height - above - below) * (1 - up.part(y))

    parts = [f'<svg class=curves viewBox="0 0 {width} {height}" role=img aria-label="{html.escape(title, quote=True)}">']
    for tick in up.ticks:
        y = at(across.low, tick)[1]
        parts.append(f'<line class=grid x1={left} x2={width - right} y1={y:.1f} y2={y:.1f} />'
                     f'<text x={left - 8} y={y + 4:.1f} text-anchor=end>{short(tick)}</text>')
    for tick in across.ticks:
        x = at(tick, up.low)[0]
        parts.append(f'<line class=tick x1={x:.1f} x2={x:.1f} y1={height - below} y2={height - below + 5} />'
                     f'<text x={x:.1f} y={height - below + 18} text-anchor=middle>{short(tick)}</text>')
    for what, where in ((first.get("x_label"), f'x={(left + width - right) / 2} y={height - 6} text-anchor=middle'),
                        (first.get("y_label"), 'x=4 y=14')):
        if what:
            parts.append(f"<text {where}>{html.escape(what)}</text>")
    for number, (_, points) in enumerate(lines):
        kind = f"c{number % COLOURS}"
        dashed = " stroke-dasharray=6,4" if number >= COLOURS else ""
        points = thinned(points)
        steps, pen = [], "M"
        for x, y in points:
            if y is None:
                pen = "M"
                continue
            steps.append("{}{:.1f} {:.1f}".format(pen, *at(x, y)))
            pen = "L"
        parts.append(f'<path class={kind}{dashed} d="{"".join(steps)}" />')
        if len(points) <= 30:
            parts += ["<circle class={} cx={:.1f} cy={:.1f} r=3 />".format(kind, *at(x, y)) for x, y in points if y is not None]
    legend = "".join(f"<li><i class=c{number % COLOURS}></i>{html.escape(label)}</li>" for number, (label, _) in enumerate(lines))
    return f"{''.join(parts)}</svg><ul class=legend>{legend}</ul>"


def picture(panels, width=900, height=360):
    """Return an RGB picture of [(title, curves)], one panel below the other, curves as in `drawing`; None if all are empty."""
    panels = [(title, found) for title, found in ((title, _finite(curves)) for title, curves in panels) if found]
    if not panels:
        return None
    scale = 2  # drawn larger, then made smaller: smooth lines
    page = Image.new("RGB", (width * scale, height * scale * len(panels)), "white")
    draw = ImageDraw.Draw(page)
    font, bold = (ImageFont.load_default(size * scale) for size in (12, 15))
    for number, (title, lines) in enumerate(panels):
        top = number * height * scale
        left, right, above, below = (margin * scale for margin in (70, 20, 56, 34))
        across, up = _axes(lines)

        def at(x, y, top=top, across=across, up=up, left=left, right=right, above=above, below=below):
            return (left + (width * scale - left - right) * across.part(x),
                    top + above + (height * scale - above - below) * (1 - up.part(y)))

        draw.text((left, top + 8 * scale), title, fill="#111", font=bold)
        for tick in up.ticks:
            y = at(across.low, tick)[1]
            draw.line([left, y, width * scale - right, y], fill="#ddd", width=scale)
            draw.text((left - 8 * scale, y), short(tick), fill="#555", font=font, anchor="rm")
        for tick in across.ticks:
            x = at(tick, up.low)[0]
            draw.text((x, top + height * scale - below + 8 * scale), short(tick), fill="#555", font=font, anchor="ma")
        place = left
        for index, (label, points) in enumerate(lines):
            colour, pen = PALETTE[index % COLOURS], []
            for x, y in [*thinned(points), (None, None)]:
                if y is not None:
                    pen.append(at(x, y))
                    continue
                if len(pen) > 1:
                    draw.line(pen, fill=colour, width=2 * scale, joint="curve")
                elif pen:
                    _dot(draw, pen[0], colour, 3 * scale)
                pen = []
            draw.line([place, top + 42 * scale, place + 18 * scale, top + 42 * scale], fill=colour, width=3 * scale)
            draw.text((place + 24 * scale, top + 42 * scale), label, fill="#333", font=font, anchor="lm")
            place += 44 * scale + draw.textlength(label, font=font)
    return page.resize((width, height * len(panels)), Image.Resampling.LANCZOS)


def _axes(lines):
    return (Axis([x for _, points in lines for x, _ in points], 6),
            Axis([y for _, points in lines for _, y in points if y is not None], 5))


def _dot(draw, at, colour, radius):
    draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=colour)


def _finite(curves):
    """Return [(label, points)] of the curves that have a value."""
    lines = [(curve.get("label") or name, [(x, y) for x, y in zip(curve["x"], curve["y"]) if x is not None])
             for name, curve in curves.items()]
    return [(label, points) for label, points in lines if any(y is not None for _, y in points)]


class Axis:
    """One axis: its range, its round numbers, and where a value lies on it (0 to 1)."""

    def __init__(self, values, count):
        low, high = min(values), max(values)
        self.logarithmic = low > 0 and high / low > 30
        if self.logarithmic:
            self.low, self.high = low, high
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            steps = (1,) if len(powers) > 4 else (1, 2, 5)
            self.ticks = [step * 10.0 ** power for power in powers for step in steps if low <= step * 10.0 ** power <= high]
        else:
            self.ticks = round_numbers(low, high, count)
            self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])

    def part(self, value):
        """Return 0 at the low end, 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / ((self.high - self.low) or 1)


def round_numbers(low, high, count):
    """Return round numbers (1, 2, 2.5, 5 times a power of ten) from at or below `low` to at or above `high`."""
    rough = (high - low or abs(high) or 1) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(start, max(end, start + 1) + 1)]


def thinned(points):
    """Return at most about `MOST` points: of each stretch its first, its lowest and its highest, so that no peak is lost."""
    if len(points) <= MOST:
        return points
    size, kept = math.ceil(3 * len(points) / MOST), []
    for begin in range(0, len(points), size):
        part = points[begin : begin + size]
        finite = [point for point in part if point[1] is not None]
        chosen = {part[0], *((min(finite, key=lambda one: one[1]), max(finite, key=lambda one: one[1])) if finite else ())}
        kept += sorted(chosen, key=lambda one: one[0])
    return [*kept, points[-1]]


def short(value):
    """Return 0.25, 1200, 35k, 2.5M, 1e-06."""
    for unit, letter, part in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e4, "k", 1e3)):
        if abs(value) >= unit:
            return f"{value / part:.4g}{letter}"
    return f"{value:.4g}"

"""The loss over the iterations as a drawing: inline SVG, styled by the page that holds it."""

import math

import numpy as np


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

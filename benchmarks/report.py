"""The results as Markdown tables: our time, each engine's time and the ratio ours / theirs, the goals."""

from benchmarks.engines import ENGINES
from benchmarks.rows import BEST, BETTER_TORCH

TITLES = {"forward": "Forward", "varying": "Forward, six sizes of PASCAL VOC's images in turn: every call changes the size",
          "train": "Forward, backward, update",
          "layers": "Layer by layer (ours inside the net, the others as nets of one step)", "product": "Matrix products",
          "load": "Loading and parsing", "parse": "Loading and parsing", "folder": "A folder of photographs, end to end"}


def verdicts(result):
    """Return [(goal's name, largest ratio, ratio or None, met or None), ...]."""
    found = []
    for name, limit in result["goals"].items():
        ratio = _ratio(result, name)
        found.append((name, limit, ratio, None if ratio is None else ratio <= limit))
    return found


def _ratio(result, name):
    # The best engine is the one that is hardest to beat: the largest ratio.
    ratios = {peer: pair["ratio"] for peer, pair in result["pairs"].items()}
    if name == BETTER_TORCH:
        return max((ratios[peer] for peer in ("torch", "torch channels last") if peer in ratios), default=None)
    if name == BEST:
        return max((ratio for peer, ratio in ratios.items() if ENGINES[peer].exact and not peer.startswith("deepjet")),
                   default=None)
    return ratios.get(name)


def markdown(about, versions, missing, results, command):
    """Return the whole report."""
    lines = [f"# {about['processor']}, {about['threads']} threads, {about['date']}", "", f"`{command}`", "",
             "Medians of calls in turns with ours; in brackets the median of the ratios ours / theirs of neighbouring calls, "
             "below 1 where ours is faster. All in float32 but the columns that say otherwise; results compared first.", ""]
    lines += ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in about.items())]
    lines += [f"| {name} | {version} |" for name, version in versions.items()]
    met = [one[3] for result in results for one in verdicts(result) if one[3] is not None]
    lines += ["", f"Goals met: {sum(met)} of {len(met)}."]
    groups = {}
    for result in results:
        groups.setdefault(TITLES[result["kind"]], []).append(result)
    for title, group in groups.items():
        lines += ["", f"## {title}", "", *_table(group)]
    memory = [result for result in results if result["kind"] in ("forward", "train")
              and {"torch", "torch channels last"} & set(result["peak GiB"])]
    if memory:
        lines += ["", "## Largest resident memory of the process, GiB", "", "| | deepjet | torch | torch channels last |",
                  "|---|---|---|---|"]
        lines += [f"| {result['name']} | " + " | ".join(
            f"{result['peak GiB'][name]:.2f}" if name in result["peak GiB"] else "-"
            for name in ("deepjet", "torch", "torch channels last")) + " |" for result in memory]
    notes = [f"- {result['name']}: {note}" for result in results for note in result["notes"]]
    notes += [f"- {text}" for text in missing.values()]
    if notes:
        lines += ["", "## Not measured", "", *dict.fromkeys(notes)]
    return "\n".join(lines) + "\n"


def _table(group):
    peers = [name for name in ENGINES if any(name in result["pairs"] for result in group)]
    shown = []
    for result in group:
        shown.append(result)
        if result.get("first met"):
            shown[-1] = {**result, "name": f"{result['name']}, each met before"}
            shown.append({**result, "name": f"{result['name']}, first met", "pairs": result["first met"], "goals": {}})
    lines = ["| | deepjet | " + " | ".join(peers) + " | goals |", "|---" * (len(peers) + 3) + "|"]
    for result in shown:
        cells = [result["name"].split(": ")[-1], _ours(result)]
        for peer in peers:
            pair = result["pairs"].get(peer)
            cells.append(f"{_shown(result, pair['theirs'])} ({pair['ratio']:.2f})" if pair else "-")
        cells.append("; ".join(_verdict(*one) for one in verdicts(result)) or "-")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ours(result):
    times = sorted(pair["ours"] for pair in result["pairs"].values())
    return _shown(result, times[len(times) // 2]) if times else "-"


def _shown(result, seconds):
    """Return a time, or a rate where that says more."""
    if "work" in result:
        return f"{result['work'] / seconds:.0f} GF/s"
    if "images" in result:
        return f"{result['images'] / seconds:.1f} images/s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 1e-3 else 2}f} ms"


def _verdict(name, limit, ratio, met):
    if ratio is None:
        return f"{name} {limit:g}: not measured"
    return f"{name} {limit:g}: {ratio:.2f} {'met' if met else '**missed**'}"

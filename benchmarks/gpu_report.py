"""What `benchmarks.gpu` found, as Markdown: goals first, then each part."""

import datetime
import math
import re

ERROR, TF32, IDLE = 1e-4, 1.3, 0.05  # goals: of the score, of TF32's time, of the time in which the card does nothing
GIB = 2**30


def file_name(card):
    """Return a name for the table: date, card."""
    return f"{datetime.date.today().isoformat()}-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}"


def all_right(results):
    """Whether all parts came to their end, and all that must be equal is."""
    checks = [one[3] for one in goals(results) if one[0].startswith("right")]
    return not any("stopped" in part for part in results.values()) and all(met is not False for met in checks)


def goals(results):
    """Return [(what, limit, found or None, met or None), ...]."""
    found = []

    def goal(what, limit, value, met=None):
        found.append((what, limit, value, None if value is None else value <= limit if met is None else met))

    goldens, kernels = results.get("goldens", {}), results.get("kernels", {})
    goal("right: Caffe's recorded layers and nets", "all pass", _counts(goldens), goldens.get("good"))
    goal("right: fast kernels equal plain ones", "all", _compared(kernels), kernels.get("good"))
    accuracy = results.get("accuracy", {})
    scores = accuracy.get("scores", {})
    worst = next((one["error"] for name, one in scores.items() if name.startswith("fp32") and name.endswith("float64")), None)
    goal("right: FCN-8s' score in fp32 against the float64 CPU, relative error", ERROR, worst)
    steps = [one for name, one in accuracy.items() if name.startswith("training")]
    bits = [one["same bits"] for one in (*scores.values(), *steps)] if scores else None
    goal("right: the same bits on every run", "all", bits and f"{sum(bits)} of {len(bits)}", bits and all(bits))
    forward = results.get("forwards", {}).get("nets", {}).get("FCN-8s", {}).get("seconds", {})
    goal("FCN-8s forward, fp32, ours / torch's", 1, _ratio(forward, "fp32"))
    goal("FCN-8s forward, tf32, ours / torch's", TF32, _ratio(forward, "tf32"))
    goal("FCN-8s training step, fp32, ours / torch's", 1, _ratio(results.get("training", {}).get("seconds", {}), "fp32"))
    for what in ("forward", "training"):
        goal(f"share of the {what} in which the card does nothing", IDLE, idle_share(results.get("idle", {}).get(what)))
    for what in ("forward", "training"):
        ours, theirs = (results.get(f"memory {who}", {}).get(what) for who in ("ours", "torch"))
        goal(f"peak memory of the {what}, ours / torch's", 1, ours[0] / theirs[0] if ours and theirs else None)
    counts = results.get("sizes", {}).get("kernels")
    goal("kernels loaded for sizes that vary", 0, counts and counts[1] - counts[0])
    return found


def idle_share(found):
    """Return the share of the time in which nothing of what was queued ran."""
    if not found:
        return None
    return max(0.0, 1 - found["busy"] / found["replayed"])


def _counts(found):
    return ", ".join(f"{count} {what}" for what, count in found["counts"].items()) or "none ran" if "counts" in found else None


def _compared(found):
    all_of_them = found.get("comparisons")
    return all_of_them and f"{sum(one['good'] for one in all_of_them)} of {len(all_of_them)}"


def _ratio(seconds, kind):
    return seconds[kind] / seconds[f"torch {kind}"] if {kind, f"torch {kind}"} <= set(seconds) else None


def markdown(card, results, command, seconds):
    """Return the whole report."""
    lines = [f"# {card}, {datetime.date.today().isoformat()}", "", f"`{command}`, {seconds:.0f} s in all", "",
             "Times are the card's (events), medians of turns with PyTorch's (cuDNN with its choice of the fastest algorithm); "
             "in brackets ours / theirs, below 1 where ours is faster. Nothing about a part that did not run is claimed.", ""]
    lines += ["| goal | limit | found | |", "|---|---|---|---|"]
    for what, limit, value, met in goals(results):
        verdict = "not measured" if met is None or value is None else "met" if met else "**missed**"
        lines.append(f"| {what} | {limit} | {f'{value:.3g}' if isinstance(value, float) else '-' if value is None else value} "
                     f"| {verdict} |")
    for name, part in results.items():
        lines += ["", f"## {name[0].upper()}{name[1:]}", ""]
        if part.get("stopped"):
            lines += [f"Stopped: {part['stopped']}", ""]
        try:
            lines += TABLES.get(name, _plain)(part, results)
        except (KeyError, IndexError, TypeError, ZeroDivisionError) as error:  # of a part that was stopped half way
            lines.append(f"Incomplete ({error!r}); see the .json.")
    return "\n".join(lines) + "\n"


def _table(head, table):
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(map(str, row))} |" for row in table)]


def _time(seconds):
    return "-" if seconds is None else f"{1e3 * seconds:.3f} ms" if seconds < 0.1 else f"{seconds:.3f} s"


def _machine(part, results):
    return _table(("", ""), part["about"].items())


def _plain(part, results):
    return [f"- {name}: {value}" for name, value in part.items() if name not in ("stopped", "log")]


def _kernels(part, results):
    compared = part["comparisons"]
    table = [(one["what"], one["how"], f"{one['difference']:.1e}", one["limit"]) for one in compared if not one["good"]]
    worst = {how: max(one["difference"] for one in compared if one["how"] == how) for how in {one["how"] for one in compared}}
    lines = ["Largest difference, of the largest value: " + ", ".join(f"{how} {one:.1e}" for how, one in sorted(worst.items()))]
    return lines + (["", *_table(("missed", "arithmetic", "difference", "limit"), table)] if table else [])


def _accuracy(part, results):
    table = [(name, f"{one['error']:.1e}", f"{100 * one['same class']:.3f} %", one["same bits"])
             for name, one in part["scores"].items()]
    lines = _table(("FCN-8s' score", "relative error", "pixels of the same class", "same bits in 4 runs"), table)
    steps = [f"- five steps of {name}, waiting for each pass and queued (graph: {one['graph']}): same bits {one['same bits']}"
             for name, one in part.items() if name.startswith("training")]
    return lines + ["", *steps] if steps else lines


def _ceilings(part, results):
    copies = [(f"copy, {name}", f"{rate / 1e9:.0f} GB/s read and written") for name, rate in part["copies"].items()]
    return _table(("", ""), copies + [(f"product of {part['count']}, {name}", f"{rate / 1e12:.1f} TF/s")
                                      for name, rate in part.get("products", {}).items()])


def _beside(seconds):
    """Return the cells of a row: ours and PyTorch's with the ratio, for both arithmetics."""
    cells = []
    for kind in ("fp32", "tf32"):
        ratio = _ratio(seconds, kind)
        cells += [_time(seconds.get(kind)), _time(seconds.get(f"torch {kind}")) + (f" ({ratio:.2f})" if ratio else "")]
    return cells


HEAD = ("", "ours fp32", "torch fp32", "ours tf32", "torch tf32")


def _forwards(part, results):
    table = [(name, *_beside(one["seconds"]), one["graph"].get("fp32"),
              ", ".join(f"{kind} {difference:.0e}" for kind, difference in one["difference"].items()) or "-")
             for name, one in part["nets"].items()]
    return _table((*HEAD, "replayed as a graph", "difference from torch's fp32"), table)


def _training(part, results):
    return _table((*HEAD, "replayed as a graph"),
                  [("FCN-8s, forward, backward, update", *_beside(part["seconds"]), part["graph"].get("fp32"))])


def _steps(part, results):
    ceilings = results.get("ceilings", {})
    rate, peak = ceilings.get("copies", {}).get("ours"), max(
        (rate for name, rate in ceilings.get("products", {}).items() if "tf32" not in name or name == "3xtf32"), default=None)
    table = []
    for one in part["steps"]:
        floor = max(one["operations"] / peak, one["bytes"] / rate) if rate and peak else None
        table.append((one["name"], *_beside(one["seconds"]), _time(floor),
                      f"{floor / one['seconds']['fp32']:.2f}" if floor else "-",
                      "-" if one["difference"] is None else f"{one['difference']:.0e}"))
    total = {kind: sum(one["seconds"].get(kind, math.nan) for one in part["steps"]) for kind in part["steps"][0]["seconds"]}
    table.append(("sum", *_beside(total), "", "", ""))
    return [*_table((*HEAD, "floor fp32", "floor / ours", "difference"), table), "",
            "Floor: what the step's products take at the fastest of the float32-grade products above, or its values, each moved "
            "once, at the rate of copies, whichever is more."]


def _idle(part, results):
    lines = []
    for what in ("forward", "training"):
        if what not in part:
            continue
        one = part[what]
        lines += [f"FCN-8s {what}: {_time(one['replayed'])} replayed (graph: {one['graph']}), {_time(one.get('plain'))} plainly, "
                  f"Python takes {_time(one['host'])} {'plainly' if what == 'forward' else 'replayed'}; "
                  f"{one['launches']} launches, each alone "
                  f"{_time(one['busy'])} in all: idle {100 * idle_share(one):.1f} %.", ""]
        lines += [*_table(("kernel", "launches", "in all"), [(name, count, _time(seconds))
                                                           for name, (count, seconds) in one["kernels"].items()]), ""]
    return lines


def _memory(part, results):
    return _table(("FCN-8s", "handed out at most", "taken from the driver"), [
        (what, *(f"{nbytes / GIB:.3f} GiB" for nbytes in part[what])) for what in ("forward", "training") if what in part])


def _sizes(part, results):
    lines = _table(("size", "first", "then"), [(one["size"], _time(one["first"]), _time(one["then"])) for one in part["sizes"]])
    return [*lines, "", f"Kernels loaded before and after: {part['kernels'][0]}, {part['kernels'][1]}."]


def _compiled(part, results):
    return [f"- {name}: {_time(value) if not name.startswith('seconds') else f'{value:.1f}'}" for name, value in (
        *part.get("seconds", {}).items(), *((name, value) for name, value in part.items() if name.startswith("seconds to")))]


TABLES = {"machine": _machine, "kernels": _kernels, "accuracy": _accuracy, "ceilings": _ceilings, "forwards": _forwards,
          "training": _training, "steps": _steps, "idle": _idle, "memory ours": _memory, "memory torch": _memory, "sizes": _sizes,
          "torch.compile": _compiled}

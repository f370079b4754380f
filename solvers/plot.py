"""Draw training logs, ours or Caffe's: `python -m solvers.plot train.log other.log -o plot.html`."""

import argparse
import html
import os
import sys

from data import curves
from netspec import files
from netspec.errors import UnknownName, nearest, run_door
from solvers import engine, train_log

EXAMPLES = """examples:
  python -m solvers.plot demo/train.log                        # plot.html: loss, rate and outputs over the iterations
  python -m solvers.plot staged.log atonce.log -o both.png     # two runs in each drawing
  python -m solvers.plot train.log --only loss --smooth 20
"""
STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --paper: #fff; --grid: #d8dde3; --faint: #5b6672;
  --c0: #2f6fde; --c1: #d9480f; --c2: #2b8a3e; --c3: #9c36b5; --c4: #c92a2a; --c5: #0c8599; --c6: #e67700; --c7: #5c677d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14181d; --grid: #333b45; --faint: #98a3b0;
  --c0: #74a5ff; --c1: #ff8b5c; --c2: #69c97d; --c3: #d58cf0; --c4: #ff7b7b; --c5: #4fc3d4; --c6: #ffb454; --c7: #a3afc0; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 12px; }
svg path { fill: none; stroke-width: 2; } svg .grid { stroke: var(--grid); } svg .tick { stroke: var(--faint); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .2rem 0 0; padding: 0; font-size: .9rem; }
.legend i { display: inline-block; width: 1.1em; height: 3px; margin-right: .5em; vertical-align: middle; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem 1rem .2rem 0; text-align: left; }
td + td, th + th { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
""" + "".join(f"path.c{n} {{ stroke: var(--c{n}); }} circle.c{n} {{ fill: var(--c{n}); }} i.c{n} {{ background: var(--c{n}); }}\n"
              for n in range(curves.COLOURS))


def main(argv=None):
    """Draw logs."""
    parser = argparse.ArgumentParser(prog="python -m solvers.plot", description="Draw loss, rate and scores of training logs.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", metavar="LOG", help="what a training run wrote: Caffe's lines, whoever wrote them")
    parser.add_argument("-o", "--output", metavar="FILE", default="plot.html", help=".html or .png (default: plot.html)")
    parser.add_argument("--only", metavar="A,B", help="draw these, such as loss,learning rate (default: all; --list names them)")
    parser.add_argument("--smooth", metavar="N", type=engine.positive, default=1,
                        help="draw the mean of the last N values (default 1: as logged)")
    parser.add_argument("--list", action="store_true", help="print what the logs hold, and draw nothing")
    options = parser.parse_args(argv)
    ending = os.path.splitext(options.output)[1].lower()
    if ending not in (".html", ".png"):
        raise UnknownName(f"--output {options.output}: its name must end in .html or .png")
    logs = {name: train_log.read_log(files.find(path, what="log")) for name, path in zip(names(options.logs), options.logs)}
    panels = make_panels(logs, options.only, options.smooth)
    if options.list:
        for title, lines in panels:
            print(f"{title}: {', '.join(str(len(line['x'])) for line in lines.values())} values")
        return 0
    if ending == ".png":
        picture = curves.picture(panels)
        with files.atomic(options.output) as file:
            picture.save(file, "PNG", optimize=True)
    else:
        files.write_text(options.output, page(panels, list(logs)))
    print(options.output)
    return 0


def names(paths):
    """Return a name for each log: its file's, with as much of the folder as tells them apart."""
    parts = [os.path.abspath(path).split(os.sep) for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        found = ["/".join(one[-depth:]) for one in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({number + 1})" for number, name in enumerate(found)]


def make_panels(logs, only=None, window=1):
    """Return [(title, {log's name: curve})] of {name: what `read_log` returned}; the loss first, then the rate, tests, scores."""
    order = {"loss": 0, "learning rate": 1, "test": 2, "score": 3, "train": 4}
    known = {what for log in logs.values() for what in log}
    known = sorted(known, key=lambda what: (order[what.split(" #")[0].split(":")[0]], what))
    wanted = known
    if only:
        wanted = [name.strip() for name in only.split(",")]
        for name in wanted:
            if name not in known:
                raise UnknownName(f"the logs hold no '{name}'{nearest(name, known)}; they hold {', '.join(known)}")
    panels = []
    for what in wanted:
        lines = {}
        for name, log in logs.items():
            if what in log:
                one = log[what] if what == "learning rate" else train_log.smoothed(log[what], window)
                lines[name] = {"x": one.x, "y": one.y, "x_label": "iteration"}
        panels.append((what, lines))
    return panels


def page(panels, logs):
    """Return the HTML page: drawings, and a table of first, last, lowest and highest values."""
    parts = [f"<h1>{html.escape(', '.join(logs))}</h1>"]
    for title, lines in panels:
        svg = curves.drawing(title, lines)
        if svg:
            parts.append(f"<section><h2>{html.escape(title)}</h2>{svg}</section>")
    rows = []
    for title, lines in panels:
        for name, line in lines.items():
            good = [(x, y) for x, y in zip(line["x"], line["y"]) if y is not None]
            if good:
                low, high = (choose(good, key=lambda one: one[1]) for choose in (min, max))
                cells = [f"{y:.6g} at {x}" for x, y in (good[0], good[-1], low, high)]
                rows.append(f"<tr><td>{html.escape(title)}</td><td>{html.escape(name)}</td>"
                            + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    title = html.escape(", ".join(logs))
    head = "".join(f"<th>{one}</th>" for one in ("", "log", "first", "last", "lowest", "highest"))
    parts.append(f"<section><h2>Values</h2><div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div></section>")
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n")


if __name__ == "__main__":
    sys.exit(run_door(main))

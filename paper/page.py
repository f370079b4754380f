"""docs/paper.md and docs/paper.html, made of the kept results: every row beside the paper's figure, by section.

The HTML page is one file that needs nothing else: curves are inline SVG, pictures embedded, colours follow the reader's light or
dark setting, and on a phone each row becomes a card.
"""

import base64
import html
import os
import re

from data.curves import COLOURS, drawing
from netspec import files
from paper import experiment

TITLE = "Fully Convolutional Networks for Semantic Segmentation: what the paper claims and what comes out here"
INTRODUCTION = (
    "Every table, figure and numbered claim of the paper (Shelhamer, Long, Darrell, PAMI 2016) that can be checked, and those "
    "that wait for data. Each row comes from a run: its experiment is `paper/experiments/NAME.py`, its result "
    "`paper/results/NAME.json`."
)
MEANING = {
    "reproduced": "an exact claim that holds",
    "same shape": "other data or another machine than the paper's: not its figure, but its order",
    "not reproduced": "ran here, and says otherwise",
    "needs data": "cannot run without what is named in the row",
}
SECTIONS = {
    (1,): "Introduction", (3,): "Fully convolutional networks", (3, 1): "Adapting classifiers for dense prediction",
    (3, 2): "Shift-and-stitch is filter dilation", (3, 3): "Upsampling is (fractionally strided) convolution",
    (3, 4): "Patchwise training is loss sampling", (4, 1): "From classifier to dense FCN", (4, 2): "Image-to-image learning",
    (4, 3): "Combining what and where", (4, 4): "Experimental framework", (5,): "Results", (6, 1): "Cues",
    (6, 2): "Momentum and batch size", (6, 3): "Upper bounds on IU",
}
MARK = {"reproduced": "✓", "same shape": "≈", "not reproduced": "✗", "needs data": "…"}


def write(results, docs=None, scratch=None):
    """Write docs/paper.md and docs/paper.html from results (as `experiment.read_result` gives them); return their paths.

    With `scratch`, also a page there that shows the pictures of experiments on real photographs, which docs/ never gets.
    """
    docs = docs or files.ROOT / "docs"
    paths = [os.path.join(docs, "paper.md"), os.path.join(docs, "paper.html")]
    files.write_text(paths[0], markdown(results))
    files.write_text(paths[1], page(results, {}))
    if scratch is not None:
        local = {one["name"]: {name: os.path.join(scratch, one["name"], "pictures", f"{name}.png") for name in one["pictures"]}
                 for one in results if "real" in one["needs"]}
        local = {name: found for name, found in local.items() if any(os.path.exists(path) for path in found.values())}
        if local:
            paths.append(os.path.join(scratch, "paper.html"))
            files.write_text(paths[-1], page(results, local))
    return paths


def by_section(results):
    """Return [((4, 3), [(result, row), ...]), ...] in the paper's order."""
    found = {}
    for result in results:
        for number, row in enumerate(result["rows"]):
            order = _order(row["place"]), result["name"], number
            found.setdefault(experiment.section_of(row["place"]), []).append((order, result, row))
    return [(section, [one[1:] for one in sorted(found[section], key=lambda one: one[0])]) for section in sorted(found)]


def _order(place):
    # Text first, then tables and figures by their numbers.
    named = re.search(r"(Table|Fig\.) (\d+)", place)
    return ((named.group(1) == "Fig.") + 1, int(named.group(2))) if named else (0, 0)


def counts(results):
    """Return {verdict: rows}."""
    rows = [row["verdict"] for result in results for row in result["rows"]]
    return {verdict: rows.count(verdict) for verdict in experiment.VERDICTS}


def heading(section):
    """Return "4.3 Combining what and where"."""
    return f"{'.'.join(map(str, section))} {SECTIONS.get(section, '')}".strip()


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(results):
    """Return docs/paper.md."""
    lines = ["<!-- Written by python -m paper.run; edits are lost. -->", f"# {TITLE}", "", INTRODUCTION, ""]
    lines += ["| verdict | rows | meaning |", "|---|---|---|"]
    lines += [f"| {MARK[verdict]} {verdict} | {number} | {MEANING[verdict]} |" for verdict, number in counts(results).items()]
    for section, rows in by_section(results):
        lines += ["", f"## {heading(section)}", "", "| claim | place | paper | here | verdict | what was run |"]
        lines += ["|---|---|---|---|---|---|"]
        for result, row in rows:
            claim = _cell(row["claim"]) + (f"<br>*{_cell(row['note'])}*" if row["note"] else "")
            ran = _cell(row["ran"]) if row["verdict"] == "needs data" else f"{_cell(row['ran'])} (`{result['name']}`)"
            lines.append(f"| {claim} | {_cell(row['place'])} | {_cell(row['paper'])} | {_cell(row['ours'])} | "
                         f"{MARK[row['verdict']]} {row['verdict']} | {ran} |")
        for result in _shown_in(section, results):
            for name in result["pictures"] if "real" not in result["needs"] else ():
                lines += ["", f"![{_cell(name)}](../paper/results/{result['name']}/{name}.png)"]
    lines += ["", "## Runs", "", "| experiment | title | date | seconds | seed | revision | machine |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cell(one) for one in run) + " |" for run in _runs(results)]
    return "\n".join(lines) + "\n"


def _cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")


def _runs(results):
    return [(one["name"], one["title"], one["date"], f"{one['seconds']:.1f}", one["seed"], one["revision"], one["machine"])
            for one in sorted(results, key=lambda one: one["name"])]


def _shown_in(section, results):
    # Curves and pictures stand in the section of the experiment, or of its first row where that section has none.
    sections = [one for one, _ in by_section(results)]
    found = []
    for result in sorted(results, key=lambda one: one["name"]):
        place = experiment.section_of(result["place"])
        if section == (place if place in sections else experiment.section_of(result["rows"][0]["place"])):
            found.append(result)
    return found


# --- HTML ------------------------------------------------------------------------------------------------------------


def page(results, local):
    """Return docs/paper.html; `local` are pictures of real photographs, {experiment: {name: path}}."""
    sections = by_section(results)
    parts = [f"<header><h1>{_text(TITLE)}</h1><p>{_code(INTRODUCTION)}</p></header>", "<section class=counts>"]
    parts += [f"<div><b class=v{experiment.VERDICTS.index(verdict)}>{number}</b><span>{MARK[verdict]} {verdict}<br>"
              f"<small>{MEANING[verdict]}</small></span></div>" for verdict, number in counts(results).items()]
    parts.append("</section><nav>" + " ".join(
        f'<a href="#{_anchor(section)}">{_text(heading(section))}</a>' for section, _ in sections) + "</nav>")
    for section, rows in sections:
        parts.append(f"<section id={_anchor(section)}><h2>{_text(heading(section))}</h2><table class=claims><thead><tr>"
                     "<th>claim</th><th>paper</th><th>here</th><th>verdict</th></tr></thead><tbody>")
        parts += [_row(result, row) for result, row in rows]
        parts.append("</tbody></table>")
        parts += [_figures(result, local.get(result["name"], {})) for result in _shown_in(section, results)]
        parts.append("</section>")
    head = "".join(f"<th>{what}</th>" for what in ("experiment", "title", "date", "seconds", "seed", "revision", "machine"))
    body = "".join("<tr>" + "".join(f"<td>{_text(one)}</td>" for one in run) + "</tr>" for run in _runs(results))
    parts.append(f"<section><h2>Runs</h2><div class=scroll><table class=runs><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
                 "</table></div></section>")
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="color-scheme" content="light dark">\n<title>{_text(TITLE)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n")


def _row(result, row):
    number = experiment.VERDICTS.index(row["verdict"])
    note = f"<p class=note>{_code(row['note'])}</p>" if row["note"] else ""
    return (f"<tr><td><p class=claim><span class=place>{_text(row['place'])}</span> {_code(row['claim'])}</p>"
            f"<p class=ran>{_code(row['ran'])} <code>{_text(result['name'])}</code></p>{note}</td>"
            f'<td data-label="paper">{_code(row["paper"])}</td><td data-label="here">{_code(row["ours"])}</td>'
            f'<td><span class="verdict v{number}">{MARK[row["verdict"]]} {row["verdict"]}</span></td></tr>')


def _figures(result, local):
    figures = {}
    for name, curve in result["curves"].items():
        figures.setdefault(curve.get("figure") or result["title"], {})[name] = curve
    parts = [f"<figure>{svg}<figcaption>{_text(title)}</figcaption></figure>"
             for title, curves in figures.items() if (svg := drawing(title, curves))]
    pictures = local if "real" in result["needs"] else {
        name: experiment.RESULTS / result["name"] / f"{name}.png" for name in result["pictures"]}
    parts += [f'<figure class=picture><img src="{_embed(path)}" alt="{_text(name)}"><figcaption>{_text(name.replace("_", " "))}'
              "</figcaption></figure>" for name, path in pictures.items() if os.path.exists(path)]
    return f"<div class=figures>{''.join(parts)}</div>" if parts else ""


def _embed(path):
    return f"data:image/png;base64,{base64.b64encode(files.read_bytes(path)).decode('ascii')}"


def _anchor(section):
    return "s" + "-".join(map(str, section))


def _text(value):
    return html.escape(str(value))


def _code(value):
    # `words` in a row are code, as in Markdown.
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(value))


LIGHT = ("#2f6f9f", "#c2571a", "#3d8b45", "#8c4fa8", "#a8862a", "#c23a5c", "#3a8f94", "#6a6d75")
DARK = ("#7fb8e0", "#f0a06a", "#86cf8c", "#cf9ae6", "#dfc06a", "#f08aa4", "#7fd0d4", "#a9acb4")
STYLE = """
:root { --paper: #fbfaf7; --card: #fff; --ink: #22242a; --soft: #5f626a; --line: #e4e2dc; --link: #2f6f9f;
        --v0: #1d6b35; --b0: #dcf1e1; --v1: #1f5b8a; --b1: #dcebf7; --v2: #9c2a22; --b2: #f9e0dd; --v3: #5f626a; --b3: #ecebe7;
        --serif: "Iowan Old Style", Charter, "Palatino Linotype", Georgia, serif; LIGHT }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --card: #1e2126; --ink: #e7e5e0; --soft: #a3a6ae; --line: #32353c; --link: #7fb8e0;
          --v0: #8fdba4; --b0: #1d3a27; --v1: #9acbf0; --b1: #1b3448; --v2: #f3a49c; --b2: #482220; --v3: #b4b7be; --b3: #2b2e34;
          DARK } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
       "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100% }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 3rem }
h1 { font: 600 clamp(1.4rem, 3.6vw, 2rem)/1.25 var(--serif); margin: 0 0 .8rem }
h2 { font: 600 1.2rem/1.3 var(--serif); margin: 0 0 .6rem }
section { margin-top: 2.2rem }
a { color: var(--link) }
nav { margin-top: 1.2rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem }
code { font-size: .88em; background: var(--b3); border-radius: 3px; padding: 0 .25em; overflow-wrap: anywhere }
.counts { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; margin-top: 1.2rem }
.counts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem }
.counts b { display: block; font-size: 1.7rem; line-height: 1.15; background: none }
.counts small { color: var(--soft) }
table { border-collapse: collapse; width: 100% }
.claims td { padding: .6rem .8rem .6rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere }
.claims td:nth-child(2), .claims td:nth-child(3) { width: 17% }
.claims td:last-child { width: 9.5rem; padding-right: 0 }
th { text-align: left; font-weight: 400; color: var(--soft); font-size: .8rem; padding: 0 .8rem .2rem 0 }
.claims p { margin: 0 }
.place { color: var(--soft); font-size: .82rem; margin-right: .3rem; white-space: nowrap }
.ran, .note { color: var(--soft); font-size: .85rem }
.note { font-style: italic }
.verdict { display: inline-block; border-radius: 999px; padding: .05rem .7rem; font-size: .82rem; white-space: nowrap }
.v0 { color: var(--v0); background: var(--b0) } .v1 { color: var(--v1); background: var(--b1) }
.v2 { color: var(--v2); background: var(--b2) } .v3 { color: var(--v3); background: var(--b3) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; margin-top: 1rem }
figure { margin: 0; max-width: 640px; padding: .8rem; background: var(--card); border: 1px solid var(--line);
         border-radius: 10px }
figcaption { color: var(--soft); font-size: .85rem }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; image-rendering: pixelated }
.curves { display: block; width: 100%; height: auto }
.curves text { font-size: 13px; fill: var(--soft) }
.curves .grid { stroke: var(--line) } .curves .tick { stroke: var(--soft) }
.curves path { fill: none; stroke-width: 2; stroke-linejoin: round }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .3rem 0; padding: 0; font-size: .85rem }
.legend i { display: inline-block; width: .9rem; height: .2rem; margin-right: .4rem; vertical-align: .2rem }
.scroll { overflow-x: auto }
.runs { font-size: .82rem } .runs td { border-top: 1px solid var(--line); padding: .25rem .8rem .25rem 0; vertical-align: top }
@media (max-width: 720px) {
  main { padding-top: 1.5rem }
  .counts { grid-template-columns: repeat(2, 1fr) }
  .claims thead { display: none }
  .claims tr { display: block; border-top: 1px solid var(--line); padding: .7rem 0 }
  .claims td, .claims td:nth-child(n) { display: block; width: auto; border: 0; padding: .1rem 0 }
  .claims td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); font-size: .82rem } }
"""
STYLE = STYLE.replace("LIGHT", "; ".join(f"--c{n}: {one}" for n, one in enumerate(LIGHT))).replace(
    "DARK", "; ".join(f"--c{n}: {one}" for n, one in enumerate(DARK))) + "".join(
    f"path.c{n} {{ stroke: var(--c{n}) }} circle.c{n} {{ fill: var(--c{n}) }} .legend .c{n} {{ background: var(--c{n}) }}\n"
    for n in range(COLOURS))

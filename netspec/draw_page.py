"""The page that `netspec.draw` writes: one file, which needs nothing else. Zoom, search, and each layer's prototxt."""

from html import escape

FILLS = {"data": "#d3e9ff", "weights": "#ffe3c2", "pool": "#d7f0d5", "loss": "#ffd6da", "shape": "#e8ddfb", "other": "#eceff3"}
DARK = {"data": "#173a5c", "weights": "#573a14", "pool": "#1e4620", "loss": "#5c1f29", "shape": "#3b2a62", "other": "#2b323b"}
LEGEND = {"data": "data", "weights": "weights", "pool": "pooling", "loss": "loss and scores", "shape": "shape", "other": "other"}

_FILLED = "".join(f".{kind} rect {{ fill: {fill}; }} " for kind, fill in FILLS.items())
DRAWING = ("text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: #1c2128; } "
           ".name { font: bold 13px ui-monospace, Menlo, Consolas, monospace; } "
           "rect { stroke: #7d8792; } .edge { fill: none; stroke: #7d8792; stroke-width: 1.4; } "
           "marker path { fill: #7d8792; } " + _FILLED)

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --paper: #fff; --panel: #f6f8fa; --line: #7d8792; --mark: #d9480f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #14181d; --panel: #1d232a; --line: #8b96a3; --mark: #ff8b5c; }
}
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink); font: 15px/1.4 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 1rem; padding: .5rem 1rem; background: var(--panel);
  border-bottom: 1px solid var(--line); }
h1 { font-size: 1.05rem; margin: 0; }
header p { margin: 0; opacity: .75; font-size: .9rem; }
header .tools { margin-left: auto; display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 6px;
  padding: .25rem .6rem; }
input { width: 13rem; }
#found { min-width: 4.5rem; font-size: .9rem; }
main { flex: 1; min-height: 0; position: relative; overflow: hidden; touch-action: none; cursor: grab; }
main.held { cursor: grabbing; }
main > svg { position: absolute; left: 0; top: 0; width: 100%; height: 100%; user-select: none; }
svg text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink); }
svg text.name { font-weight: bold; font-size: 13px; }
svg rect { stroke: var(--line); }
.edge { fill: none; stroke: var(--line); stroke-width: 1.4; }
marker path { fill: var(--line); }
.node { cursor: pointer; outline: none; }
.node.found rect, .node:focus-visible rect { stroke: var(--mark); stroke-width: 3; }
.node.chosen rect { stroke: var(--mark); stroke-width: 4; }
.edge.chosen { stroke: var(--mark); stroke-width: 2.5; }
aside { position: absolute; right: 0; top: 0; bottom: 0; width: min(24rem, 90%); overflow: auto; background: var(--panel);
  border-left: 1px solid var(--line); padding: .6rem 1rem; cursor: auto; touch-action: auto; }
aside[hidden] { display: none; }
aside h2 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; padding-right: 2rem; }
aside button { position: absolute; right: .6rem; top: .5rem; }
pre { font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.legend { position: absolute; left: .8rem; bottom: .6rem; display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .8rem;
  pointer-events: none; }
.legend i { display: inline-block; width: .9em; height: .9em; border: 1px solid var(--line); border-radius: 3px;
  margin-right: .35em; vertical-align: -.1em; }
""" + "".join(f".{kind} rect {{ fill: {fill}; }} .legend .{kind} {{ background: {fill}; }}\n" for kind, fill in FILLS.items()) + (
    "@media (prefers-color-scheme: dark) {\n" + "".join(
        f".{kind} rect {{ fill: {fill}; }} .legend .{kind} {{ background: {fill}; }}\n" for kind, fill in DARK.items()) + "}\n")

SCRIPT = """
const view = document.querySelector('main'), svg = view.querySelector('svg');
const layers = JSON.parse(document.getElementById('layers').textContent);
const nodes = [...svg.querySelectorAll('.node')], edges = [...svg.querySelectorAll('.edge')];
const panel = document.querySelector('aside');
const search = document.getElementById('search'), found = document.getElementById('found');
const whole = svg.viewBox.baseVal, full = {x: whole.x, y: whole.y, w: whole.width, h: whole.height};
let box = {...full};
function show() { svg.setAttribute('viewBox', `${box.x} ${box.y} ${box.w} ${box.h}`); }
function scale() { return Math.max(box.w / view.clientWidth, box.h / view.clientHeight); }
// The box gets the window's proportions, so that pixels of the window and of the drawing are one factor apart.
function fill() {
  const s = scale(), w = s * view.clientWidth, h = s * view.clientHeight;
  box = {x: box.x - (w - box.w) / 2, y: box.y - (h - box.h) / 2, w, h};
}
function fit() { box = {...full}; fill(); show(); }
function begin() {
  // A tall net begins at its top, at a size that can be read.
  box = {...full}; fill();
  if (scale() > 1.2) { const k = 1 / scale(); zoom(k, view.clientWidth / 2, 0); box.y = full.y; }
  show();
}
function zoom(k, px, py) {
  const s = scale(), x = box.x + px * s, y = box.y + py * s;
  box = {x: x - px * s * k, y: y - py * s * k, w: box.w * k, h: box.h * k};
  show();
}
function centre(node) {
  const r = node.querySelector('rect').getBBox(), s = Math.min(scale(), 1.2);
  box = {w: s * view.clientWidth, h: s * view.clientHeight};
  box.x = r.x + r.width / 2 - box.w / 2; box.y = r.y + r.height / 2 - box.h / 2;
  show();
}
view.addEventListener('wheel', e => {
  if (e.target.closest('aside')) return;
  e.preventDefault();
  const r = view.getBoundingClientRect();
  const step = Math.exp(Math.max(-60, Math.min(60, e.deltaY)) * 0.004);
  if (e.ctrlKey || !e.shiftKey) zoom(step, e.clientX - r.left, e.clientY - r.top);
  else { box.x += e.deltaY * scale(); show(); }
}, {passive: false});
const held = new Map();
let moved = 0;
view.addEventListener('pointerdown', e => {
  if (e.target.closest('aside')) return;
  held.set(e.pointerId, e); moved = 0;
});
view.addEventListener('pointermove', e => {
  const before = held.get(e.pointerId);
  if (!before) return;
  const others = [...held.values()].filter(o => o.pointerId !== e.pointerId);
  if (others.length) {
    const o = others[0], r = view.getBoundingClientRect();
    const d0 = Math.hypot(before.clientX - o.clientX, before.clientY - o.clientY);
    const d1 = Math.hypot(e.clientX - o.clientX, e.clientY - o.clientY);
    if (d1 > 0) zoom(d0 / d1, (e.clientX + o.clientX) / 2 - r.left, (e.clientY + o.clientY) / 2 - r.top);
  } else {
    box.x -= (e.clientX - before.clientX) * scale(); box.y -= (e.clientY - before.clientY) * scale(); show();
  }
  moved += Math.abs(e.clientX - before.clientX) + Math.abs(e.clientY - before.clientY);
  if (moved > 4 && !view.hasPointerCapture(e.pointerId)) { view.setPointerCapture(e.pointerId); view.classList.add('held'); }
  held.set(e.pointerId, e);
});
for (const end of ['pointerup', 'pointercancel']) {
  view.addEventListener(end, e => { held.delete(e.pointerId); view.classList.remove('held'); });
}
function choose(number) {
  nodes.forEach((node, i) => node.classList.toggle('chosen', i === number));
  edges.forEach(edge => edge.classList.toggle('chosen', +edge.dataset.from === number || +edge.dataset.to === number));
  panel.hidden = number === undefined;
  if (number === undefined) return;
  panel.querySelector('h2').textContent = layers[number].names.join(', ');
  panel.querySelector('pre').textContent = layers[number].text;
}
nodes.forEach((node, number) => {
  node.addEventListener('click', () => { if (moved < 5) choose(number); });
  node.addEventListener('keydown', e => { if (e.key === 'Enter') { choose(number); centre(node); } });
});
panel.querySelector('button').addEventListener('click', () => choose());
let hits = [], at = -1;
function look() {
  const words = search.value.trim().toLowerCase();
  hits = words ? nodes.filter(node => node.textContent.toLowerCase().includes(words)) : [];
  nodes.forEach(node => node.classList.toggle('found', hits.includes(node)));
  at = -1;
  found.textContent = words ? `${hits.length} found` : '';
}
function next(step) {
  if (!hits.length) return;
  at = (at + step + hits.length) % hits.length;
  found.textContent = `${at + 1} of ${hits.length}`;
  centre(hits[at]);
}
search.addEventListener('input', () => { look(); next(1); });
search.addEventListener('keydown', e => { if (e.key === 'Enter') next(e.shiftKey ? -1 : 1); });
document.getElementById('fit').addEventListener('click', fit);
document.getElementById('in').addEventListener('click', () => zoom(1 / 1.4, view.clientWidth / 2, view.clientHeight / 2));
document.getElementById('out').addEventListener('click', () => zoom(1.4, view.clientWidth / 2, view.clientHeight / 2));
document.addEventListener('keydown', e => {
  if (e.target === search) { if (e.key === 'Escape') { search.value = ''; look(); search.blur(); } return; }
  if (e.key === '/') { e.preventDefault(); search.focus(); }
  if (e.key === 'Escape') choose();
  if (e.key === '0') fit();
});
window.addEventListener('resize', () => { fill(); show(); });
begin();
"""


def page(title, summary, svg, details):
    """Return the page of a drawing `svg` whose boxes `details` (JSON) tell of."""
    legend = "".join(f'<span><i class="{kind}"></i>{words}</span>' for kind, words in LEGEND.items())
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1><p>{escape(summary)}</p>"
            f'<div class="tools"><span id="found" aria-live="polite"></span>'
            f'<input id="search" type="search" placeholder="layer, type, shape ( / )" aria-label="search layers">'
            f'<button id="in" aria-label="zoom in">+</button><button id="out" aria-label="zoom out">−</button>'
            f'<button id="fit">whole net</button></div></header>\n'
            f'<main>{svg}<div class="legend">{legend}</div>\n'
            f'<aside hidden><h2></h2><button aria-label="close">×</button><pre></pre></aside></main>\n'
            f'<script type="application/json" id="layers">{details}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n')

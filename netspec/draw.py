"""Draw a net: `python -m netspec.draw models/fcn8s/train.prototxt -o fcn8s.html`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from html import escape
from typing import NamedTuple

from google.protobuf import text_format

from netspec import caffe_pb2, describe, draw_page, files, graph, layout, measure, recipes, text
from netspec.errors import Error, UnknownName, run_door
from netspec.options import add_allow_unknown, dropped_by, named_shapes, say_dropped

EXAMPLES = """examples:
  python -m netspec.draw fcn8s                                     # net.html: zoom, search, click a layer; needs nothing
  python -m netspec.draw models/fcn8s/train.prototxt -o net.svg    # through Graphviz where it is installed
  python -m netspec.draw train_val.prototxt --phase TRAIN --rankdir LR -o net.png
"""
ENDINGS = (".html", ".svg", ".png", ".dot")
DIRECTIONS = ("TB", "LR")
PAD, LINE, TITLE, LETTER, BOLD = 10, 16, 18, 6.7, 8.2  # pixels
KINDS = {"Convolution": "weights", "Deconvolution": "weights", "InnerProduct": "weights", "DepthwiseConvolution": "weights",
         "Pooling": "pool", "SPP": "pool", "ROIPooling": "pool", "Accuracy": "loss", "Crop": "shape", "Concat": "shape",
         "Slice": "shape", "Reshape": "shape", "Flatten": "shape", "Permute": "shape", "Split": "shape"}


class Node(NamedTuple):
    """One box: a layer and those that work on its top in place."""

    names: list
    kind: str
    lines: list  # of text, the title first
    text: str  # the layers as prototxt


def main(argv=None):
    """Draw a net."""
    parser = argparse.ArgumentParser(prog="python -m netspec.draw", description="Draw a net with shapes, parameters and costs.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET", help="prototxt, its folder, or the name of a model")
    parser.add_argument("-o", "--output", metavar="FILE", default="net.html",
                        help=".html (a page with zoom and search), .svg, .png or .dot (default: net.html)")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="for include rules (default: TEST)")
    parser.add_argument("--rankdir", choices=DIRECTIONS, default="TB", help="top to bottom (default) or left to right")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE",
                        help="shape of a data layer's top, such as data=1,3,500,500; may be repeated")
    add_allow_unknown(parser)
    options = parser.parse_args(argv)
    ending = os.path.splitext(options.output)[1].lower()
    if ending not in ENDINGS:
        raise UnknownName(f"--output {options.output}: its name must end in {', '.join(ENDINGS)}")
    path = recipes.find_net(options.net, ("deploy", "val", "test", "train", "trainval"))
    phase = getattr(caffe_pb2, options.phase)
    dropped = dropped_by(options)
    net, places = text.read_net(path, dropped), text.layer_places(path)
    say_dropped(dropped)
    rows = _rows(net, named_shapes(options.input), phase, places)
    net = graph.filter_net(net, caffe_pb2.NetState(phase=phase), places)
    nodes, edges = boxes(net, rows)
    title = net.name or "/".join(os.path.abspath(path).split(os.sep)[-2:])
    if ending == ".html":
        drawing = svg(title, nodes, edges, options.rankdir)
        files.write_text(options.output, draw_page.page(title, summary(rows), drawing, details(nodes)))
    elif ending == ".dot":
        files.write_text(options.output, dot(title, nodes, edges, options.rankdir))
    elif shutil.which("dot"):
        with files.atomic(options.output) as file:
            file.write(_graphviz(dot(title, nodes, edges, options.rankdir), ending[1:]))
    elif ending == ".svg":
        files.write_text(options.output, svg(title, nodes, edges, options.rankdir, draw_page.DRAWING))
    else:
        raise Error("a .png is drawn by Graphviz, whose program 'dot' is not installed (Debian: apt install graphviz); "
                    ".html and .svg need nothing")
    print(options.output)
    return 0


def _rows(net, inputs, phase, places):
    """Return the `measure.Row`s of a net; None, and a warning, when its shapes cannot be known."""
    try:
        return measure.measure(net, inputs, phase, places=places)
    except UnknownName:
        raise
    except Error as error:
        print(f"warning: drawn without shapes: {error}", file=sys.stderr)
        return None


def summary(rows):
    """Return one line: layers, parameters, MACs."""
    if rows is None:
        return ""
    return (f"{len(rows)} layers, {describe.count(sum(row.params for row in rows))} parameters, "
            f"{describe.count(sum(row.macs for row in rows))} MACs")


def boxes(net, rows=None):
    """Return ([Node], [(from, to)]): a box for each layer that does not work in place, an edge for each bottom."""
    nodes, edges, maker = [], [], {}
    for number, layer in enumerate(net.layer):
        row = rows[number] if rows else None
        prototxt = text_format.MessageToString(caffe_pb2.NetParameter(layer=[layer]))
        if len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0] and layer.bottom[0] in maker:
            node = nodes[maker[layer.bottom[0]]]
            node.names.append(layer.name)
            words = describe.settings(layer)
            node.lines.append(f"+ {layer.type} {layer.name}{f' ({words})' if words else ''}")
            nodes[maker[layer.bottom[0]]] = node._replace(text=node.text + prototxt)
            continue
        edges += [(maker[name], len(nodes)) for name in layer.bottom if name in maker]
        maker.update(dict.fromkeys(layer.top, len(nodes)))
        nodes.append(Node([layer.name], _kind(layer), _lines(layer, row), prototxt))
    return nodes, edges


def _kind(layer):
    if not layer.bottom:
        return "data"
    return "loss" if layer.type.endswith("Loss") else KINDS.get(layer.type, "other")


def _lines(layer, row):
    lines = [layer.name, " ".join(filter(None, (layer.type, describe.settings(layer))))]
    if row is None:
        return lines
    lines += [f"{'x'.join(map(str, shape)) or 'a number'}{f'  {top}' if top != layer.name else ''}"
              for top, shape in zip(row.tops, row.shapes)]
    costs = [f"{describe.count(row.params)} parameters"] if row.params else []
    costs += [f"lr {describe.rates(row.rates)}"] if row.params else []
    costs += [f"{describe.count(row.macs)} MACs"] if row.macs else []
    return [*lines, ", ".join(costs)] if costs else lines


def details(nodes):
    """Return what the page tells of a clicked box, as JSON that may stand in a script element."""
    return json.dumps([{"names": node.names, "text": node.text} for node in nodes]).replace("<", "\\u003c")


def svg(title, nodes, edges, rankdir="TB", style=""):
    """Return the drawing as SVG, laid out here; `style` is CSS for a file that stands alone."""
    turned = rankdir == "LR"
    sizes = [(2 * PAD + max([len(node.lines[0]) * BOLD, *(len(line) * LETTER for line in node.lines[1:])]),
              2 * PAD + TITLE + LINE * (len(node.lines) - 1)) for node in nodes]
    centres, lines, (width, height) = layout.place([size[::-1] for size in sizes] if turned else sizes, edges)
    if turned:
        centres, lines, width, height = [c[::-1] for c in centres], [[p[::-1] for p in line] for line in lines], height, width
    margin = 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-margin} {-margin} {width + 2 * margin:.0f} '
           f'{height + 2 * margin:.0f}" role="img" aria-label="{escape(title, quote=True)}">',
           f"<style>{style}</style>" if style else "",
           '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0 0L8 4L0 8z"/></marker></defs>']
    out += [f'<path class="edge" data-from="{one}" data-to="{other}" marker-end="url(#arrow)" d="{_path(line, turned)}"/>'
            for (one, other), line in zip(edges, lines)]
    for number, (node, (x, y), (wide, high)) in enumerate(zip(nodes, centres, sizes)):
        left, top = x - wide / 2, y - high / 2
        out.append(f'<g class="node {node.kind}" data-node="{number}" tabindex="0"><rect x="{left:.1f}" y="{top:.1f}" '
                   f'width="{wide:.1f}" height="{high:.1f}" rx="6"/>')
        for index, line in enumerate(node.lines):
            down = top + PAD + (13 if index == 0 else TITLE + LINE * index - 4)
            name = ' class="name"' if index == 0 else ""
            out.append(f'<text x="{left + PAD:.1f}" y="{down:.1f}"{name}>{escape(line)}</text>')
        out.append("</g>")
    return "\n".join(filter(None, [*out, "</svg>"]))


def _path(points, turned):
    """Return a smooth path: it leaves, bends and arrives along the direction of the rows."""
    steps = ["M{:.1f} {:.1f}".format(*points[0])]
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if turned:
            middle = (x0 + x1) / 2
            steps.append(f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}")
        else:
            middle = (y0 + y1) / 2
            steps.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
    return "".join(steps)


def dot(title, nodes, edges, rankdir="TB"):
    """Return the graph in Graphviz's language."""
    def quoted(words):
        return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    lines = [f"digraph {quoted(title)} {{", f"  rankdir={rankdir};",
             '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];']
    lines += [f"  n{number} [label={quoted(chr(10).join(node.lines))}, fillcolor={quoted(draw_page.FILLS[node.kind])}];"
              for number, node in enumerate(nodes)]
    lines += [f"  n{one} -> n{other};" for one, other in edges]
    return "\n".join([*lines, "}", ""])


def _graphviz(source, form):
    """Return what Graphviz draws of `source`, bytes."""
    done = subprocess.run(["dot", f"-T{form}"], input=source.encode(), capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Error(f"Graphviz's dot failed: {said[-1] if said else f'exit code {done.returncode}'}; .html needs no Graphviz")
    return done.stdout


if __name__ == "__main__":
    sys.exit(run_door(main))

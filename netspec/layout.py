"""Where to put the nodes of a directed graph: in rows along its edges, with few crossings and straight lines.

The usual four steps of layered drawing (Sugiyama, Tagawa, Toda 1981): rows by the longest path, a bend in every row that an edge
passes, the order in a row by the mean place of the neighbours, and last the places: as near to the neighbours' mean as the widths
allow (least squares, by pooling those that would overlap).
"""

import collections

SWEEPS = 12  # up and down, for the order and again for the places
GAP, ROW_GAP, BEND = 36, 44, 16  # pixels between nodes, between rows, and of a bend's width
STIFF = 8  # how much more an edge's bends want to lie straight than nodes do


def place(sizes, edges):
    """Lay out a graph without circles from top to bottom.

    Parameters
    ----------
    sizes : list of (width, height)
        Of the nodes, in an order in which every edge goes forward.
    edges : list of (from, to)
        Numbers of nodes.

    Returns
    -------
    centres : list of (x, y)
        Of the nodes.
    lines : list of list of (x, y)
        Of the edges: where it leaves, its bends, where it arrives.
    size : (width, height)
    """
    rows, paths = _rows(len(sizes), edges)
    widths = collections.defaultdict(lambda: BEND, {node: width for node, (width, _) in enumerate(sizes)})
    above, below = collections.defaultdict(list), collections.defaultdict(list)
    for path in paths:
        for one, other in zip(path, path[1:]):
            below[one].append(other)
            above[other].append(one)
    _order(rows, above, below)
    x = _places(rows, above, below, widths)
    least = min((x[node] - widths[node] / 2 for row in rows for node in row), default=0)
    x = {node: value - least for node, value in x.items()}
    heights = [max((sizes[node][1] for node in row if isinstance(node, int)), default=0) for row in rows]
    tops, total = [], 0
    for height in heights:
        tops.append(total)
        total += height + ROW_GAP
    y = {node: tops[number] + heights[number] / 2 for number, row in enumerate(rows) for node in row}
    lines = []
    for path in paths:
        first, last = path[0], path[-1]
        line = [(x[first], y[first] + sizes[first][1] / 2)]
        for node in path[1:-1]:
            line += [(x[node], tops[node[2]]), (x[node], tops[node[2]] + heights[node[2]])]
        lines.append([*line, (x[last], y[last] - sizes[last][1] / 2)])
    width = max((x[node] + widths[node] / 2 for row in rows for node in row), default=0)
    return [(x[node], y[node]) for node in range(len(sizes))], lines, (width, max(total - ROW_GAP, 0))


def _rows(count, edges):
    """Return (rows of nodes, path of each edge); a bend is a tuple (edge, its number, row)."""
    incoming = collections.defaultdict(list)
    for one, other in edges:
        incoming[other].append(one)
    row_of = []
    for node in range(count):
        row_of.append(1 + max((row_of[one] for one in incoming[node]), default=-1))
    # What nothing feeds stands right above what it feeds first, not at the top.
    first_use = {}
    for one, other in edges:
        first_use[one] = min(first_use.get(one, row_of[other]), row_of[other])
    for node in range(count):
        if not incoming[node] and node in first_use:
            row_of[node] = first_use[node] - 1
    rows = [[] for _ in range(max(row_of, default=-1) + 1)]
    for node, row in enumerate(row_of):
        rows[row].append(node)
    paths = []
    for number, (one, other) in enumerate(edges):
        bends = [(number, index, row) for index, row in enumerate(range(row_of[one] + 1, row_of[other]))]
        for bend in bends:
            rows[bend[2]].append(bend)
        paths.append([one, *bends, other])
    return rows, paths


def _order(rows, above, below):
    """Order each row by the mean place of its neighbours in the row before, then after; keep the order with fewest crossings."""
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        indices = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for index in indices:
            there = {node: place for place, node in enumerate(rows[index - 1 if down else index + 1])}
            here = {node: place for place, node in enumerate(rows[index])}
            # A node without neighbours there keeps its place.
            rows[index].sort(key=lambda node, there=there, here=here: _mean(
                [there[one] for one in neighbours[node] if one in there], here[node]))
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, order in zip(rows, best):
        row[:] = order


def _crossings(rows, below):
    found = 0
    for row, after in zip(rows, rows[1:]):
        there = {node: place for place, node in enumerate(after)}
        ends = [there[one] for node in row for one in sorted((one for one in below[node] if one in there), key=there.get)]
        found += sum(1 for i, end in enumerate(ends) for other in ends[:i] if other > end)
    return found


def _places(rows, above, below, widths):
    """Return the x of every node: rows take turns in coming as near to the mean of their neighbours as their widths allow."""
    x = {}
    for row in rows:
        left = 0.0
        for node in row:
            x[node] = left + widths[node] / 2
            left += widths[node] + GAP
    for sweep in range(2 * SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            first, second = (above, below) if sweep % 2 == 0 else (below, above)
            wanted, weights = [], []
            for node in row:
                near = first[node] or second[node]
                straight = not isinstance(node, int) or any(not isinstance(one, int) for one in near)
                wanted.append(_mean([x[one] for one in near], x[node]))
                weights.append(STIFF if straight else 1)
            gaps = [(widths[one] + widths[other]) / 2 + GAP for one, other in zip(row, row[1:])]
            for node, value in zip(row, _apart(wanted, weights, gaps)):
                x[node] = value
    return x


def _apart(wanted, weights, gaps):
    """Return the places nearest to `wanted` (weighted least squares) that keep their order and `gaps` between neighbours."""
    shifts = [0.0]
    for gap in gaps:
        shifts.append(shifts[-1] + gap)
    blocks = []  # [weighted mean, weight, how many]
    for value, weight, shift in zip(wanted, weights, shifts):
        blocks.append([value - shift, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, weight, count = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * weight) / (before[1] + weight)
            before[1] += weight
            before[2] += count
    flat = [mean for mean, _, count in blocks for _ in range(count)]
    return [value + shift for value, shift in zip(flat, shifts)]


def _mean(values, otherwise):
    return sum(values) / len(values) if values else otherwise

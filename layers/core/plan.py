"""The execution plan of a net: which layers run as one step, and in which layout each blob is kept.

Layers say what they can do (`Layer.reads_blocks`, `writes_blocks`, `keeps_layout`, `backward_in_blocks`, `rectifies`,
`pools`), the plan puts it together:

- A blob lies in blocks of 16 channels (NCHW16c) if its layer writes them, and all layers that read it take them. Blobs that
  nobody reads, and the net's inputs, stay NCHW. A gradient lies in blocks if the layers around take it so in backward, too.
- Bottoms of a Concat whose channels begin at multiples of 16 are written where they are joined, when it will run.
- A convolution, the ReLU behind it in its place and a 2 x 2 max pooling behind that are one step, when all run and nobody
  looks between: the convolution's output is clamped and pooled while it is written.

What is planned is a wish: a blob that somebody looks at is NCHW at once (`layers.core.blob`), and all kernels take either.

The plan also knows what memory the net will have taken when it has run, for its shapes now (`Plan.memory`), and tells all of
it as a table (`str(plan)`).
"""

import collections
import itertools
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import BORDER
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cuda.arena import rounded
from netspec import caffe_pb2

SMALL = 1 << 10  # bytes of a layer on a card that are not counted one by one: flags, divisors and the like
SUMS = 256  # of the bytes of a blob, what its partial sums take at most


class Fusion(NamedTuple):
    """Layers that a layer may do beside its own work: numbers in the net, or None. Pooling only behind a ReLU."""

    rectify: int
    pool: int | None


class Needs(NamedTuple):
    """Bytes that a net takes: blobs' values and gradients, parameters and their gradients, and what layers keep beside."""

    data: int
    diff: int
    params: int
    param_diff: int
    kept: int

    @property
    def total(self):
        """All of them."""
        return sum(self)


class Plan:
    """The plan of a net whose shapes are known.

    Attributes
    ----------
    fusions : dict of int to Fusion
    blocks : set of str
        Names of the blobs whose values are kept in blocks.
    diff_blocks : set of str
        Names of those whose gradients are, too.
    """

    def __init__(self, net):
        self.net = net
        self.fusions = self._find_fusions()
        self.blocks, self.diff_blocks = set(), set()
        if net.dtype == np.float32 and net.card is None:
            self._choose_layouts()
        self._joins = [] if net.low_memory else self._find_joins()
        self._joined = None
        for name, blob in net.blobs.items():
            blob.blocks, blob.diff_blocks = name in self.blocks, name in self.diff_blocks
        for layer in net.layers:
            layer.planned()

    def _find_fusions(self):
        net, fusions = self.net, {}
        for number, (layer, top) in enumerate(zip(net.layers, net.top_vecs)):
            if len(top) != 1 or any(layer.loss_weights):
                continue
            after, rectify, pool = number + 1, None, None
            if after < len(net.layers) and net.layers[after].rectifies and net.bottom_vecs[after] == top == net.top_vecs[after]:
                after, rectify = after + 1, after
            if rectify is None:
                continue
            if (after < len(net.layers) and net.layers[after].pools and net.bottom_vecs[after] == top
                    and not any(net.layers[rectify].loss_weights)):
                pool = after
            fusions[number] = Fusion(rectify, pool)
        return fusions

    def _find_joins(self):
        """Return [(Concat's number, its top, [(bottom, channel)])]."""
        net, joins, taken = self.net, [], set()
        changed = {id(blob) for number, layer in enumerate(net.layers) if layer.changes
                   for blob in net.top_vecs[number] if any(blob is other for other in net.bottom_vecs[number])}
        for number, layer in enumerate(net.layers):
            top = net.top_vecs[number]
            # Whoever changes the whole in place would change its parts.
            if len(top) == 1 and top[0].name in self.blocks and id(top[0]) not in changed:
                parts = [(blob, at) for blob, at in layer.joined(net.bottom_vecs[number], top)
                         if blob.name in self.blocks and id(blob) not in taken]
                taken |= {id(blob) for blob, _ in parts}
                if parts:
                    joins.append((number, top[0], parts))
        return joins

    def join(self, first, last, watched):
        """Before layers `first` to `last` run: let blobs be written where they are joined, if that runs and nobody looks."""
        now = None if watched else (first, last)
        if now != self._joined:
            self._joined = now
            for number, top, parts in self._joins:
                runs = not watched and first <= number <= last
                for blob, channel in parts:
                    blob.within = (top, channel) if runs else None
                    if not runs:
                        blob.memory().leave()  # what now changes the part must not change the whole

    def _choose_layouts(self):
        net = self.net
        memories = collections.defaultdict(set)  # blobs that share their values
        for blob in net.blobs.values():
            memories[id(blob.memory())].add(blob.name)
        readers, writers = collections.defaultdict(list), collections.defaultdict(list)
        for layer, bottom, top in zip(net.layers, net.bottom_vecs, net.top_vecs):
            for blob in bottom:
                readers[id(blob.memory())].append(layer)
            for blob in top:
                writers[id(blob.memory())].append((layer, bottom, top))
        # In the order of the layers: one that keeps the layout of its bottom comes after that is known.
        for blob in net.blobs.values():
            memory = id(blob.memory())
            if blob.num_axes != 4 or blob.name in self.blocks:
                continue
            takers = [layer for layer in readers[memory] if not layer.shares]
            if takers and all(self._writes(memory, *writer) for writer in writers[memory]) and all(
                    layer.keeps_layout or layer.reads_blocks() for layer in takers):
                self.blocks |= memories[memory]
        self.diff_blocks = {name for name, blob in net.blobs.items() if name in self.blocks and self._backward(blob)}

    def _writes(self, memory, layer, bottom, top):
        if layer.shares or layer.keeps_layout:
            return id(bottom[0].memory()) == memory or bottom[0].name in self.blocks
        return layer.writes_blocks()

    def _backward(self, blob):
        """Whether all layers around a blob, which need run backward, can do so in blocks."""
        net = self.net
        around = [layer for number, layer in enumerate(net.layers) if net.layer_need_backward[number]
                  and (any(b is blob for b in net.bottom_vecs[number]) or any(b is blob for b in net.top_vecs[number]))]
        return bool(around) and all(layer.backward_in_blocks() for layer in around)

    # --- what it costs ----------------------------------------------------------------------------------------------

    def last_readers(self):
        """Return {layer number: blobs whose values it is the last to read}, without those that are kept or read by nobody."""
        net, last = self.net, {}
        kept = {id(net.blobs[name].memory()) for name in net.keep}
        for number, (bottom, top) in enumerate(zip(net.bottom_vecs, net.top_vecs)):
            for blob in (*bottom, *top):
                if blob in bottom or id(blob.memory()) in last:
                    last[id(blob.memory())] = number, blob
        given_up = collections.defaultdict(list)
        for memory, (number, blob) in last.items():
            if memory not in kept:
                given_up[number].append(blob)
        return given_up

    def last_readers_of_diffs(self):
        """Return {layer number: blobs whose gradients its backward is the last to read}, of those that backward writes.

        Without those that are kept, or part of the loss: their gradient is its weight.
        """
        net, given_up = self.net, collections.defaultdict(list)
        taken = {id(net.blobs[name].memory(diff=True)) for name in net.keep}
        taken |= {id(blob.memory(diff=True)) for layer, top in zip(net.layers, net.top_vecs)
                  for blob, weight in zip(top, layer.loss_weights) if weight}
        written = {id(blob.memory(diff=True)) for number in range(len(net.layers)) for blob in self._writes_diffs(number)}
        for number, top in enumerate(net.top_vecs):
            for blob in top if net.layer_need_backward[number] else ():
                memory = id(blob.memory(diff=True))
                if memory in written - taken:
                    taken.add(memory)
                    given_up[number].append(blob)
        return given_up

    def _writes_diffs(self, number):
        """Return the blobs whose gradients a layer's backward writes."""
        net = self.net
        return list(itertools.compress(net.bottom_vecs[number], net.bottom_need_backward[number])
                    ) if net.layer_need_backward[number] else []

    def memory(self):
        """Return the `Needs` for the shapes now: in TEST of forward, in TRAIN of backward, too."""
        net, itemsize = self.net, self.net.dtype.itemsize
        if net.card is not None:
            return self._memory_on_card()
        train = net.phase == caffe_pb2.TRAIN
        data = {id(blob.memory()): blob for blob in net.blobs.values()}
        params = sum(blob.count for blob in net.learnable_params) * itemsize
        learned = sum(blob.count for blob, rate in zip(net.learnable_params, net.params_lr) if rate) * itemsize
        if net.low_memory and not train:
            values = self._most_at_once()
        else:
            values = sum(self._bytes(blob) for blob in data.values())
        return Needs(values, self._most_diffs_at_once() * itemsize if train else 0, params, learned if train else 0,
                     sum(layer.kept_bytes() for layer in net.layers))

    def _most_diffs_at_once(self):
        """Return how many values of gradients live at a time in TRAIN; all, if none is given up after its last reader."""
        net, made, size, most = self.net, set(), 0, 0
        given_up = self.last_readers_of_diffs() if net.low_memory else {}
        for number in reversed(range(len(net.layers))):
            for blob in self._writes_diffs(number):
                if id(blob.memory(diff=True)) not in made:
                    made.add(id(blob.memory(diff=True)))
                    size += blob.count
            most = max(most, size)
            size -= sum(blob.count for blob in given_up.get(number, ()))
        return most

    def _memory_on_card(self):
        """Return the `Needs` of the net's card: of what layers that compute there touch."""
        net, train = self.net, self.net.phase == caffe_pb2.TRAIN
        there = [number for number, layer in enumerate(net.layers) if layer.card is not None]
        data = {id(blob.memory()): blob for number in there for blob in (*net.bottom_vecs[number], *net.top_vecs[number])}
        diff = {id(blob.memory(diff=True)): blob for number in there if train and net.layer_need_backward[number]
                for blob in (*net.top_vecs[number], *self._writes_diffs(number))}
        params = {number for layer in there for number in net.param_ids[layer]}
        learned = [number for number in params if train and net.params_lr[number]]
        kept, within = zip(*(net.layers[number].bytes_cuda() for number in there)) if there else ((0,), (0,))
        given_up = net.low_memory and not train
        values = self._most_at_once() if given_up else sum(self._bytes(blob) for blob in data.values())
        beside = sum(map(self._bytes, net.beside)) + SMALL * len(there)
        sums = max((self._bytes(blob) for blob in data.values()), default=0) // SUMS
        kept, within = map(rounded, kept), max(map(rounded, (*within, sums)))
        return Needs(values, sum(self._bytes(blob, True) for blob in diff.values()),
                     sum(self._bytes(net.learnable_params[number]) for number in params),
                     sum(self._bytes(net.learnable_params[number], True) for number in learned), beside + sum(kept) + within)

    def _most_at_once(self):
        """Return the most bytes of values that live at a time, when blobs are given up after their last reader."""
        net, given_up, made = self.net, self.last_readers(), set()
        size = most = 0
        for number in range(len(net.layers)):
            for one in (number, *self._done_with(number)):
                new = [blob for blob in net.top_vecs[one] if id(blob.memory()) not in made]
                made |= {id(blob.memory()) for blob in new}
                size += sum(self._bytes(blob) for blob in new)
            most = max(most, size)
            size -= sum(self._bytes(blob) for blob in given_up[number])
        return most

    def _bytes(self, blob, diff=False):
        if self.net.card is not None:
            memory = blob.memory(diff)
            held = memory.part.span.nbytes if memory.part is not None and memory.card is self.net.card else 0
            return max(held, rounded(max(blob.count, 1) * blob.dtype.itemsize))
        if blob.name not in self.blocks:
            return blob.count * blob.dtype.itemsize
        images, channels, height, width = blob.shape
        return images * -(-channels // BLOCK) * BLOCK * (height + 2 * BORDER) * (width + 2 * BORDER) * 4

    def rows(self):
        """Return one row for each step: (number, layers, kernel and why, tops, layout, MACs, bytes of the tops)."""
        net, rows, done = self.net, [], set()
        for number, layer in enumerate(net.layers):
            if number in done:
                continue
            numbers = [number, *self._done_with(number)]
            done.update(numbers)
            bottom, tops = net.bottom_vecs[number], []
            for one in numbers:
                tops += [blob for blob in net.top_vecs[one] if blob not in tops]
            new = [blob for blob in tops if blob not in bottom and not layer.shares]
            layout = "shared" if layer.shares else "in place" if not new else "NCHW16c" if all(
                blob.name in self.blocks for blob in new) else "NCHW"
            macs = layer.macs([b.shape for b in bottom], [b.shape for b in net.top_vecs[number]])
            shapes, size = [(blob.name, blob.shape) for blob in tops], sum(self._bytes(blob) for blob in new)
            rows.append((number, [net.layer_names[n] for n in numbers], self._kernel(layer), shapes, layout, macs, size))
        return rows

    def _kernel(self, layer):
        """Return (name, why) of what computes a layer; in a net on a card with where that is."""
        name, why = layer.kernel()
        return name if self.net.card is None else f"{'card' if layer.card else 'host'} {name}", why

    def _done_with(self, number):
        fusion, net = self.fusions.get(number), self.net
        if fusion is None or not net.layers[number].can_fuse(None):
            return []
        if fusion.pool is not None and net.layers[number].can_fuse(net.layers[fusion.pool]):
            return [fusion.rectify, fusion.pool]
        return [fusion.rectify]

    def __str__(self):
        where = self.net.card or f"{ISA.name}, {parallel.threads()} threads"
        lines = [f"plan of '{self.net.name}' ({caffe_pb2.Phase.Name(self.net.phase)}, {where}, math {self.net.math})",
                 f"{'step':>4}  {'layers':28} {'kernel, and why':58} {'layout':8} {'MACs':>8} {'MiB':>7}  tops"]
        for number, names, (kernel, why), tops, layout, macs, size in self.rows():
            shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in tops)
            lines.append(f"{number:4}  {' + '.join(names):28} {f'{kernel}: {why}' if why else kernel:58} {layout:8} "
                         f"{_short(macs):>8} {size / 2**20:7.1f}  {shapes}")
        lines.append(self.summary())
        return "\n".join(lines)

    def summary(self):
        """Return the memory in one line."""
        needs = self.memory()
        where, kept = "memory", "kept by layers (transformed weights)"
        if self.net.card is not None:
            where, kept = f"memory on {self.net.card}", "beside them (history, what layers keep, scratch)"
        words = ("values of blobs", "their gradients", "parameters", "their gradients", kept)
        return f"{where}: " + ", ".join(f"{word} {size / 2**20:.0f} MiB" for word, size in zip(words, needs) if size) + (
            f"; in all {needs.total / 2**30:.2f} GiB")


def _short(count):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count) if count else "-"

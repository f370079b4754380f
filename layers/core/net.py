"""Net: layers joined by blobs, run forward and backward with Caffe's semantics."""

import collections
import functools
import itertools
import logging
import os

import numpy as np
from google.protobuf import message as protobuf_message

from layers.core import catalogue, rng
from layers.core.blob import Blob
from layers.core.border import Border, Borders
from layers.core.cuda import card as cards
from layers.core.cuda.recording import NotRecorded, Repeated
from layers.core.cuda.tiles import TENSOR
from layers.core.free_memory import free_memory
from layers.core.plan import Plan
from netspec import caffe_pb2, graph, hdf5, text, upgrade, weights
from netspec.errors import Error, UnknownName, nearest

log = logging.getLogger("deepjet")
MATH = ("fast", "strict", "caffe", "tf32")


class Net:
    """A net made of a prototxt.

    Parameters
    ----------
    net : str, path or NetParameter
        A prototxt's path, or the message itself (which is copied).
    phase : int
        `caffe_pb2.TRAIN` or `caffe_pb2.TEST`.
    level, stages : int, sequence of str
        What include and exclude rules are held against, beside the phase.
    weights : path, optional
        A caffemodel (or HDF5) to copy parameters from.
    seed : int, optional
        Of everything random in the net: fillers, dropout. Same seed, same bits.
    dtype : numpy dtype
        float32 as in Caffe; float64 gives a net to measure errors against.
    source : path, optional
        The prototxt that a message came from: messages name its lines, data files are looked for beside it.
    math : str, optional
        How convolutions are computed: "fast" (with errors up to 5e-6 a layer), "strict" (direct sums only: 2e-7 to 6e-7, as
        in Caffe) or "caffe" (its im2col and BLAS). On a card "fast" and "strict" are one, with the errors of float32 sums, and
        "tf32" rounds the factors of all products to 10 bits of fraction, for tensor cores (errors up to 1e-3 a layer). The
        environment's DEEPJET_MATH, or "fast", when not given.

    border : bool, optional
        In TEST, keep from call to call what no image can change: what padding alone makes (see `layers.core.border`).

    low_memory : bool, optional
        Keep no transformed weights, and give up the memory of each blob in TEST, of each blob's gradient in TRAIN when its last
        reader has run: reading it then is an error. Slower in TEST.
    keep : sequence of str, optional
        Blobs that stay, with `low_memory`; the inputs and outputs always do.
    device : str or int, optional
        Where the net computes: "cpu", or an NVIDIA card, "gpu:0" or its number; the environment's DEEPJET_DEVICE, or "cpu", when
        not given. Layers that have no kernels for cards compute on the CPU between the others.
    allow_unknown : bool, optional
        Drop fields of the prototxt that neither Caffe nor a known fork has, with a warning for each; layers are never dropped.

    Attributes
    ----------
    layers, layer_names : list
        In running order, automatic Split layers included.
    blobs : OrderedDict of str to Blob
        In the order in which they are made.
    params : OrderedDict of str to list of Blob
        Only layers with parameters.
    inputs, outputs : list of str
        Tops of Input layers; blobs that no layer reads (sorted by name, as in Caffe).
    learnable_params : list of Blob
        Each shared parameter once; `params_lr` and `params_weight_decay` are their multipliers.
    dropped : list of str
        What `allow_unknown` dropped, a sentence for each field.
    """

    def __init__(self, net, phase=caffe_pb2.TEST, level=0, stages=(), weights=None, seed=None, dtype=np.float32,
                 source="", math=None, border=True, low_memory=False, keep=(), device=None, allow_unknown=False):
        math = math or os.environ.get("DEEPJET_MATH", "fast")
        if math not in MATH:
            raise Error(f"math is '{math}'; it must be one of {', '.join(MATH)}")
        if phase not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
            raise Error(f"the phase is {phase!r}; it must be TRAIN ({caffe_pb2.TRAIN}) or TEST ({caffe_pb2.TEST})")
        if isinstance(net, protobuf_message.Message):
            self.source, self.dropped = os.fspath(source), []
            param = caffe_pb2.NetParameter()
            param.CopyFrom(net)
            param = upgrade.upgrade_net(param)
        else:
            self.source = os.fspath(net)
            dropped = [] if allow_unknown else None
            param = text.read_net(self.source, dropped)
            self.dropped = dropped or []
            for sentence in self.dropped:
                log.warning("%s", sentence)
        param.state.phase = phase
        if level:
            param.state.level = level
        param.state.stage.extend(stages or ())
        self.phase = phase
        self.math, self.low_memory = math, low_memory
        self.dtype = np.dtype(dtype)
        self.card = cards.find(os.environ.get("DEEPJET_DEVICE") if device is None else device)
        if self.card is not None and self.dtype != np.float32:
            raise Error(f"a net of {self.dtype} on {self.card}: cards compute in float32; leave the dtype or the device away")
        if math == "tf32" and (self.card is None or self.card.capability < TENSOR):
            raise Error(f"math is 'tf32' on {self.card or 'the CPU'}; it needs an NVIDIA card of capability 8.0 (Ampere) or "
                        "newer: name one (device='gpu:0'), or leave math away")
        self.seed = rng.next_seed() if seed is None or seed < 0 else int(seed)
        filtered = graph.filter_net(param, param.state, self._places)
        for warning in graph.check(filtered, self._places):
            log.warning("%s", warning)
        self.param = graph.insert_splits(filtered, self._places)
        self.name = self.param.name
        self._hooks = {"before_forward": [], "after_forward": [], "before_backward": [], "after_backward": []}
        self._make_layers()
        self._find_what_needs_backward()
        self.plan = Plan(self)
        # What layers without bottoms make may be written once for all.
        self._sources = [blob for bottom, top in zip(self.bottom_vecs, self.top_vecs) if not bottom for blob in top]
        self.keep = {*keep, *self.outputs, *(blob.name for blob in self._sources if blob.name in self.blobs)}
        unknown = [name for name in keep if name not in self.blobs]
        if unknown:
            raise UnknownName(f"no blob '{unknown[0]}' to keep in net '{self.name}'{nearest(unknown[0], self.blobs)}")
        self._given_up = self.plan.last_readers() if low_memory and phase == caffe_pb2.TEST else {}
        self._diffs_given_up = self.plan.last_readers_of_diffs() if low_memory and phase == caffe_pb2.TRAIN else {}
        self._spare = []  # Blocked images that nobody needs at the moment
        self._repeated = Repeated(self.card)
        self._repeats = {}  # (first, last, backward) -> what of it a card does over and over again
        self._shaped_for = None  # shapes of the sources for which `_prepare` gave all blobs theirs
        self._prepared = False  # whether layers have brought to a card what differs from call to call
        self._queued = []  # numbers of the layers that a card was told in the last forward
        self.beside = []  # blobs that will lie where the parameters do: a solver's history
        self._sizes = None  # (their shapes, first and last layer) of the pass before
        self._checked = set()  # those for which there was memory, which is kept
        self._borderless = set()  # (layer, shape of its bottom) where padding alone makes nothing worth keeping
        self._borders = Borders() if border and phase == caffe_pb2.TEST and self.card is None else None
        self.weights_report = self.copy_from(weights) if weights else None

    # --- making ------------------------------------------------------------------------------------------------

    def _make_layers(self):
        self.layers, self.layer_names = [], []
        self.blobs = collections.OrderedDict()
        self.params = collections.OrderedDict()
        self.bottom_vecs, self.top_vecs, self.bottom_need_backward = [], [], []
        self.bottom_names, self.top_names = collections.OrderedDict(), collections.OrderedDict()
        self.layer_need_backward, self.inputs = [], []
        self.learnable_params, self.params_lr, self.params_weight_decay = [], [], []
        self._owners = {}  # parameter name -> number in learnable_params
        self._given = []  # for each learnable parameter: (rate given in a prototxt, decay given)
        self._loss_shapes = {}
        self.param_ids = []  # for each layer: the learnable_params number of each of its parameters
        need = {}  # blob name -> whether a gradient is wanted below it
        unread = set()
        streams = rng.Stream(self.seed)
        for number, param in enumerate(self.param.layer):
            if not param.HasField("phase"):
                param.phase = self.phase
            if len(param.propagate_down) not in (0, len(param.bottom)):
                raise Error(f"layer '{param.name}' ({param.type}){self._place(param.name)}: propagate_down is given "
                            f"{len(param.propagate_down)} times for {len(param.bottom)} bottoms; once for each or never")
            try:
                layer = catalogue.find(param.type)(param, param.phase, streams.child(number), self.dtype)
            except Error as error:
                raise type(error)(f"{error}{self._place(param.name)}") from error.__cause__
            layer.prototxt = self.source
            layer.math, layer.low_memory = self.math, self.low_memory
            layer.card = self.card if self.card is not None and layer.has_cuda() else None
            bottom, bottom_need, needs = [], [], False
            for i, name in enumerate(param.bottom):
                bottom.append(self.blobs[name])
                needs |= need[name]
                bottom_need.append(bool(param.propagate_down[i]) if param.propagate_down else need[name])
                unread.discard(name)
            top = self._make_tops(layer, param, unread)
            self.layers.append(layer)
            self.layer_names.append(param.name)
            self.bottom_vecs.append(bottom)
            self.top_vecs.append(top)
            self.bottom_names[param.name], self.top_names[param.name] = list(param.bottom), list(param.top)
            if param.type == "Input":
                self.inputs += list(param.top)
            self._set_up(layer, param, bottom, top)
            needs |= self._add_params(layer, param)
            self.layer_need_backward.append(needs)
            self.bottom_need_backward.append(bottom_need)
            need.update(dict.fromkeys(param.top, needs))
        self.outputs = sorted(unread)
        self.layer_dict = collections.OrderedDict(zip(self.layer_names, self.layers))

    def _make_tops(self, layer, param, unread):
        top = []
        for i, name in enumerate(param.top):
            in_place = i < len(param.bottom) and param.bottom[i] == name
            if not in_place:
                self.blobs[name] = Blob((), name, self.dtype)
            top.append(self.blobs[name])
            unread.add(name)
        if layer.auto_top_blobs:
            wanted = max(layer.exact_tops or 0, layer.min_tops or 0)
            while len(top) < wanted:
                top.append(Blob((), "(automatic)", self.dtype))
        return top

    def _set_up(self, layer, param, bottom, top):
        place = self._place(param.name) if self.source else ""
        layer.where = place.strip(" ()")
        layer.check_counts(len(bottom), len(top))
        layer.check_in_place(bottom, top)
        try:
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        except Exception as error:
            self._blame(layer, bottom, error)
        weights_given = list(param.loss_weight)
        if weights_given and len(weights_given) != len(top):
            layer.fail(f"loss_weight is given {len(weights_given)} times for {len(top)} tops; once for each or never")
        default = [1.0 if layer.is_loss and i == 0 else 0.0 for i in range(len(top))]
        layer.loss_weights = weights_given or default
        self._seed_loss_diffs(layer, top)
        if param.blobs:
            # Weights inside a prototxt: Caffe takes them as the parameters' first values.
            if len(param.blobs) != len(layer.blobs):
                layer.fail(f"has {len(param.blobs)} blobs in the net's text, {len(layer.blobs)} parameters")
            for target, source in zip(layer.blobs, param.blobs):
                values = np.asarray(source.double_data or source.data)
                if values.size != target.count:
                    layer.fail(f"a blob in the net's text holds {values.size} values, the parameter {target.count}")
                target.data[...] = values.reshape(target.shape)

    def _add_params(self, layer, param):
        """Register the layer's parameters (shared by name); return whether one of them learns."""
        if len(param.param) > len(layer.blobs):
            layer.fail(f"has {len(param.param)} param entries for {len(layer.blobs)} parameters")
        if layer.blobs:
            self.params[param.name] = layer.blobs
        learns, ids = False, []
        for i, blob in enumerate(layer.blobs):
            spec = param.param[i] if i < len(param.param) else caffe_pb2.ParamSpec()
            layer.param_propagate_down[i] = spec.lr_mult != 0
            learns |= spec.lr_mult != 0
            owner = self._owners.get(spec.name) if spec.name else None
            if owner is None:
                owner = len(self.learnable_params)
                if spec.name:
                    self._owners[spec.name] = owner
                self.learnable_params.append(blob)
                self.params_lr.append(spec.lr_mult)
                self.params_weight_decay.append(spec.decay_mult)
                self._given.append([spec.HasField("lr_mult"), spec.HasField("decay_mult")])
            else:
                self._share(layer, blob, spec, owner)
            ids.append(owner)
        self.param_ids.append(ids)
        return learns

    def _share(self, layer, blob, spec, owner):
        first = self.learnable_params[owner]
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        if blob.count != first.count if permissive else blob.shape != first.shape:
            layer.fail(f"shares parameter '{spec.name}' with '{first.name}', but its shape {list(blob.shape)} is not "
                       f"{list(first.shape)}" + ("" if permissive else " (share_mode: PERMISSIVE asks only for equal counts)"))
        for what, values, which in (("lr_mult", self.params_lr, 0), ("decay_mult", self.params_weight_decay, 1)):
            if not spec.HasField(what):
                continue
            if self._given[owner][which] and values[owner] != getattr(spec, what):
                layer.fail(f"shares parameter '{spec.name}' with {what} {getattr(spec, what):g}, but it was given "
                           f"{values[owner]:g} before")
            values[owner], self._given[owner][which] = getattr(spec, what), True
        blob.share_data(first)
        blob.share_diff(first)

    def _find_what_needs_backward(self):
        """Drop the backward of layers that no loss stands above or nothing that learns stands below."""
        under_loss, skipped = set(), set()
        for number in range(len(self.layers) - 1, -1, -1):
            layer, param = self.layers[number], self.param.layer[number]
            contributes, skip = False, True
            for i, weight in enumerate(layer.loss_weights):
                name = param.top[i] if i < len(param.top) else None
                contributes |= bool(weight) or name in under_loss
                skip &= name in skipped
            needs = self.bottom_need_backward[number]
            if self.layer_need_backward[number] and skip:
                self.layer_need_backward[number] = False
                needs[:] = [False] * len(needs)
            if not contributes:
                self.layer_need_backward[number] = False
            for i, name in enumerate(param.bottom):
                if contributes:
                    under_loss.add(name)
                else:
                    needs[i] = False
                if not needs[i]:
                    skipped.add(name)
        if self.param.force_backward:
            for number, layer in enumerate(self.layers):
                self.layer_need_backward[number] = True
                needs = self.bottom_need_backward[number]
                needs[:] = [n or layer.allow_force_backward(i) for i, n in enumerate(needs)]
                layer.param_propagate_down = [True] * len(layer.blobs)

    def _place(self, layer_name):
        """Return ``" (file:line)"`` of a layer in the prototxt, or ``""``."""
        if not self.source:
            return ""
        return f" ({self._places.get(layer_name, self.source)})"

    @functools.cached_property
    def _places(self):
        try:
            return text.layer_places(self.source) if self.source else {}
        except Error:
            return {}  # the file changed or went away since it was read; the message does without the line

    def _seed_loss_diffs(self, layer, top):
        """Write the loss weight into the diff of each top that is (part of) the loss, as Caffe does at set-up."""
        for blob, weight in zip(top, layer.loss_weights):
            if weight and self._loss_shapes.get(id(blob)) != blob.shape:
                blob.diff[...] = weight
                self._loss_shapes[id(blob)] = blob.shape

    # --- running ------------------------------------------------------------------------------------------------

    def forward(self, start=None, end=None):
        """Run the layers from `start` to `end` (names or numbers, both included); return the weighted loss."""
        return self.forward_from_to(self._number(start, 0), self._number(end, len(self.layers) - 1))

    def backward(self, start=None, end=None):
        """Run backward from `start` down to `end` (names or numbers, both included)."""
        self.backward_from_to(self._number(start, len(self.layers) - 1), self._number(end, 0))

    def forward_backward(self):
        """Run forward and backward; return the loss. On a card nobody waits for it before all is queued."""
        return self.queue_step() + self.settle()

    def queue_step(self, then=None, key=None):
        """Run forward and backward, on a card without waiting; return the loss that the host computed, `settle` the rest.

        Parameters
        ----------
        then : callable, optional
            Called at the end, ``then()`` queues more work that belongs to it: an update, say.
        key : hashable, optional
            What that depends on beside the blobs that it asks the card for: on a card all may be recorded and be done again.
        """
        return self._pass(0, len(self.layers) - 1, True, then, key)

    def forward_from_to(self, first, last):
        """Run layers number `first` to `last`; return the sum over tops of loss weight times values (float64)."""
        return self._pass(first, last) + self.settle()

    def _pass(self, first, last, backward=False, then=None, key=None):
        """Run layers number `first` to `last`, backward too; return the loss of those that the host computes."""
        self._queued = []
        watched = self.is_watched(backward)
        self.plan.join(first, last, watched)
        hosts, repeated = ((), ()) if watched else self._what_repeats(first, last, backward)

        def work():
            loss = self._run(repeated or range(first, last + 1), last, watched)
            if backward:
                self.backward_from_to(last, first)
            if then is not None:
                then()
            return loss

        if repeated:
            loss, queued = self._run(hosts, last, watched), [*self._queued, *repeated]
            layers, shapes = [self.layers[number] for number in repeated], tuple(blob.shape for blob in self._sources)
            variants = tuple((layer.variant(), *layer.param_propagate_down) for layer in layers)
            try:
                self._repeated.run((first, last, backward, key, shapes, variants), lambda: self._the_same_each_time(layers, work),
                                   lambda: self._prepare(repeated, shapes))
            finally:
                self._prepared = False
            self._queued = queued
        else:
            loss = work()
        if self._borders is not None:
            self._borders.done()
        return loss

    def is_watched(self, backward=True):
        """Whether somebody looks at blobs while layers run forward, or backward too: hooks, or debug_info."""
        whens = "before_forward", "after_forward", *(("before_backward", "after_backward") if backward else ())
        return bool(self.param.debug_info or any(self._hooks[when] for when in whens))

    def _what_repeats(self, first, last, backward):
        """Return the numbers of the layers (before, after) of which a card does the latter's work over and over again.

        They do the same for the same shapes, so that it can be recorded. Before them those have run that bring data, and those
        that the host computes from what these bring. Both are empty where that cannot be.
        """
        found = self._repeats.get((first, last, backward))
        if found is None:
            found = self._repeats[first, last, backward] = self._find_what_repeats(first, last, backward)
        return found

    def _find_what_repeats(self, first, last, backward):
        none = (), ()
        if self.card is None or self._given_up or self._diffs_given_up:
            return none
        before, after, brought, used = [], [], set(), set()
        for number in range(first, last + 1):
            layer, bottom, top = self.layers[number], self.bottom_vecs[number], self.top_vecs[number]
            made = set(map(id, top))
            if not bottom or (layer.card is None or layer.shares) and all(id(blob) in brought for blob in bottom):
                if made & used or backward and self.layer_need_backward[number] and layer.card is None:
                    return none
                before.append(number)
                brought |= made
            elif layer.card is None or not layer.repeats:
                return none
            else:
                after.append(number)
                used |= made.union(map(id, bottom))
                brought -= made
        return (before, after) if after else none

    def _prepare(self, numbers, shapes):
        """Before a card does work that may be recorded: let layers bring there what differs from call to call."""
        for number in numbers:
            layer, bottom, top = self.layers[number], self.bottom_vecs[number], self.top_vecs[number]
            try:
                if shapes != self._shaped_for:
                    layer.reshape(bottom, top)
                layer.prepare_cuda(bottom, top)
            except Exception as error:
                self._shaped_for = None
                self._blame(layer, bottom, error, self.current_sample)
        self._shaped_for, self._prepared = shapes, True

    def _the_same_each_time(self, layers, work):
        """Do ``work()``; while it is recorded, refuse layers that draw or count something: they would not in a replay."""
        states = [(layer, layer.state_on_host()) for layer in layers] if self.card.recording is not None else []
        work()
        others = [(layer, state) for layer, state in states if layer.state_on_host() != state]
        for layer, state in others:
            layer.set_state(state)
        if others:
            raise NotRecorded(f"layer '{others[0][0].name}' does something else each time")

    def _run(self, numbers, last, watched):
        """Run layers of these numbers; return the loss of those that the host computes. `last`: up to which all will have run."""
        loss, checked, debug = 0.0, False, self.param.debug_info
        done = ()  # numbers of layers whose work one before them has done
        for number in numbers:
            layer, bottom, top = self.layers[number], self.bottom_vecs[number], self.top_vecs[number]
            weighted = any(layer.loss_weights)
            if number in done and not (weighted or self._given_up):
                continue  # nobody looks, and the shapes are known
            for hook in self._hooks["before_forward"]:
                hook(number)
            try:
                if self._given_up:
                    for blob in top:
                        blob.memory().expect(self._spare)
                layer.reshape(bottom, top)
                if bottom and not checked:
                    self._check_memory(number, last)
                    checked = True
                if weighted:
                    self._seed_loss_diffs(layer, top)
                if number not in done:
                    done = self._forward_step(number, number if watched else last)
                if self._given_up:
                    for blob in self._given_up.get(number, ()):
                        blob.memory().give_up(self._spare)
            except Exception as error:
                self._blame(layer, bottom, error, self.current_sample if number else None)
            if layer.card is not None:
                self._queued.append(number)
            if weighted and (layer.card is None or self._given_up):
                loss += self._loss(number)
            if debug:
                self._say_forward(number)
            for hook in self._hooks["after_forward"]:
                hook(number)
        return loss

    def _loss(self, number):
        """Return the sum over the tops of a layer of loss weight times values (float64)."""
        return sum(weight * float(blob.peek().sum(dtype=np.float64))
                   for blob, weight in zip(self.top_vecs[number], self.layers[number].loss_weights) if weight)

    def settle(self):
        """Wait for what a card was told in the last forward, see that it went well, and return the losses among it."""
        loss, queued, self._queued = 0.0, self._queued, []
        for number in queued:
            layer, bottom = self.layers[number], self.bottom_vecs[number]
            try:
                layer.check_cuda(bottom, self.top_vecs[number])
            except Exception as error:
                self._blame(layer, bottom, error, self.current_sample if number else None)
            if not self._given_up:
                loss += self._loss(number)
        return loss

    def _check_memory(self, number, last):
        """When sizes have changed: give all blobs their shapes, and refuse what cannot be had before it is taken."""
        sizes = tuple(blob.shape for blob in self._sources), number, last
        if sizes == self._sizes:
            return
        # Now, not one by one: a Concat's bottoms are written where they are joined only if the whole has its shape.
        for i in range(number + 1, last + 1):
            if not self.bottom_vecs[i] or self.layers[i].foreign:
                break  # its sizes are known when its turn comes
            self.layers[i].reshape(self.bottom_vecs[i], self.top_vecs[i])
        self._sizes = sizes
        if sizes in self._checked:
            return
        need, where = self.plan.memory().total - self._taken(), "" if self.card is None else f" on {self.card}"
        free = None
        if need > 0:  # what is taken already need not be free
            free = free_memory() if self.card is None else self.card.arena.available()
        if free is not None and need > free:
            self._sizes = None
            raise Error(f"net '{self.name}' would take {need / 2**30:.2f} GiB more{where}, and {free / 2**30:.2f} GiB are free; "
                        f"make the input smaller, or use low_memory (--low-memory)\n{self.plan}")
        if self.card is not None and need > 0:
            self.card.arena.reserve(need)
        if self._given_up:
            self._checked.clear()  # the memory of larger images goes to others
        self._checked.add(sizes)

    def _taken(self):
        """Return the bytes that blobs and parameters hold already, where the net computes."""
        memories = {id(memory): memory for blob in (*self.blobs.values(), *self.learnable_params, *self.beside)
                    for memory in (blob.memory(), blob.memory(diff=True))}
        if self.card is None:
            return sum(memory.nbytes for memory in memories.values())
        parts = [memory.part for memory in memories.values() if memory.card is self.card]
        return sum(part.span.nbytes for part in parts if part is not None)

    def _forward_step(self, number, last):
        """Run layer `number`, with those behind it up to `last` that it can do on its way; return their numbers."""
        layer, bottom, top = self.layers[number], self.bottom_vecs[number], self.top_vecs[number]
        fusion = self.plan.fusions.get(number)
        rectify, pool, done = None, None, ()
        if fusion is not None and fusion.rectify <= last and layer.can_fuse(None):
            rectify = fusion.rectify
            done = (rectify,)
            if fusion.pool is not None and fusion.pool <= last:
                pooling = self.layers[fusion.pool]
                pooling.reshape(self.bottom_vecs[fusion.pool], self.top_vecs[fusion.pool])
                if layer.can_fuse(pooling):
                    pool = fusion.pool
                    done = rectify, pool
        pooled = None if pool is None else self.top_vecs[pool][0]
        for after in done:
            self.layers[after].was_done()
        border = self._border(number, rectify is not None)
        if border is None:
            if done:
                layer.forward_fused(bottom, top, rectify is not None, pooled)
            elif layer.card is None:
                layer.forward(bottom, top)
            else:
                if not self._prepared:
                    layer.prepare_cuda(bottom, top)
                layer.forward_cuda(bottom, top)
            return done
        borders = [(top[0], border)]
        if pool is not None:
            borders.append((pooled, border.after(self.layers[pool].border_step(False))))
        kept = all(self._has_border(*pair) for pair in borders)
        layer.forward_fused(bottom, top, rectify is not None, pooled, border.box if kept else None)
        for blob, one in borders:
            blob.memory().set_border(one)
        return done

    def _border(self, number, rectify):
        """Return the `Border` of what a layer makes of its bottom, or None where it is not worth keeping."""
        bottom, top = self.bottom_vecs[number], self.top_vecs[number]
        if self._borders is None or not len(bottom) == len(top) == 1 or not top[0].blocks:
            return None
        below = bottom[0].memory().border
        if below is None and (number, bottom[0].shape) in self._borderless:
            return None
        step = self.layers[number].border_step(rectify)
        border = step and (below or Border.image(*bottom[0].shape[1:])).after(step)
        if border is not None and border.pays:
            return border
        if below is None:
            self._borderless.add((number, bottom[0].shape))
        return None

    def _has_border(self, blob, border):
        """Whether the values outside of the border's box are in the blob's memory: still there, or put there now."""
        memory = blob.memory()
        if memory.kept_border(blob.shape) == border.key:
            return True
        blob.write()
        return memory.blocked is not None and self._borders.fill(border, memory.blocked)

    def backward_from_to(self, first, last):
        """Run backward through layers number `first` down to `last`, where a gradient is wanted."""
        for number in range(first, last - 1, -1):
            for hook in self._hooks["before_backward"]:
                hook(number)
            if self.layer_need_backward[number]:
                layer, bottom, wanted = self.layers[number], self.bottom_vecs[number], self.bottom_need_backward[number]
                try:
                    if self._diffs_given_up:
                        for blob in itertools.compress(bottom, wanted):
                            blob.memory(diff=True).expect(self._spare)
                    backward = layer.backward if layer.card is None else layer.backward_cuda
                    backward(self.top_vecs[number], wanted, bottom)
                    for blob in self._diffs_given_up.get(number, ()):
                        blob.memory(diff=True).give_up(self._spare)
                except Exception as error:
                    self._blame(layer, bottom, error, self.current_sample)
                if self.param.debug_info:
                    self._say_backward(number)
            for hook in self._hooks["after_backward"]:
                hook(number)

    @staticmethod
    def _blame(layer, bottom, error, sample=None):
        """Raise `error` again, so that its text says which layer it came from and at which image of the data set."""
        cause = error.__cause__
        if not isinstance(error, Error):
            empty = [blob for blob in bottom if not blob.count]
            if isinstance(error, MemoryError):
                text = f"out of memory: {error}"
            elif empty and isinstance(error, (ArithmeticError, ValueError, IndexError)):
                # Many layers do pass on nothing; those that cannot need not each look for it.
                text = f"cannot compute anything of '{empty[0].name}' {list(empty[0].shape)}, which holds no values"
            else:
                raise error
            error, cause = Error(text), error
        text = str(error)
        if not text.startswith("layer '"):
            text = f"layer '{layer.name}' ({layer.type}{', ' if layer.where else ''}{layer.where}): {text}"
        if sample and type(error) is Error:
            text += f" (sample {sample})"
        raise type(error)(text) from cause

    def _hook(self, which, function):
        self._hooks[which].append(function)
        return functools.partial(self._hooks[which].remove, function)

    def before_forward(self, function):
        """Call ``function(number)`` before each layer's forward, until what this returns is called (so the others, too)."""
        return self._hook("before_forward", function)

    def after_forward(self, function):
        """Call ``function(number)`` after each layer's forward."""
        return self._hook("after_forward", function)

    def before_backward(self, function):
        """Call ``function(number)`` before each layer's backward."""
        return self._hook("before_backward", function)

    def after_backward(self, function):
        """Call ``function(number)`` after each layer's backward."""
        return self._hook("after_backward", function)

    def reshape(self):
        """Give every blob the shape that follows from the inputs' now, without computing."""
        for layer, bottom, top in zip(self.layers, self.bottom_vecs, self.top_vecs):
            layer.reshape(bottom, top)

    def clear_param_diffs(self):
        """Set the gradients of all parameters to zero; memory that was never touched stays untaken."""
        for blob in self.learnable_params:
            blob.clear_diff()

    def _number(self, name, default):
        if name is None:
            return default
        if isinstance(name, (int, np.integer)):
            if not 0 <= name < len(self.layers):
                raise Error(f"layer number {name} is not within 0 to {len(self.layers) - 1}")
            return int(name)
        if name not in self.layer_names:
            raise Error(f"no layer '{name}' in net '{self.name}'{nearest(name, self.layer_names)}")
        return self.layer_names.index(name)

    @property
    def current_sample(self):
        """What the data layer says it delivered last (an image's id), or None; for messages."""
        for layer in self.layers:
            sample = getattr(layer, "current", None)
            if sample:
                return sample
        return None

    # --- parameters in and out ---------------------------------------------------------------------------------

    def copy_from(self, source):
        """Copy parameters by layer name from a caffemodel or HDF5 file (or an open `Weights`); return a report.

        Layers of the file that the net lacks are ignored, as in Caffe; a layer with other shapes is an error that
        shows both. The report says which layers were copied, ignored, and which of the net's got nothing.
        """
        if not isinstance(source, weights.Weights):
            with weights.read_weights(source) as opened:
                return self.copy_from(opened)
        for remark in source.remarks:
            log.info("%s: %s", source.path, remark)
        copied = [name for name in source.layers if name in self.params]
        # All shapes are checked before the first value is written: a refused file leaves the net as it was.
        pairs = [pair for name in copied for pair in self._match(name, source)]
        for target, blob in pairs:
            blob.read_into(target.data)
        ignored = [name for name, blobs in source.layers.items() if blobs and name not in self.params]
        for name in ignored:
            log.info("Ignoring source layer %s", name)
        untouched = [name for name in self.params if name not in source.layers]
        return WeightsReport(copied, ignored, untouched)

    def _match(self, name, source):
        """Return (parameter, blob in the file) of one layer; a misfit is an error that shows both shapes."""
        targets, blobs = self.params[name], source.layers[name]
        if len(blobs) != len(targets):
            raise Error(f"layer '{name}'{self._place(name)} has {len(targets)} parameters, "
                        f"{len(blobs)} in '{source.path}'")
        pairs = []
        for i, (target, blob) in enumerate(zip(targets, blobs)):
            if blob is None:
                continue  # HDF5 leaves out what shares another layer's parameter
            if not weights.shapes_agree(blob.shape, target.shape):
                raise Error(f"layer '{name}'{self._place(name)}, parameter {i}: shape {list(target.shape)}, but "
                            f"{list(blob.shape)} in '{source.path}'; to learn this layer from scratch rename it, "
                            "to carry it over use python -m solvers.surgery transplant")
            pairs.append((target, blob))
        return pairs

    def share_with(self, other):
        """Use the parameters of `other` (same memory) in the layers that both have."""
        for name, targets in self.params.items():
            if name not in other.params:
                continue
            sources = other.params[name]
            for i, (target, source) in enumerate(zip(targets, sources, strict=len(targets) == len(sources))):
                if target.shape != source.shape:
                    raise Error(f"layer '{name}', parameter {i}: shape {list(target.shape)} cannot be shared with "
                                f"{list(source.shape)} of net '{other.name}'")
                target.share_data(source)

    def save(self, path, diffs=False):
        """Write the parameters (and gradients) to `path`: HDF5 when it ends in .h5, a caffemodel otherwise."""
        def entry(blob):
            return blob.data, blob.diff if diffs else None

        if not hdf5.wants_hdf5(path):
            weights.write_caffemodel(path, self.param, {n: [entry(b) for b in bs] for n, bs in self.params.items()})
            return
        # Caffe's HDF5 has a group for every layer, and a shared parameter only where it is owned.
        layers, written = {}, set()
        for name, layer, ids in zip(self.layer_names, self.layers, self.param_ids):
            layers[name] = [None if i in written else entry(b) for b, i in zip(layer.blobs, ids)]
            written.update(ids)
        weights.write_hdf5(path, layers)

    def state(self):
        """Return what an exact resume needs beside the parameters: random states, data order (JSON-able)."""
        states = {f"{i} {n}": layer.state() for i, (n, layer) in enumerate(zip(self.layer_names, self.layers))}
        return {name: state for name, state in states.items() if state is not None}

    def set_state(self, state):
        """Take back what `state` returned for a net of the same layers."""
        for i, (name, layer) in enumerate(zip(self.layer_names, self.layers)):
            if f"{i} {name}" in state:
                layer.set_state(state[f"{i} {name}"])

    def close(self):
        """Give back the layers' files and threads."""
        for layer in self.layers:
            layer.close()

    # --- debug_info --------------------------------------------------------------------------------------------

    def _say_forward(self, number):
        for name in self.param.layer[number].top:
            log.info("    [Forward] Layer %s, top blob %s data: %.6g", self.layer_names[number], name,
                     np.abs(self.blobs[name].data).mean())
        for i, blob in enumerate(self.layers[number].blobs):
            log.info("    [Forward] Layer %s, param blob %d data: %.6g", self.layer_names[number], i,
                     np.abs(blob.data).mean())

    def _say_backward(self, number):
        for name, wanted in zip(self.param.layer[number].bottom, self.bottom_need_backward[number]):
            if wanted:
                log.info("    [Backward] Layer %s, bottom blob %s diff: %.6g", self.layer_names[number], name,
                         np.abs(self.blobs[name].diff).mean())
        for i, blob in enumerate(self.layers[number].blobs):
            if self.layers[number].param_propagate_down[i]:
                log.info("    [Backward] Layer %s, param blob %d diff: %.6g", self.layer_names[number], i,
                         np.abs(blob.diff).mean())


class WeightsReport:
    """What `Net.copy_from` did: layer names `copied`, `ignored` (only in the file), `untouched` (only in the net)."""

    def __init__(self, copied, ignored, untouched):
        self.copied, self.ignored, self.untouched = copied, ignored, untouched

    def __str__(self):
        def few(names):
            return f"{len(names)} ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else "0"

        return (f"layers copied: {few(self.copied)}; in the file only: {few(self.ignored)}; "
                f"in the net only: {few(self.untouched)}")

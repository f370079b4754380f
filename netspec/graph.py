"""message -> message: which layers a net has in a given state, Split layers, and whether its blobs fit together.

All take an upgraded NetParameter and leave it as it is. `places` in them is layer name -> ``"train.prototxt:41"`` (from
`text.layer_places`), so that errors name the line; it may be left out.

Source: Caffe's behaviour (Net's filtering and blob bookkeeping, insert_splits).
"""

import collections

from netspec import caffe_pb2
from netspec.errors import Error, nearest


def filter_net(net, state=None, places=None):
    """Return the net with only the layers that belong to `state`.

    A layer with include rules belongs when one of them is met; one with exclude rules belongs when none is met; one
    without rules belongs. A rule is met when all of this holds: its phase, if given, is the state's; the state's level
    is within min_level to max_level, as far as given; all its stages are among the state's; none of its not_stages is.

    Parameters
    ----------
    net : NetParameter
    state : NetState, optional
        Of phase, level and stages; the net's own `state` when not given (whose phase is TEST unless it says otherwise).
    places : dict, optional
        See the head of this file.

    Raises
    ------
    Error
        A layer has both include and exclude rules.
    """
    _check_upgraded(net)
    state = net.state if state is None else state
    kept = []
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise Error(f"{_title(layer, places)}: has both include and exclude rules; Caffe takes one kind only")
        if layer.include:
            belongs = any(rule_is_met(rule, state) for rule in layer.include)
        else:
            belongs = not any(rule_is_met(rule, state) for rule in layer.exclude)
        if belongs:
            kept.append(layer)
    return _with_layers(net, kept)


def rule_is_met(rule, state):
    """Return whether the NetStateRule `rule` holds in the NetState `state`; an empty rule always does."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and set(rule.stage) <= set(state.stage)
        and not set(rule.not_stage) & set(state.stage)
    )


def insert_splits(net, places=None):
    """Return the net with a Split layer behind each blob that has more than one reader.

    Readers are the layers that have the blob as bottom, up to the next layer that produces the name again (an in-place
    layer), and the loss when the producer gives the blob a loss_weight. For top `i`, blob `b`, of layer `l` with k > 1
    readers the layer ``b_l_i_split`` with tops ``b_l_i_split_0`` to ``b_l_i_split_<k-1>`` comes right behind `l`, and
    the readers get these tops in their order. A loss is the first reader: its weight moves to top 0 of the Split.

    Raises
    ------
    Error
        A bottom that no earlier layer produces: names the layer, the blob and the nearest known blob.

    Notes
    -----
    Where Caffe moves one weight of a layer that has several, it loses the others; here they stay.
    """
    _check_upgraded(net)
    sources = _sources(net, places)  # per layer, per bottom: (layer index, top index) of what it reads
    readers = collections.Counter(source for bottoms in sources for source in bottoms)
    losses = {}  # (layer index, top index) -> its weight
    for i, layer in enumerate(net.layer):
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            if weight:
                losses[i, j] = weight
                readers[i, j] += 1

    layers, taken = [], collections.Counter()
    for i, layer in enumerate(net.layer):
        copy = caffe_pb2.LayerParameter()
        copy.CopyFrom(layer)
        layers.append(copy)
        for j, source in enumerate(sources[i]):
            if readers[source] > 1:
                copy.bottom[j] = _split_top(net, source, taken[source])
                taken[source] += 1
        for j, top in enumerate(layer.top):
            count = readers[i, j]
            if count <= 1:
                continue
            split = caffe_pb2.LayerParameter(name=_split_name(net, (i, j)), type="Split", bottom=[top])
            split.top.extend(_split_top(net, (i, j), k) for k in range(count))
            if (i, j) in losses:
                split.loss_weight.extend([losses[i, j]] + [0] * (count - 1))
                copy.loss_weight[j] = 0
                taken[i, j] = 1
                if not any(copy.loss_weight):
                    copy.ClearField("loss_weight")
            layers.append(split)
    return _with_layers(net, layers)


def check(net, places=None):
    """Raise `Error` for blobs that do not fit together; return sentences on what is odd but allowed.

    Refused, as in Caffe: a bottom that no earlier layer produces; a blob that two layers produce (an in-place layer
    has it as bottom and as top of the same number); an in-place layer on a blob that another layer or the loss has
    read before (Caffe's Split would give it a copy); propagate_down given, but not once for each bottom.
    Allowed: layers of the same name (weights are matched by name, so they fight for them).

    Wants the filtered net: a train and a test version of one layer are two producers only when both are there.
    """
    _check_upgraded(net)
    sources = _sources(net, places)
    producers = {}  # blob -> index of the layer that produced it first
    readers = collections.defaultdict(list)  # (layer index, top index) -> indices of the layers that read it
    for i, layer in enumerate(net.layer):
        for source in sources[i]:
            readers[source].append(i)
        for j, top in enumerate(layer.top):
            if j < len(layer.bottom) and layer.bottom[j] == top:
                _check_in_place(net, i, sources[i][j], readers, places)
            elif top in producers:
                first = net.layer[producers[top]]
                if producers[top] == i:
                    raise Error(f"{_title(layer, places)}: has top '{top}' twice")
                raise Error(f"{_title(layer, places)}: produces blob '{top}', which {_title(first, places)} already "
                            "produces; only a layer with it as bottom and top of the same number may (in place)")
            else:
                producers[top] = i
        if layer.propagate_down and len(layer.propagate_down) != len(layer.bottom):
            raise Error(f"{_title(layer, places)}: propagate_down is given {len(layer.propagate_down)} times for "
                        f"{len(layer.bottom)} bottoms; give it once for each, or not at all")
    counts = collections.Counter(layer.name for layer in net.layer if layer.name)
    return [f"{count} layers are named '{name}'{_at(name, places)}; weights are matched by name"
            for name, count in counts.items() if count > 1]


def _check_in_place(net, i, source, readers, places):
    """Raise when in-place layer `i` is not the only reader of what it overwrites."""
    layer, (producer, top) = net.layer[i], source
    blob = net.layer[producer].top[top]
    others = list(readers[source])
    others.remove(i)
    weights = net.layer[producer].loss_weight
    if others:
        reader = _title(net.layer[others[0]], places)
    elif top < len(weights) and weights[top]:
        reader = f"the loss of {_title(net.layer[producer], places)}"
    else:
        return
    raise Error(f"{_title(layer, places)}: works in place on blob '{blob}', which {reader} also reads; give the top "
                "another name")


def _sources(net, places):
    """Return for each layer, for each bottom, the (layer index, top index) that last produced it."""
    last, sources = {}, []
    for i, layer in enumerate(net.layer):
        for blob in layer.bottom:
            if blob not in last:
                raise Error(f"{_title(layer, places)}: unknown bottom blob '{blob}'"
                            f"{_whence(net, i, blob, places) or nearest(blob, last)}")
        sources.append([last[blob] for blob in layer.bottom])
        last.update((blob, (i, j)) for j, blob in enumerate(layer.top))
    return sources


def _whence(net, i, blob, places):
    """Return where the unknown blob would come from, were the order of the layers another."""
    for later in net.layer[i:]:
        if blob in later.top:
            if later.name == net.layer[i].name:
                return "; the layer produces it itself"
            return f"; {_title(later, places)} produces it, but comes later"
    return ""


def _split_name(net, source):
    i, j = source
    return f"{net.layer[i].top[j]}_{net.layer[i].name}_{j}_split"


def _split_top(net, source, k):
    return f"{_split_name(net, source)}_{k}"


def _with_layers(net, layers):
    """Return a copy of `net` with other layers."""
    copy = caffe_pb2.NetParameter()
    for field, value in net.ListFields():
        if field.name == "layer":
            continue  # not copied in vain: they may hold weights
        if hasattr(value, "append"):
            getattr(copy, field.name).MergeFrom(value)
        elif field.message_type:
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    copy.layer.extend(layers)
    return copy


def _check_upgraded(net):
    if net.layers or net.input:
        raise Error("the net has old fields ('layers' or 'input'): upgrade.upgrade_net first")


def _title(layer, places):
    """Return ``layer 'name' (Type), train.prototxt:41``."""
    return f"layer '{layer.name}' ({layer.type}){_at(layer.name, places, ', ', '')}"


def _at(name, places, before=" (", after=")"):
    return f"{before}{places[name]}{after}" if places and name in places else ""

"""Old nets and solvers -> today's fields, as Caffe does when it reads a file.

The three ages of a net: V0 (2013, ``layers { layer { type: "conv" ... } }``), V1 (2014, ``layers { type: CONVOLUTION
... }``) and today's V2 (``layer { type: "Convolution" ... }``). Source: Caffe's behaviour; the tables below are facts
of the formats.
"""

import os
import pathlib

from netspec import caffe_pb2
from netspec.errors import Error, nearest

V1 = caffe_pb2.V1LayerParameter

V1_TYPES = {  # V1's enum value -> today's type
    V1.NONE: "",
    V1.ABSVAL: "AbsVal",
    V1.ACCURACY: "Accuracy",
    V1.ARGMAX: "ArgMax",
    V1.BNLL: "BNLL",
    V1.CONCAT: "Concat",
    V1.CONTRASTIVE_LOSS: "ContrastiveLoss",
    V1.CONVOLUTION: "Convolution",
    V1.DATA: "Data",
    V1.DECONVOLUTION: "Deconvolution",
    V1.DROPOUT: "Dropout",
    V1.DUMMY_DATA: "DummyData",
    V1.ELTWISE: "Eltwise",
    V1.EUCLIDEAN_LOSS: "EuclideanLoss",
    V1.EXP: "Exp",
    V1.FLATTEN: "Flatten",
    V1.HDF5_DATA: "HDF5Data",
    V1.HDF5_OUTPUT: "HDF5Output",
    V1.HINGE_LOSS: "HingeLoss",
    V1.IM2COL: "Im2col",
    V1.IMAGE_DATA: "ImageData",
    V1.INFOGAIN_LOSS: "InfogainLoss",
    V1.INNER_PRODUCT: "InnerProduct",
    V1.LRN: "LRN",
    V1.MEMORY_DATA: "MemoryData",
    V1.MULTINOMIAL_LOGISTIC_LOSS: "MultinomialLogisticLoss",
    V1.MVN: "MVN",
    V1.POOLING: "Pooling",
    V1.POWER: "Power",
    V1.RELU: "ReLU",
    V1.SIGMOID: "Sigmoid",
    V1.SIGMOID_CROSS_ENTROPY_LOSS: "SigmoidCrossEntropyLoss",
    V1.SILENCE: "Silence",
    V1.SLICE: "Slice",
    V1.SOFTMAX: "Softmax",
    V1.SOFTMAX_LOSS: "SoftmaxWithLoss",
    V1.SPLIT: "Split",
    V1.TANH: "TanH",
    V1.THRESHOLD: "Threshold",
    V1.WINDOW_DATA: "WindowData",
}

V0_TYPES = {  # V0's type -> V1's enum value; "padding" is none: it melts into the layer above it
    "accuracy": V1.ACCURACY,
    "bnll": V1.BNLL,
    "concat": V1.CONCAT,
    "conv": V1.CONVOLUTION,
    "data": V1.DATA,
    "dropout": V1.DROPOUT,
    "euclidean_loss": V1.EUCLIDEAN_LOSS,
    "flatten": V1.FLATTEN,
    "hdf5_data": V1.HDF5_DATA,
    "hdf5_output": V1.HDF5_OUTPUT,
    "im2col": V1.IM2COL,
    "images": V1.IMAGE_DATA,
    "infogain_loss": V1.INFOGAIN_LOSS,
    "innerproduct": V1.INNER_PRODUCT,
    "lrn": V1.LRN,
    "multinomial_logistic_loss": V1.MULTINOMIAL_LOGISTIC_LOSS,
    "pool": V1.POOLING,
    "relu": V1.RELU,
    "sigmoid": V1.SIGMOID,
    "softmax": V1.SOFTMAX,
    "softmax_loss": V1.SOFTMAX_LOSS,
    "split": V1.SPLIT,
    "tanh": V1.TANH,
    "window_data": V1.WINDOW_DATA,
}

V0_PARAMETERS = {  # V0's type -> the message that holds its parameters since V1
    "concat": "concat_param",
    "conv": "convolution_param",
    "data": "data_param",
    "dropout": "dropout_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "infogain_loss": "infogain_loss_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "pool": "pooling_param",
    "window_data": "window_data_param",
}

V0_FIELDS = {  # V0's field -> its name since V1 and the V0 types that have it
    "num_output": ("num_output", {"conv", "innerproduct"}),
    "biasterm": ("bias_term", {"conv", "innerproduct"}),
    "weight_filler": ("weight_filler", {"conv", "innerproduct"}),
    "bias_filler": ("bias_filler", {"conv", "innerproduct"}),
    "pad": ("pad", {"conv", "pool"}),
    "kernelsize": ("kernel_size", {"conv", "pool"}),
    "group": ("group", {"conv"}),
    "stride": ("stride", {"conv", "pool"}),
    "pool": ("pool", {"pool"}),
    "dropout_ratio": ("dropout_ratio", {"dropout"}),
    "local_size": ("local_size", {"lrn"}),
    "alpha": ("alpha", {"lrn"}),
    "beta": ("beta", {"lrn"}),
    "k": ("k", {"lrn"}),
    "source": ("source", {"data", "hdf5_data", "images", "window_data", "infogain_loss"}),
    "batchsize": ("batch_size", {"data", "hdf5_data", "images", "window_data"}),
    "rand_skip": ("rand_skip", {"data", "images"}),
    "shuffle_images": ("shuffle", {"images"}),
    "new_height": ("new_height", {"images"}),
    "new_width": ("new_width", {"images"}),
    "concat_dim": ("concat_dim", {"concat"}),
    "det_fg_threshold": ("fg_threshold", {"window_data"}),
    "det_bg_threshold": ("bg_threshold", {"window_data"}),
    "det_fg_fraction": ("fg_fraction", {"window_data"}),
    "det_context_pad": ("context_pad", {"window_data"}),
    "det_crop_mode": ("crop_mode", {"window_data"}),
}
V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}

TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")  # once fields of the data layers, now of transform_param
DATA_PARAMETERS = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}

SOLVER_TYPES = {
    caffe_pb2.SolverParameter.SGD: "SGD",
    caffe_pb2.SolverParameter.NESTEROV: "Nesterov",
    caffe_pb2.SolverParameter.ADAGRAD: "AdaGrad",
    caffe_pb2.SolverParameter.RMSPROP: "RMSProp",
    caffe_pb2.SolverParameter.ADADELTA: "AdaDelta",
    caffe_pb2.SolverParameter.ADAM: "Adam",
}


def needs_upgrade(net):
    """Return whether `net` has anything that `upgrade_net` changes."""
    return bool(net.layers or net.input) or any(
        _old_transform(layer, layer.type) or _has_old_batch_norm(layer) for layer in net.layer
    )


def upgrade_net(net, source="", lines=()):
    """Upgrade a NetParameter in place and return it.

    In Caffe's order: V0 layers to V1, padding layers merged into the convolution or pooling that follows; the data
    layers' scale, mean_file, crop_size and mirror into transform_param; V1 layers to today's; input fields into one
    layer named "input" of type Input before all others; the three parameters of BatchNorm held fixed. The layers'
    blobs come along. A net that is up to date stays as it is.

    Parameters
    ----------
    net : NetParameter
    source : str
        The file's name in errors.
    lines : list of int
        The line of each ``layers`` message in `source`, for errors (see `text.layer_lines`).

    Raises
    ------
    Error
        Unknown V0 type; a padding layer before something else than conv or pool; ``layer`` and ``layers`` in one net
        (Caffe would drop the former); numbers of input and input_shape or input_dim that do not fit.

    Notes
    -----
    Caffe moves the transformation fields only in V0 and V1 nets and silently ignores them in a ``layer``; here they
    are moved there too, unless transform_param has the field.
    """
    upgrade_said(net, source, lines)
    return net


def upgrades(net, source=""):
    """Return, in sentences, what `upgrade_net` would do to `net`, which stays as it is."""
    copy = type(net)()
    copy.CopyFrom(net)
    return upgrade_said(copy, source, ())


def upgrade_solver(solver, path=""):
    """Upgrade a SolverParameter in place and return it.

    The solver_type enum becomes the type string; nets inside of the solver are upgraded. With `path` (the solver's
    file) snapshot_prefix becomes, as in Caffe, the path without its suffix when it is not given, and the file's stem
    in that folder when it is a folder.
    """
    upgrade_solver_said(solver, os.fspath(path))
    return solver


def upgrade_said(net, source, lines):
    """Upgrade `net` in place and return the sentences."""
    where = f"{source}: " if source else ""
    if net.layers and net.layer:
        raise Error(f"{where}the net has {len(net.layers)} 'layers' (old form) and {len(net.layer)} 'layer' (today's "
                    "form); Caffe would drop the latter: write all in one form")
    said = []
    if any(layer.HasField("layer") for layer in net.layers):
        _upgrade_v0(net, source, lines, said)
    for layer in net.layers:
        _move_transform(layer, V1_TYPES.get(layer.type, ""), said)
    if net.layers:
        for old in net.layers:
            _upgrade_v1_layer(old, net.layer.add())
        said.append(f"{_count(net.layers, 'V1 layer')} ('layers') became 'layer'")
        net.ClearField("layers")
    else:
        for layer in net.layer:
            _move_transform(layer, layer.type, said)
    if net.input:
        _upgrade_input(net, where, said)
    for layer in net.layer:
        if _has_old_batch_norm(layer):
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0
            said.append(f"layer '{layer.name}' (BatchNorm): lr_mult and decay_mult of its 3 parameters set to 0")
    return said


def _count(things, noun):
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


# V0 -> V1


def _upgrade_v0(net, source, lines, said):
    """Turn the V0 layers of `net` into V1 layers in place; `said` grows by what was done."""
    places = [f"{source}:{lines[i]}: " if i < len(lines) else f"{source}: " if source else ""
              for i in range(len(net.layers))]
    layers, places = _merge_padding(net, places, said)
    count = 0
    for layer, place in zip(layers, places):
        if layer.HasField("layer"):
            count += 1
            _upgrade_v0_layer(layer, place, said)
    net.ClearField("layers")
    net.layers.extend(layers)
    said.append(f"{_count(range(count), 'V0 layer')} ('layers {{ layer {{ ... }} }}') became V1")


def _merge_padding(net, places, said):
    """Return the layers without padding layers, and their places; who read a padding layer pads by itself.

    The merging is in place on the layers of `net`. A blob belongs to the layer that last produced it.
    """
    producer, kept = {}, []
    for layer, place in zip(net.layers, places):
        for j, bottom in enumerate(layer.bottom):
            padding = producer.get(bottom)
            if padding is None or padding.layer.type != "padding":
                continue
            if layer.layer.type not in ("conv", "pool"):
                raise Error(f"{place}layer '{layer.layer.name}' ({layer.layer.type}) reads padding layer "
                            f"'{padding.layer.name}'; only conv and pool can take its place")
            for one, sort, names in ((layer, "bottom", layer.bottom), (padding, "bottom", padding.bottom),
                                     (padding, "top", padding.top)):
                if len(names) != 1:
                    raise Error(f"{place}to merge padding layer '{padding.layer.name}' into '{layer.layer.name}', "
                                f"'{one.layer.name}' must have 1 {sort}, not {len(names)}")
            layer.layer.pad = padding.layer.pad
            layer.bottom[j] = padding.bottom[0]
            said.append(f"padding layer '{padding.layer.name}' merged into '{layer.layer.name}' (pad "
                        f"{padding.layer.pad})")
        producer.update((top, layer) for top in layer.top)
        if layer.layer.type != "padding":
            kept.append((layer, place))
    return [layer for layer, _ in kept], [place for _, place in kept]


def _upgrade_v0_layer(layer, place, said):
    """Move what the inner V0 layer says into the V1 layer around it, in place."""
    old, title = layer.layer, f"layer '{layer.layer.name}' ({layer.layer.type})"
    if old.HasField("name"):
        layer.name = old.name
    if old.HasField("type"):
        if old.type not in V0_TYPES:
            raise Error(f"{place}{title}: unknown V0 layer type '{old.type}'"
                        f"{nearest(old.type, V0_TYPES) or '; known: ' + ', '.join(V0_TYPES)}")
        layer.type = V0_TYPES[old.type]
    for field, value in old.ListFields():
        name = field.name
        if name in ("name", "type"):
            continue
        if name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(layer, name).MergeFrom(value)
        elif name in V0_TRANSFORM:
            setattr(layer.transform_param, V0_TRANSFORM[name], value)
        elif name == "hdf5_output_param" and old.type == "hdf5_output":
            layer.hdf5_output_param.CopyFrom(value)
        elif name in V0_FIELDS and old.type in V0_FIELDS[name][1]:
            _set(getattr(layer, V0_PARAMETERS[old.type]), V0_FIELDS[name][0], value)
        else:
            said.append(f"{title}: '{name}' means nothing there and was dropped")
    layer.ClearField("layer")


def _set(message, name, value):
    """Set a field of `message`, whatever its kind: repeated ones get one more value."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type:
        getattr(message, name).CopyFrom(value)
    elif hasattr(getattr(message, name), "append"):
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


# Data transformation fields


def _old_transform(layer, layer_type):
    """Return the transformation fields that the data layer `layer` has in its own parameter message."""
    if layer_type not in DATA_PARAMETERS:
        return []
    parameter = getattr(layer, DATA_PARAMETERS[layer_type])
    return [name for name in TRANSFORM if parameter.HasField(name)]


def _move_transform(layer, layer_type, said):
    """Move a data layer's transformation fields into transform_param (`layer` is of V1 or V2)."""
    names = _old_transform(layer, layer_type)
    if not names:
        return
    parameter = getattr(layer, DATA_PARAMETERS[layer_type])
    for name in names:
        # In a V1 net Caffe lets the old field win; in a V2 net it reads only transform_param.
        if isinstance(layer, V1) or not layer.transform_param.HasField(name):
            setattr(layer.transform_param, name, getattr(parameter, name))
        parameter.ClearField(name)
    said.append(f"layer '{layer.name}' ({layer_type}): {', '.join(names)} moved from {DATA_PARAMETERS[layer_type]} to "
                "transform_param")


# V1 -> V2


def _upgrade_v1_layer(old, layer):
    """Fill the LayerParameter `layer` with what the V1LayerParameter `old` says."""
    for field, value in old.ListFields():
        name = field.name
        if name == "type":
            layer.type = V1_TYPES[value]
        elif name in V1_PARAM_SPEC:
            for i, one in enumerate(value):
                while len(layer.param) <= i:
                    layer.param.add()
                setattr(layer.param[i], V1_PARAM_SPEC[name], one)
        elif name == "name":
            layer.name = value
        elif field.message_type and not hasattr(value, "append"):
            getattr(layer, name).CopyFrom(value)
        else:
            getattr(layer, name).MergeFrom(value)


V1_PARAM_SPEC = {  # lists of V1, one value a parameter -> field of ParamSpec (the modes' numbers are the same)
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


# V2's own old fields


def _upgrade_input(net, where, said):
    """Turn input, input_shape and input_dim into one Input layer at the head of the net."""
    names = ", ".join(net.input)
    if net.input_shape or net.input_dim:
        if net.input_shape:
            if len(net.input_shape) != len(net.input):
                raise Error(f"{where}{_count(net.input, 'input')} ({names}) but "
                            f"{_count(net.input_shape, 'input_shape')}; give one for each")
            shapes = [list(shape.dim) for shape in net.input_shape]
        else:
            if len(net.input_dim) != 4 * len(net.input):
                raise Error(f"{where}{_count(net.input, 'input')} ({names}) but {_count(net.input_dim, 'input_dim')}; "
                            "give 4 for each, or an input_shape")
            shapes = [net.input_dim[i:i + 4] for i in range(0, len(net.input_dim), 4)]
        layers = list(net.layer)
        net.ClearField("layer")
        first = net.layer.add(name="input", type="Input", top=net.input)
        for shape in shapes:
            first.input_param.shape.add(dim=shape)
        net.layer.extend(layers)
        said.append(f"input {names} became a layer of type Input")
    else:
        # Caffe itself wrote such nets: the .caffemodel of its first years names the inputs without their shapes.
        said.append(f"input {names} dropped: it has neither input_shape nor input_dim")
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)


def _has_old_batch_norm(layer):
    """Return whether a BatchNorm layer lists rates for its 3 statistics, which are no weights to be learned."""
    return layer.type == "BatchNorm" and len(layer.param) == 3 and any(
        param.lr_mult != 0 or param.decay_mult != 0 for param in layer.param)


# Solvers


def upgrade_solver_said(solver, path):
    """Upgrade `solver` in place and return the sentences."""
    where, said = f"{path}: " if path else "", []
    if solver.HasField("solver_type"):
        new = SOLVER_TYPES[solver.solver_type]
        old = caffe_pb2.SolverParameter.SolverType.Name(solver.solver_type)
        if solver.HasField("type"):
            raise Error(f"{where}both solver_type ({old}) and type ('{solver.type}') are given; keep type")
        solver.type = new
        solver.ClearField("solver_type")
        said.append(f"solver_type {old} became type '{new}'")
    nets = [(name, getattr(solver, name)) for name in ("net_param", "train_net_param") if solver.HasField(name)]
    for name, net in nets + [("test_net_param", net) for net in solver.test_net_param]:
        said += [f"{name}: {sentence}" for sentence in upgrade_said(net, f"{where}{name}", ())]
    if path:
        if not solver.snapshot_prefix:
            solver.snapshot_prefix = os.path.splitext(path)[0]
            said.append(f"snapshot_prefix was not given and is '{solver.snapshot_prefix}'")
        elif os.path.isdir(solver.snapshot_prefix):
            solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, pathlib.Path(path).stem)
            said.append(f"snapshot_prefix was a folder and is '{solver.snapshot_prefix}'")
    return said

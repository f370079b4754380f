"""Nets without their data sets: Input layers stand for data layers, and what only judges a net is left out."""

from netspec import caffe_pb2
from netspec.errors import Error, UnknownName, nearest
from solvers.data_layers import PARAMETERS, brings_data, param_dict

SIDE = 224  # height and width of stand-ins for pictures: parameters' shapes hardly ever depend on it
JUDGES = ("Accuracy", "Silence", "HDF5Output")  # they and the losses only look at what a net computes


def without_data(net, shapes=None):
    """Return a copy of `net` in which Input layers stand for the data layers, so that no data set is needed.

    `shapes` (blob name -> tuple) has the last word on the Inputs' shapes, also of those that are Inputs already. Else
    a label has one channel, MemoryData and crops have their own sizes, and pictures are 3 x 224 x 224.
    """
    shapes = dict(shapes or {})
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    tops = [top for layer in result.layer if brings_data(layer) or layer.type == "Input" for top in layer.top]
    for name in shapes:
        if name not in tops:
            raise UnknownName(f"net '{net.name}' has no input '{name}'{nearest(name, tops)}; "
                              f"inputs: {', '.join(tops) or 'none'}")
    for layer in result.layer:
        if brings_data(layer):
            wanted = [shapes.get(top) or _stand_in(result, layer, top) for top in layer.top]
            layer.CopyFrom(caffe_pb2.LayerParameter(name=layer.name, type="Input", top=layer.top))
        elif layer.type == "Input":
            given = [tuple(shape.dim) for shape in layer.input_param.shape]
            given = given * len(layer.top) if len(given) == 1 else given
            if len(given) != len(layer.top):
                continue  # the layer itself says what is wrong
            wanted = [shapes.get(top, own) for top, own in zip(layer.top, given)]
        else:
            continue
        layer.ClearField("input_param")
        for shape in wanted:
            layer.input_param.shape.add(dim=shape)
    return result


def _stand_in(net, layer, top):
    # The shape of one top of a data layer, guessed from what is said of it.
    number = list(layer.top).index(top)
    height = width = SIDE
    batch, channels = 1, 3
    if layer.type == "MemoryData":
        param = layer.memory_data_param
        batch, channels, height, width = param.batch_size, param.channels, param.height, param.width
    elif layer.type == "HDF5Data":
        raise Error(f"layer '{layer.name}' (HDF5Data): the shape of '{top}' is known to its files only; "
                    f"give it: --input {top}=1,3,{SIDE},{SIDE}")
    elif layer.type != "Python":
        crop = layer.transform_param.crop_size or getattr(getattr(layer, PARAMETERS[layer.type]), "crop_size", 0)
        height = width = crop or SIDE
    if _is_label(net, top) or (number and layer.type != "Python"):
        return (batch, 1, height, width) if layer.type == "Python" else (batch,)
    if layer.type == "Python":
        tops = param_dict(layer).get("tops", list(layer.top))
        kind = tops[number] if isinstance(tops, (list, tuple)) and number < len(tops) else top
        channels = 1 if kind == "depth" else 3
    return batch, channels, height, width


def _is_label(net, top):
    return any(top in layer.bottom[1:] and (layer.type.endswith("Loss") or layer.type in JUDGES) for layer in net.layer)


def without_judges(net):
    """Return a copy of `net` without losses, Accuracy and Silence, and without inputs that nothing else reads."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    result.layer.extend(layer for layer in net.layer if not layer.type.endswith("Loss") and layer.type not in JUDGES)
    read_before = {bottom for layer in net.layer for bottom in layer.bottom}
    read_now = {bottom for layer in result.layer for bottom in layer.bottom}
    idle = read_before - read_now
    for layer in list(result.layer):
        if layer.type == "Input" and any(top in idle for top in layer.top):
            keep = [i for i, top in enumerate(layer.top) if top not in idle]
            shapes = list(layer.input_param.shape)
            dims = [list((shapes[0] if len(shapes) == 1 else shapes[i]).dim) for i in keep] if shapes else []
            tops = [layer.top[i] for i in keep]
            if not keep:
                result.layer.remove(layer)
                continue
            del layer.top[:]
            layer.top.extend(tops)
            del layer.input_param.shape[:]
            for dim in dims:
                layer.input_param.shape.add(dim=dim)
    return result

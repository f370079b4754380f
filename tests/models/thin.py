"""Recipes' nets made so narrow and small that they run in no time: same layers, same names, few channels."""

from netspec import caffe_pb2, make


def thin(name, split="train", size=(40, 52), channels=4, **options):
    """Return the message of a recipe's net with Input layers for its data and `channels` instead of up to 4096."""
    net = make.recipe(name).net(split, **options)
    label = 0
    for layer in net.layer:
        if layer.type == "SigmoidCrossEntropyLoss":
            label = next(one.convolution_param.num_output for one in net.layer if one.name.startswith("score_fr"))
    out = caffe_pb2.NetParameter()
    for layer in net.layer:
        if layer.type in ("Python", "Input"):
            for top in layer.top:
                depth = (label or 1) if top == "label" else 3
                new = out.layer.add(name=top, type="Input", top=[top])
                new.input_param.shape.add(dim=[1, depth, *size])
            continue
        new = out.layer.add()
        new.CopyFrom(layer)
        conv = new.convolution_param
        if layer.type == "Convolution" and not layer.name.startswith("score") and not layer.name.endswith("_padded"):
            conv.num_output = channels * conv.group
        if layer.type == "Convolution" and layer.name == "fc6":
            conv.kernel_size[0] = min(conv.kernel_size[0], 7)
    return out

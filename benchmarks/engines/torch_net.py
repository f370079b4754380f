"""A net as a PyTorch module: the layers of a prototxt, one function of PyTorch for each."""

import torch
from torch import nn
from torch.nn import functional

from netspec import caffe_pb2, geometry, graph, weights


class TorchNet(nn.Module):
    """The layers of a NetParameter in order.

    Attributes
    ----------
    dropping : bool
        Whether dropout drops while training; off while engines are compared.
    first : nn.Parameter
        The weights of the first convolution, the last to get its gradient.
    """

    def __init__(self, net, path):
        super().__init__()
        self.net = graph.filter_net(net, caffe_pb2.NetState(phase=caffe_pb2.TEST))
        self.dropping, self.first = True, None
        self.own = nn.ParameterDict()
        with weights.read_weights(path) as source:
            for layer in self.net.layer:
                for number, blob in enumerate(source.layers.get(layer.name, ())):
                    values = torch.empty(blob.shape)
                    blob.read_into(values.numpy())
                    learns = number >= len(layer.param) or layer.param[number].lr_mult != 0
                    self.own[_key(layer, number)] = nn.Parameter(values, requires_grad=learns)
                if layer.type == "Convolution" and self.first is None:
                    self.first = self.own[_key(layer, 0)]

    def forward(self, blobs, output=None):
        """Return blob `output`, or the last layer's top (the loss)."""
        blobs = dict(blobs)
        for layer in self.net.layer:
            if layer.type == "Input":
                continue
            own = [self.own[_key(layer, n)] for n in range(2) if _key(layer, n) in self.own]
            blobs[layer.top[0]] = FUNCTIONS[layer.type](self, layer, own, *(blobs[name] for name in layer.bottom))
            last = layer.top[0]
        return blobs[output or last]


def _key(layer, number):
    return f"{layer.name}/{number}".replace(".", "_")


def _convolution(net, layer, own, x):
    _, stride, pad, dilation = geometry.kernel_stride_pad_dilation(layer.convolution_param, 2)
    return functional.conv2d(x, own[0], own[1] if len(own) > 1 else None, stride, pad, dilation, layer.convolution_param.group)


def _deconvolution(net, layer, own, x):
    _, stride, pad, dilation = geometry.kernel_stride_pad_dilation(layer.convolution_param, 2)
    return functional.conv_transpose2d(x, own[0], own[1] if len(own) > 1 else None, stride, pad,
                                       groups=layer.convolution_param.group, dilation=dilation)


def _pooling(net, layer, own, x):
    param = layer.pooling_param
    kernel, stride, pad = geometry.pool_kernel_stride_pad(param, *x.shape[2:])
    if param.pool == param.MAX:
        return functional.max_pool2d(x, kernel, stride, pad, ceil_mode=True)
    return functional.avg_pool2d(x, kernel, stride, pad, ceil_mode=True)


def _lrn(net, layer, own, x):
    param = layer.lrn_param
    return functional.local_response_norm(x, param.local_size, param.alpha, param.beta, param.k)


def _dropout(net, layer, own, x):
    return functional.dropout(x, layer.dropout_param.dropout_ratio, net.training and net.dropping)


def _inner_product(net, layer, own, x):
    return functional.linear(x.flatten(1), *own)


def _eltwise(net, layer, own, *terms):
    total = None
    for factor, x in zip(list(layer.eltwise_param.coeff) or [1] * len(terms), terms):
        x = x if factor == 1 else factor * x
        total = x if total is None else total + x
    return total


def _crop(net, layer, own, x, like):
    offsets = list(layer.crop_param.offset) or [0]
    top, left = offsets * 2 if len(offsets) == 1 else offsets
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


def _scale(net, layer, own, x):
    return x * own[0].view(1, -1, 1, 1)


def _loss(net, layer, own, x, label):
    ignored = layer.loss_param.ignore_label if layer.loss_param.HasField("ignore_label") else -100
    mean = not layer.loss_param.HasField("normalize") or layer.loss_param.normalize
    loss = functional.cross_entropy(x, label.reshape(x.shape[0], *x.shape[2:]).long(), ignore_index=ignored,
                                    reduction="mean" if mean else "sum")
    return loss if mean else loss / x.shape[0]


FUNCTIONS = {
    "Concat": lambda net, layer, own, *parts: torch.cat(parts, layer.concat_param.axis), "Convolution": _convolution,
    "Crop": _crop, "Deconvolution": _deconvolution, "Dropout": _dropout, "Eltwise": _eltwise, "InnerProduct": _inner_product,
    "LRN": _lrn, "Pooling": _pooling, "ReLU": lambda net, layer, own, x: functional.relu_(x), "Scale": _scale,
    "Softmax": lambda net, layer, own, x: functional.softmax(x, layer.softmax_param.axis), "SoftmaxWithLoss": _loss,
}

"""Small nets for the tests of whole nets."""

from netspec import caffe_pb2
from netspec.spec import NetSpec
from netspec.spec import layers as L


def padded_vgg(pad=30, channels=16, size=(20, 24)):
    """Return the head of a VGG net with the paper's large padding, four convolutions and two poolings deep."""
    n = NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 3, *size]}})
    how = dict(kernel_size=3, pad=1, weight_filler={"type": "msra"}, bias_filler={"type": "gaussian", "std": 0.5})
    n.conv1_1 = L.Convolution(n.data, num_output=channels, **{**how, "pad": pad})
    n.relu1_1 = L.ReLU(n.conv1_1, in_place=True)
    n.conv1_2 = L.Convolution(n.relu1_1, num_output=channels + 5, **how)
    n.relu1_2 = L.ReLU(n.conv1_2, in_place=True)
    n.pool1 = L.Pooling(n.relu1_2, pool=caffe_pb2.PoolingParameter.MAX, kernel_size=2, stride=2)
    n.conv2_1 = L.Convolution(n.pool1, num_output=channels, **how)
    n.relu2_1 = L.ReLU(n.conv2_1, in_place=True)
    n.conv2_2 = L.Convolution(n.relu2_1, num_output=2 * channels, **how)
    n.relu2_2 = L.ReLU(n.conv2_2, in_place=True)
    n.pool2 = L.Pooling(n.relu2_2, pool=caffe_pb2.PoolingParameter.MAX, kernel_size=3, stride=2)
    n.score = L.Convolution(n.pool2, num_output=5, kernel_size=1, weight_filler={"type": "msra"})
    return n.to_proto()


def unplan(net):
    """Let a net run layer by layer, all blobs in NCHW, every border computed; return it."""
    net.plan.fusions, net.plan._joins = {}, []
    for blob in net.blobs.values():
        blob.blocks, blob.diff_blocks, blob.within = False, False, None
    for layer in net.layers:
        layer.planned()
    net._borders = None
    return net

"""OpenCV 4's Caffe importer as a second opinion on Caffe's layers, one by one in TEST; the forks' have theirs in their own."""

import numpy as np
import pytest

from netspec import caffe_pb2
from tests.layers.opencv import opencv
from tests.support import run_layer

SHAPE = (2, 6, 9, 11)
CASES = [
    ("AbsVal", "", 1), ("BNLL", "", 1), ("BatchNorm", "batch_norm_param { eps: 0.01 }", 1), ("Concat", "", 2),
    ("Concat", "concat_param { axis: 2 }", 2),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }", 1),
    ("Convolution", "convolution_param { num_output: 9 kernel_size: 3 group: 3 dilation: 2 bias_term: false }", 1),
    ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }", 1), ("Dropout", "", 1),
    ("ELU", "elu_param { alpha: 0.7 }", 1), ("Eltwise", "", 2), ("Eltwise", "eltwise_param { operation: PROD }", 2),
    ("Eltwise", "eltwise_param { operation: MAX }", 2), ("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 }", 2),
    ("Exp", "exp_param { base: 3 scale: 0.5 shift: 1 }", 1), ("Flatten", "", 1),
    ("InnerProduct", "inner_product_param { num_output: 5 }", 1),
    ("LRN", "lrn_param { local_size: 5 alpha: 0.3 beta: 0.6 }", 1),  # OpenCV takes k for 1, whatever is given
    ("LRN", "lrn_param { local_size: 3 alpha: 0.3 beta: 0.6 norm_region: WITHIN_CHANNEL }", 1),
    ("MVN", "", 1), ("MVN", "mvn_param { across_channels: true normalize_variance: false }", 1), ("PReLU", "", 1),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", 1),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 pool: AVE }", 1),
    ("Pooling", "pooling_param { global_pooling: true pool: AVE }", 1),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", 1), ("ReLU", "relu_param { negative_slope: 0.2 }", 1),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 3 dim: -1 } }", 1), ("Scale", "scale_param { bias_term: true }", 1),
    ("Sigmoid", "", 1), ("Softmax", "", 1), ("Softmax", "softmax_param { axis: 2 }", 1), ("TanH", "", 1),
]


@pytest.mark.parametrize("kind, fields, bottoms", CASES)
def test_opencv_computes_the_same(kind, fields, bottoms):
    rng = np.random.RandomState(0)
    values = [rng.uniform(-2, 2, SHAPE).astype("f4") for _ in range(bottoms)]
    text = f'type: "{kind}" {fields}'
    layer, _, _ = run_layer(text, values, caffe_pb2.TEST)
    low = 0.1 if kind == "BatchNorm" else -1  # variances
    params = [rng.uniform(low, 1, blob.shape).astype("f4") for blob in layer.blobs]
    _, _, top = run_layer(text, values, caffe_pb2.TEST, params=params)
    ours, theirs = top[0].data, opencv(text, values, params)
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-5 * max(1, abs(ours).max())


def test_opencv_crops_the_same():
    image, size = np.random.RandomState(0).randn(1, 3, 9, 11).astype("f4"), np.zeros((1, 3, 4, 5), "f4")
    text = 'type: "Crop" crop_param { axis: 2 offset: 2 offset: 3 }'
    _, _, top = run_layer(text, [image, size], caffe_pb2.TEST)
    np.testing.assert_array_equal(top[0].data, opencv(text, [image, size]))

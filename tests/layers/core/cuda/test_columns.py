"""Im2col and SPP on a card."""

import numpy as np
import pytest

from netspec import caffe_pb2
from tests.layers.core.cuda.cards import check_on_card

RNG = np.random.RandomState(0)


@pytest.mark.parametrize("shape, param", [
    ((2, 2, 4, 5), "kernel_size: 3 pad: 1 stride: 2"),
    ((1, 2, 5, 6), "kernel_h: 2 kernel_w: 3 dilation: 2"),
    ((2, 3, 7), "kernel_size: 3 stride: 3 pad: 2"),
    ((2, 3, 2, 4), "axis: 2 kernel_size: 2"),
    ((1, 2, 2, 3, 4), "kernel_size: 2 kernel_size: 1 kernel_size: 3 pad: 1"),
])
def test_im2col(shape, param):
    check_on_card(f'type: "Im2col" convolution_param {{ {param} }}', [RNG.randn(*shape)], tolerance=1e-6)


@pytest.mark.parametrize("levels, pool, shape", [(1, "MAX", (2, 2, 3, 4)), (3, "MAX", (2, 2, 7, 4)), (2, "AVE", (1, 3, 3, 5))])
def test_spp(levels, pool, shape):
    check_on_card(f'type: "SPP" spp_param {{ pyramid_height: {levels} pool: {pool} }}', [RNG.randn(*shape)])


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_spp_with_drawn_values(phase):
    check_on_card('type: "SPP" spp_param { pyramid_height: 2 pool: STOCHASTIC }', [RNG.rand(1, 2, 4, 6) + 0.1], phase)

import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(2, 5, 7, 6).astype("f4")


def text(kind, param):
    return f'type: "{kind}" convolution_param {{ num_output: 5 kernel_size: 3 pad: 1 {param} }}'


@pytest.mark.parametrize("param", ["", "group: 5", "stride: 2 bias_term: false", "num_output: 10 group: 5"])
def test_it_is_a_convolution_of_single_channels(param):
    ours = text("DepthwiseConvolution", param)
    if "num_output" in param:
        ours = ours.replace("num_output: 5 ", "")
    theirs = ours.replace("DepthwiseConvolution", "Convolution").replace(" group: 5", "").replace(" }", " group: 5 }")
    outputs = 10 if "10" in param else 5
    params = [RNG.randn(outputs, 1, 3, 3), RNG.randn(outputs)][:1 if "bias" in param else 2]
    layer, _, top = run_layer(ours, [X], params=params)
    plain, _, wanted = run_layer(theirs, [X], params=params)
    assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in plain.blobs]
    np.testing.assert_array_equal(top[0].data, wanted[0].data)
    assert layer.kernel() == plain.kernel()
    assert layer.macs([X.shape], [top[0].shape]) == plain.macs([X.shape], [top[0].shape])


def test_by_plain_loops():
    weight, bias = RNG.randn(5, 1, 3, 3), RNG.randn(5)
    _, _, top = run_layer(text("DepthwiseConvolution", ""), [X], params=[weight, bias])
    padded = np.pad(X.astype("f8"), [(0, 0), (0, 0), (1, 1), (1, 1)])
    for n, c, h, w in np.ndindex(X.shape):
        value = (padded[n, c, h:h + 3, w:w + 3] * weight[c, 0]).sum() + bias[c]
        assert abs(top[0].data[n, c, h, w] - value) < 1e-5


def test_gradient():
    check_gradient(text("DepthwiseConvolution", "stride: 2"), [X[:1, :, :4, :4]], params=[RNG.randn(5, 1, 3, 3), RNG.randn(5)])


def test_other_groups_are_refused():
    with pytest.raises(Error, match=r"the bottom \[2, 5, 7, 6\] has 5 channels on axis 1 and there are 1 groups; a Depthwise"):
        make_layer(text("DepthwiseConvolution", "group: 1"), [X])
    with pytest.raises(Error, match="has 6 channels, which cannot be cut into 5 groups|has 6 channels on axis 1"):
        make_layer(text("DepthwiseConvolution", ""), [np.zeros((1, 6, 4, 4))])
    with pytest.raises(Error, match="has 10 channels on axis 1 and there are 5 groups"):
        make_layer(text("DepthwiseConvolution", ""), [np.zeros((1, 10, 4, 4))])
    with pytest.raises(Error, match="num_output is missing or 0"):
        make_layer('type: "DepthwiseConvolution"', [X])

import numpy as np
import pytest

from netspec.errors import Error
from tests.support import run_layer

X = np.array([[-1, 0, 0.3, 0.31, np.nan, 5]], "f4")


@pytest.mark.parametrize("threshold", [0, 0.3, -2])
def test_one_above_the_threshold(threshold):
    layer, bottom, top = run_layer(f'type: "Threshold" threshold_param {{ threshold: {threshold} }}', [X])
    np.testing.assert_array_equal(top[0].data, np.float32(threshold) < X)
    assert not layer.allow_force_backward(0)
    with pytest.raises(Error, match="has no gradient"):
        layer.backward(top, [True], bottom)

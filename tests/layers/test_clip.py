import numpy as np
import pytest

from layers.core import catalogue
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.elementwise import check_elementwise, spread
from tests.support import run_layer


def test_values_are_held_within_the_bounds():
    check_elementwise('type: "Clip" clip_param { min: -0.5 max: 1.25 }', lambda x: np.clip(x, -0.5, 1.25), spread(-2, 2))


def test_the_bounds_themselves_have_a_gradient_and_nan_stays():
    layer, bottom, top = run_layer('type: "Clip" clip_param { min: 0 max: 1 }', [np.array([[0, 1, 2, np.nan]], "f4")])
    np.testing.assert_array_equal(top[0].data, [[0, 1, 1, np.nan]])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff[0, :3], [1, 1, 0])


@pytest.mark.parametrize("param, message", [("min: 1 max: 0", "min 1 is above max 0"), ("min: 1", "needs both")])
def test_bad_bounds_are_refused(param, message):
    param_of = caffe_pb2.LayerParameter(name="it", type="Clip")
    for field in param.split(" m"):
        name, value = field.split(": ")
        setattr(param_of.clip_param, name if name.startswith("m") else "m" + name, float(value))
    with pytest.raises(Error, match=message):
        catalogue.find("Clip")(param_of)

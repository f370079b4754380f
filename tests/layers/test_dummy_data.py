import numpy as np
import pytest

from netspec.errors import Error
from tests.support import make_layer, run_layer


def text(param, tops=2):
    return ('type: "DummyData" ' + " ".join(f'top: "t{i}"' for i in range(tops))
            + f" dummy_data_param {{ {param} }}")


@pytest.mark.parametrize("param, shapes", [
    ("shape { dim: 2 dim: 3 }", [(2, 3), (2, 3)]),
    ("shape { dim: 2 } shape { }", [(2,), ()]),
    ("num: 1 channels: 2 height: 3 width: 4", [(1, 2, 3, 4)] * 2),
    ("num: 1 num: 5 channels: 2 height: 3 width: 4 width: 6", [(1, 2, 3, 4), (5, 2, 3, 6)]),
])
def test_shapes_in_both_forms_and_zeros_by_default(param, shapes):
    _, _, top = run_layer(text(param), [])
    assert [blob.shape for blob in top] == shapes
    assert not any(blob.data.any() for blob in top)


def test_constants_are_filled_once_and_the_rest_in_every_pass():
    fillers = 'data_filler { value: 3 } data_filler { type: "gaussian" }'
    layer, bottom, top = make_layer(text(f"shape {{ dim: 50 }} {fillers}"), [])
    assert (top[0].data == 3).all()
    assert not top[1].data.any()
    top[0].data[...] = 4
    draws = []
    for _ in range(2):
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        draws.append(top[1].data.copy())
    assert (top[0].data == 4).all()
    assert 0.5 < draws[0].std() < 1.5
    assert (draws[0] != draws[1]).all()


def test_the_state_brings_a_draw_back():
    layer, bottom, top = make_layer(text('shape { dim: 9 } data_filler { type: "uniform" }'), [])
    state = layer.state()
    layer.forward(bottom, top)
    first = [blob.data.copy() for blob in top]
    assert (first[0] != first[1]).all()
    layer.set_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal([blob.data for blob in top], first)


@pytest.mark.parametrize("param, message", [
    ("shape { dim: 1 } shape { dim: 1 } shape { dim: 1 }", "shape is given 3 times for 2 tops"),
    ("", "shape is given 0 times"),
    ("num: 1 channels: 2 height: 3", "width is given 0 times"),
    ("shape { dim: 1 } num: 1", "both 'shape' and num"),
    ("shape { dim: 1 } data_filler { } data_filler { } data_filler { }", "data_filler is given 3 times for 2 tops"),
    ('shape { dim: 1 } data_filler { type: "gausian" }', "unknown filler type 'gausian'; did you mean 'gaussian'"),
])
def test_what_does_not_fit_is_refused(param, message):
    with pytest.raises(Error, match=message):
        run_layer(text(param), [])

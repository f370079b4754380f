import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5).astype("f4")


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("tiles", [1, 3])
def test_the_bottom_is_repeated(axis, tiles):
    text = f'type: "Tile" tile_param {{ axis: {axis} tiles: {tiles} }}'
    _, _, top = run_layer(text, [X])
    np.testing.assert_array_equal(top[0].data, np.concatenate([X] * tiles, axis))
    check_gradient(text, [X])


def test_no_tiles_are_refused():
    with pytest.raises(Error, match="tiles is missing"):
        make_layer('type: "Tile"', [X])

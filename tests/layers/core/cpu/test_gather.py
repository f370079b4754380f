import numpy as np
import pytest

from layers.core.cpu import parallel
from layers.core.cpu.blocked import Blocked
from layers.core.cpu.gather import gather_around


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("box", [(2, 5, 3, 9), (0, 7, 0, 10), (0, 0, 0, 0), (1, 7, 4, 4)])
def test_pixels_outside_of_the_box_come_from_the_tables_and_others_stay(border, box):
    rng = np.random.default_rng(0)
    small = Blocked((1, 21, 4, 5), 0).put(rng.standard_normal((1, 21, 4, 5)).astype(np.float32))
    rows, columns = rng.integers(0, 4, 7), rng.integers(0, 5, 10)
    before = rng.standard_normal((2, 21, 7, 10)).astype(np.float32)
    expected = small.get()[:, :, rows][:, :, :, columns].repeat(2, axis=0)
    y0, y1, x0, x1 = box
    expected[:, :, y0:y1, x0:x1] = before[:, :, y0:y1, x0:x1]
    for threads in (1, 2):
        parallel.set_threads(threads)
        target = Blocked(before.shape, border).put(before)
        gather_around(small.array[0], rows, columns, target.address, target.picture, box)
        assert np.array_equal(target.get(), expected)
        outer = target.array.copy()
        outer[:, :, border : border + 7, border : border + 10] = 0
        assert not outer.any()

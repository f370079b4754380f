"""A check for layers that draw random numbers."""

import numpy as np


def check_draws_anew(layer, bottom, top):
    """Each forward pass must draw anew, and a layer set back to a state must draw the same again."""
    state, first = layer.state(), top[0].data.copy()
    layer.forward(bottom, top)
    second = top[0].data.copy()
    assert (first != second).any()
    layer.set_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, second)

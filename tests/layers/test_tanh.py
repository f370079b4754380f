import numpy as np

from tests.layers.elementwise import check_elementwise, spread


def test_hyperbolic_tangent():
    check_elementwise('type: "TanH"', np.tanh, spread(-4, 4))

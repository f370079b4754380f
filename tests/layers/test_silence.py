import numpy as np

from layers.core import catalogue
from layers.core.blob import Blob
from netspec import caffe_pb2


def test_silence_has_no_tops_and_zero_gradients():
    layer = catalogue.find("Silence")(caffe_pb2.LayerParameter(name="it", type="Silence"))
    bottom = [Blob((2, 3)), Blob((4,)), Blob((5,))]
    layer.check_counts(3, 0)
    layer.setup(bottom, [])
    layer.reshape(bottom, [])
    layer.forward(bottom, [])
    bottom[0].diff[...] = bottom[1].diff[...] = 8
    layer.backward([], [True, False, True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.zeros((2, 3)))
    assert (bottom[1].diff == 8).all()
    assert not bottom[2].has_diff

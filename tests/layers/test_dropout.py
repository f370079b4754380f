import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.drawing import check_draws_anew
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).uniform(1, 2, (3, 5, 7, 11)).astype("f4")


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_values_are_dropped_with_the_ratio_and_the_rest_scaled(ratio):
    x = np.ones((40, 50, 51), "f4")
    _, _, top = run_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', [x])
    kept = top[0].data != 0
    np.testing.assert_allclose(top[0].data[kept], 1 / (1 - ratio), rtol=1e-6)
    # 102,000 draws: five standard deviations
    assert abs(kept.mean() - (1 - ratio)) < 5 * np.sqrt(ratio * (1 - ratio) / x.size)


def test_backward_drops_what_forward_dropped():
    layer, bottom, top = run_layer('type: "Dropout"', [X])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.where(top[0].data != 0, 2, 0))


def test_gradient():
    check_gradient('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [X[:1, :, :2]])


def test_in_place_equals_out_of_place():
    _, _, top = run_layer('type: "Dropout"', [X])
    layer, blob, _ = make_layer('type: "Dropout"', [X])
    layer.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = 1
    layer.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, np.where(top[0].data != 0, 2, 0))


def test_every_pass_draws_anew_and_the_state_brings_a_draw_back():
    check_draws_anew(*run_layer('type: "Dropout"', [X]))


def test_seeds_differ():
    draws = [run_layer('type: "Dropout"', [X], seed=seed)[2][0].data for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize("ratio, phase", [(0.5, caffe_pb2.TEST), (0, caffe_pb2.TRAIN)])
def test_test_phase_and_ratio_zero_copy(ratio, phase):
    layer, bottom, top = run_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', [X], phase)
    np.testing.assert_array_equal(top[0].data, X)
    top[0].diff[...] = X
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, X)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, "nan"])
def test_a_ratio_that_drops_everything_is_refused(ratio):
    with pytest.raises(Error, match=r"layer 'it' \(Dropout\): dropout_ratio .* out of range"):
        make_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', [X])


def test_threads_do_not_change_the_result():
    check_same_bits('type: "Dropout"', [X])

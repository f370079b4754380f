import numpy as np

from layers.core import rng


def test_stream_state_is_enough_to_go_on():
    stream = rng.Stream(42).child(3)
    stream.take(10)
    stream.generator()
    kept = stream.state()
    first = stream.take(5), stream.generator().standard_normal(3).tolist()
    stream.set_state(kept)
    assert (stream.take(5), stream.generator().standard_normal(3).tolist()) == first


def test_children_differ_and_are_reproducible():
    keys = {rng.Stream(seed).child(number).key for seed in range(20) for number in range(20)}
    assert len(keys) == 400
    assert rng.Stream(1).child(2).key == rng.Stream(1).child(2).key


def test_bits_are_uniform_and_uncorrelated():
    key = np.uint64(rng.Stream(7).child(1).key)
    bits = np.array([rng.bits_at(key, np.uint64(i)) for i in range(20000)], np.uint64)
    ones = np.array([(bits >> np.uint64(b)) & np.uint64(1) for b in range(64)], float).mean(axis=1)
    assert abs(ones - 0.5).max() < 0.02  # 5 standard deviations of a fair coin thrown 20000 times: 0.018
    values = bits / 2.0**64
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_process_seed_makes_the_same_nets():
    rng.seed_process(5)
    first = [rng.next_seed(), rng.next_seed()]
    rng.seed_process(5)
    assert [rng.next_seed(), rng.next_seed()] == first and first[0] != first[1]

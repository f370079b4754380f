from solvers import memory


def test_free_memory_is_a_number_or_unknown():
    free = memory.free_memory()
    assert free is None or free > 0

from layers.core.free_memory import free_memory


def test_free_memory_is_a_number_or_unknown():
    free = free_memory()
    assert free is None or free > 0

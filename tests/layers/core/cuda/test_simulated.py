"""Everything that can be simulated of a card, in a process of its own: numba decides at its start whether it simulates."""

import pytest

from layers.core.cuda import card as cards
from tests.layers.core.cuda import simulated


@pytest.mark.skipif(cards.simulated(), reason="this is that process")
def test_the_suite_passes_on_a_simulated_card():
    done = simulated.run(capture=True)
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout[-6000:]}"

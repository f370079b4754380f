"""Whole nets on a card: what Caffe recorded of them, with compiled kernels for all but products."""

import pytest

from layers.core import catalogue
from layers.core.cuda import card as cards
from tests.layers import test_goldens
from tests.layers.core.cuda import native


@pytest.mark.parametrize("name", ["narrow_fcn16s", "narrow_fcn8s_atonce"])
def test_whole_net_equals_caffe(name, monkeypatch):
    for product in ("Convolution", "Deconvolution", "InnerProduct"):  # on the CPU, between the others
        monkeypatch.setattr(catalogue.find(product), "has_cuda", lambda layer: False)
    monkeypatch.setattr(cards, "card", lambda number: native.CARD)
    monkeypatch.setattr(native.CARD, "most", 2 << 30)
    monkeypatch.setenv("DEEPJET_DEVICE", "gpu")
    test_goldens.compare_net(test_goldens.GOLDENS / "nets" / f"{name}.npz", test_goldens.LOOSE.get(name, 2e-3))

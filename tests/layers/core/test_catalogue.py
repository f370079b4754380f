"""Finding a layer type by its name."""

import pytest

from layers.core import catalogue
from netspec.errors import UnknownName


def test_every_type_is_found_under_caffes_spelling():
    for name in catalogue.types():
        assert catalogue.find(name).__name__ == name


def test_a_misspelt_type_is_told_from_one_that_is_not_built(monkeypatch):
    with pytest.raises(UnknownName, match="unknown layer type 'Convolutoin'; did you mean 'Convolution'"):
        catalogue.find("Convolutoin")
    monkeypatch.setattr(catalogue, "CAFFE", "Convolution FutureThing")
    with pytest.raises(UnknownName, match="layer type 'FutureThing' of Caffe is not built here yet"):
        catalogue.find("FutureThing")


def test_all_types_of_caffe_are_here():
    assert len(catalogue.CAFFE.split()) == 61
    assert set(catalogue.CAFFE.split()) <= set(catalogue.types())

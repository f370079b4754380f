"""Words of command lines."""

import pytest

from netspec import options
from netspec.errors import UnknownName


def test_values_are_literals_or_text():
    given = ["seed=7", "mean=(1.5, 2, 3)", "voc_dir=/a=b", "split=2", "x='7'", "y=__import__('os')", "z="]
    assert options.key_values(given) == {
        "seed": 7, "mean": (1.5, 2, 3), "voc_dir": "/a=b", "split": 2, "x": "7", "y": "__import__('os')", "z": ""}
    assert options.key_values(None) == {}


def test_shapes_are_read_with_commas_or_crosses():
    assert options.named_shapes(["data=1,3,500,500", "label=1x1x5x7"]) == {"data": (1, 3, 500, 500), "label": (1, 1, 5, 7)}
    assert options.named_shapes(None) == {}


def test_three_numbers():
    assert options.three_numbers("104,116.5,-1e1") == (104.0, 116.5, -10.0)


@pytest.mark.parametrize("read, given, option", [
    *((options.key_values, [wrong], "--data takes KEY=VALUE") for wrong in ("voc_dir", "=x")),
    *((options.named_shapes, [wrong], "--input takes NAME=SHAPE") for wrong in ("data", "data=", "=1,2", "data=1,0", "data=1,a")),
    *((options.three_numbers, wrong, "--mean takes three numbers") for wrong in ("1,2,x", "1,2,nan", "1,2")),
])
def test_others_are_refused_by_the_options_name(read, given, option):
    with pytest.raises(UnknownName, match=option):
        read(given)
    with pytest.raises(UnknownName, match="--other takes"):
        read(given, "--other")

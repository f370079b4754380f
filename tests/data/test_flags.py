import argparse

import pytest

from data import flags
from netspec.errors import UnknownName


@pytest.mark.parametrize("given, gray, size", [
    ([], False, 0), (["-gray"], True, 0), (["--gray"], True, 0), (["-gray=true", "-size=3"], True, 3),
    (["--gray=false", "--size", "3"], False, 3), (["-gray", "-nogray"], False, 0), (["--nogray", "--gray=1"], True, 0)])
def test_flags_are_read_as_caffes_tools_do(given, gray, size):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    flags.add_switch(parser, "gray", "")
    flags.add_value(parser, "size", "", type=int, default=0)
    parser.add_argument("place")
    found = parser.parse_args(flags.written_out([*given, "here"], ("gray",)))
    assert (found.gray, found.size, found.place) == (gray, size, "here")


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(UnknownName, match="-gray is on or off: true or false, not 'maybe'"):
        flags.written_out(["-gray=maybe"], ("gray",))

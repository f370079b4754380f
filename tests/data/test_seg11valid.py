"""The paper's validation set from the lists of VOC 2011 and SBD."""

import os

import pytest

from data import seg11valid
from netspec import files
from netspec.errors import run_door
from tests.data import folders
from tests.support import shared


@pytest.fixture
def both(tmp_path):
    """(VOC folder with val of ids 0 to 6, SBD folder that trains on 1 and 4)."""
    voc, sbd = folders.voc(tmp_path / "VOC2011", splits=("val",)), folders.sbd(tmp_path / "sbd", 1)
    folders.write(os.path.join(sbd, "train.txt"), "2007_000004\n2007_000001\n2008_999999\n")
    return voc, sbd


def test_what_sbd_trains_on_is_left_out_and_the_list_is_found_by_the_layers(both, capsys):
    voc, sbd = both
    assert seg11valid.main([voc, sbd]) == 0
    out, said = capsys.readouterr()
    path = os.path.join(voc, "ImageSets", "Segmentation", "seg11valid.txt")
    assert out == f"{path}\n" and files.read_text(path).split() == [f"2007_00000{n}" for n in (0, 2, 3, 5, 6)]
    assert "7 ids" in said and "5 of the first are not in the second" in said and "the paper's list has 736" in said


def test_a_list_that_is_there_is_compared_and_left_as_it_is(both, capsys):
    voc, sbd = both
    seg11valid.main([voc, sbd])
    assert seg11valid.main([voc, sbd]) == 0
    assert "there already, with the same 5 ids" in capsys.readouterr().err
    path = os.path.join(voc, "ImageSets", "Segmentation", "seg11valid.txt")
    folders.write(path, "2007_000000\n2007_000001\n")
    assert seg11valid.main([voc, sbd]) == 1
    assert "4 ids fewer (such as 2007_000002) and 1 ids more (such as 2007_000001)" in capsys.readouterr().err
    assert files.read_text(path) == "2007_000000\n2007_000001\n"


def test_another_year_and_missing_lists_are_refused(both, tmp_path, capsys):
    voc, sbd = both
    val = os.path.join(voc, "ImageSets", "Segmentation", "val.txt")
    folders.write(val, "".join(f"2012_{number:06d}\n" for number in range(1449)))
    assert run_door(seg11valid.main, [voc, sbd]) == 1
    assert "that is VOC 2012's val" in capsys.readouterr().err
    assert seg11valid.main([voc, sbd, "-o", str(tmp_path / "seg12valid.txt")]) == 0
    os.unlink(val)
    assert run_door(seg11valid.main, [voc, sbd]) == 1
    assert "split 'val' has no list" in capsys.readouterr().err
    assert run_door(seg11valid.main, [str(tmp_path / "absent"), sbd]) == 1


def test_the_papers_list_can_come_from_the_rule():
    """What can be seen of it here: 736 ids in VOC's order, none of which the 520 training pictures at hand have."""
    ids = files.read_text(str(shared("real/seg11valid.txt"))).split()
    train = files.read_text(str(shared("real/voc/ImageSets/Segmentation/train.txt"))).split()
    assert len(ids) == len(set(ids)) == seg11valid.PAPER and ids == sorted(ids)
    assert not set(ids) & set(train) and {name[:4] for name in ids} == {"2007", "2008", "2009", "2010", "2011"}
    assert seg11valid.difference(sorted(ids + train), train) == ids

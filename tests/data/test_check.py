"""data.check: what is there, what is missing, every label; exit codes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import check
from netspec.errors import run_door
from tests.data import folders
from tests.support import ROOT


def run(capsys, *args):
    """Return (exit code, stdout, stderr) of the command."""
    code = run_door(check.main, [str(one) for one in args])
    return code, *capsys.readouterr()


def make(kind, folder):
    """Draw a whole data set; return the --folder options."""
    if kind == "voc":
        return ["--folder", folders.voc(folder)]
    if kind == "sbdd":
        return ["--folder", folders.sbd(folder)]
    if kind == "nyud":
        return ["--folder", folders.nyud(folder)]
    if kind == "siftflow":
        return ["--folder", folders.siftflow(folder)]
    voc, context = folders.context(folder)
    return ["--folder", f"voc_dir={voc}", "--folder", f"context_dir={context}"]


@pytest.mark.parametrize("kind, samples", [("voc", 7), ("sbdd", 5), ("nyud", 4), ("siftflow", 3), ("pascalcontext", 3)])
def test_a_whole_data_set_has_nothing_missing_and_nothing_wrong(tmp_path, capsys, kind, samples):
    code, out, _ = run(capsys, kind, *make(kind, tmp_path))
    assert code == 0 and "nothing missing, nothing wrong" in out and f"{samples} samples of" in out
    assert not [line for line in out.splitlines() if line.startswith(("missing", "wrong"))]


def test_the_histogram_counts_pixels_and_images_of_each_class(tmp_path, capsys):
    folder = folders.voc(tmp_path, 3)
    out = run(capsys, "voc", "--folder", folder)[1]
    label = np.concatenate([folders.pair(number)[1].ravel() for number in range(3)])
    for number, name in ((0, "background"), (15, "person")):
        row = next(line for line in out.splitlines() if line.startswith(name)).split()
        held = sum((folders.pair(i)[1] == number).any() for i in range(3))
        assert row[1:] == [str((label == number).sum()), f"{(label == number).sum() / (label != 255).sum():.2%}", str(held)]
    assert f"ignored (255): {(label == 255).sum()} pixels, {(label == 255).mean():.2%} of all" in out
    assert "train           3 ids (the published list: 1112 or 1464)" in out


def test_two_label_maps_have_two_histograms_and_absent_classes_are_marked(tmp_path, capsys):
    folder = folders.siftflow(tmp_path, semantic=30)
    out = run(capsys, "siftflow", "--folder", folder)[1]
    assert "sem: 3 label maps" in out and "geo: 3 label maps" in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("absent")] == ["sun", "tree", "window"]


def test_every_missing_and_wrong_thing_is_said_with_its_file(tmp_path, capsys):
    folder = folders.voc(tmp_path, 7, splits=("train",))
    label = np.full((9, 10), 21, np.uint8)
    Image.fromarray(label).save(os.path.join(folder, "SegmentationClass", "2007_000001.png"))
    os.unlink(os.path.join(folder, "SegmentationClass", "2007_000002.png"))
    folders.cut(os.path.join(folder, "JPEGImages", "2007_000003.jpg"), 300)
    Image.fromarray(label * 0).resize((4, 5)).save(os.path.join(folder, "SegmentationClass", "2007_000004.png"))
    code, out, _ = run(capsys, "voc", "--folder", folder)
    assert code == 1 and "complaints: 5" in out
    for text in ("missing  PASCAL VOC: split 'seg11valid' has no list", "python -m data.seg11valid",
                 "missing  label: 1 of 7 files, the first is '", "2007_000002.png'; get them from host.robots.ox.ac.uk",
                 "wrong    label 21 at row 0, column 0 of '", "90 such pixels",
                 "2007_000003.jpg", "wrong    the parts of '2007_000004' differ in size (height x width): data 9x9, label 5x4"):
        assert text in out, text
    assert "label: 5 label maps" in out  # the good ones are counted all the same
    code, out, _ = run(capsys, "voc", "--folder", folder, "--lists")
    assert code == 1 and "complaints: 2, but nothing was read (--lists)" in out


def test_many_complaints_are_counted_and_not_printed(tmp_path, capsys):
    folder = folders.voc(tmp_path, 14)
    for number in range(14):
        folders.cut(os.path.join(folder, "SegmentationClass", f"2007_{number:06d}.png"), 40)
    code, out, _ = run(capsys, "voc", "--folder", folder)
    assert code == 1 and out.count("\nwrong ") == 11 and "wrong    ... and 4 more" in out and "complaints: 14" in out


def test_nyud_without_hha_says_how_to_make_it(tmp_path, capsys):
    folder = folders.nyud(tmp_path, parts=("images", "depth"))
    code, out, _ = run(capsys, "nyud", "--folder", folder)
    assert code == 1 and "missing  hha: 4 of 4 files" in out and "python -m data.hha" in out and "label: 4 label maps" in out
    numbers = np.full((9, 8), 41)
    scipy.io.savemat(f"{folder}/segmentation/img_5001.mat", {"segmentation": numbers})
    assert "wrong    label 41 at row 0, column 0 of" in run(capsys, "nyud", "--folder", folder)[1]


def test_a_list_that_names_an_id_twice_is_wrong(tmp_path, capsys):
    folder = folders.sbd(tmp_path)
    folders.write(f"{folder}/train.txt", "2008_000000\n2008_000001\n2008_000000\n")
    code, out, _ = run(capsys, "sbdd", "--folder", folder, "--split", "train")
    assert code == 1 and "names 1 ids more than once, such as 2008_000000" in out and "2 samples" in out


def test_without_a_folder_it_says_where_from(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "pascalcontext", "--folder", "voc_dir=nowhere", "--folder", "context_dir=nirgends")
    assert code == 1 and out.count("missing") == 2 and "roozbeh/pascal-context" in out
    assert "say with --folder context_dir=FOLDER where it is" in out
    code, out, _ = run(capsys)
    assert code == 0
    for name in ("nyud", "pascalcontext", "sbdd", "siftflow", "voc"):
        assert f"\n{name}" in f"\n{out}"


@pytest.mark.parametrize("args, code, message", [
    (["vco"], 2, "unknown data set 'vco'; did you mean 'voc'"),
    (["voc", "--folder", "sbdd_dir=/"], 2, "PASCAL VOC has no folder 'sbdd_dir'; folders: voc_dir"),
    (["voc", "--split", "trian"], 1, "split 'trian' has no list"),
])
def test_wrong_names_are_refused(tmp_path, capsys, args, code, message):
    if "--split" in args:
        args = [*args, "--folder", folders.voc(tmp_path)]
    got, out, said = run(capsys, *args)
    assert got == code and message in out + said


def test_help_shows_an_example():
    got = subprocess.run([sys.executable, "-m", "data.check", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert got.returncode == 0 and "python -m data.check voc --folder" in got.stdout

"""Experiments are found by their files, their results kept with a stamp of what they depend on."""

import json

import numpy as np
import pytest

from netspec.errors import Error, UnknownName
from paper import experiment, page
from paper.experiment import Row
from tests.support import ROOT

EXPERIMENT = '''
TITLE, PLACE, MINUTES, NEEDS = "A title", "4.3, Table 3", 0.1, ()


def run(context):
    """Run."""
    return {"rows": []}
'''


@pytest.fixture
def one():
    """Return an experiment that is there."""
    return experiment.find(["bilinear"])[0]


def test_every_experiment_says_what_it_is():
    found = experiment.find()
    order = [(experiment.section_of(one.place), one.name) for one in found]
    assert order == sorted(order)
    for one in found:
        assert one.title and one.minutes > 0 and experiment.section_of(one.place) in page.SECTIONS


def test_every_kept_result_is_of_an_experiment_as_it_stands():
    known = set(experiment.names())
    for path in sorted(experiment.RESULTS.glob("*.json")):
        assert path.stem in known, f"{path} is of no experiment"
        one = experiment.find([path.stem])[0]
        assert one.is_valid(one.kept()), f"{path} is of an older version of the experiment; run python -m paper.run {path.stem}"


def test_every_row_of_the_page_is_of_a_kept_result():
    results = [one.kept() for one in experiment.find() if one.result_path.exists()]
    assert (ROOT / "docs" / "paper.md").read_text() == page.markdown(results), "run python -m paper.run --page"
    assert (ROOT / "docs" / "paper.html").read_text() == page.page(results, {}), "run python -m paper.run --page"


@pytest.mark.parametrize("what", [*experiment.SECTION, "6.2", "6.3"])
def test_every_table_and_figure_has_an_experiment(what):
    assert any(f'{what}"' in path.read_text() for path in experiment.FOLDER.glob("*.py")), f"no row of {what}"


def test_pictures_of_real_photographs_are_not_in_the_project():
    for one in experiment.find():
        if "real" in one.needs:
            assert not list((experiment.RESULTS / one.name).glob("*")), one.name


def test_the_stamp_changes_with_the_code_and_the_seed_but_not_with_comments(one, tmp_path):
    source = one.path.read_text()
    stamp = one.stamp()
    assert one.stamp(2) != stamp
    one.path = tmp_path / one.path.name
    one.path.write_text("# a comment\n\n" + source)
    assert one.stamp() == stamp
    one.path.write_text(source + "\nMORE = 1\n")
    assert one.stamp() != stamp


def test_the_stamp_changes_with_what_the_experiment_depends_on(one):
    stamp = one.stamp()
    one.depends = ("data/curves.py",)
    assert one.stamp() != stamp


def test_an_unknown_name_lists_the_good_ones():
    with pytest.raises(UnknownName, match="no experiment 'bilinaer'; did you mean 'bilinear'.*experiments: "):
        experiment.find(["bilinaer"])


def test_an_unknown_verdict_is_refused():
    with pytest.raises(Error, match="verdict 'good' is none of reproduced, "):
        Row("claim", "3.1", "ran", 1, 1, "good")


@pytest.mark.parametrize("place, section", [("4.3, Table 3", (4, 3)), ("Table 3", (4, 3)), ("3", (3,)), ("Fig. 5", (4, 4)),
                                            ("5, Table 6", (5,))])
def test_section_of_a_place(place, section):
    assert experiment.section_of(place) == section


@pytest.mark.parametrize("place", ["", "Table 9", "somewhere", "3.", "4.3.1"])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(Error, match="is no place of the paper"):
        experiment.section_of(place)


@pytest.mark.parametrize("given, why", [
    ({}, "at least one Row"), ({"rows": []}, "at least one Row"), ([], "at least one Row"),
    ({"rows": [Row("c", "3.1", "r", 1, 1, "reproduced")], "row": 1}, "returned 'row'"),
    ({"rows": [Row("c", "3.1", "r", 1, 1, "reproduced")], "curves": {"a": {"x": [1], "y": []}}}, "curve 'a' has 1 x and 0 y"),
    ({"rows": [Row("c", "3.1", "r", 1, 1, "reproduced")], "pictures": {"a": np.zeros((2, 2))}}, "must be .H, W, 3. uint8"),
    ({"rows": [Row("c", "3.1", "r", 1, 1, "reproduced")], "pictures": {"../a": np.zeros((2, 2, 3), np.uint8)}}, "name made of"),
])
def test_a_result_that_is_none_is_refused(one, given, why, tmp_path):
    one._run = lambda context: given
    with pytest.raises(Error, match=why):
        one.run(experiment.Context("x", scratch=tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows": [{"claim": "c"}]}', '{"rows": [], "name": 1}'])
def test_a_damaged_result_is_named(text, tmp_path):
    path = tmp_path / "bilinear.json"
    path.write_text(text)
    with pytest.raises(Error, match="bilinear.json' is no result of an experiment .*run python -m paper.run bilinear"):
        experiment.read_result(path)


def test_numbers_become_what_json_holds():
    given = {"a": np.float32(0.5), 3: np.arange(2), "b": (float("nan"), np.inf, 1)}
    assert json.loads(json.dumps(experiment.plain(given))) == {"a": 0.5, "3": [0, 1], "b": [None, None, 1]}


def test_a_file_that_is_no_experiment_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("paper.experiments.__path__", [str(tmp_path)])
    (tmp_path / "empty_one.py").write_text("TITLE = 'a'\n")
    (tmp_path / "broken_one.py").write_text("import nothing_of_the_kind\n")
    (tmp_path / "needs_one.py").write_text(EXPERIMENT.replace("()", "('reel',)", 1))
    for name, why in (("empty_one", "is no experiment: .*PLACE"), ("broken_one", "cannot be imported: ModuleNotFoundError"),
                      ("needs_one", "needs 'reel'; did you mean 'real'")):
        with pytest.raises(Error, match=why):
            experiment.Experiment(tmp_path / f"{name}.py")

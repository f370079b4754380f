"""Which prototxt a name means."""

import pytest

from netspec import files, recipes
from netspec.errors import Error, UnknownName


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "fcn8s"
    folder.mkdir(parents=True)
    for name in ("val.prototxt", "deploy.prototxt", "net.py"):
        (folder / name).write_text("")
    return str(folder / "{}.prototxt")


def test_models_are_found_by_name_and_by_their_published_name(place):
    assert recipes.find_net("fcn8s", ("val", "test")) == place.format("val")
    assert recipes.find_net("voc-fcn8s", ("test", "val")) == place.format("val")
    assert recipes.find_net("fcn8s", ("deploy",)) == place.format("deploy")
    assert recipes.find_net("models/fcn8s/val.prototxt", ("deploy",)) == place.format("val")
    with pytest.raises(UnknownName, match="did you mean 'fcn8s'"):
        recipes.find_net("fcn8", ("val",))
    with pytest.raises(Error, match="python -m netspec.make fcn8s --split train"):
        recipes.find_net("fcn8s", ("train",))


def test_a_folder_means_the_prototxt_in_it(place, tmp_path):
    assert recipes.find_net("models/fcn8s", ("val",)) == place.format("val")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "val.prototxt").write_text("")
    assert recipes.find_net("mine", ("test", "val")) == str(tmp_path / "mine" / "val.prototxt")
    with pytest.raises(Error, match="folder '.*mine' has no deploy.prototxt or test.prototxt; give"):
        recipes.find_net("mine", ("deploy", "test"))
    with pytest.raises(Error, match="'none/net.prototxt' not found; tried"):
        recipes.find_net("none/net.prototxt", ("deploy",))

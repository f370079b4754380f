"""The data layers of every published prototxt run as they are written there; only the folders are others."""

import importlib

import pytest

from netspec import text
from solvers import data_layers
from tests.data import folders
from tests.support import ROOT

NETS = sorted(path for kind in ("nyud", "siftflow", "pascalcontext") for path in (ROOT / "models").glob(f"{kind}_*/*.prototxt")
              if path.stem not in ("deploy", "solver"))


@pytest.mark.parametrize("path", NETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_published_layer_and_param_str_run(tmp_path, path):
    layer, = data_layers.find(text.read_net(str(path)))
    params = data_layers.param_dict(layer)
    if "context_dir" in params:
        params["voc_dir"], params["context_dir"] = folders.context(tmp_path)
    elif "nyud_dir" in params:
        params["nyud_dir"] = folders.nyud(tmp_path)
    else:
        params["siftflow_dir"] = folders.siftflow(tmp_path)
    module = importlib.import_module(f"data.{layer.python_param.module.removesuffix('_layers')}")
    made, tops = folders.layer(getattr(module, layer.python_param.layer), len(layer.top), **params)
    name, *arrays = folders.step(made, tops)
    height, width = arrays[0].shape[2:]
    for top, array in zip(params.get("tops", layer.top), arrays, strict=True):
        assert array.shape == (1, 3 if top in ("data", "color", "hha") else 1, height, width)
    assert name in made.dataset.ids
    made.close()


def test_there_are_prototxts():
    assert len(NETS) == 20


@pytest.mark.parametrize("model, mean", [("siftflow_fcn8s", (114.578, 115.294, 108.353)),
                                         ("nyud_fcn32s_color", (116.190, 97.203, 92.318)), ("nyud_fcn32s_hha", None),
                                         ("pascalcontext_fcn8s", (104.007, 116.669, 122.679))])
def test_pictures_for_a_deploy_net_are_prepared_with_the_mean_of_its_data_layer(model, mean):
    assert data_layers.mean_beside(str(ROOT / "models" / model / "deploy.prototxt"))[0] == mean

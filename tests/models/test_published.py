"""The generated nets are the published ones, message by message; the figures of the paper hold."""

import ast
import json

import pytest
from google.protobuf import json_format

from netspec import caffe_pb2, make, recipes
from tests.support import shared

# name: layers of the training net, (kernel, stride) of the upsamplings, crop offsets, classes, base_lr, max_iter
FIGURES = {
    "fcn32s": (42, [(64, 32)], [19], 21, 1e-10, 100000),
    "fcn16s": (46, [(4, 2), (32, 16)], [5, 27], 21, 1e-12, 100000),
    "fcn8s": (50, [(4, 2), (4, 2), (16, 8)], [5, 9, 31], 21, 1e-14, 100000),
    "fcn8s_atonce": (52, [(4, 2), (4, 2), (16, 8)], [5, 9, 31], 21, 1e-10, 300000),
    "fcn_alexnet": (26, [(63, 32)], [18], 21, 1e-4, 100000),
    "nyud_fcn32s_color": (42, [(64, 32)], [19], 40, 1e-10, 300000),
    "nyud_fcn32s_hha": (42, [(64, 32)], [19], 40, 1e-10, 300000),
    "nyud_fcn32s_color_d": (43, [(64, 32)], [19], 40, 1e-10, 300000),
    "nyud_fcn32s_color_hha": (81, [(64, 32)], [19], 40, 1e-12, 300000),
    "siftflow_fcn32s": (46, [(64, 32)] * 2, [19] * 2, 33, 1e-10, 300000),
    "siftflow_fcn16s": (54, [(4, 2), (32, 16)] * 2, [5, 27] * 2, 33, 1e-12, 300000),
    "siftflow_fcn8s": (62, [(4, 2), (4, 2), (16, 8)] * 2, [5, 9, 31] * 2, 33, 1e-12, 300000),
    "pascalcontext_fcn32s": (42, [(64, 32)], [19], 60, 1e-10, 300000),
    "pascalcontext_fcn16s": (46, [(4, 2), (32, 16)], [5, 27], 60, 1e-12, 300000),
    "pascalcontext_fcn8s": (50, [(4, 2), (4, 2), (16, 8)], [5, 9, 31], 60, 1e-14, 300000),
}


def plain(message, without=()):
    """A message as a dict; floats to six digits, param_str without folders."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return clean({key: value for key, value in fields.items() if key not in without})


def clean(value):
    if isinstance(value, dict):
        value = {key: ast.literal_eval(one) if key == "param_str" and isinstance(one, str) else one
                 for key, one in value.items()}
        return {key: clean(one) for key, one in value.items() if not key.endswith("_dir")}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


@pytest.mark.parametrize("name", FIGURES)
def test_layers_kernels_offsets_classes_and_rates(name):
    layers, kernels, offsets, classes, base_lr, max_iter = FIGURES[name]
    recipe = make.recipe(name)
    net, solver = recipe.net(recipe.SPLITS[0]), recipe.solver()
    assert len(net.layer) == layers
    upsampling = [one.convolution_param for one in net.layer if one.type == "Deconvolution"]
    assert [(one.kernel_size[0], one.stride[0]) for one in upsampling] == kernels
    assert [list(one.crop_param.offset) for one in net.layer if one.type == "Crop"] == [[offset] for offset in offsets]
    scores = [one.convolution_param.num_output for one in net.layer if one.name.startswith("score_") and
              one.type == "Convolution"]
    assert set(scores) == ({33, 3} if name.startswith("siftflow") else {classes})
    assert (solver.max_iter, solver.lr_policy, solver.average_loss) == (max_iter, "fixed", 20)
    assert solver.base_lr == pytest.approx(base_lr) and solver.weight_decay == pytest.approx(5e-4)
    assert solver.snapshot > 0 and solver.snapshot_prefix == f"models/{name}/snapshot/{recipe.SPLITS[0]}"
    assert solver.iter_size == (20 if name == "fcn_alexnet" else 1)


@pytest.mark.parametrize("name", FIGURES)
def test_equal_to_the_published_files(name):
    published = name.replace("_", "-") if name.startswith(("nyud", "siftflow", "pascalcontext")) else (
        "voc-" + name.replace("_", "-"))
    said = json.loads(shared(f"published_nets/{published}.json").read_text())
    recipe = make.recipe(recipes.find(published))
    for split, layers in said.items():
        if split == "solver":
            free = ("train_net", "test_net", "max_iter", "snapshot", "snapshot_prefix")
            assert plain(recipe.solver(), free) == clean({k: v for k, v in layers.items() if k not in free})
        else:
            assert [plain(layer) for layer in recipe.net(split).layer] == clean(layers)


@pytest.mark.parametrize("name", recipes.names())
def test_deploy_is_the_training_net_without_data_dropout_and_loss(name):
    recipe = make.recipe(name)
    train, deploy = recipe.net(recipe.SPLITS[0]), recipe.net("deploy")
    left_out = ("Python", "Dropout", "SoftmaxWithLoss", "SigmoidCrossEntropyLoss")
    kept = [layer for layer in train.layer if layer.type not in left_out]
    rest = [plain(layer) for layer in deploy.layer if layer.type != "Input"]
    assert rest[:len(kept)] == [plain(layer) for layer in kept]
    # A background that is not learned is a channel of zeros before the scores, which the loss does not see.
    assert [layer["type"] for layer in rest[len(kept):]] == (
        ["Slice", "Silence", "Power", "Concat"] if name == "fcn32s_null_background" else [])
    shapes = [tuple(one.input_param.shape[0].dim) for one in deploy.layer if one.type == "Input"]
    assert shapes == {"nyud_fcn32s_color_d": [(1, 3, 500, 500), (1, 1, 500, 500)],
                      "nyud_fcn32s_color_hha": [(1, 3, 500, 500)] * 2}.get(name, [(1, 3, 500, 500)])


@pytest.mark.parametrize("name", recipes.names())
def test_number_of_classes_is_free(name):
    recipe = make.recipe(name)
    net = recipe.net("deploy", classes=7)
    last = [one for one in net.layer if one.type == "Deconvolution"]
    learned = 6 if name == "fcn32s_null_background" else 7
    assert learned in {one.convolution_param.num_output for one in last} <= {learned, 3}


@pytest.mark.parametrize("name", recipes.names())
def test_files_beside_the_recipe_are_up_to_date(name):
    for split in make.splits_of(make.recipe(name)):
        path = recipes.FOLDER / name / f"{split}.prototxt"
        assert path.read_text() == make.make(name, split), f"run `make models`: {path}"


def test_base_layers_of_alexnet_have_no_rates_and_scores_have():
    net = make.recipe("fcn_alexnet").net("train")
    rates = {one.name: [(p.lr_mult, p.decay_mult) for p in one.param] for one in net.layer}
    assert rates["conv1"] == rates["fc7"] == []
    assert rates["score_fr"] == [(1, 1), (2, 0)] and rates["upscore"] == [(0, 1)]
    loss = net.layer[-1].loss_param
    assert loss.normalize and loss.ignore_label == 255
    assert loss.normalization == caffe_pb2.LossParameter.VALID

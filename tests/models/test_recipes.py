"""Every recipe, split and option builds and fits together; coordinates and sizes of the models without public code."""

import pytest

from netspec import caffe_pb2, graph, make, measure, recipes

# What each option may be set to; those that need others with them come as a dict.
VALUES = {
    "finest": [32, 16], "only": ["pool5", "pool4", "pool3"], "interpolation": ["learned"], "fusion": ["max"],
    "form": [{"form": "dilated", "finest": 32}, {"form": "stitched", "finest": 32}],
    "upsampling": ["corners"], "pad": [97], "average_pool": [True], "late": ["sum"], "features": ["fixed"],
    "biases": ["paper"], "normalization": ["NONE", "FULL"], "loss": ["sigmoid"],
    "background": [{"background": "null", "loss": "sigmoid"}], "class_weights": [0.25], "condition": ["Reference-BG"],
    "mirror": [True], "jitter": [32], "sampling": [0.5], "training_set": ["voc"], "rate": ["paper"],
    "iterations": ["loop"], "learning": ["accum"], "gradients": ["sum"], "stages": ["staged"],
}
SHAPING = {"finest", "only", "fusion", "form", "upsampling", "pad", "average_pool", "loss", "background", "class_weights"}


def built(name, split, size=(97, 131), **options):
    """The rows of the net of a split: all its blobs fit together; nothing is allocated."""
    net = make.recipe(name).net(split, **options)
    graph.insert_splits(graph.filter_net(net, caffe_pb2.NetState(phase=caffe_pb2.TEST if split != "train" else 0)))
    inputs = {top: (1, 1 if top in ("depth", "label", "sem", "geo") else 3, *size) for layer in net.layer
              if layer.type in ("Input", "Python") for top in layer.top}
    for layer in net.layer:
        if layer.type == "SigmoidCrossEntropyLoss":
            classes = 21 if make.recipe(name).DESCRIPTION.count("VOC") else 6
            inputs["label"] = (1, classes - ("objects" in layer.bottom[0]), *size)
    return {row.layer: row for row in measure.measure(net, inputs, caffe_pb2.TEST if split != "train" else caffe_pb2.TRAIN)}


@pytest.mark.parametrize("name", recipes.names())
def test_every_split_builds_and_scores_lie_on_the_image(name):
    recipe = make.recipe(name)
    assert recipe.SECTION or name in ("fcn_sample", "fcn_squeezenet")
    for split in recipe.SPLITS:
        rows = built(name, split)
        scores = [row for row in rows.values() if row.type == "Crop" and row.shapes[0][2:] == (97, 131)]
        assert scores and all(row.offset == (0, 0) and row.stride == (1, 1) for row in scores)


@pytest.mark.parametrize("name", recipes.names())
def test_every_option_builds_and_changes_something(name):
    recipe = make.recipe(name)
    plain = [make.make(name, split) for split in (*recipe.SPLITS, "solver")]
    for key in recipe.OPTIONS:
        for value in VALUES[key]:
            options = value if isinstance(value, dict) else {key: value}
            if key == "background" and name == "fcn_squeezenet" or len(options) > 1 and not set(options) <= {
                    *recipe.OPTIONS, "finest"}:
                continue
            if "finest" in options and "finest" not in recipe.OPTIONS:
                options = {key: options[key]}  # the recipe has one stream anyway
            if key == "learning" and name in ("fcn_alexnet", "fcn_googlenet"):
                options = {"learning": "heavy"}  # they accumulate anyway
            if key in ("gradients", "stages"):
                options = {**options, **({"learning": "accum"} if key == "gradients" else {"finest": 16})}
            made = [make.make(name, split, settings=options) for split in (*recipe.SPLITS, "solver")]
            stripped = [[one.split("\n", 1)[1] for one in texts] for texts in (made, plain)]
            assert stripped[0] != stripped[1], (key, value)
            if key in SHAPING:
                built(name, recipe.SPLITS[0], **options)


@pytest.mark.parametrize("name, layer, field, stride, kernel, offset, learned", [
    ("fcn_googlenet", "score_fr", 715, 32, 63, 98, 5_995_077),
    ("fcn_pool5", "score_pool5", 212, 32, 64, 115, 14_725_461),
    ("fcn_pool4", "score_pool4", 100, 16, 32, 107, 7_646_037),
    ("fcn_pool3", "score_pool3", 44, 8, 16, 103, 1_740_885),
    ("fcn32s_fixed", "score_fr", 404, 32, 64, 19, 86_037),
    ("fcn32s_sigmoid", "score_fr", 404, 32, 64, 19, 134_346_581),
    ("fcn32s_null_background", "score_fr", 404, 32, 64, 19, 134_346_581 - 4097),
])
def test_field_stride_kernel_offset_and_parameters(name, layer, field, stride, kernel, offset, learned):
    net = make.recipe(name).net("deploy")
    rows = {row.layer: row for row in measure.measure(net)}
    assert rows[layer].field == (field, field) and rows[layer].stride == (stride, stride)
    up = [one.convolution_param for one in net.layer if one.type == "Deconvolution"]
    assert [(one.kernel_size[0], one.stride[0]) for one in up] == [(kernel, stride)]
    assert [list(one.crop_param.offset) for one in net.layer if one.type == "Crop"] == [[offset]]
    assert sum(row.learned for row in rows.values()) == learned


def test_table_1s_field_of_googlenet_counts_the_average_pooling_that_the_text_discards():
    row = built("fcn_googlenet", "deploy", average_pool=True)["score_fr"]
    assert row.field == (907, 907) and row.stride == (32, 32)


def test_table_1_counts_22_layers_of_googlenet_to_the_last_classifier():
    rows = built("fcn_googlenet", "deploy").values()
    deep = [row for row in rows if row.type == "Convolution" and not row.layer.endswith(("1x1", "pool_proj", "5x5_reduce",
                                                                                      "5x5"))]
    assert len(deep) == 22  # the longest way: 3 + 9 x 2 + score


def test_a_null_background_saves_less_than_a_thousandth_of_the_parameters():
    all_, null = (sum(row.learned for row in built(name, "deploy").values())
                  for name in ("fcn32s_sigmoid", "fcn32s_null_background"))
    assert all_ - null == 4097 and (all_ - null) / all_ < 0.001


def test_97_pixels_of_padding_and_the_formula_of_section_33():
    assert built("fcn32s", "deploy", pad=97)["score"].offset == (0, 0)
    net = make.recipe("fcn32s").net("deploy", upsampling="corners")
    assert [one.convolution_param.kernel_size[0] for one in net.layer if one.type == "Deconvolution"] == [63]
    assert abs(built("fcn32s", "deploy", upsampling="corners")["score"].offset[0]) == 0.5


def test_learned_interpolation_is_that_between_streams():
    for name in ("fcn8s", "fcn8s_atonce", "fcn_sample"):
        net = make.recipe(name).net("train", interpolation="learned")
        assert {one.name: one.param[0].lr_mult for one in net.layer if one.type == "Deconvolution"} == {
            "upscore2": 1, "upscore_pool4": 1, "upscore8": 0}


@pytest.mark.parametrize("name", ["fcn_sample", "fcn_squeezenet"])
def test_weights_carry_over_from_stage_to_stage(name):
    def shapes(finest):
        net = make.recipe(name).net("train", finest=finest)
        return {one.name: (one.type, one.convolution_param.num_output, tuple(one.convolution_param.kernel_size))
                for one in net.layer if one.type in ("Convolution", "Deconvolution")}

    coarse, middle, fine = (shapes(one) for one in (32, 16, 8))
    skips = {"fcn_sample": ("pool4", "pool3"), "fcn_squeezenet": ("fire8", "fire4")}[name]
    assert set(middle) - set(coarse) == {"upscore2", "upscore16", f"score_{skips[0]}"}
    assert set(fine) - set(middle) == {f"upscore_{skips[0]}", "upscore8", f"score_{skips[1]}"}
    for before, after in ((coarse, middle), (middle, fine)):
        assert all(before[one] == after[one] for one in set(before) & set(after))
    assert {one for one in coarse if one.startswith("score")} < set(fine)

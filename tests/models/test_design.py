"""Options of recipes: what is refused, and what each says in the data layer, the solver and the loss."""

import ast

import pytest

from data.augment import CONDITIONS
from models.design import COMMON, HELP, NAMES, design
from netspec import caffe_pb2, make, recipes, text
from netspec.errors import Error, UnknownName

SPLITS = ("train", "val", "deploy")


@pytest.mark.parametrize("given, error, says", [
    ({"finest": 64}, UnknownName, "finest is 64; it may be 32, 16, 8"),
    ({"finest": True}, UnknownName, "finest is True"),
    ({"only": "pol4"}, UnknownName, "only is 'pol4'; did you mean 'pool4'?; it may be pool5, pool4, pool3"),
    ({"fusion": "mean"}, UnknownName, "it may be sum, max"),
    ({"mirror": 1}, UnknownName, "mirror is 1; it may be False, True"),
    ({"condition": "FG"}, UnknownName, "it may be Reference, Reference-FG"),
    ({"learning": "havy"}, UnknownName, "did you mean 'heavy'?; it may be heavy, online, accum, table1"),
    ({"sampling": 0}, Error, "sampling is 0; give a probability above 0, at most 1"),
    ({"sampling": True}, Error, "sampling is True"),
    ({"sampling": "half"}, Error, "sampling is 'half'"),
    ({"jitter": -1}, Error, "jitter is -1; give 0 to 4096 pixels"),
    ({"jitter": 1.5}, Error, "jitter is 1.5"),
    ({"pad": 1.5}, Error, "pad is 1.5"),
    ({"background": "null"}, Error, "background=null needs loss=sigmoid"),
    ({"class_weights": 0.3, "loss": "sigmoid"}, Error, "class_weights are of the softmax loss"),
    ({"form": "dilated", "finest": 8}, Error, "form=dilated is of nets with one stream; set finest=32 or only=pool4"),
    ({"upsampling": "corners", "finest": 8}, Error, "half a pixel apart"),
    ({"only": "pool4", "fusion": "max"}, Error, "fusion=max needs several streams"),
    ({"fusoin": "max"}, UnknownName, "no option 'fusoin'; did you mean 'fusion'?; options: finest, only, "),
])
def test_wrong_options_are_refused_with_the_good_ones(given, error, says):
    with pytest.raises(error) as caught:
        design(given)
    assert says in str(caught.value)


@pytest.mark.parametrize("weights, says", [((1, 2), "give the weight of background, or 21 of them"), ("x", "'x'"), (-1, "-1")])
def test_wrong_class_weights_are_refused(weights, says):
    with pytest.raises(Error, match=says):
        make.recipe("fcn32s").net("train", class_weights=weights)


def test_a_null_background_needs_another_class():
    with pytest.raises(Error, match="background=null needs a class beside it; classes is 1"):
        make.recipe("fcn32s_null_background").net("train", classes=1)


def test_every_option_has_a_help_and_a_field():
    assert set(HELP) == set(NAMES)
    for name in recipes.names():
        options = make.recipe(name).OPTIONS
        assert set(COMMON) - {"biases"} <= set(options) <= set(NAMES), name


def test_without_options_a_recipe_says_what_is_published():
    assert design({}).keys("train", SPLITS) == {}
    fields = {"base_lr": 1e-10, "momentum": 0.99, "iter_size": 1, "max_iter": 100000, "snapshot": 4000, "weight_decay": 5e-4}
    assert design({}).solver(fields) == fields


def test_keys_of_the_data_layer_belong_to_training_but_masks_to_both():
    plan = design({"mirror": True, "jitter": 32, "sampling": 0.5, "condition": "Reference-FG", "finest": 16,
                   "loss": "sigmoid", "background": "null"})
    assert plan.keys("train", SPLITS) == {"mirror": True, "jitter": 32, "sampling": 0.5, "cell": 16, "one_hot": True,
                                          "null_background": True}
    assert plan.keys("val", SPLITS) == {"mask": "background"}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_of_table_8_mask_training_and_test_images(condition):
    for split, mask in zip(SPLITS, CONDITIONS[condition]):
        net = make.recipe("fcn32s").net(split, condition=condition)
        assert ast.literal_eval(net.layer[0].python_param.param_str).get("mask") == mask


def test_the_three_solvers_of_table_2_see_the_same_images():
    solvers = {how: make.recipe("fcn32s").solver(learning=how) for how in ("heavy", "online", "accum")}
    assert {how: (one.iter_size, round(one.momentum, 6)) for how, one in solvers.items()} == {
        "heavy": (1, 0.99), "online": (1, 0.9), "accum": (20, 0.9)}
    assert {one.max_iter * one.iter_size for one in solvers.values()} == {100000}
    assert {one.snapshot * one.iter_size for one in solvers.values()} == {4000}
    assert solvers["heavy"] == make.recipe("fcn32s").solver()
    for how in ("accum", "online"):  # each has a file of its own
        made = text.parse(make.make("fcn32s", f"solver_{how}"), caffe_pb2.SolverParameter())
        assert made.snapshot_prefix == f"models/fcn32s/snapshot/{how}"
        made.snapshot_prefix = solvers[how].snapshot_prefix
        assert made == solvers[how]


def test_a_sum_of_gradients_undoes_caffes_division_but_not_for_the_decay():
    mean, summed = (make.recipe("fcn32s").solver(learning="accum", gradients=one) for one in ("mean", "sum"))
    assert summed.base_lr == pytest.approx(20 * mean.base_lr)
    assert summed.base_lr * summed.weight_decay == pytest.approx(mean.base_lr * mean.weight_decay)


def test_sampled_losses_take_more_images_at_the_expected_size_of_an_update():
    solver = make.recipe("fcn32s").solver(sampling=0.25)
    # A sum over a quarter of the cells of four images, which Caffe divides by four: the rate makes up for that.
    assert (solver.iter_size, solver.max_iter) == (4, 25000) and solver.base_lr == pytest.approx(4e-10)
    # A mean over what is kept has the size of a mean over all.
    solver = make.recipe("fcn_sample").solver(sampling=0.25)
    assert solver.iter_size == 4 and solver.base_lr == pytest.approx(0.01)


def test_section_41_trains_with_a_normalised_loss_and_its_own_rates():
    for name, rate in (("fcn_alexnet", 1e-3), ("fcn32s", 1e-4), ("fcn_googlenet", 5e-5)):
        recipe = make.recipe(name)
        solver, net = recipe.solver(learning="table1"), recipe.net("train", learning="table1")
        assert solver.base_lr == pytest.approx(rate) and solver.momentum == pytest.approx(0.9) and solver.iter_size == 20
        assert net.layer[-1].loss_param.normalize
    with pytest.raises(Error, match="for nets whose rate the text gives"):
        make.recipe("fcn16s").solver(learning="table1")


def test_rates_and_iterations_on_which_text_and_files_disagree():
    assert make.recipe("siftflow_fcn8s").solver(rate="paper").base_lr == pytest.approx(1e-14)
    assert make.recipe("fcn_alexnet").solver(rate="paper").base_lr == pytest.approx(1e-3)
    for name, loop in (("nyud_fcn32s_hha", 100000), ("siftflow_fcn32s", 100000), ("pascalcontext_fcn8s", 400000)):
        assert make.recipe(name).solver(iterations="loop").max_iter == loop
    assert [make.recipe("fcn_sample").solver(stages="staged", finest=one).base_lr for one in (32, 16, 8)] == pytest.approx(
        [1e-2, 1e-4, 1e-6])


def test_fields_of_the_solver_have_the_last_word():
    solver = make.recipe("fcn32s").solver(learning="accum", gradients="sum", base_lr=3, max_iter=7)
    assert (solver.base_lr, solver.max_iter, solver.iter_size) == (3, 7, 20)
    with pytest.raises(UnknownName, match="a solver has no field and no option 'base_rl'; did you mean 'base_lr'?"):
        make.recipe("fcn32s").solver(base_rl=1)
    with pytest.raises(Error, match="SolverParameter.base_lr takes a number, not 'fast'"):
        make.recipe("fcn32s").solver(base_lr="fast")
    assert list(make.recipe("fcn32s").solver(test_net=["a", "b"]).test_net) == ["a", "b"]


def test_normalisations_are_caffes_words_and_the_published_one_is_as_published():
    def loss(**options):
        return make.recipe("fcn32s").net("train", **options).layer[-1].loss_param

    assert text.dump(loss()) == text.dump(caffe_pb2.LossParameter(ignore_label=255, normalize=False))
    assert loss(normalization="BATCH_SIZE") == loss()
    assert loss(normalization="VALID").normalize
    assert loss(normalization="NONE").normalization == caffe_pb2.LossParameter.NONE


def test_biases_as_published_and_as_the_paper_reads():
    def rates(name, layer, **options):
        net = make.recipe(name).net("train", **options)
        return [[(p.lr_mult, p.decay_mult) for p in one.param] for one in net.layer if one.name == layer][0]

    assert rates("fcn_alexnet", "conv1") == [] and rates("fcn32s", "conv1_1") == [(1, 1), (2, 0)]
    for name, layer in (("fcn_alexnet", "conv1"), ("fcn32s", "conv1_1"), ("fcn32s", "score_fr")):
        assert rates(name, layer, biases="paper") == [(1, 1), (2, 1)]


def test_more_training_data_are_other_images_in_training_only():
    def layer(split):
        net = make.recipe("fcn32s").net(split, training_set="voc")
        return net.layer[0].python_param.layer, ast.literal_eval(net.layer[0].python_param.param_str)["split"]

    assert layer("train") == ("VOCSegDataLayer", "train") and layer("val") == ("VOCSegDataLayer", "seg11valid")

"""The exact claims again, by the functions of the experiments themselves, on other draws."""

from fractions import Fraction

import numpy as np
import pytest

from paper import experiment
from paper.experiments import (
    background,
    composition,
    crops,
    data_choices,
    fc_to_conv,
    fusion,
    loss_sampling,
    metrics,
    momentum,
    multimodal,
    palette,
    patch_gradients,
    recipe,
    shift_and_stitch,
    solver_semantics,
    table1,
    truncated,
)

SEED = 7  # not the experiments'


@pytest.mark.parametrize("seed", range(1, 9))
def test_kernel_and_stride_compose(seed):
    stack = composition.draw_stack(seed)
    assert composition.formula(stack) == composition.measured(stack)


def test_a_wrong_rule_of_composition_would_be_seen():
    assert composition.measured([("conv", 3, 2), ("max", 3, 1)]) == (7, 2) != (6, 2)


def test_whole_image_gradient_is_the_sum_over_patches():
    parameters, loss, field, stride = patch_gradients.whole_against_patches(SEED)
    assert parameters < 1e-12 and loss < 1e-12 and (field, stride) == (14, 4)


def test_fully_connected_layers_are_convolutions():
    assert fc_to_conv.classifier_against_fcn(SEED, (16, 32, 32, 32, 32, 64)) < 2e-6


@pytest.mark.parametrize("padded", [False, True])
def test_a_grid_of_scores_is_that_of_its_crops_without_padding_only(padded):
    off = fc_to_conv.grid_against_crops(SEED, padded, (8, 8, 8, 8, 8, 16))
    assert off > 0.01 if padded else off < 1e-12


def test_shift_and_stitch_is_dilation_bit_for_bit():
    differing, places, stitched, dilated, coarse = shift_and_stitch.compare(SEED)
    assert differing == 0 and places > 4000 and coarse < dilated < stitched


def test_sampling_the_loss_masks_gradients():
    masked, dropped, patches = loss_sampling.mask_is_selection(SEED)
    assert masked < 1e-12 and dropped == 0 and patches < 1e-12


def test_sampled_gradients_have_the_right_mean():
    error, expected = loss_sampling.mean_of_draws(SEED)
    assert error < 3 * expected < 0.05


@pytest.mark.parametrize("name, depth, learned, field", [
    ("FCN-AlexNet", 8, 56_954_261, 355), ("FCN-VGG16", 16, 134_346_581, 404), ("FCN-GoogLeNet", 22, 5_995_077, 715),
    (table1.WITH_POOL, 22, 5_995_077, 907)])
def test_table_1(name, depth, learned, field):
    found = table1.describe(name)
    assert (found["depth"], found["learned"], found["field"], found["stride"]) == (depth, learned, field, 32)


def test_the_field_of_a_score_is_what_it_has_a_gradient_at():
    assert table1.measured_field("FCN-AlexNet", 355) == 355


def test_all_offsets_are_as_published():
    assert crops.offsets_as_published() == (67, 31, 67)


@pytest.mark.parametrize("name", ["fcn8s", "fcn_alexnet", "siftflow_fcn16s"])
def test_streams_are_aligned(name):
    assert crops.error_of_ramp(name, (520, 536)) < 1e-9
    assert crops.field_offset(name) == [0, 0]


@pytest.mark.parametrize("name", crops.STREAMS)
def test_every_size_fits(name):
    message = recipe.model(name).net("deploy")
    assert crops.sizes_covered(message) == 3000
    next(layer for layer in message.layer if layer.name == "conv1_1" or layer.name == "conv1").convolution_param.pad[0] = 60
    assert crops.sizes_covered(message) < 3000


def test_97_is_the_least_padding():
    assert crops.least_padding() == 97


def test_concatenation_and_sum_of_scores_commute():
    assert fusion.concat_against_sum(SEED) < 1e-12


def test_a_skip_at_zero_does_not_disturb():
    untouched, pixels, agree = fusion.zero_skip(SEED)
    assert untouched == 0 and 0 < pixels < 0.5 and agree > 0.5


def test_a_maximum_switches_gradients():
    assert fusion.gradients_reaching("SUM", SEED) == 1 and fusion.gradients_reaching("MAX", SEED) == 0


@pytest.mark.parametrize("batch, momentum_", momentum.REGIMES)
def test_momentum_expands(batch, momentum_):
    assert momentum.error_of_expansion(batch, momentum_, SEED) < 1e-12


def test_truncated_nets():
    found = [truncated.geometry(pool) for pool in truncated.STRIDES]
    assert [(one["field"], one["stride"], one["crop"]) for one in found] == [(212, 32, 115), (100, 16, 107), (44, 8, 103)]


def test_fixed_features_keep_every_bit():
    changed, kept, computed = truncated.fixed_features(SEED)
    assert changed == ["score_fr"] and kept == 16 and int(computed.split()[0]) < 6


def test_null_background_and_sigmoid_loss():
    assert background.null_inference(SEED) == (0, 1)
    assert background.sigmoid_gradient(SEED) < 1e-12


@pytest.mark.parametrize("matrix, want", metrics.WORKED)
def test_metrics_worked_by_hand(matrix, want):
    assert metrics.error(matrix, want) < 1e-15
    assert metrics.formulas(matrix) == want


def test_classes_that_are_left_out():
    assert metrics.absent_classes() == (Fraction(23, 63), Fraction(23, 42))
    assert metrics.without_background() == Fraction(4, 7)


def test_the_palette():
    assert palette.bits(15) == (192, 128, 128) and palette.bits(255) == (224, 224, 192)
    assert palette.round_trip()


def test_fusions_of_nyud():
    grey, more, _ = multimodal.early_fusion(SEED)
    assert grey < 1e-6 and more == 576
    assert multimodal.late_fusion(SEED) < 1e-12


def test_two_heads_share_the_trunk():
    trunk, heads = multimodal.two_heads(SEED)
    assert trunk < 1e-12 and heads == 0


def test_masks_shifts_and_weights():
    kept, moved = data_choices.jitter(SEED)
    assert kept == moved == 65**2
    assert data_choices.masks(SEED) == 0
    assert data_choices.weighting(SEED) < 1e-12


def test_the_solver(tmp_path):
    assert solver_semantics.accumulation(SEED) < 1e-6
    assert solver_semantics.update_rule(SEED) < 1e-12
    assert solver_semantics.resume(SEED, tmp_path) == 0


@pytest.mark.parametrize("name", ["recipe", "palette", "arithmetic"])
def test_rows_of_cheap_experiments_are_those_of_the_page(name, tmp_path):
    """What is quick to run is run whole, and says what its kept result says."""
    one, = experiment.find([name])
    result, _ = one.run(experiment.Context(one.name, scratch=tmp_path))
    assert result["rows"] == one.kept()["rows"]


def test_an_exact_claim_that_fails_is_not_reproduced():
    assert experiment.exact("c", "3.1", "r", 1, 2, np.bool_(False)).verdict == "not reproduced"

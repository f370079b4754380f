import pytest

from paper.experiments import bilinear


@pytest.mark.parametrize("kernel, stride", bilinear.KERNELS)
def test_constants_and_ramps_are_kept(kernel, stride):
    assert bilinear.error_of_constant(kernel, stride) < 1e-12
    assert bilinear.error_of_ramp(kernel, stride) < 1e-12


@pytest.mark.parametrize("factor", bilinear.FACTORS)
def test_the_formula_of_the_paper(factor):
    assert bilinear.error_of_formula(factor) < 1e-12

"""isr_jax.benchmark.significance: on distributions whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from isr_jax.benchmark.significance import paired_difference


def test_of_two_pictures_every_set_can_be_listed():
    found = paired_difference([1.0, 2.0], [1.0, 1.0])  # drawn means: 0, 1/2, 1/2, 1
    assert (found.mean, found.low, found.high) == (0.5, 0, 1)
    assert not found.is_significant


def test_many_normal_differences_have_the_normal_interval():
    differences = np.random.default_rng(1).normal(0.3, 1, 400)
    found = paired_difference(differences, np.zeros(400))
    half = 1.96 * differences.std() / 20
    assert found.mean == pytest.approx(differences.mean())
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)
    assert found.is_significant


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(0, 1, n), lambda rng, n: rng.exponential(1, n) - 1])
def test_it_holds_the_truth_about_as_often_as_it_says(draw):
    rng = np.random.default_rng(2)
    found = [paired_difference(draw(rng, 60), np.zeros(60), resamples=1000) for _ in range(400)]
    assert 0.90 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.98


@pytest.mark.parametrize(("pictures", "share"), [(5, 0.85), (14, 0.92)])
def test_of_few_pictures_it_is_too_narrow_by_as_much_as_is_said(pictures, share):
    rng = np.random.default_rng(6)
    found = [paired_difference(rng.normal(size=pictures), np.zeros(pictures), resamples=1000) for _ in range(1500)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) == pytest.approx(share, abs=0.03)


def test_pictures_that_differ_do_not_hide_a_difference_of_methods():
    pictures = np.random.default_rng(3).normal(30, 5, 14)
    found = paired_difference(pictures + 0.1, pictures)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.is_significant
    assert not paired_difference(pictures, pictures).is_significant


def test_it_is_scipys_percentile_bootstrap():
    differences = np.random.default_rng(4).gamma(2, 1, 30)
    found = paired_difference(differences, np.zeros(30))
    theirs = stats.bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=5)
    assert (found.low, found.high) == pytest.approx(theirs.confidence_interval, rel=0.02)


def test_it_is_the_same_each_time_and_of_the_same_pictures():
    values = np.random.default_rng(5).normal(size=7)
    assert paired_difference(values, values[::-1]) == paired_difference(values, values[::-1])
    assert paired_difference(values, values[::-1], seed=1) != paired_difference(values, values[::-1])
    for one, other in (([1.0], [1.0, 2.0]), ([], [])):
        with pytest.raises(ValueError, match="of the same pictures"):
            paired_difference(one, other)

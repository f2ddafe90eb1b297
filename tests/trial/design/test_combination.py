"""Combination tests: laws that hold for every design (rpact's example is checked in test_boundaries)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from gemello.base.errors import DataError, UnsupportedError
from gemello.base.random import generator
from gemello.trial.design.boundaries import group_sequential
from gemello.trial.design.combination import (
    StageMeans,
    conditional_power,
    conditional_rejection_probability,
    fisher_bounds,
    inverse_normal,
    repeated_interval,
    repeated_p,
)


def data(k: int = 2) -> StageMeans:
    columns = ([22, 23], [21, 22], [1.6, 1.5], [1.1, 1.0], [1.3, 1.2], [1.3, 1.4])
    return StageMeans(*(np.array(c[:k]) for c in columns))  # type: ignore[arg-type]


def test_conditional_rejection_averages_to_what_is_left() -> None:
    """E[CRP(Z1)] over going on under no effect is the level spent later; Simpson's rule on 401 points."""
    d = group_sequential([0.3, 0.7, 1.0], "asP")
    z = np.linspace(-8, d.upper[0], 401)
    p = np.array([conditional_rejection_probability(float(v), 1, d) for v in z])
    assert integrate.simpson(p * stats.norm.pdf(z), x=z) == pytest.approx(0.025 - d.alpha_spent[0], abs=1e-7)


def test_conditional_power_without_effect_is_the_conditional_rejection_probability() -> None:
    d = group_sequential(3, "asOF")
    assert conditional_power(1.2, 1, d, 90, 0.0, 1.3) == pytest.approx(conditional_rejection_probability(1.2, 1, d), abs=1e-12)
    more = [conditional_power(1.2, 1, d, n, 0.5, 1.3) for n in (20, 60, 200)]
    assert more[0] < more[1] < more[2]


def test_conditional_power_of_the_last_stage_in_closed_form() -> None:
    """Φ(θ √n / 2σ − (b √1 − z √t) / √(1 − t))."""
    d = group_sequential(2, "OF")
    known = stats.norm.cdf(0.4 / 1.1 * np.sqrt(70) / 2 - (d.upper[1] - 1.5 * np.sqrt(0.5)) / np.sqrt(0.5))
    assert conditional_power(1.5, 1, d, 70, 0.4, 1.1) == pytest.approx(known, abs=1e-12)


def test_repeated_interval_and_p_agree_with_the_decision() -> None:
    """The interval excludes 0 exactly where the boundary is crossed, and then the repeated p is below the level."""
    d = group_sequential(2, "asP", alpha=0.025)
    for shift in (0.0, 0.2, 0.6, 0.9):
        base = data()
        moved = StageMeans(
            base.active_n, base.control_n, base.active_mean + shift, base.control_mean, base.active_sd, base.control_sd
        )
        z = inverse_normal(moved.p(), d)
        rejected = z[1] > d.upper[1]
        low, high = repeated_interval(moved, d)
        assert (low > 0) == rejected
        assert low < moved.difference.mean() < high
        assert (repeated_p(float(z[1]), 2, d) < 0.025) == rejected


def test_inverse_normal_of_one_stage_is_its_z() -> None:
    d = group_sequential([0.2, 1.0], "OF")
    assert inverse_normal([0.03], d)[0] == pytest.approx(stats.norm.isf(0.03))
    both = inverse_normal([0.03, 0.2], d)[1]
    assert both == pytest.approx(np.sqrt(0.2) * stats.norm.isf(0.03) + np.sqrt(0.8) * stats.norm.isf(0.2))


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_fisher_spends_the_level(stages: int) -> None:
    """1,000,000 products of uniform p values: rejections within 4.5 binomial errors (7e-6); all stages have one local level."""
    c = fisher_bounds(stages)
    local = stats.gamma.sf(-np.log(c), np.arange(1, stages + 1))
    assert np.ptp(local) < 1e-12
    p = generator(9, "fisher", stages).random((1_000_000, stages))
    rejected = (np.cumprod(p, axis=1) <= c).any(axis=1).mean()
    assert abs(rejected - 0.025) < 4.5 * np.sqrt(0.025 * 0.975 / 1e6)


def test_bad_input() -> None:
    d = group_sequential(3, "asOF")
    with pytest.raises(DataError, match="not p values"):
        inverse_normal([0.1, 1.2], d)
    with pytest.raises(DataError, match="no later stage"):
        conditional_rejection_probability(1.0, 3, d)
    with pytest.raises(DataError, match="2 stages are to come"):
        conditional_power(1.0, 1, d, [10.0, 10.0, 10.0], 0.5, 1.0)
    with pytest.raises(DataError, match="fewer than two"):
        StageMeans(*(np.array([1.0]) for _ in range(6)))
    with pytest.raises(UnsupportedError, match="do not depend on the level"):
        repeated_p(1.0, 1, group_sequential(3, "HP"))
    with pytest.raises(UnsupportedError, match="two-sided"):
        conditional_rejection_probability(1.0, 1, group_sequential(3, "OF", sides=2))

"""Sample sizes against simulation, closed forms and each other (rpact's values are checked in test_boundaries)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.trial.analysis.survival.data import SurvivalData
from gemello.trial.analysis.survival.logrank import of_data
from gemello.trial.design.boundaries import group_sequential
from gemello.trial.design.sample_size import (
    event_share,
    events_needed,
    power_means,
    sample_size_means,
    sample_size_rates,
    sample_size_survival,
    t_power,
)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_size_and_power_of_means_invert_each_other(sides: int, ratio: float) -> None:
    s = sample_size_means(-3.0, 8.0, power=0.85, alpha=0.05, sides=sides, ratio=ratio)
    assert t_power(s.n, 3 / 8, 0.05, ratio, sides) == pytest.approx(0.85, abs=1e-8)
    assert s.active / s.control == pytest.approx(ratio)
    assert s.effect_bounds is not None
    assert -3 < s.effect_bounds[0] < 0  # in the direction of the effect


def test_t_power_against_simulated_tests() -> None:
    """20,000 t-tests of 30 and 15: within 4 binomial errors (false alarm 6e-5)."""
    rng = generator(5, "t")
    a, b = rng.standard_normal((20_000, 30)) + 0.9, rng.standard_normal((20_000, 15))
    found = (stats.ttest_ind(a, b, axis=1, alternative="greater").pvalue < 0.025).mean()
    known = t_power(45, 0.9, 0.025, 2.0)
    assert abs(found - known) < 4 * np.sqrt(known * (1 - known) / 20_000)


def test_sequential_power_over_simulated_trials() -> None:
    """20,000 trials of 2 × 40 in three stages (t statistics turned into z): power within 4 errors and 0.01 of approximation."""
    d = group_sequential(3, "asOF")
    known = power_means(120, 0.5, 1.0, design=d)
    rng = generator(6, "stages")
    x, y = rng.standard_normal((2, 20_000, 60))
    x += 0.5
    rejected = np.zeros(20_000, bool)
    for k, n in enumerate((20, 40, 60)):
        p = stats.ttest_ind(x[:, :n], y[:, :n], axis=1, alternative="greater").pvalue
        rejected |= p < d.p_one_sided[k]
    assert abs(rejected.mean() - known.power) < 4 * np.sqrt(0.25 / 20_000) + 0.01


def test_rates_without_effect_and_their_symmetry() -> None:
    a, b = sample_size_rates(0.6, 0.4, power=0.8), sample_size_rates(0.4, 0.6, power=0.8)
    assert a.n == pytest.approx(b.n)
    with pytest.raises(DataError, match="no effect"):
        sample_size_rates(0.4, 0.4)
    with pytest.raises(DataError, match="no probability"):
        sample_size_rates(1.0, 0.4)


def test_futility_bounds_of_another_power_are_refused() -> None:
    d = group_sequential(3, "asOF", futility="bsOF", beta=0.2)
    assert sample_size_means(0.5, 1.0, power=0.8, design=d).n > sample_size_means(0.5, 1.0, power=0.8).n
    with pytest.raises(DataError, match=r"are for power 0\.8; make the design with beta=0\.1"):
        sample_size_means(0.5, 1.0, power=0.9, design=d)
    with pytest.raises(DataError, match=r"are for power 0\.8"):
        sample_size_survival(0.6, 12.0, accrual=24.0, follow_up=12.0, power=0.9, design=d)


@pytest.mark.parametrize("time", [5.0, 24.0, 40.0])
def test_share_of_events_is_the_integral(time: float) -> None:
    """Uniform entry over 24, hazards 0.05 (event) and 0.01 (dropout): by SciPy's quadrature over entry times."""

    def seen(u: float) -> float:
        return 0.05 / 0.06 * (1 - np.exp(-0.06 * (time - u))) / 24

    assert event_share(0.05, time, 24.0, 0.01) == pytest.approx(integrate.quad(seen, 0, min(time, 24))[0], rel=1e-12)


def test_survival_plan_holds_in_simulated_trials() -> None:
    """400 log-rank tests at the planned events (HR 0.6, 80 %): power within 4 errors and 0.02 of Schoenfeld's approximation."""
    plan = sample_size_survival(0.6, 12.0, accrual=24.0, follow_up=12.0, power=0.8)
    n, hits = int(np.ceil(plan.n / 2)) * 2, 0
    for seed in range(400):
        rng = generator(seed, "survival plan")
        arm = np.arange(n) % 2
        t = rng.exponential(12 / np.log(2) / np.where(arm == 1, 0.6, 1.0))
        c = 36 - rng.uniform(0, 24, n)
        zero = np.zeros(n, np.int64)
        d = SurvivalData(
            np.minimum(t, c), (t <= c).astype(float), np.full(n, -np.inf), arm.astype(np.int64), ("c", "a"), zero, ("all",),
            np.empty((n, 0)), (), np.arange(n), 0,
        )  # fmt: skip
        hits += of_data(d).z < -1.959964
    assert abs(hits / 400 - 0.8) < 4 * np.sqrt(0.16 / 400) + 0.02


def test_events_by_hand() -> None:
    """(1.959964 + 1.281552)² · 4 / ln² 0.5 = 87.48; 2:1 costs 9/8 of it; Freedman 9 · (z)² for HR ½."""
    assert events_needed(0.5) == pytest.approx(4 * 10.507423 / np.log(0.5) ** 2, rel=1e-6)
    assert events_needed(0.5, ratio=2.0) == pytest.approx(events_needed(0.5) * 9 / 8)
    assert events_needed(0.5, method="freedman") == pytest.approx(9 * 10.507423, rel=1e-6)
    with pytest.raises(DataError, match="no effect"):
        events_needed(1.0)
    with pytest.raises(DataError, match="no hazard ratio"):
        events_needed(-0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"sd": 0.0}, "standard deviation"), ({"delta": 0.0}, "no effect"), ({"power": 1.2}, "no power"), ({"ratio": 0.0}, "ratio")],
)
def test_bad_input_of_means(options: dict[str, float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        sample_size_means(**{"delta": 0.5, "sd": 1.0, **options})

"""What a prognostic score is worth: formula, simulation, and the statement for the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.trial.design.prognostic import (
    correlation_needed,
    prognostic_power,
    prognostic_sample_size,
    simulate_trials,
)


@pytest.mark.parametrize(("rho", "n", "known"), [(0.0, 172, 0.8996), (0.6, 110, 0.898), (0.7, 88, 0.892)])
def test_simulated_power_at_the_planned_sizes(rho: float, n: int, known: float) -> None:
    """Powers of SOURCES.md (another simulation, of at least 5,000 trials: error 0.0043 at most), 20,000 trials here (error
    0.0021): within 4 joint errors; and the noncentral t of the statement within 4 errors of our own."""
    s = simulate_trials(n, 0.5, 1.0, rho, trials=20_000, seed=2)
    assert s.rejection_error == pytest.approx(np.sqrt(s.rejection * (1 - s.rejection) / 20_000))
    assert abs(s.rejection - known) < 4 * np.hypot(0.0043, s.rejection_error)
    exact = prognostic_power(n, 0.5, 1.0, rho, deflation=1.0).power_t
    assert abs(s.rejection - exact) < 4 * s.rejection_error


def test_power_and_size_invert_each_other() -> None:
    for ratio, rho, deflation in ((1.0, 0.6, 1.0), (2.0, -0.4, 0.8), (0.5, 0.0, 0.5)):
        s = prognostic_sample_size(0.4, 1.3, rho, ratio=ratio, deflation=deflation, inflation=1.1)
        p = prognostic_power(s.n, 0.4, 1.3, rho, ratio=ratio, deflation=deflation, inflation=1.1)
        assert p.power == pytest.approx(0.9, abs=1e-12)
        assert p.n_unadjusted == pytest.approx(s.unadjusted, rel=1e-12)


def test_deflation_is_conservative_and_said() -> None:
    p = prognostic_power(110, 0.5, 1.0, 0.6, deflation=0.8, inflation=1.1)
    assert p.unadjusted < p.power < p.as_validated
    assert p.correlation_used == pytest.approx(0.6 * np.sqrt(0.8))
    for words in ("0.600", "0.537", "× 0.8", "× 1.1", f"{100 * p.power:.1f} %", f"{100 * p.unadjusted:.1f} %"):
        assert words in p.text
    q = prognostic_power(110, 0.5, 1.0, 0.6, deflation=0.0)
    assert q.power == pytest.approx(q.unadjusted)  # nothing is left of the score


def test_biased_scores_cost_nothing_and_useless_ones_little() -> None:
    """A shifted and halved score gives the same estimates to rounding; a useless one adds 1/(n − 4) = 0.5 % of variance."""
    a, b, c = (simulate_trials(200, 0.3, 1.0, 0.6, trials=5000, seed=4, score=s) for s in ("calibrated", "biased", "useless"))
    assert b.rejection == a.rejection
    assert b.variance_ratio == pytest.approx(a.variance_ratio, abs=1e-10)
    assert abs(a.variance_ratio - 0.64) < 4 * a.variance_ratio_error + 0.004
    assert abs(c.variance_ratio - 1 - 1 / 196) < 4 * c.variance_ratio_error


def test_unequal_arms_and_seeds() -> None:
    a = simulate_trials(90, 0.0, 1.0, 0.5, trials=4000, seed=1, ratio=2.0)
    assert a == simulate_trials(90, 0.0, 1.0, 0.5, trials=4000, seed=1, ratio=2.0)
    assert a != simulate_trials(90, 0.0, 1.0, 0.5, trials=4000, seed=2, ratio=2.0)
    assert abs(a.rejection - 0.05) < 4 * a.rejection_error  # false alarm 6e-5
    assert abs(a.bias) < 4 * a.bias_error


def test_correlation_needed() -> None:
    r = correlation_needed(110, 0.5, 1.0)
    assert prognostic_power(110, 0.5, 1.0, r, deflation=1.0).power == pytest.approx(0.9, abs=1e-8)
    assert correlation_needed(200, 0.5, 1.0) == 0.0
    with pytest.raises(DataError, match="cannot have this power"):
        correlation_needed(4.0, 1e-6, 1.0, power=0.99)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delta": 0.0}, "no effect"), ({"sd": -1.0}, "standard deviation"), ({"rho": 1.0}, "no correlation"),
        ({"rho": 1.5}, "no correlation"), ({"deflation": 1.2}, "deflated"), ({"inflation": 0.9}, "inflated"),
        ({"alpha": 0.0}, "level"), ({"ratio": -1.0}, "ratio"), ({"n": 3.0}, "sample size"),
        ({"rho": float("nan")}, "no correlation"),
    ],
)  # fmt: skip
def test_bad_input(options: dict[str, float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        prognostic_power(**{"n": 100.0, "delta": 0.5, "sd": 1.0, "rho": 0.5, **options})

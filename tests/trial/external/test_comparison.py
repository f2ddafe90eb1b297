"""Matching, weighting, doubly robust estimation, balance: identities, simulated truth, published data."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.trial.external.balance import balance
from gemello.trial.external.comparison import Comparison, comparison, propensity
from gemello.trial.external.doubly import doubly_robust, standardised
from gemello.trial.external.match import bootstrap_error, match, matched_difference
from gemello.trial.external.sensitivity import tipping_point
from gemello.trial.external.weight import entropy_balance, inverse_probability, kish, weighted_difference


def table(n: int, seed: int, *, effect: float = 1.0, kind: str = "continuous") -> pl.DataFrame:
    """Two confounders; the effect is the same for everybody on the linear scale."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.integers(0, 2, n)
    a = rng.random(n) < 1 / (1 + np.exp(-(0.8 * x - 0.4 * z)))
    if kind == "binary":
        y = (rng.random(n) < 1 / (1 + np.exp(-(0.5 * x + 0.5 * z - 0.3 + effect * a)))).astype(float)
    else:
        y = 2 + x + 0.5 * z + effect * a + rng.normal(size=n)
    return pl.DataFrame({"a": a.astype(int), "x": x, "z": z, "y": y})


def groups(n: int = 400, seed: int = 1, **more: object) -> Comparison:
    return comparison(table(n, seed, **more), "y ~ x + z", "a", kind=more.get("kind", "continuous"))  # type: ignore[arg-type]


METHODS = {
    "ATT": lambda g, s: weighted_difference(g, inverse_probability(g, s, "ATT")),
    "ATE": lambda g, s: weighted_difference(g, inverse_probability(g, s, "ATE")),
    "overlap": lambda g, s: weighted_difference(g, inverse_probability(g, s, "overlap")),
    "entropy": lambda g, s: weighted_difference(g, entropy_balance(g)),
    "regression": lambda g, s: standardised(g, "ATT"),
    "doubly robust ATE": lambda g, s: doubly_robust(g, "ATE"),
    "doubly robust ATT": lambda g, s: doubly_robust(g, "ATT"),
    "matching": lambda g, s: matched_difference(g, s, match(g, s)),
    "matching with replacement": lambda g, s: matched_difference(g, s, match(g, s, replacement=True, ratio=2)),
}


@pytest.mark.parametrize("name", METHODS)
def test_unbiased_with_honest_errors(name: str) -> None:
    """80 samples: the mean lies within 4.5 SE of 1 (false alarm 7e-6; matching may keep 0.03 of bias), and the mean stated SE
    within 35 % of the spread (its chi-squared 4.4 SD away)."""
    found = []
    for seed in range(80):
        g = groups(240, seed)
        found.append(METHODS[name](g, propensity(g)))
    values = np.array([e.estimate for e in found])
    spread = values.std(ddof=1)
    slack = 0.05 if "matching" in name else 0.0
    assert abs(values.mean() - 1) < 4.5 * spread / np.sqrt(80) + slack
    assert np.mean([e.se for e in found]) == pytest.approx(spread, rel=0.35)


def test_overlap_weights_balance_exactly() -> None:
    """Li, Morgan & Zaslavsky 2018, theorem 3: with a logistic propensity score all means agree."""
    g = groups()
    w = inverse_probability(g, propensity(g), "overlap").values
    assert balance(g, w).worst < 1e-6
    assert balance(g).worst > 0.3


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_entropy_balancing_reaches_the_treated_moments(seed: int, moments: int) -> None:
    g = groups(300, seed)
    w = entropy_balance(g, moments=moments).values
    a, c = g.treated, g.covariates
    for power in range(1, moments + 1):
        assert np.average(c[~a] ** power, axis=0, weights=w[~a]) == pytest.approx((c[a] ** power).mean(0), abs=1e-5)
    assert w[a] == pytest.approx(1)
    assert w[~a].sum() == pytest.approx(a.sum())


def test_linear_regression_and_entropy_balancing_agree_without_noise() -> None:
    """A noiseless linear outcome: balanced means give the effect exactly, whatever the weights."""
    t = table(300, 3).with_columns(y=2 + pl.col("x") + pl.col("z") / 2 + pl.col("a"))
    g = comparison(t, "y ~ x + z", "a")
    assert weighted_difference(g, entropy_balance(g)).estimate == pytest.approx(1, abs=1e-6)
    assert standardised(g, "ATT").estimate == pytest.approx(1, abs=1e-10)
    assert doubly_robust(g, "ATE").estimate == pytest.approx(1, abs=1e-10)


def test_scale_and_shift_of_covariates_change_nothing() -> None:
    t = table(300, 5)
    a = comparison(t, "y ~ x + z", "a")
    b = comparison(t.with_columns(x=1e4 + 1e3 * pl.col("x")), "y ~ x + z", "a")
    for make in METHODS.values():
        one, two = make(a, propensity(a)), make(b, propensity(b))
        assert (one.estimate, one.se) == pytest.approx((two.estimate, two.se), rel=1e-6)


def test_doubly_robust_survives_one_wrong_model() -> None:
    """The outcome model lacks x², the propensity model has it: 60 samples, mean within 4.5 SE of the truth; regression alone
    not."""
    rng = np.random.default_rng(8)
    dr, plain = [], []
    for _ in range(60):
        n = 800
        x = rng.normal(size=n)
        a = rng.random(n) < 1 / (1 + np.exp(1 - 1.5 * x))
        y = x**2 + a + rng.normal(size=n)
        g = comparison(pl.DataFrame({"a": a.astype(int), "x": x, "y": y}), "y ~ x", "a")
        dr.append(doubly_robust(g, "ATE").estimate)
        plain.append(standardised(g, "ATE").estimate)
    se = np.std(dr, ddof=1) / np.sqrt(60)
    assert abs(np.mean(dr) - 1) < 4.5 * se + 0.05
    assert abs(np.mean(plain) - 1) > 3 * abs(np.mean(dr) - 1) + 0.05


def test_binary_outcomes_are_risk_differences() -> None:
    g = groups(3000, 2, kind="binary")
    a, b = standardised(g, "ATE"), doubly_robust(g, "ATE")
    c = weighted_difference(g, inverse_probability(g, propensity(g), "ATE"))
    assert a.measure == "risk difference"
    assert abs(a.estimate - b.estimate) < 0.01
    assert abs(a.estimate - c.estimate) < 0.01
    assert doubly_robust(g, "ATE", folds=5, seed=1).estimate == pytest.approx(b.estimate, abs=0.01)


def test_matching_finds_the_nearest_and_respects_the_caliper() -> None:
    g = groups(200, 4)
    s = propensity(g)
    exact = match(g, s, replacement=True, caliper=None)
    controls = np.flatnonzero(~g.treated)
    for i, (j,) in exact.sets:
        assert abs(s.linear[j] - s.linear[i]) == pytest.approx(np.abs(s.linear[controls] - s.linear[i]).min())
    assert not exact.dropped
    once = match(g, s, caliper=0.2)
    used = [j for _, js in once.sets for j in js]
    assert len(used) == len(set(used))
    width = 0.2 * np.sqrt((s.linear[g.treated].var(ddof=1) + s.linear[~g.treated].var(ddof=1)) / 2)
    assert all(abs(s.linear[i] - s.linear[j]) <= width for i, js in once.sets for j in js)
    assert len(once.sets) + len(once.dropped) == g.treated.sum()
    assert match(g, s, order="random", seed=3).sets == match(g, s, order="random", seed=3).sets


def test_stacked_error_against_the_bootstrap() -> None:
    """300 samples: the bootstrap SE is known to 4 %; 4 of those."""
    g = groups(500, 6)
    error, mc = bootstrap_error(
        g, lambda c, p: weighted_difference(c, inverse_probability(c, p, "ATT"), se="known").estimate, draws=300, seed=1
    )
    stated = weighted_difference(g, inverse_probability(g, propensity(g), "ATT")).se
    assert abs(stated - error) < 4 * mc + 0.03 * error


def test_tipping_point_of_external_controls() -> None:
    """Controls that are too low by b: the weighted difference falls by b, its error stays."""
    g = groups(400, 7)
    w = inverse_probability(g, propensity(g), "ATT")
    e = weighted_difference(g, w)
    found = tipping_point(lambda b: weighted_difference(g.biased(b), w), (-3, 3))
    assert found.bias == pytest.approx(e.interval[0], abs=1e-6)


def test_kish() -> None:
    assert kish(np.ones(7)) == 7
    assert kish(np.array([1.0, 0, 0])) == 1
    assert kish(np.array([1.0, 1, 2])) == pytest.approx(16 / 6)


def test_refused() -> None:
    t = table(60, 1)
    with pytest.raises(DataError, match="separated"):
        propensity(comparison(t.with_columns(x=pl.col("a") * 2.0 + 0.01 * pl.col("x")), "y ~ x", "a"))
    with pytest.raises(DataError, match="no weights"):
        entropy_balance(comparison(t.with_columns(x=pl.col("x") + 50 * pl.col("a")), "y ~ x", "a"))
    with pytest.raises(DataError, match="treated group"):
        comparison(t.with_columns(a=0), "y ~ x", "a")
    with pytest.raises(DataError, match="among the covariates"):
        comparison(t, "y ~ x + a", "a")
    with pytest.raises(DataError, match="cannot be told"):
        comparison(t.with_columns(w=2 * pl.col("x")), "y ~ x + w", "a")
    with pytest.raises(DataError, match="not 0 or 1"):
        comparison(t, "y ~ x", "a", kind="binary")
    g = comparison(t, "y ~ x", "a")
    with pytest.raises(DataError, match="caliper"):
        match(g, propensity(g), caliper=1e-12)
    with pytest.raises(DataError, match="weights"):
        balance(g, np.ones(3))

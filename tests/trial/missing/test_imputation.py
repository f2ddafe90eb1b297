"""Imputation: agreement with the mixed model, reference-based identities, pooling, chained equations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate
from gemello.trial.authorities import missing as authority
from gemello.trial.missing.chained import chained_equations, sequential_regression
from gemello.trial.missing.imputation import STRATEGIES, conditional_mean, fill, imputation_model, impute, plan
from gemello.trial.missing.normal import conditional, inverse_wishart, maximum_likelihood, posterior_draws
from gemello.trial.missing.rubin import degrees_of_freedom, pool
from gemello.trial.missing.tipping import tipping_point
from gemello.trial.missing.visits import Visits, visits

SIGMA = np.array([[1.0, 0.6, 0.4], [0.6, 1.2, 0.7], [0.4, 0.7, 1.5]])


def long(n: int = 120, seed: int = 1, *, gaps: bool = False, effect: float = 1.0) -> pl.DataFrame:
    """Two arms, three visits, dropout that depends on the last value (at random)."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 2
    x = rng.normal(size=n)
    mean = np.array([0.0, 0.5, 1.0]) + np.outer(arm * effect, [0.4, 0.8, 1.0]) + 0.5 * x[:, None]
    y = mean + rng.multivariate_normal(np.zeros(3), SIGMA, n)
    for t in (1, 2):
        out = rng.random(n) < 1 / (1 + np.exp(1.3 - 0.8 * y[:, t - 1]))
        y[out | np.isnan(y[:, t - 1]), t] = np.nan
    if gaps:
        y[rng.random(n) < 0.1, 0] = np.nan
    rows = {"id": np.repeat([f"s{i}" for i in range(n)], 3), "visit": np.tile([4, 8, 12], n), "arm": np.repeat(arm, 3)}
    return pl.DataFrame(rows | {"x": np.repeat(x, 3), "y": y.ravel()}).with_columns(pl.col("y").fill_nan(None))


def read(table: pl.DataFrame, covariates: str = "x", **more: object) -> Visits:
    names = {"subject": "id", "visit": "visit", "outcome": "y", "arm": "arm", "control": 0}
    return visits(table, covariates=covariates, **(names | more))  # type: ignore[arg-type]


def test_every_authority(shared_data: Path) -> None:
    failed = [c for c in authority.checks(shared_data / "trial") if not c["passed"]]
    assert not failed, failed


def test_reading() -> None:
    d = read(long(gaps=True))
    assert (len(d), d.visits, d.arms, d.names) == (120, ("4", "8", "12"), ("0", "1"), ("x",))
    assert not d.monotone
    assert read(long()).monotone
    seen = ~d.missing
    assert all(seen[i, d.occurred[i] - 1] and not seen[i, d.occurred[i] :].any() for i in range(120) if seen[i].any())
    assert d.counts().filter(pl.col("visit") == "4")["of"].sum() == 120


def test_complete_data_need_no_imputation() -> None:
    table = long().with_columns(y=pl.col("y").fill_null(0.5))
    d = read(table)
    out = impute(d, 3, strategies="J2R", seed=1)
    assert np.array_equal(out.values[0], d.y)
    e = out.analyse()[0]
    assert e.extra["between"] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_imputation_model_against_its_definition(strategy: str) -> None:
    own, ref = np.array([[1.0, 2.0, 4.0]]), np.array([[0.5, 0.7, 0.8]])
    want = {
        "MAR": own[0], "J2R": [1.0, 0.7, 0.8], "CR": ref[0], "CIR": [1.0, 1.2, 1.3], "LMCF": [1.0, 1.0, 1.0],
    }[strategy]  # fmt: skip
    mean, sigma = imputation_model(own, ref, SIGMA, SIGMA, 1, strategy)  # type: ignore[arg-type]
    assert mean[0] == pytest.approx(want)
    assert np.array_equal(sigma, SIGMA)


@pytest.mark.parametrize("before", [1, 2])
def test_jump_to_reference_joins_two_covariances(before: int) -> None:
    """Own before, the reference's conditional distribution after (Carpenter, Roger & Kenward 2013)."""
    other = SIGMA * np.array([2.0, 1.0, 0.5])[:, None] * np.array([2.0, 1.0, 0.5])
    own, ref = np.array([[1.0, 2.0, 4.0]]), np.array([[0.5, 0.7, 0.8]])
    _, s = imputation_model(own, ref, other, SIGMA, before, "J2R")
    seen = np.arange(3) < before
    assert s[:before, :before] == pytest.approx(other[:before, :before])
    zero = np.zeros((1, 3))
    y = np.array([[0.3, -0.7, 0.0]])
    for a, b in zip(conditional(y, zero, s, seen), conditional(y, zero, SIGMA, seen), strict=True):
        assert a == pytest.approx(b)
    assert np.linalg.eigvalsh(s).min() > 0


def test_strategies_lie_in_order() -> None:
    """The treated do better and the more the longer: jumping to reference costs most of the effect, copying increments less."""
    d = read(long(400, effect=2.0))
    found = {s: conditional_mean(d, strategies=s, error="bootstrap", replicates=2)[0].estimate for s in STRATEGIES}
    assert found["J2R"] < found["CR"] < found["MAR"]
    assert found["J2R"] < found["CIR"] < found["MAR"]


def test_who_never_came_is_the_control_mean() -> None:
    d = read(long(gaps=True))
    y = d.y.copy()
    y[:6] = np.nan
    d = Visits(d.subjects, d.visits, y, d.arm, d.arms, d.x, d.names, np.where(np.isnan(y).all(1), 0, d.occurred))
    model = maximum_likelihood(d)
    done = fill(d, d, model, plan(d, "J2R"), None)
    assert done[:6] == pytest.approx(model.mean(d, np.zeros(120, np.int64))[:6])


def test_multiple_imputation_agrees_with_conditional_means() -> None:
    """J2R, 80 imputations: within 4 Monte Carlo SE (false alarm 6e-5). Rubin's variance is the larger (Cro et al. 2019)."""
    d = read(long(100, 3, gaps=True))
    many = impute(d, 80, strategies="J2R", seed=2).analyse()[0]
    mean = conditional_mean(d, strategies="J2R")[0]
    assert abs(many.estimate - mean.estimate) < 4 * many.extra["monte_carlo_se"]
    assert many.se > 1.05 * mean.se
    boot = conditional_mean(d, strategies="J2R", error="bootstrap", replicates=100, seed=1)[0]
    assert boot.se == pytest.approx(mean.se, rel=0.28)  # 4 Monte Carlo SE of the bootstrap


def test_posterior_spread_is_that_of_the_likelihood() -> None:
    """300 subjects: the posterior of the last visit's difference beside REML and the bootstrap of its estimate (8 % Monte Carlo
    SE)."""
    d = read(long(300, 4), "1")
    draws = np.array([m.coefficients[1, -1] - m.coefficients[0, -1] for m in posterior_draws(d, 150, seed=1, thin=5)])
    best = maximum_likelihood(d, restricted=True).coefficients
    se = draws.std(ddof=1)
    assert abs(draws.mean() - (best[1, -1] - best[0, -1])) < 5 * se / np.sqrt(150) * 1.5  # thin chain: some autocorrelation
    assert conditional_mean(d, error="bootstrap", replicates=80)[0].se == pytest.approx(se, rel=0.3)


def test_inverse_wishart_mean() -> None:
    """E = S / (df − T − 1); 4,000 draws, 5 Monte Carlo SE."""
    rng = np.random.default_rng(1)
    draws = np.array([inverse_wishart(SIGMA, 20, rng) for _ in range(4000)])
    se = draws.std(0, ddof=1) / np.sqrt(4000)
    assert np.all(np.abs(draws.mean(0) - SIGMA / 16) < 5 * se)
    with pytest.raises(DataError, match="degrees of freedom"):
        inverse_wishart(SIGMA, 2, rng)


def test_covariance_by_arm() -> None:
    t = long(400, 5).with_columns(y=pl.when(pl.col("arm") == 1).then(3 * pl.col("y")).otherwise(pl.col("y")))
    model = maximum_likelihood(read(t), by_arm=True)
    assert np.diag(model.covariances[1]) / np.diag(model.covariances[0]) == pytest.approx(9, rel=0.4)
    e = impute(read(t), 20, strategies="J2R", by_arm=True, seed=1).analyse()[0]
    assert np.isfinite(e.se)


def test_sequential_regression_agrees_with_the_joint_model() -> None:
    d = read(long(300, 6))
    a = sequential_regression(d, 60, by_arm=False, seed=1).analyse()[0]
    b = impute(d, 60, seed=1).analyse()[0]
    assert abs(a.estimate - b.estimate) < 4 * np.hypot(a.extra["monte_carlo_se"], b.extra["monte_carlo_se"])
    assert a.se == pytest.approx(b.se, rel=0.1)
    with pytest.raises(DataError, match="seen again"):
        sequential_regression(read(long(gaps=True)), 2, seed=1)


def test_delta_moves_only_what_is_missing_and_by_what_is_said() -> None:
    d = read(long(200, 7, gaps=True, effect=2.0))
    out = impute(d, 20, seed=1)
    moved = out.shifted({"1": -0.5})
    where = d.missing & (d.arm == 1)[:, None] & (np.arange(3)[None] >= d.occurred[:, None])
    assert (moved.values - out.values)[:, where] == pytest.approx(-0.5)
    assert np.array_equal(moved.values[:, ~where], out.values[:, ~where])
    found = tipping_point(out, "1", [0, -2, -4, -6], control_deltas=[0.0, 1.0])
    assert found.delta is not None
    assert out.shifted({"1": found.delta}).analyse()[0].p == pytest.approx(0.05, abs=1e-4)
    assert len(found.table) == 8
    with pytest.raises(DataError, match="no conclusion"):
        tipping_point(impute(read(long(60, 8, effect=0.0)), 20, seed=1), "1", [-1])


def test_imputation_repeats_with_its_seed() -> None:
    d = read(long(60))
    a, b, c = (impute(d, 2, seed=s).values for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@given(st.integers(2, 200), st.floats(0.001, 0.999), st.floats(2, 1e4))
def test_barnard_rubin_bounds(m: int, share: float, complete: float) -> None:
    """Never above the complete data's df, nor above Rubin's."""
    df = degrees_of_freedom(m, share, complete)
    assert 0 < df <= min(complete, (m - 1) / share**2)


def test_pooling_refuses() -> None:
    e = Estimate("", "mean difference", 1.0, 0.2, "", 9)
    with pytest.raises(DataError, match="two at least"):
        pool([e])
    with pytest.raises(DataError, match="different measures"):
        pool([e, Estimate("", "log odds ratio", 1.0, 0.2, "", 9, scale="log")])


@pytest.mark.parametrize("kind", ["normal", "pmm"])
def test_chained_equations_recover_a_regression(kind: str) -> None:
    """y missing at random given x: complete cases are biased in the mean, imputed data are not (5 SE)."""
    rng = np.random.default_rng(3)
    n = 500
    x, z = rng.normal(size=n), rng.normal(size=n)
    y = 1 + x + 0.5 * z + rng.normal(size=n)
    gone = rng.random(n) < 1 / (1 + np.exp(-1.5 * x))
    table = pl.DataFrame({"x": x, "z": np.where(rng.random(n) < 0.2, np.nan, z), "y": np.where(gone, np.nan, y)})
    copies = chained_equations(table, {"y": kind, "z": kind}, 10, predictors=["x"], rounds=4, seed=1)  # type: ignore[dict-item]
    means = [float(c["y"].mean()) for c in copies]  # type: ignore[arg-type]
    assert np.mean(means) == pytest.approx(y.mean(), abs=5 * 2 / np.sqrt(n))
    assert abs(float(y[~gone].mean()) - y.mean()) > 0.4
    assert all(c["y"].null_count() == 0 and not c["y"].is_nan().any() for c in copies)
    kept = ~gone
    assert np.array_equal(copies[0]["y"].to_numpy()[kept], y[kept])


def test_chained_equations_of_a_binary_column() -> None:
    rng = np.random.default_rng(4)
    n = 1500
    x = rng.normal(size=n)
    b = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
    table = pl.DataFrame({"x": x, "b": np.where(x > 0.5, np.nan, b)})
    copies = chained_equations(table, {"b": "logistic"}, 20, predictors=["x"], seed=1)
    hidden = x > 0.5
    got = np.mean([c["b"].to_numpy()[hidden].mean() for c in copies])
    assert got == pytest.approx(b[hidden].mean(), abs=0.12)  # extrapolation: the drawn slopes have an SE of about 0.1
    assert set(np.unique(copies[0]["b"].to_numpy())) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pl.concat([t, t[:1]]), "two rows"),
        (lambda t: t.filter((pl.col("arm") == 0) | (pl.col("id") == "s1")), "subjects in arm"),
        (lambda t: t.with_columns(x=pl.when(pl.col("id") == "s3").then(None).otherwise(pl.col("x"))), "baseline covariate"),
        (lambda t: t.with_columns(x=pl.col("x") + pl.col("visit")), "within a subject"),
        (lambda t: t.with_columns(y=pl.when(pl.col("visit") == 12).then(None).otherwise(pl.col("y"))), "nobody"),
        (lambda t: t.drop("y"), "no such column"),
    ],
)
def test_refused(change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(change(long()))  # type: ignore[operator]


def test_refused_strategies() -> None:
    d = read(long())
    with pytest.raises(DataError, match="no such strategy"):
        impute(d, 2, strategies="BOCF", seed=1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such arm"):
        impute(d, 2, strategies={"2": "J2R"}, seed=1)
    with pytest.raises(DataError, match="no such visit"):
        impute(d, 2, seed=1).analyse(visit="16")
    with pytest.raises(DataError, match="no such arm"):
        impute(d, 2, seed=1).shifted({"9": 1.0})
    with pytest.raises(DataError, match="observed values"):
        chained_equations(pl.DataFrame({"a": [None, None, 1.0]}), {"a": "normal"}, 2, seed=1)

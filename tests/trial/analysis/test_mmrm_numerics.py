"""The engine of the mixed models against finite differences and closed forms that owe nothing to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from gemello.trial.analysis.mmrm import lme, mmrm
from gemello.trial.analysis.mmrm.adjust import sandwich
from gemello.trial.analysis.mmrm.covariance import NAMES, SPATIAL, structure
from gemello.trial.analysis.mmrm.reml import state_at, value_at

KEYS: dict[str, Any] = {"subject": "id", "visit": "v"}
NAMES_NONLINEAR = [n for n in NAMES if n not in ("us", "cs", "toep")]


def data(n: int = 24, t: int = 4, missing: float = 0.25, seed: int = 4) -> pl.DataFrame:
    """Two arms, correlated visits of rising variance, visits missing at random."""
    rng = np.random.default_rng(seed)
    apart = np.abs(np.subtract.outer(np.arange(t), np.arange(t)))
    sd = 1.5 + np.arange(t) / 2 + rng.random(t) / 4
    L = np.linalg.cholesky(np.outer(sd, sd) * 0.7**apart)
    rows = []
    for s in range(n):
        y = 10 + L @ rng.normal(size=t) + (s % 2) * np.arange(t) / 3
        kept = rng.random(t) > missing
        rows += [(f"s{s}", "ab"[s % 2], f"V{k}", float(k + rng.random() / 9), y[k]) for k in range(t) if kept[k] or k == s % t]
    return pl.DataFrame(rows, schema=["id", "arm", "v", "time", "y"], orient="row")


# ---- derivatives -----------------------------------------------------------------------------------------------------------
@given(name=st.sampled_from(NAMES), t=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_derivatives_of_structures(name: Any, t: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(0.5 + rng.random(t))
    place = np.abs(np.subtract.outer(times, times))[None] if name in SPATIAL else np.arange(t)[None]
    shape = structure(name, tuple(f"v{k}" for k in range(t)), 1.0)
    theta = shape.start(1 + rng.random(t), 0.4) * (1 + 0.2 * rng.random(len(shape.names)))
    _, first, second = shape.parts(theta, place)
    h = 1e-6
    for k, e in enumerate(np.eye(len(theta))):
        up, down = shape.parts(theta + h * e, place), shape.parts(theta - h * e, place)
        assert np.allclose((up[0] - down[0]) / (2 * h), first[:, k], atol=1e-7)
        assert np.allclose((up[1] - down[1]) / (2 * h), 0 if second is None else second[:, k], atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_gradient_and_information(name: Any, method: Any) -> None:
    fit = mmrm("y ~ arm*v", data(), covariance=name, method=method, group="arm", times="time", **KEYS)
    problem, theta = fit.core.problem, fit.theta * (1 + 0.05 * np.cos(np.arange(len(fit.theta))))
    state = state_at(problem, theta)
    assert state is not None
    scale = 1 / np.sqrt(np.diag(state.expected))
    h = 1e-5
    steps = h * np.diag(scale)
    numeric = np.array([(value_at(problem, theta + s) - value_at(problem, theta - s)) / (2 * h) for s in steps])
    assert numeric == pytest.approx(state.gradient * scale, abs=1e-5)
    sides = [(state_at(problem, theta + s), state_at(problem, theta - s)) for s in steps]
    hessian = np.array([(a.gradient - b.gradient) / (2 * h) for a, b in sides if a is not None and b is not None])
    assert np.abs((hessian - state.observed * scale[:, None]) * scale).max() < 1e-6


@pytest.mark.parametrize("name", ["us", "adh"])
def test_no_derivative_free_search_finds_lower(name: Any) -> None:
    fit = mmrm("y ~ arm*v", data(), covariance=name, **KEYS)
    rng = np.random.default_rng(2)
    se = np.sqrt(np.diag(fit.theta_cov))
    for _ in range(2):
        start = fit.theta + 0.2 * se * rng.normal(size=len(se))
        found = optimize.minimize(
            lambda x: min(value_at(fit.core.problem, x), 1e9), start, method="Nelder-Mead", options={"maxfev": 150}
        )
        assert found.fun >= fit.minus2loglik - 1e-8


# ---- closed forms ------------------------------------------------------------------------------------------------------------
def complete(n: int, t: int, seed: int = 1) -> pl.DataFrame:
    return data(n, t, -1.0, seed)


def test_unstructured_and_complete_is_the_sample_covariance() -> None:
    table = complete(20, 4)
    Y = table["y"].to_numpy().reshape(20, 4)
    arm = np.arange(20) % 2
    R = Y - np.array([Y[arm == a].mean(0) for a in (0, 1)])[arm]
    fit = mmrm("y ~ arm*v", table, **KEYS)
    assert fit.Sigma["all"] == pytest.approx(R.T @ R / 18, rel=1e-7)
    e = fit.difference("b", "a", "V3")
    d = stats.ttest_ind(Y[arm == 1, 3], Y[arm == 0, 3])
    assert (e.statistic, e.df) == pytest.approx((d.statistic, 18), rel=1e-7)
    assert e.p == pytest.approx(d.pvalue, rel=1e-7)


def test_kenward_roger_is_exact_for_hotelling() -> None:
    """One sample, H0: all visits have mean 0: T² (n − t) / (t (n − 1)) ~ F(t, n − t) (Kenward and Roger 1997, section 4)."""
    n, t = 12, 4
    table = complete(n, t)
    Y = table["y"].to_numpy().reshape(n, t)
    fit = mmrm("y ~ 0 + v", table, df="kenward-roger", **KEYS)
    test = fit.f_test(np.eye(t))
    hotelling = n * Y.mean(0) @ np.linalg.solve(np.cov(Y.T), Y.mean(0)) * (n - t) / (t * (n - 1))
    assert (test.F, test.den_df) == pytest.approx((hotelling, n - t), rel=1e-6)
    assert test.scale == pytest.approx((n - t) / (n - 1), rel=1e-6)


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
def test_balanced_split_plot_is_exact(df: Any) -> None:
    """Compound symmetry, complete: the arms against subjects (n − 2), the visits against the residual ((n − 2)(t − 1))."""
    n, t = 16, 3
    table = complete(n, t, 7)
    Y, arm = table["y"].to_numpy().reshape(n, t), np.arange(n) % 2
    means = np.array([Y[arm == a].mean(0) for a in (0, 1)])
    subject = Y.mean(1) - means.mean(1)[arm]
    within = Y - means[arm] - subject[:, None]
    ms_subject, ms_within = t * (subject**2).sum() / (n - 2), (within**2).sum() / ((n - 2) * (t - 1))
    both = means - means.mean(1, keepdims=True) - means.mean(0) + means.mean()
    F_arm = n / 2 * t * ((means.mean(1) - means.mean()) ** 2).sum() / ms_subject
    F_both = n / 2 * (both**2).sum() / (t - 1) / ms_within
    one, _, two = mmrm("y ~ arm*v", table, covariance="cs", df=df, **KEYS).type3()
    assert (one.F, one.den_df) == pytest.approx((F_arm, n - 2), rel=1e-6)
    assert (two.F, two.den_df, two.scale) == pytest.approx((F_both, (n - 2) * (t - 1), 1.0), rel=1e-6)


def test_random_intercept_is_compound_symmetry() -> None:
    table = complete(16, 3, 7)
    a = mmrm("y ~ arm*v", table, covariance="cs", df="kenward-roger", **KEYS)
    b = lme("y ~ arm*v", table, subject="id", df="kenward-roger")
    assert b.minus2loglik == pytest.approx(a.minus2loglik, abs=1e-9)
    assert (b.D[0, 0], b.sigma2) == pytest.approx(tuple(a.theta), rel=1e-6)
    assert b.vcov == pytest.approx(a.vcov, rel=1e-6, abs=1e-12)
    assert float(b.fitted()["residual"].sum()) == pytest.approx(0, abs=1e-8)


# ---- sandwiches --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["us", "cs", "ar1"])
def test_bell_mccaffrey_is_unbiased_under_the_model(name: Any) -> None:
    """CR2 is made so that its expectation is Φ when V is right: Σ A_i Cov(r_i) A_i', Cov(r_i) = I − H_ii whitened."""
    fit = mmrm("y ~ arm*v", data(), covariance=name, **KEYS)
    _, clusters = sandwich(fit.core.problem, fit.core.state, "empirical-cr2")
    total = 0.0
    for half, X in zip(clusters.half, clusters.white, strict=True):
        rest = np.eye(X.shape[1]) - X @ fit.core.state.phi @ np.swapaxes(X, 1, 2)
        total = total + np.einsum("smp,smk,skq->pq", half, rest, half)
    assert total == pytest.approx(fit.core.state.phi, rel=1e-8, abs=1e-12)


def test_cr2_of_two_samples_is_welch() -> None:
    """One visit, two arms: CR2 is the sum of s²/n, and Bell and McCaffrey's df under equal variances are below n − 2."""
    table = data(21, 1, -1.0)
    y, arm = table["y"].to_numpy(), (table["arm"] == "b").to_numpy()
    e = mmrm("y ~ arm", table, covariance="us", vcov="empirical-cr2", **KEYS).coefficient("armb")
    assert e.se**2 == pytest.approx(y[arm].var(ddof=1) / arm.sum() + y[~arm].var(ddof=1) / (~arm).sum(), rel=1e-9)
    n1, n2 = arm.sum(), (~arm).sum()
    expected = (1 / n1 + 1 / n2) ** 2 / (1 / (n1**2 * (n1 - 1)) + 1 / (n2**2 * (n2 - 1)))
    assert e.df == pytest.approx(expected, rel=1e-9)


def test_jackknife_leaves_subjects_out() -> None:
    """CR3 with V held: the sum over subjects of (β without the subject − β)(…)'."""
    table = data()
    fit = mmrm("y ~ arm*v", table, covariance="cs", vcov="empirical-jackknife", **KEYS)
    names, V = fit.visits, fit.Sigma["all"]
    design, who = fit.core.design, np.array(fit.data.subject)
    parts = []
    for s in range(fit.n_subjects):
        rows = np.flatnonzero(who == s)
        at = [names.index(fit.data.visits[i]) for i in fit.data.visit[rows]]
        inverse = np.linalg.inv(V[np.ix_(at, at)])
        X, y = design.matrix[rows], design.outcome[rows]  # type: ignore[index]
        parts.append((X.T @ inverse @ X, X.T @ inverse @ y))
    A, b = sum(p[0] for p in parts), sum(p[1] for p in parts)
    off = np.array([np.linalg.solve(A - a, b - c) - fit.coefficients for a, c in parts])
    assert fit.vcov == pytest.approx(off.T @ off, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", NAMES_NONLINEAR)
def test_second_derivatives_matter_only_where_there_are_any(name: Any) -> None:
    options: dict[str, Any] = {"covariance": name, "times": "time", **KEYS}
    a, b = (mmrm("y ~ arm*v", data(), df=df, **options) for df in ("kenward-roger", "kenward-roger-linear"))
    assert not np.allclose(a.vcov, b.vcov, rtol=1e-5)
    c, d = (mmrm("y ~ arm*v", data(), df=df, covariance="us", **KEYS) for df in ("kenward-roger", "kenward-roger-linear"))
    assert np.allclose(c.vcov, d.vcov, rtol=1e-12)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(["us", "csh", "arh1", "cs"]))
@settings(max_examples=12)
def test_invariance_to_coding(seed: int, name: Any) -> None:
    """The reference arm and the parametrisation of the means change no difference, error or degree of freedom."""
    table = data(30, 3, 0.15, seed)
    a = mmrm("y ~ arm*v", table, covariance=name, df="kenward-roger", **KEYS).difference("b", "a", "V2")
    b = mmrm("y ~ 0 + v:arm", table, covariance=name, df="kenward-roger", levels={"arm": ["b", "a"]}, **KEYS)
    e = b.difference("b", "a", "V2")
    assert (e.estimate, e.se, e.df) == pytest.approx((a.estimate, a.se, a.df), rel=1e-5)

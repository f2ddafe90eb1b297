"""Borrowing priors of a control mean or rate: closed forms, limits, and brute-force integrals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gemello.base.errors import DataError
from gemello.trial.external import binary, priors
from gemello.trial.external.mixture import NormalMixture, normal

AS = [(23, 107), (12, 44), (19, 51), (9, 39), (39, 139), (6, 20), (9, 78), (10, 35)]
SMALL = st.floats(0.05, 5.0)


@given(st.floats(-5, 5), SMALL, st.floats(-5, 5), SMALL)
def test_one_component_is_the_conjugate_posterior(m: float, s: float, y: float, e: float) -> None:
    post = normal(m, s).update(y, e)
    w = s**2 / (s**2 + e**2)
    assert post.mean == pytest.approx(m + w * (y - m), abs=1e-9)
    assert post.sd == pytest.approx(np.sqrt(w) * e, rel=1e-9)
    assert post.quantile(0.975) == pytest.approx(stats.norm.ppf(0.975, post.mean, post.sd), rel=1e-8, abs=1e-8)


@given(st.floats(0.05, 1.0), SMALL, SMALL, st.floats(-3, 3))
def test_power_prior_divides_the_information(a0: float, s: float, e: float, y: float) -> None:
    post = priors.power_prior([(0.0, s)], a0).update(y, e)
    info = a0 / s**2 + 1 / e**2
    assert post.sd == pytest.approx(info**-0.5, rel=1e-9)
    assert post.mean == pytest.approx(y / e**2 / info, abs=1e-9)


def brute(density: np.ndarray, grid: np.ndarray) -> tuple[float, float]:
    p = density / density.sum()
    return float(p @ grid), float(np.sqrt(p @ (grid - p @ grid) ** 2))


@pytest.mark.parametrize("y", [0.0, 0.4, 1.5])
def test_normalised_power_prior_against_two_dimensional_integration(y: float) -> None:
    s, e = 0.1, 0.2
    grid, a0 = np.linspace(-2, 4, 1501), (np.arange(1000) + 0.5) / 1000
    weight = stats.beta.pdf(a0, 2, 3)
    density = (stats.norm.pdf(grid[:, None], 0, s / np.sqrt(a0)) @ weight) * stats.norm.pdf(y, grid, e)
    post = priors.normalised_power_prior([(0.0, s)], 2, 3).update(y, e)
    mean, sd = brute(density, grid)
    assert post.mean == pytest.approx(mean, abs=2e-4)
    assert post.sd == pytest.approx(sd, rel=2e-3)


@pytest.mark.parametrize("kind", [{"sd_scale": 0.3}, {"gamma": (1.0, 0.01)}, {"gamma": (2.0, 1.0)}])
def test_commensurate_prior_against_integration(kind: dict[str, object]) -> None:
    s, e, y = 0.1, 0.2, 0.7
    if "sd_scale" in kind:
        x = (np.arange(4000) + 0.5) / 4000
        sd = 0.3 * stats.norm.isf((1 - x) / 2)
    else:
        shape, rate = kind["gamma"]  # type: ignore[misc]
        x = (np.arange(4000) + 0.5) / 4000
        sd = 1 / np.sqrt(stats.gamma.ppf(x, shape, scale=1 / rate))
    grid = np.linspace(-1.5, 3, 451)
    total = np.hypot(s, sd)
    density = np.array([stats.norm.pdf(g, 0, total).mean() for g in grid]) * stats.norm.pdf(y, grid, e)
    mean, spread = brute(density, grid)
    post = priors.commensurate_prior([(0.0, s)], **kind).update(y, e)  # type: ignore[arg-type]
    assert post.mean == pytest.approx(mean, abs=2e-3)
    assert post.sd == pytest.approx(spread, rel=5e-3)


def test_map_prior_limits() -> None:
    """No heterogeneity is pooling with the prior of μ; one study and a flat μ leaves τ at its prior."""
    history = [(1.0, 0.2), (1.4, 0.3)]
    tight = priors.map_prior(history, 1e-4)
    mean, se = priors.pooled(history)
    assert (tight.mean, tight.sd) == pytest.approx((mean, se), rel=1e-5)
    one = priors.map_prior([(0.0, 0.1)], 0.5)
    assert one.sd == pytest.approx(np.sqrt(0.1**2 + 2 * 0.5**2), rel=1e-3)  # two exchangeable studies: 2 E τ²


def test_robust_part_takes_over_under_conflict() -> None:
    prior = priors.robust(priors.map_prior([(0.0, 0.1)], 0.1), 0.2, sd=1.0)
    near, far = prior.update(0.05, 0.15), prior.update(3.0, 0.15)
    assert near.share("vague") < 0.2
    assert far.share("vague") > 0.95
    assert near.sd < 0.15
    assert far.mean == pytest.approx(3.0, abs=0.1)


def test_effective_sample_size_of_one_normal_is_its_information() -> None:
    prior = normal(0.3, 0.25)
    assert prior.effective_sample_size(2.0) == pytest.approx(64, rel=1e-6)
    assert prior.moment_sample_size(2.0) == pytest.approx(64)
    wide = prior.with_component(0.3, 0.3, 2.0, "vague")
    assert wide.moment_sample_size(2.0) < wide.effective_sample_size(2.0) < 64


def test_difference_of_mixtures() -> None:
    a = NormalMixture(np.array([0.3, 0.7]), np.array([0.0, 1.0]), np.array([1.0, 0.5]))
    d = a.less(normal(2.0, 0.5))
    assert d.mean == pytest.approx(a.mean - 2)
    assert d.sd == pytest.approx(np.hypot(a.sd, 0.5))
    assert d.cdf(d.quantile(0.2)) == pytest.approx(0.2, abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 20))
def test_binary_power_prior_is_a_beta_distribution(r: int, extra: int, a0: float, y: int) -> None:
    prior = binary.power_prior([(r, r + extra)], a0)
    exact = stats.beta(1 + a0 * r, 1 + a0 * extra)
    assert prior.mean == pytest.approx(exact.mean(), abs=1e-6)
    assert prior.sd == pytest.approx(exact.std(), abs=1e-5)
    if min(a0 * r, a0 * extra) > 1:  # below, the density of the rate does not vanish at its ends, and a + b is a limit only
        assert prior.effective_sample_size() == pytest.approx(2 + a0 * (r + extra), rel=0.02)
    post = prior.update((y, 20))
    assert post.mean == pytest.approx((1 + a0 * r + y) / (2 + a0 * (r + extra) + 20), abs=1e-6)
    assert post.quantile(0.975) == pytest.approx(stats.beta.ppf(0.975, 1 + a0 * r + y, 1 + a0 * extra + 20 - y), abs=1e-4)


def test_map_prior_of_a_rate_against_published_samples() -> None:
    """RBesT documentation (ankylosing spondylitis), 4,000 MCMC draws: 3 Monte Carlo SE are 0.004 on the mean."""
    for scale, (mean, sd, low, median, high) in {
        1.0: (0.2550, 0.0864, 0.1060, 0.2470, 0.4610), 0.5: (0.2590, 0.0776, 0.1290, 0.2500, 0.4420),
    }.items():  # fmt: skip
        p = binary.map_prior(AS, scale, mean_sd=2.0)
        assert (p.mean, p.sd, p.quantile(0.5)) == pytest.approx((mean, sd, median), abs=0.004)
        assert p.interval() == pytest.approx((low, high), abs=0.015)


def test_robust_rate_weights_follow_bayes() -> None:
    prior = binary.robust(binary.beta_prior(30, 70), 0.3)
    y, n = 12, 15
    bayes = [w * stats.betabinom.pmf(y, n, a, b) for w, a, b in ((0.7, 30, 70), (0.3, 1, 1))]
    assert prior.update((y, n)).share("vague") == pytest.approx(bayes[1] / sum(bayes), abs=1e-6)
    assert prior.share("vague") == pytest.approx(0.3, abs=1e-6)


def test_risk_difference_against_draws() -> None:
    """10⁶ draws: 4 Monte Carlo SE of the tail probability are 6e-4 (false alarm 6e-5)."""
    rng = np.random.default_rng(1)
    d = rng.beta(15, 11, 10**6) - rng.beta(3, 9, 10**6)
    e = binary.difference(binary.beta_prior(15, 11), binary.beta_prior(3, 9), "", "", 30)
    assert e.estimate == pytest.approx(d.mean(), abs=7e-4)
    assert e.extra["probability_above_null"] == pytest.approx((d > 0).mean(), abs=6e-4)
    assert (e.extra["credible_lower"], e.extra["credible_upper"]) == pytest.approx(np.quantile(d, [0.025, 0.975]), abs=3e-3)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: priors.power_prior([(0.0, 1.0)], 0.0),
        lambda: priors.power_prior([], 0.5),
        lambda: priors.power_prior([(0.0, 0.0)], 0.5),
        lambda: priors.commensurate_prior([(0.0, 1.0)]),
        lambda: priors.commensurate_prior([(0.0, 1.0)], sd_scale=1.0, gamma=(1, 1)),
        lambda: priors.map_prior([(0.0, 1.0)], -1.0),
        lambda: priors.robust(normal(0, 1), 1.5, sd=1),
        lambda: binary.power_prior([(5, 4)], 0.5),
        lambda: binary.map_prior([], 1.0),
        lambda: binary.robust(binary.beta_prior(1, 1), 0.0),
    ],
)
def test_refused(bad: object) -> None:
    with pytest.raises(DataError):
        bad()  # type: ignore[operator]

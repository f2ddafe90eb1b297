"""R-hat and effective sizes against processes whose autocorrelation is known, and against ArviZ where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.inference import convergence as cv


def autoregressive(rho: float, chains: int, draws: int, seed: int) -> np.ndarray:
    """(chains, draws) of a stationary first-order process: effective size n (1 − ρ)/(1 + ρ)."""
    e = np.random.default_rng(seed).standard_normal((chains, draws))
    x = np.empty_like(e)
    x[:, 0] = e[:, 0]
    for i in range(1, draws):
        x[:, i] = rho * x[:, i - 1] + np.sqrt(1 - rho**2) * e[:, i]
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_effective_size_of_a_known_process(rho: float) -> None:
    """Within 15 %, about four standard deviations of the estimate at ρ = 0.9 (seeds fixed)."""
    x = np.stack([autoregressive(rho, 4, 5000, s) for s in range(8)], axis=-1)
    expected = 20_000 * (1 - rho) / (1 + rho)
    np.testing.assert_allclose(cv.effective(x).mean(), expected, rtol=0.15)
    np.testing.assert_allclose(cv.ess_bulk(x).mean(), expected, rtol=0.15)


def test_the_error_of_a_mean_is_what_means_show() -> None:
    """200 sets of chains: the standard deviation of their means is the stated error within 20 % (4 standard errors)."""
    x = np.stack([autoregressive(0.7, 4, 500, s) for s in range(200)], axis=-1)
    assert np.std(x.mean(axis=(0, 1))) == pytest.approx(np.mean(cv.mcse_mean(x)), rel=0.2)
    assert np.std(np.std(x, axis=(0, 1))) == pytest.approx(np.mean(cv.mcse_sd(x)), rel=0.2)


def test_chains_that_agree_and_chains_that_do_not() -> None:
    x = np.random.default_rng(1).standard_normal((4, 1000, 3))
    assert np.all(cv.rhat(x) < 1.01)
    elsewhere, wider, drifting = x.copy(), x.copy(), x.copy()
    elsewhere[0, :, 0] += 1.0
    wider[0, :, 1] *= 3.0
    drifting[:, :, 2] += np.linspace(-1.0, 1.0, 1000)
    assert cv.rhat(elsewhere)[0] > 1.05
    assert cv.rhat(wider)[1] > 1.05  # seen by the folded draws only
    assert cv.rhat(drifting)[2] > 1.05  # seen by the split only
    assert cv.ess_bulk(elsewhere)[0] < 0.05 * 4000


def test_what_never_moves_has_no_size() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(cv.ess_bulk(np.ones((2, 100, 1)))).all()
        assert np.isnan(cv.rhat(np.ones((2, 100, 1)))).all()


def test_the_same_numbers_as_arviz() -> None:
    """To 1e-6 for R-hat, 5 % for the effective sizes (where the sum of autocorrelations is cut differs)."""
    arviz = pytest.importorskip("arviz", reason="ArviZ is not installed")
    for rho in (0.0, 0.6, -0.3):
        x = np.exp(autoregressive(rho, 4, 400, 5))
        assert cv.rhat(x) == pytest.approx(float(arviz.rhat(x)), abs=1e-6)
        assert cv.ess_bulk(x) == pytest.approx(float(arviz.ess(x, method="bulk")), rel=0.05)
        assert cv.ess_tail(x) == pytest.approx(float(arviz.ess(x, method="tail")), rel=0.05)

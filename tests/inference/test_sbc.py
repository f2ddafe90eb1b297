"""Simulation-based calibration: the tests of ranks, a sampler that is right, and samplers that are wrong and must be caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from gemello.base.errors import DataError
from gemello.domains.pharmacology.authorities import calibration as checks
from gemello.domains.pharmacology.one_compartment.model import iv
from gemello.inference import sbc
from gemello.inference.bayes import Normal
from gemello.model.population import PopulationParameters


def test_uniform_ranks_pass_as_often_as_they_should() -> None:
    """400 sets of 200 uniform ranks: p below 0.1 in about a tenth of them (± 0.06, 4 standard errors; discreteness lowers it)."""
    ranks = np.random.default_rng(1).integers(0, 50, (400, 200))
    for test in (sbc.chi_squared, sbc.distribution):
        p = np.array([test(r, 49) for r in ranks])
        assert 0.04 < np.mean(p < 0.1) < 0.16
        assert abs(np.mean(p) - 0.5) < 0.08


@pytest.mark.parametrize(("scale", "shift"), [(0.8, 0.0), (1.25, 0.0), (1.0, 0.35)])
def test_wrong_ranks_are_caught(scale: float, shift: float) -> None:
    """Posteriors whose SD is 0.8 or 1.25 times what it should be, or that lie 0.35 SD aside: in 400 replicates."""
    z = np.random.default_rng(2).standard_normal(400)
    ranks = np.floor(50 * stats.norm.cdf((z + shift) / scale)).astype(int)
    assert min(sbc.chi_squared(ranks, 49), sbc.distribution(ranks, 49)) < 0.005


def test_weighted_ranks() -> None:
    """Draws from a wide proposal with the right weights give uniform ranks, without weights they do not."""
    rng = np.random.default_rng(3)
    draws, truth = 2.0 * rng.standard_normal((300, 1000, 1)), rng.standard_normal((300, 1))
    logw = stats.norm.logpdf(draws[..., 0]) - stats.norm.logpdf(draws[..., 0], scale=2.0)
    right = sbc.weighted_ranks(draws, np.exp(logw), truth, 99, rng)
    wrong = sbc.weighted_ranks(draws, np.ones((300, 1000)), truth, 99, rng)
    assert sbc.calibration(["x"], right, 99, np.ones(300)).smallest > 0.01
    found = sbc.calibration(["x"], wrong, 99, np.ones(300))
    assert found.smallest < 0.001
    assert found.worst == "x"


def test_bins_must_be_equal() -> None:
    with pytest.raises(DataError, match="divisor of 48"):
        sbc.chi_squared(np.zeros(10, int), 47)


def test_nuts_is_calibrated_and_mistakes_are_seen() -> None:
    """100 replicates of 3 subjects: NUTS passes; draws 0.8 times as wide, and priors 0.6 times as wide, do not."""

    def run(width: float) -> sbc.Sampled:
        believed = {n: Normal(d.centre, width * d.sd) if isinstance(d, Normal) else d for n, d in checks.PRIORS.items()}
        return sbc.sample_replicates(
            iv, checks.design(3), priors=checks.PRIORS, believed=believed, values={"cp_additive": 0.3, "cp_proportional": 0.0},
            estimate=("CL", "V", "cp_additive"), omega="full", count=100, warmup=100, draws=100, seed=1,
        )  # fmt: skip

    right = run(1.0)
    found = right.calibration(19)
    assert found.smallest > 0.01
    assert np.mean(found.ess > 19) > 0.9
    assert right.diverged < 0.01
    assert len(found.p) == 9
    middle = right.draws.mean(axis=(1, 2), keepdims=True)
    assert replace(right, draws=middle + 0.8 * (right.draws - middle)).calibration(19).smallest < 0.01
    assert run(0.6).calibration(19).smallest < 0.01


def test_the_twins_ensemble_is_calibrated_and_a_wrong_population_is_seen() -> None:
    """300 virtual vancomycin patients; then a twin that believes variances half as large as they are."""
    assert checks.twin_ensemble(seed=3, count=300).smallest > 0.01
    own = PopulationParameters.of(checks.vancomycin)
    assert checks.twin_ensemble(seed=3, count=300, believed=replace(own, omega=0.5 * own.omega)).smallest < 0.01

"""Hill fits: FDA's optima and samples, a posterior by quadrature, calibrated intervals, data that say little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.authorities.drugs import HTS, block_tables
from gemello.domains.heart.drugs import hill
from gemello.domains.heart.drugs.vintage import Vintage

DOSES = np.repeat([10.0, 100.0, 1000.0, 10_000.0], 4)


def simulated(ic50: float, h: float, sigma: float, seed: int) -> np.ndarray:
    return hill.percent(ic50, h, DOSES) + sigma * generator(seed, "hill test").standard_normal(len(DOSES))


@pytest.mark.parametrize(
    ("drug", "channel"), [("ranolazine", "INaL"), ("mexiletine", "ICaL"), ("cisapride", "IKr"), ("metoprolol", "INa")]
)
def test_as_fda(shared_data: Path, drug: str, channel: str) -> None:
    """Optimum to FDA's four digits; quantiles of log10 IC50 to 0.05 and of h to 0.1: 2,000 correlated draws of a chain there."""
    vintage = Vintage.read(shared_data / "heart", "lab2020")
    c, y = block_tables(shared_data / "heart", HTS)[drug, channel]
    found, fda = hill.fit(c, y), vintage[drug].point.block[channel]
    assert found.ic50 == pytest.approx(fda.ic50, rel=1e-3)
    assert found.h == pytest.approx(fda.h, rel=1e-3)
    assert vintage[drug].samples is not None
    theirs = vintage[drug].samples.block[channel]
    q = (0.025, 0.5, 0.975)
    np.testing.assert_allclose(np.quantile(np.log10(found.draws.ic50), q), np.quantile(np.log10(theirs.ic50), q), atol=0.06)
    np.testing.assert_allclose(np.quantile(found.draws.h, q), np.quantile(theirs.h, q), atol=0.1)


def test_posterior_by_quadrature() -> None:
    """Mean of log10 IC50 and h against three nested integrals over log10 IC50, h and σ, within 4 Monte Carlo errors (6e-5)."""
    y = simulated(500.0, 1.1, 6.0, 1)
    found = hill.fit(DOSES, y, draws=4000, seed=3)
    x, h = np.linspace(2.2, 3.2, 201), np.linspace(0.5, 2.0, 201)
    curves = hill.percent(10.0 ** x[:, None, None], h[None, :, None], DOSES)
    squares = np.sum((curves - y) ** 2, axis=2)
    best = squares.min()
    sigma = np.linspace(1e-2, 50.0, 4001)
    table = np.array(
        [np.sum(sigma**-16.0 * np.exp(-s / (2 * sigma**2) + best / 72.0)) for s in np.linspace(best, best + 4000, 400)]
    )
    weight = np.exp(np.interp(squares, np.linspace(best, best + 4000, 400), np.log(table)))
    weight /= weight.sum()
    for draws, axis, marginal in ((np.log10(found.draws.ic50), x, weight.sum(1)), (found.draws.h, h, weight.sum(0))):
        mean = marginal @ axis
        sd = np.sqrt(marginal @ (axis - mean) ** 2)
        assert abs(draws.mean() - mean) < 4 * sd / np.sqrt(4000)
        assert draws.std() == pytest.approx(sd, rel=0.08)
    exact = quad(lambda s: s**-16.0 * np.exp(-best / (2 * s**2) + best / 72.0), 1e-2, 50.0)[0]
    assert table[0] * (sigma[1] - sigma[0]) == pytest.approx(exact, rel=1e-6)


def test_intervals_are_calibrated() -> None:
    """80 % intervals of IC50 over 80 simulated assays hold the truth as often as they say (false alarm 1e-4)."""
    inside = 0
    for i in range(80):
        found = hill.fit(DOSES, simulated(700.0, 1.0, 8.0, 100 + i), draws=400, seed=i)
        low, high = found.interval(0.8)[0]
        inside += low <= 700.0 <= high
    assert binom.ppf(5e-5, 80, 0.8) <= inside <= binom.ppf(1 - 5e-5, 80, 0.8)


def test_new_measurements_fall_where_predicted() -> None:
    found = hill.fit(DOSES, simulated(500.0, 1.1, 6.0, 2))
    again = simulated(500.0, 1.1, 6.0, 3)
    low, middle, high = found.predict(DOSES, noise=True)
    outside = np.sum((again < low) | (again > high))
    assert outside <= binom.ppf(1 - 1e-4, len(DOSES), 0.10)  # 95 % intervals, and the fit's own error
    narrow = found.predict(DOSES)
    assert np.all(narrow[2] - narrow[0] < high - low)
    np.testing.assert_allclose(narrow[1], middle, atol=2.0)


def test_the_same_seed_gives_the_same_draws() -> None:
    y = simulated(500.0, 1.0, 5.0, 4)
    one, two, other = (hill.fit(DOSES, y, draws=50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.draws.ic50, two.draws.ic50)
    assert np.any(one.draws.ic50 != other.draws.ic50)
    assert one.ic50 == other.ic50


def test_data_without_noise() -> None:
    found = hill.fit(DOSES, hill.percent(321.0, 1.25, DOSES))
    assert (found.ic50, found.h) == (pytest.approx(321.0, rel=1e-6), pytest.approx(1.25, rel=1e-6))
    np.testing.assert_allclose(found.draws.ic50, 321.0, rtol=1e-3)


def test_what_to_distrust_is_said() -> None:
    none = hill.fit(DOSES, 3.0 * generator(5, "none").standard_normal(len(DOSES)))
    assert any("no block seen" in n for n in none.notes)
    assert np.quantile(none.draws.ic50, 0.05) > 1e4
    assert np.quantile(none.draws.ic50, 0.95) > 1e8  # up to the prior's end: nothing bounds it
    some = hill.fit(DOSES, hill.percent(20_000.0, 1.0, DOSES))
    assert any("extrapolated: 33 % block at the highest concentration" in n for n in some.notes)
    all_of_it = hill.fit(DOSES, hill.percent(1.0, 1.0, DOSES))
    assert any("at the lowest concentration already" in n for n in all_of_it.notes)
    steep = hill.fit(DOSES, hill.percent(500.0, 4.0, DOSES))
    assert any("Hill coefficient at its bound, 2" in n for n in steep.notes)
    assert hill.fit(DOSES, simulated(500.0, 1.0, 5.0, 6)).notes == ()


@pytest.mark.parametrize(
    ("c", "y", "message"),
    [
        ([1.0, 10.0], [1.0], "unequal length"),
        ([1.0, 10.0, 100.0], [1.0, 50.0, 90.0], "3 measurements"),
        ([10.0] * 5, [1.0, 50.0, 90.0, 4.0, 4.0], "at 1 concentrations"),
        ([0.0, 10.0, 100.0, 1000.0], [1.0, 50.0, 90.0, 95.0], "row 1.*not a concentration"),
        ([1.0, 10.0, -100.0, 1000.0], [1.0, 50.0, 90.0, 95.0], "row 3.*not a concentration"),
        ([1.0, 10.0, 100.0, 1000.0], [1.0, np.nan, 90.0, 95.0], "row 2.*not a block"),
        ([1.0, 10.0, 100.0, 1000.0], [0.01, 0.5, 0.9, 0.95], "multiply it by 100"),
        ([1.0, 10.0, 100.0, 1000.0], [1.0, 500.0, 90.0, 95.0], "not a block in %"),
    ],
)
def test_impossible_data(c: list[float], y: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        hill.fit(c, y)


@pytest.mark.parametrize(("ic50", "h"), [(1e-10, 20.0), (1e13, 0.05), (1e-300, 20.0)])
def test_the_curve_never_overflows(ic50: float, h: float) -> None:
    with np.errstate(over="raise", invalid="raise"):
        y = hill.percent(ic50, h, [1e-9, 1.0, 1e13])
    assert np.all((y >= 0.0) & (y <= 100.0))

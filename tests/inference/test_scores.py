"""Scores against closed forms, NumPy, SciPy and repeated sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gemello.base.errors import DataError
from gemello.inference import scores


def test_quantiles_of_equal_weights_are_hazens() -> None:
    x = np.random.default_rng(1).normal(size=(37, 4))
    p = [0.05, 0.3, 0.5, 0.99]
    np.testing.assert_allclose(scores.quantiles(x, p), np.quantile(x, p, axis=0, method="hazen"), rtol=1e-12, atol=1e-14)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=8).filter(lambda w: sum(w) > 1))
def test_weights_count_as_repetitions(weights: list[int]) -> None:
    x = np.random.default_rng(2).normal(size=len(weights))
    y = 0.3
    repeated = np.repeat(x, weights)
    assert scores.crps(x, y, weights) == pytest.approx(scores.crps(repeated, y), abs=1e-12)
    assert scores.pit(x, y, weights) == pytest.approx(scores.pit(repeated, y), abs=1e-12)
    np.testing.assert_allclose(scores.mixture_pit(x, 0.4, y, weights), scores.mixture_pit(repeated, 0.4, y), rtol=1e-12)


def test_draws_without_weight_do_not_matter() -> None:
    x, w = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 1.0, 2.0, 0.0])
    assert scores.quantiles(x, 0.5, w)[0] == pytest.approx(scores.quantiles(x[:3], 0.5, w[:3])[0])
    assert scores.mixture_pit(x, 1.0, 2.0, w) == pytest.approx(scores.mixture_pit(x[:3], 1.0, 2.0, w[:3]))
    assert scores.log_score(x, 1.0, 2.0, w) == pytest.approx(scores.log_score(x[:3], 1.0, 2.0, w[:3]))


def test_the_error_of_a_quantile_is_that_of_repeated_sampling() -> None:
    """400 repetitions: the standard deviation itself is known to 3.5 %, hence 15 %."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 400))
    q, error = scores.quantiles_with_error(x, [0.1, 0.5, 0.95])
    np.testing.assert_allclose(np.mean(error, axis=1), np.std(q, axis=1), rtol=0.15)


def test_crps_of_a_normal_distribution() -> None:
    """Closed form of Gneiting & Raftery 2007 (equation 22) for N(0, 1), at 200,000 draws: 4 standard errors."""
    x = np.random.default_rng(4).normal(size=200_000)
    for y in (-1.5, 0.0, 2.0):
        closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
        assert scores.crps(x, y) == pytest.approx(closed, abs=4 * 1.3 / np.sqrt(200_000))


def test_log_score_and_pit_of_a_mixture() -> None:
    f, sd, w = np.array([[0.0], [3.0]]), np.array([[1.0], [0.5]]), np.array([0.25, 0.75])
    y = np.array([2.2])
    density = 0.25 * stats.norm.pdf(2.2, 0, 1) + 0.75 * stats.norm.pdf(2.2, 3, 0.5)
    below = 0.25 * stats.norm.cdf(2.2, 0, 1) + 0.75 * stats.norm.cdf(2.2, 3, 0.5)
    np.testing.assert_allclose(scores.log_score(f, sd, y, w), [-np.log(density)], rtol=1e-13)
    np.testing.assert_allclose(scores.mixture_pit(f, sd, y, w), [below], rtol=1e-13)


def test_interval_score_by_hand() -> None:
    """Width 2; a miss by 0.5 costs 2/0.1 · 0.5 = 10."""
    np.testing.assert_allclose(scores.interval_score(1.0, 3.0, [2.0, 3.5, 0.5], 0.9), [2.0, 12.0, 12.0], rtol=1e-13)


def test_coverage_and_its_error() -> None:
    got = scores.coverage(0.0, 1.0, [0.5, 0.2, 2.0, np.nan])
    assert (got.share, got.number) == (pytest.approx(2 / 3), 3)
    assert got.error == pytest.approx(np.sqrt(2 / 3 * 1 / 3 / 2), rel=1e-12)  # n − 1 in the variance


def test_copies_of_a_measurement_bring_no_certainty() -> None:
    inside = np.random.default_rng(5).random(200) < 0.9
    cluster = np.repeat(np.arange(200), 7)
    single, copied = scores.share(inside), scores.share(np.repeat(inside, 7), cluster=cluster)
    assert copied.share == single.share
    assert copied.error == pytest.approx(single.error, rel=1e-12)


def test_effective_size() -> None:
    assert scores.effective_size([0.25] * 4) == pytest.approx(4.0)
    assert scores.effective_size([1.0, 0.0, 0.0]) == pytest.approx(1.0)
    assert scores.effective_size([0.0, 0.0]) == 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scores.quantiles([1.0, 2.0], [1.2]), "levels"),
        (lambda: scores.quantiles([1.0, 2.0], [0.5], [1.0, -1.0]), "weights"),
        (lambda: scores.quantiles([1.0, 2.0], [0.5], [0.0, 0.0]), "weights"),
        (lambda: scores.crps([1.0, 2.0], 0.0, [1.0]), "2 weights"),
        (lambda: scores.coverage(0.0, 1.0, [np.nan]), "nothing was observed"),
    ],
)
def test_bad_input_is_named(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=words):
        call()

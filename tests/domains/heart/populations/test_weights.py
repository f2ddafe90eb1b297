"""Weights, distances and intervals against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ks_2samp

from gemello.base.errors import DataError
from gemello.domains.heart.populations import weights


def test_equal_weights_where_the_cells_are_the_data() -> None:
    x = np.random.default_rng(1).normal(size=200)
    w = weights.tilted({"a": x, "b": x**2}, {"a": x, "b": x**2})
    assert w == pytest.approx(np.full(200, 1 / 200), abs=1e-6)
    assert weights.effective(w) == pytest.approx(200.0, abs=1e-3)


def test_weighted_shares_and_correlation_become_those_of_the_data() -> None:
    random = np.random.default_rng(2)
    data = dict(zip("ab", random.multivariate_normal([1.0, 0.0], [[1.0, 0.6], [0.6, 1.0]], 60).T, strict=True))
    cells = {n: random.uniform(-3, 4, 4000) for n in "ab"}
    w = weights.tilted(cells, data)
    assert w.sum() == pytest.approx(1.0)
    assert 200 < weights.effective(w) < 4000
    for n in "ab":
        distance, limit = weights.kolmogorov(cells[n], w, data[n])
        assert distance < 0.11 < limit  # deciles agree, so between two of them at most a tenth is amiss
        assert weights.quantile(cells[n], w, 0.5) == pytest.approx(np.median(data[n]), abs=0.1)
    z = [(v - data[n].mean()) / data[n].std() for n, v in cells.items()]
    assert w @ (z[0] * z[1]) == pytest.approx(np.corrcoef(data["a"], data["b"])[0, 1], abs=0.02)


def test_no_cells_have_no_weights() -> None:
    with pytest.raises(DataError, match="no cell to weight"):
        weights.tilted({"a": np.zeros(0)}, {"a": np.arange(9.0)})


def test_distance_of_equal_weights_is_scipys() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(size=80), random.normal(0.3, 1.2, size=58)
    distance, limit = weights.kolmogorov(a, np.ones(80), b)
    assert distance == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
    assert limit == pytest.approx(1.358 * np.sqrt(1 / 80 + 1 / 58), rel=1e-3)


@pytest.mark.parametrize(("k", "n"), [(0, 30), (7, 30), (30, 30)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    ours = weights.wilson(k / n, n)
    assert ours == pytest.approx(binomtest(k, n).proportion_ci(method="wilson"), abs=1e-12)

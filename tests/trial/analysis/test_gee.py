"""Generalised estimating equations. Numbers typed here: R 4.2.2, geepack 1.3.9 (which stops at 1e-4 of a step)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import design
from gemello.trial.analysis.gee import gee
from gemello.trial.analysis.linear import fit


def epil(folder: Path) -> pl.DataFrame:
    return pl.read_csv(folder / "trial/MASS_epil.csv").with_columns(A=(pl.col("trt") == "progabide").cast(pl.Int8))


def test_ar1_with_and_without_missing_visits(shared_data: Path) -> None:
    table = epil(shared_data)
    m = gee("y ~ A + lbase + lage + V4", table, subject="subject", family="poisson", correlation="ar1", visit="period")
    assert m.values == pytest.approx([1.73620676807, -0.01994721018, 1.25162347467, 0.65720431097, -0.15068534758], rel=1e-4)
    assert m.coefficients().se == pytest.approx(
        [0.15927892477, 0.19144465922, 0.16314870779, 0.28780673546, 0.09414677904], rel=1e-5
    )
    assert (m.alpha, m.phi) == pytest.approx((0.5497733574, 4.63211946), rel=1e-5)
    gaps = table.filter(pl.col("period") != pl.col("subject") % 4 + 1)
    m = gee("y ~ A + lbase + lage + V4", gaps, subject="subject", family="poisson", correlation="ar1", visit="period")
    assert m.values == pytest.approx([1.6866996237, 0.0729981096, 1.2697051020, 0.5956786259, -0.2263690431], rel=2e-5)
    assert (m.alpha, m.phi) == pytest.approx((0.5648841315, 5.384060173), rel=1e-6)


def test_gaussian(shared_data: Path) -> None:
    table = epil(shared_data)
    m = gee("y ~ A + lbase + lage", table, subject="subject", correlation="ar1", visit="period")
    assert m.values == pytest.approx([8.958191796, -1.499343568, 10.394286025, 3.768690462], rel=2e-6)
    assert m.coefficients().se == pytest.approx([0.9948777642, 1.9278657350, 3.1070152693, 3.6592501403], rel=1e-6)
    assert m.alpha == pytest.approx(0.7948271554, rel=1e-6)
    m = gee("y ~ A + lbase + lage", table, subject="subject")
    assert m.coefficients().se == pytest.approx([1.133869968, 1.926318804, 2.885303225, 3.477088469], rel=1e-8)
    assert m.alpha == pytest.approx(0.6597079959, rel=1e-8)


def cohort() -> pl.DataFrame:
    rng = np.random.default_rng(6)
    n = 80
    return pl.DataFrame(
        {"id": np.repeat(np.arange(n // 4), 4), "visit": np.tile(np.arange(4), n // 4), "x": rng.normal(size=n)}
    ).with_columns(y=pl.col("x") + rng.normal(size=n), b=pl.Series(rng.random(n) < 0.4))


def test_one_row_a_subject_is_least_squares_with_hc0_and_hc3() -> None:
    """Without repeats the sandwich is HC0, and Mancl and DeRouen's is HC3."""
    table = cohort().with_row_index("row")
    m = gee("y ~ x", table, subject="row", correlation="independence")
    direct = fit(design("y ~ x", table))
    assert m.values == pytest.approx(direct.values, abs=1e-12)
    assert m.covariances["robust"] == pytest.approx(direct.covariance("HC0"), rel=1e-9)
    assert m.covariances["Mancl-DeRouen"] == pytest.approx(direct.covariance("HC3"), rel=1e-9)


@pytest.mark.parametrize("correlation", ["exchangeable", "ar1", "independence"])
def test_order_of_rows_does_not_matter(correlation: str) -> None:
    table = cohort()[:-2]  # the last subject lacks two visits
    options: dict[str, Any] = {"subject": "id", "visit": "visit", "correlation": correlation, "family": "binomial"}
    a, b = gee("b ~ x", table, **options), gee("b ~ x", table.sample(fraction=1, shuffle=True, seed=1), **options)
    assert a.values == pytest.approx(b.values, rel=1e-9)
    assert a.coefficients("Mancl-DeRouen").se == pytest.approx(b.coefficients("Mancl-DeRouen").se, rel=1e-9)


@pytest.mark.parametrize(
    ("column", "options", "words"),
    [
        (pl.lit(1).alias("visit"), {"visit": "visit"}, "row 2, column visit: a subject has two rows for one visit"),
        (pl.lit(1).alias("id"), {}, "one subject only"),
        (pl.int_range(pl.len()).alias("id"), {}, "no subject has two rows"),
        ((pl.col("x") > 0).alias("y"), {"family": "binomial"}, "x separates"),
        (pl.col("y"), {"correlation": "toeplitz"}, "'toeplitz' is not known"),
        ((pl.col("x") * 2).alias("y"), {"subject": "who"}, "no column 'who'"),
    ],
)
def test_refused(column: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        gee("y ~ x", cohort().with_columns(column), **{"subject": "id"} | options)

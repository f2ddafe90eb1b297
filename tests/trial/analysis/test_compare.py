"""Unadjusted, covariate-adjusted and score-adjusted side by side."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis import compare
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.gee import gee
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.ordinal import ordinal
from gemello.trial.analysis.result import Estimate

HERE: dict[str, Any] = {"arm": "arm", "control": "c", "covariates": "x", "score": "s"}


def trial(n: int = 300, seed: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    s, arm = rng.normal(size=n), rng.permutation(np.resize(["c", "t", "u"], n))
    y = 0.8 * s + 0.6 * rng.normal(size=n)
    x = s + rng.normal(size=n)
    return pl.DataFrame(
        {
            "arm": arm,
            "s": 50 + 9 * s,
            "x": x,
            "y": y,
            "b": y > 0,
            "o": np.clip(np.floor(y + 2), 0, 3),
            "k": rng.poisson(np.exp(s / 2)),
        }
    )


@pytest.mark.parametrize(
    ("analysis", "outcome", "options"),
    [
        (ancova, "y", {}),
        (g_computation, "b", {}),
        (g_computation, "k", {"family": "poisson", "measure": "log ratio"}),
        (ordinal, "o", {}),
    ],
)
def test_every_analysis_takes_a_score(analysis: Any, outcome: str, options: dict[str, Any]) -> None:
    c = compare.analyses(analysis, trial(), outcome=outcome, **HERE, **options)
    assert [r.adjustment for r in c.rows[::2]] == ["unadjusted", "covariates", "score", "score + covariates"]
    assert len(c.labels) == 2
    for label in c.labels:
        first, row = c.row("unadjusted", label), c.row("score", label)
        assert first.ess == pytest.approx(dict.fromkeys(first.ess, 1.0))
        assert row.ess["reported"] == pytest.approx((first.estimate.se / row.estimate.se) ** 2)
        assert row.ess["influence"] > 1.05
        assert "adjusted for s" in row.estimate.method
    assert json.loads(json.dumps(c.as_dict()))["rows"][4]["adjustment"] == "score"


def test_names_of_variances() -> None:
    c = compare.analyses(ancova, trial().filter(pl.col("arm") != "u"), outcome="y", **HERE)
    a, b = c.row("unadjusted").estimate.extra["se_by"], c.row("score").estimate.extra["se_by"]
    for kind in ("model", "HC3"):
        assert c.ess("score", kind) == pytest.approx((a[kind] / b[kind]) ** 2)
    assert c.ess("score", "model") == pytest.approx(1 / 0.36, rel=0.25)  # 1/(1 − 0.64) with 200 subjects
    with pytest.raises(DataError, match="no variance 'HC7'"):
        c.ess("score", "HC7")
    with pytest.raises(DataError, match="the contrasts are t − c, u − c"):
        compare.analyses(ancova, trial(), outcome="y", **HERE).row("score")


def test_same_subjects_in_each_analysis() -> None:
    table = trial().with_columns(x=pl.when(pl.int_range(pl.len()) < 9).then(None).otherwise(pl.col("x")))
    c = compare.analyses(ancova, table, outcome="y", **HERE)
    assert {r.estimate.n for r in c.rows} == {291}
    assert c.warnings == ("9 rows left out of every analysis: the outcome or a covariate is missing",)


def test_any_fit_can_be_compared() -> None:
    """A repeated-measures analysis by formula; two terms as a score."""
    table = trial().with_row_index("id")
    table, _ = compare.common_rows(table, "y", score="s")
    long = pl.concat([table.with_columns(visit=pl.lit(v), y=pl.col("y") + v * (1 + pl.col("k"))) for v in (0, 1)]).with_columns(
        t=pl.col("arm") == "t"
    )
    c = compare.side_by_side(
        lambda extra: gee(" + ".join(("y ~ t + visit", *extra)), long, subject="id").coefficients().of("t"),
        covariates="x", score=("s", "s:visit"),
    )  # fmt: skip
    assert c.row("score").terms == ("s", "s:visit")
    assert c.ess("score", "reported") > 2


def test_warnings_of_a_comparison() -> None:
    def fit(extra: tuple[str, ...]) -> Estimate:
        return Estimate("t / c", "log hazard ratio", -0.3, 0.2, "Cox", 100 - len(extra), scale="log")

    words = compare.side_by_side(fit, score="s").warnings
    assert any("not the same subjects" in w for w in words)
    assert any("depends on what it is adjusted for" in w for w in words)

    def other(extra: tuple[str, ...]) -> Estimate:
        return Estimate("c / t" if extra else "t / c", "mean difference", 1.0, 0.2, "", 10)

    with pytest.raises(DataError, match="other contrasts than unadjusted"):
        compare.side_by_side(other, score="s")

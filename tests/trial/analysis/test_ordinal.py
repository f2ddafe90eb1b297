"""Ordinal outcomes. Numbers typed here: R 4.2.2, MASS::polr 7.3-58.2 (its Hessian is numerical: 1e-4 of an SE)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.ordinal import ordinal

HERE: dict[str, Any] = {"arm": "arm", "control": "c"}


def trial(n: int = 150, seed: int = 4) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=n), rng.permutation(np.resize(["c", "t"], n))
    grade = np.clip(np.floor(2 + x + 0.4 * (arm == "t") + rng.logistic(size=n)), 0, 4)
    return pl.DataFrame({"arm": arm, "x": x, "grade": grade, "binary": (grade > 1).astype(float)})


def test_cibic_of_the_cdisc_pilot(shared_data: Path) -> None:
    """CIBIC+ at week 24 (236) ~ TRTP + MMSETOT + AGE."""
    folder = shared_data / "trial"
    subjects = pl.read_csv(folder / "cdiscpilot_adsl.csv", infer_schema_length=None).select("USUBJID", "MMSETOT", "AGE")
    table = pl.read_csv(folder / "cdiscpilot_cibic.csv").drop("AGE").join(subjects, on="USUBJID", how="left")
    table = table.filter((pl.col("ANL01FL") == "Y") & (pl.col("AVISIT") == "Week 24"))
    m = ordinal(table, outcome="AVAL", arm="TRTP", control="Placebo", covariates=("MMSETOT", "AGE"), covariance="model")
    assert m.coefficients.values == pytest.approx(
        [
            -3.86302790938,
            -0.80862200818,
            1.41766831405,
            4.07691321301,
            0.07641407632,
            -0.25839276405,
            -0.03292112535,
            0.02129626320,
        ],
        rel=1e-6,
    )
    assert m.coefficients.se == pytest.approx(
        [1.51747792412, 1.35862908088, 1.36006120149, 1.39221973516, 0.30225060789, 0.29580231889, 0.02985184914, 0.01524507526],
        rel=2e-3,
    )
    assert m.contrast("Xanomeline High Dose", measure="conditional log odds ratio").estimate == pytest.approx(
        0.07641407632, rel=1e-6
    )


def test_two_categories_are_logistic_regression() -> None:
    table = trial()
    for kind in ("model", "HC0", "influence"):
        m = ordinal(table, outcome="binary", covariates="x", covariance=kind, **HERE)
        g = g_computation(table, outcome="binary", covariates="x", covariance=kind, **HERE)
        for a, b in zip(m.estimates, g.estimates, strict=True):
            assert a.estimate == pytest.approx(b.estimate, abs=1e-9)
            assert a.se == pytest.approx(b.se, rel=1e-7)
        index = m.contrasts("probabilistic index")[0]
        assert index.estimate == pytest.approx(0.5 + m.estimates[0].estimate / 2, abs=1e-12)
        assert index.se == pytest.approx(m.estimates[0].se / 2, rel=1e-9)


def test_unadjusted_effects_are_those_of_the_sample() -> None:
    """Augmented and without covariates: the sample's own mean difference and Mann–Whitney statistic."""
    table = trial()
    m = ordinal(table, outcome="grade", **HERE)
    t, c = (table.filter(pl.col("arm") == a)["grade"].to_numpy() for a in ("t", "c"))
    assert m.estimates[0].estimate == pytest.approx(t.mean() - c.mean(), abs=1e-12)
    assert m.estimates[0].se == pytest.approx(np.sqrt(t.var(ddof=1) / len(t) + c.var(ddof=1) / len(c)), rel=0.01)
    index = m.contrasts("probabilistic index")[0]
    wins = np.sign(t[:, None] - c)
    assert index.estimate == pytest.approx(float(np.mean(wins + 1) / 2), abs=1e-12)
    assert index.null == 0.5
    odds = m.contrasts("log win odds")[0]
    assert odds.estimate == pytest.approx(np.log(index.estimate / (1 - index.estimate)), abs=1e-12)
    low = m.at_most("t", 1)
    assert low.estimate == pytest.approx(np.mean(t <= 1) - np.mean(c <= 1), abs=1e-12)


def test_order_reversed_turns_the_sign() -> None:
    table = trial().with_columns(word=pl.col("grade").replace_strict({0: "none", 1: "mild", 2: "some", 3: "much", 4: "all"}))
    order = ("none", "mild", "some", "much", "all")
    up = ordinal(table, outcome="word", order=order, covariates="x", covariance="model", **HERE)
    down = ordinal(table, outcome="word", order=order[::-1], covariates="x", covariance="model", **HERE)
    for measure in ("mean score difference", "log win odds", "conditional log odds ratio"):
        a, b = up.contrasts(measure)[0], down.contrasts(measure)[0]
        assert a.estimate == pytest.approx(-b.estimate, abs=1e-8)
        assert a.se == pytest.approx(b.se, rel=1e-7)
    assert up.probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("column", "options", "words"),
    [
        (pl.lit("a").alias("grade"), {}, "categories in words have no order"),
        (pl.lit("a").alias("grade"), {"order": ("b", "c")}, "category that the order lacks"),
        (pl.lit(1).alias("grade"), {}, "one category only"),
        ((pl.col("x").rank() // 50).alias("grade"), {"covariates": "x"}, "column x: x separates the categories"),
        (pl.col("grade"), {"covariance": "HC3"}, "'HC3' is not known; one of influence, model, HC0"),
        (pl.col("grade"), {"scores": (1, 2)}, "2 scores for 5 categories"),
    ],
)
def test_refused(column: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ordinal(trial().with_columns(column), outcome="grade", **HERE | options)

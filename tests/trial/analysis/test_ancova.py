"""Analysis of covariance: identities that hold exactly, and what is refused or warned of."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.linear import ols

HERE: dict[str, Any] = {"outcome": "y", "arm": "arm", "control": "c"}


def trial(n: int = 90, seed: int = 1, arms: tuple[str, ...] = ("c", "t", "u")) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=n), rng.permutation(np.resize(arms, n))
    y = 1 + 0.7 * x + 0.5 * (arm == "t") + rng.normal(size=n) * np.where(arm == "t", 2, 1)
    site = rng.choice(["p", "q", "r"], n)
    return pl.DataFrame({"id": np.arange(n), "arm": arm, "x": x, "s": x + rng.normal(size=n), "site": site, "y": y})


def test_unadjusted_is_the_difference_of_means_and_hc2_welch() -> None:
    """HC2 of a two-sample difference is s1²/n1 + s0²/n0 (Welch), exactly."""
    table = trial(arms=("c", "t"))
    e = ancova(table, covariance="HC2", **HERE).estimates[0]
    t, c = (table.filter(pl.col("arm") == a)["y"].to_numpy() for a in ("t", "c"))
    assert e.estimate == pytest.approx(t.mean() - c.mean(), abs=1e-13)
    assert e.se == pytest.approx(np.sqrt(t.var(ddof=1) / len(t) + c.var(ddof=1) / len(c)), rel=1e-12)
    assert e.df == len(table) - 2
    assert e.label == "t − c"


def test_one_model_for_all_arms_is_that_of_ols() -> None:
    table = trial()
    m = ancova(table, covariates=("x", "site"), **HERE)
    direct = ols("y ~ arm + x + site", table)
    for arm in ("t", "u"):
        assert m.contrast(arm).estimate == pytest.approx(direct.of(f"arm{arm}").estimate, abs=1e-12)
        assert m.contrast(arm).se == pytest.approx(direct.of(f"arm{arm}").se, abs=1e-12)
    assert m.contrast("u", "t").estimate == pytest.approx(m.contrast("u").estimate - m.contrast("t").estimate, abs=1e-12)
    assert [e.label for e in m.contrasts(pairs="all")] == ["t − c", "u − c", "u − t"]


def test_anhecova_is_a_regression_in_each_arm() -> None:
    """ANHECOVA predicts from a fit in each arm alone; the mean of an arm is that fit at the mean of all (Ye et al. 2023)."""
    table = trial()
    m = ancova(table, covariates="x", heterogeneous=True, **HERE)
    for i, arm in enumerate(m.arms):
        alone = ols("y ~ x", table.filter(pl.col("arm") == arm))
        assert m.values[i] == pytest.approx(alone.values @ [1, table["x"].mean()], abs=1e-12)


@given(
    shift=st.floats(-1e4, 1e4), scale=st.floats(1e-3, 1e3), sign=st.sampled_from([1, -1]), kind=st.sampled_from(["HC3", "vcovG"])
)
def test_score_moves_change_nothing(shift: float, scale: float, sign: int, kind: str) -> None:
    table = trial()
    here = ancova(table, score="s", covariates="x", covariance=kind, **HERE).estimates
    moved = ancova(
        table.with_columns(s=pl.col("s") * scale * sign + shift), score="s", covariates="x", covariance=kind, **HERE
    ).estimates
    for a, b in zip(here, moved, strict=True):
        assert abs(a.estimate - b.estimate) < 1e-10
        assert abs(a.se - b.se) < 1e-10


@given(seed=st.integers(0, 1000), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_outcome_in_another_unit(seed: int, shift: float, scale: float) -> None:
    """y → a + b y moves estimate and every SE by b."""
    table = trial(seed=seed)
    a = ancova(table, covariates="x", **HERE).estimates[0]
    b = ancova(table.with_columns(y=pl.col("y") * scale + shift), covariates="x", **HERE).estimates[0]
    assert b.estimate == pytest.approx(scale * a.estimate, rel=1e-7, abs=1e-9 * (scale + abs(shift)))
    for kind, se in a.extra["se_by"].items():
        assert b.extra["se_by"][kind] == pytest.approx(scale * se, rel=1e-6)


def test_heterogeneous_slopes_need_random_covariates() -> None:
    table = trial()
    fixed = ancova(table, covariates="x", heterogeneous=True, covariance="HC3", **HERE)
    assert "takes the covariates' means as fixed" in fixed.warnings[0]
    assert ancova(table, covariates="x", heterogeneous=True, **HERE).warnings == ()
    assert ancova(table, covariates="arm:x", covariance="HC3", **HERE).warnings  # slopes written by hand


def test_missing_values_are_counted() -> None:
    table = trial().with_columns(
        y=pl.when(pl.col("id") < 3).then(None).otherwise(pl.col("y")),
        x=pl.when(pl.col("id") == 5).then(None).otherwise(pl.col("x")),
    )
    m = ancova(table, covariates="x", **HERE)
    assert m.n == 86
    assert m.estimates[0].extra["warnings"] == ("3 rows left out: y is missing", "1 rows left out: a covariate is missing")


def test_strata_left_out_are_warned_of() -> None:
    words = ancova(trial(), strata="site", **HERE).estimates[0].extra["warnings"]
    assert words == ("site stratified the randomisation but is not in the model; adjust for them",)
    assert ancova(trial(), strata="site", covariates="site", **HERE).warnings == ()


@pytest.mark.parametrize(
    ("codes", "control"), [((10_000_001, 10_000_002), 10_000_001), ((0.1, 0.2), "0.1"), ((False, True), False)]
)
def test_arms_that_are_no_words(codes: tuple[Any, Any], control: Any) -> None:
    table = trial(arms=("c", "t"))
    coded = table.with_columns(arm=pl.col("arm").replace_strict({"c": codes[0], "t": codes[1]}))
    e = ancova(coded, outcome="y", arm="arm", control=control, covariates="x").estimates[0]
    assert e.estimate == pytest.approx(ancova(table, covariates="x", **HERE).estimates[0].estimate, abs=1e-12)


def test_sites_with_long_numbers_stay_apart() -> None:
    table = trial().with_columns(site=pl.col("site").replace_strict({"p": 1_000_001, "q": 1_000_002, "r": 1_000_003}))
    assert len(ols("y ~ arm + factor(site)", table).names) == 5


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (pl.col("arm").replace("t", "c").replace("u", "c"), {}, "only one arm, 'c'"),
    (pl.when(pl.col("id") == 7).then(pl.lit("v")).otherwise(pl.lit("c")).alias("arm"), {}, "arm 'v' has 1 complete subjects"),
    (pl.col("arm"), {"control": "placebo"}, "no subject of the control arm; one of c, t, u"),
    (pl.col("site").alias("y"), {}, "the outcome is no number"),
    (pl.lit(None, pl.Float64).alias("y"), {}, "missing in every row"),
    (pl.lit(2.1).alias("y"), {}, "the same for every subject"),
    (pl.when(pl.col("id") == 4).then(np.inf).otherwise(pl.col("y")).alias("y"), {}, "row 5, column y: the outcome is not finite"),
    ((2 * pl.col("x") + 1).alias("s"), {"score": "s", "covariates": "x"}, "s cannot be told from the other columns"),
    (pl.lit(1e8 / 3).alias("s"), {"score": "s"}, "the same for every subject"),
    (
        pl.when(pl.col("id") == 4).then(None).otherwise(pl.col("s")).alias("s"),
        {"score": "s"},
        "column s: 1 subjects lack a prognostic score",
    ),
    ((pl.col("id") == 3).alias("one"), {"covariates": "one"}, r"leverage 1.: HC3 is not defined"),
    (pl.col("y").alias("copy"), {"covariates": "copy"}, "fits the outcome without error"),
    (pl.col("y"), {"randomisation": "urn"}, "without strata"),
    (pl.col("y"), {"covariance": "HC9"}, "'HC9' is not known"),
    (pl.col("y"), {"covariates": "weight"}, "no column 'weight'"),
]


@pytest.mark.parametrize(("column", "options", "words"), REFUSED)
def test_refused(column: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ancova(trial().with_columns(column), **HERE | options)

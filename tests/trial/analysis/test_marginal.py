"""Generalised linear models and g-computation. Numbers typed here: R 4.2.2, stats::glm, MASS 7.3-58.2, sandwich 3.0-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import ConvergenceError, DataError, GemelloError, UnsupportedError
from gemello.trial.analysis.glm import fit_formula, glm
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.separation import SeparatedError

HERE: dict[str, Any] = {"arm": "arm", "control": "c"}


def epil(folder: Path) -> pl.DataFrame:
    table = pl.read_csv(folder / "trial/MASS_epil.csv")
    return table.with_columns(A=(pl.col("trt") == "progabide").cast(pl.Int8), w=2 + pl.col("period") / 4)


def trial(n: int = 120, seed: int = 2) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=n), rng.permutation(np.resize(["c", "t"], n))
    time = rng.uniform(0.5, 2, n)
    b = rng.random(n) < 1 / (1 + np.exp(-x - 0.5 * (arm == "t")))
    k = rng.poisson(time * np.exp(0.5 + 0.4 * x + 0.3 * (arm == "t")) * rng.gamma(2, 0.5, n))
    site = rng.choice(["p", "q", "r"], n)
    return pl.DataFrame({"id": np.arange(n), "arm": arm, "x": x, "s": x, "site": site, "b": b, "k": k, "time": time})


def test_poisson_with_exposure(shared_data: Path) -> None:
    m = fit_formula("y ~ A + lbase + lage", epil(shared_data), family="poisson", exposure="w")
    assert m.values == pytest.approx([0.7436597075801, -0.0168539442679, 1.2242220185867, 0.5788243081031], rel=1e-8)
    assert m.coefficients("HC0").se[:2] == pytest.approx([0.1030764077851, 0.1260601833665], rel=1e-8)
    assert m.coefficients("HC3").se[:2] == pytest.approx([0.107532920206, 0.132490412079], rel=1e-8)
    assert m.coefficients("HC4").se[2:] == pytest.approx([0.114698221974, 0.226389192517], rel=1e-8)


def test_negative_binomial_with_exposure(shared_data: Path) -> None:
    m = fit_formula("y ~ A + lbase + lage", epil(shared_data), family="negative-binomial", exposure="w")
    assert m.values == pytest.approx([0.925088185322, -0.232106324297, 1.061177578245, 0.384823158726], rel=1e-7)
    assert m.family.theta == pytest.approx(2.44070933498, rel=1e-8)
    assert m.coefficients().se == pytest.approx([0.0738051753152, 0.1022293540560, 0.0701827079217, 0.2324801428447], rel=1e-7)


def test_links_of_a_binary_outcome(shared_data: Path) -> None:
    """stats::glm stops at 1e-8 of the coefficients where the link is not canonical."""
    table = pl.read_csv(shared_data / "trial/medicaldata_indo_rct.csv").with_columns(
        y=pl.col("outcome") == "1_yes", A=(pl.col("rx") == "1_indomethacin").cast(pl.Int8)
    )
    known = {
        "probit": ([-1.37348812275166, -0.41047964778850, 0.23384474413061, -0.00331603717662], 0.13517224399995),
        "cloglog": ([-2.35419713802869, -0.70179092786975, 0.39052329639128, -0.00660645828228], 0.23795344270779),
    }
    for link, (values, se) in known.items():
        m = fit_formula("y ~ A + risk + age", table, link=link)
        assert m.values == pytest.approx(values, rel=1e-6)
        assert m.coefficients().se[1] == pytest.approx(se, rel=1e-6)
    for link, values in (
        ("log", [-2.693130425098, -0.631757103043, 0.365961807136]),
        ("identity", [0.0584289966879, -0.0784199366013]),
    ):
        assert glm("y ~ A + risk", table, link=link).values[: len(values)] == pytest.approx(values, rel=1e-6)


def test_unadjusted_risks_are_proportions() -> None:
    table = trial()
    m = g_computation(table, outcome="b", covariance="influence by arm", **HERE)
    for arm, p in zip(m.arms, m.values, strict=True):
        seen = table.filter(pl.col("arm") == arm)["b"].cast(pl.Float64)
        assert p == pytest.approx(seen.mean(), abs=1e-12)
        assert m.mean(arm).se == pytest.approx(seen.std() / np.sqrt(len(seen)), rel=1e-9)  # type: ignore[operator]
    e = m.contrasts("log odds ratio")[0]
    assert m.coefficients is not None
    assert e.estimate == pytest.approx(m.coefficients.of("armt").estimate, abs=1e-10)  # no covariate: marginal is conditional
    assert e.extra["se_by"]["model"] == pytest.approx(glm("b ~ arm", table).of("armt").se, rel=1e-9)


def test_crude_rate_ratio() -> None:
    """Without covariates the rates are events over person-time, and Poisson's variance of the log ratio 1/d1 + 1/d0."""
    table = trial()
    m = g_computation(table, outcome="k", family="poisson", exposure="time", **HERE)
    events, time = (table.group_by("arm").agg(pl.col(c).sum()).sort("arm")[c].to_numpy() for c in ("k", "time"))
    assert m.values == pytest.approx(events / time, rel=1e-12)
    assert m.contrasts("log ratio")[0].extra["se_by"]["model"] == pytest.approx(np.sqrt((1 / events).sum()), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"link": "probit"},
        {"link": "cloglog"},
        {"outcome": "k", "family": "negative-binomial"},
        {"outcome": "k", "family": "poisson"},
    ],
)
def test_augmentation_makes_arm_means_unbiased(options: dict[str, Any]) -> None:
    """The mean residual in each arm is 0 after augmentation: Σ over an arm of outcome less prediction (Ye et al. 2023)."""
    here = {"outcome": "b"} | options
    m = g_computation(trial(), covariates="x", **HERE, **here)
    plain = g_computation(trial(), covariates="x", covariance="model", **HERE, **here)
    augmented = "augmented" in m.method
    assert augmented == (options.get("family") != "poisson")
    assert (np.max(np.abs(m.values - plain.values)) > 1e-6) == augmented


def test_score_moves_change_nothing() -> None:
    table = trial()
    moved = table.with_columns(s=pl.col("s") * -250 + 3e4)
    for options in ({"outcome": "b"}, {"outcome": "k", "family": "negative-binomial", "exposure": "time"}):
        a, b = (g_computation(t, score="s", **HERE, **options).contrasts("log ratio")[0] for t in (table, moved))
        assert abs(a.estimate - b.estimate) < 1e-10
        assert abs(a.se - b.se) < 1e-10


def test_a_site_without_events_is_taken_to_its_limit() -> None:
    """Only the site separates: its subjects' risk is 0, the others are those of a fit without the site."""
    table = trial().with_columns(b=pl.col("b") & (pl.col("site") != "r"))
    m = g_computation(table, outcome="b", covariates=("site", "x"), covariance="model", **HERE)
    rest = g_computation(table.filter(pl.col("site") != "r"), outcome="b", covariates=("site", "x"), covariance="model", **HERE)
    share = rest.n / m.n
    assert m.values == pytest.approx(share * rest.values, rel=1e-8)
    assert m.estimates[0].se == pytest.approx(share * rest.estimates[0].se, rel=1e-8)
    assert "siter separates" in m.warnings[0]
    with pytest.raises(SeparatedError, match="siter separates"):
        glm("b ~ arm + site + x", table)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ((pl.col("x") > 0).alias("b"), {"covariates": "x"}, "column x: x separates"),
    ((pl.col("x") + pl.col("time") > 1).alias("b"), {"covariates": ("x", "time")}, "x, time separate"),
    ((pl.col("b") & (pl.col("arm") == "t")).alias("b"), {}, "armt separates"),
    (
        pl.when(pl.col("arm") == "t").then(pl.lit("r")).otherwise(pl.lit("q")).alias("site"),
        {"covariates": "site"},
        "cannot be told",
    ),
    (pl.lit(1).alias("b"), {}, "the outcome is 1 for every subject"),
    (pl.col("k").alias("b"), {}, "a binary outcome is 0 or 1"),
    ((pl.col("k") * (pl.col("arm") == "t")).alias("k"), {"outcome": "k", "family": "poisson"}, "armt separates"),
    ((pl.col("k") - 1).alias("k"), {"outcome": "k", "family": "poisson"}, "a count is 0, 1, 2"),
    ((pl.col("time") - 1).alias("time"), {"outcome": "k", "family": "poisson", "exposure": "time"}, "exposure must be above 0"),
    (pl.col("k"), {"outcome": "k", "family": "poisson", "exposure": "time", "covariance": "vcovG"}, "not defined with exposure"),
    (pl.col("b"), {"link": "log", "covariates": "x"}, "no maximum within the range of the log link"),
    (pl.col("k"), {"family": "tweedie"}, "'tweedie' is not one of"),
]


@pytest.mark.parametrize(("column", "options", "words"), REFUSED)
def test_refused(column: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(GemelloError, match=words) as e:
        g_computation(trial().with_columns(column), **{"outcome": "b"} | HERE | options)
    assert isinstance(e.value, DataError | ConvergenceError | UnsupportedError)


def test_negative_binomial_without_extra_variance() -> None:
    table = trial().with_columns(k=pl.col("id") % 3)
    a, b = (
        g_computation(table, outcome="k", family=f, covariates="x", covariance="model", **HERE)
        for f in ("negative-binomial", "poisson")
    )
    assert a.values == pytest.approx(b.values, rel=1e-12)
    assert "poisson regression" in a.method
    assert "no variance beyond Poisson's" in a.warnings[0]
    with pytest.raises(ConvergenceError, match="use family 'poisson'"):
        glm("k ~ arm + x", table, family="negative-binomial")


def test_no_odds_of_a_mean() -> None:
    m = g_computation(trial().with_columns(y=pl.col("x") - 9), outcome="y", family="gaussian", **HERE)
    with pytest.raises(DataError, match="no ratio of -"):
        m.contrasts("log ratio")

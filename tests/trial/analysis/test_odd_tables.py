"""Tables as they come: odd types, odd names, odd units. Same answer, or an error in one line."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.gee import gee
from gemello.trial.analysis.mmrm.data import natural, words
from gemello.trial.analysis.ordinal import ordinal
from gemello.trial.analysis.survival.analyse import analyse


@pytest.fixture(scope="module")
def trial() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    n = 80
    x, a = rng.normal(size=n), np.arange(n) % 2
    return pl.DataFrame({"y": 1 + 0.5 * a + x + rng.normal(size=n), "x": x, "arm": a, "id": np.arange(n)})


def of(table: pl.DataFrame, control: object = 0, **more: object) -> tuple[float, float]:
    (e,) = ancova(table, outcome="y", arm="arm", control=control, **({"covariates": ["x"]} | more)).contrasts()
    return e.estimate, e.se


def test_an_arm_is_the_same_in_every_type(trial):
    same = of(trial)
    for kind in (pl.Int8, pl.Float64, pl.Decimal(10, 2), pl.String):
        assert of(trial.with_columns(pl.col("arm").cast(kind)), "0" if kind == pl.String else 0) == same
    assert of(trial.with_columns(arm=pl.col("arm") == 1), np.False_) == same


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (pl.concat_list("arm").alias("arm"), {}),
        (pl.when(pl.col("id") < 4).then(float("nan")).otherwise("arm").alias("arm"), {}),
        (pl.concat_list("x").alias("x"), {}),
        (pl.col("x"), {"control": None}),
        (pl.col("x"), {"covariates": ["x - arm"]}),
        (pl.col("x"), {"covariates": ["arm"]}),
        (pl.col("x"), {"level": 95}),
    ],
)
def test_what_is_no_trial_is_refused(trial, column, options):
    with pytest.raises(DataError):
        of(trial.with_columns(column), **options)[0]


@pytest.mark.parametrize("kind", ["vcovG", "influence by arm"])
def test_strata_without_an_arm_leave_the_variance_alone(trial, kind):
    """Every subject a stratum of its own: nothing is known about balance within strata, so nothing may be gained."""
    plain = ancova(trial, outcome="y", arm="arm", control=0, covariates=["x"], covariance=kind)
    (e,) = ancova(
        trial, outcome="y", arm="arm", control=0, covariates=["x"], strata="id", randomisation="permuted-block", covariance=kind
    ).contrasts()
    assert e.se == pytest.approx(plain.contrasts()[0].se, rel=1e-12)
    assert any("conservative" in w for w in e.extra["warnings"])


def test_minus_nought_is_a_category_like_nought(trial):
    table = trial.with_columns(y=pl.Series(np.where(trial["x"] > 0, 1.0, np.where(trial["id"] % 3 == 0, -0.0, 0.0))))
    assert ordinal(table, outcome="y", arm="arm", control=0).categories == ("0", "1")


def test_estimating_equations_do_not_depend_on_the_unit():
    rng = np.random.default_rng(2)
    t = pl.DataFrame({"id": np.repeat(np.arange(25), 4), "v": np.tile([1, 2, 3, 4], 25), "x": np.repeat(rng.normal(size=25), 4)})
    t = t.with_columns(y=pl.col("x") + pl.Series(np.repeat(rng.normal(size=25), 4) + rng.normal(size=100)))
    fits = [gee("y ~ x", t.with_columns(pl.col("y") * k), subject="id", visit="v", correlation="ar1") for k in (1, 1e-12, 1e7)]
    for f, k in zip(fits, (1, 1e-12, 1e7), strict=True):
        assert f.alpha == pytest.approx(fits[0].alpha, rel=1e-8)
        np.testing.assert_allclose(f.values / k, fits[0].values, rtol=1e-7)
    for bad in (pl.lit("Week 4"), pl.lit(float("nan")), pl.lit(float("inf"))):
        with pytest.raises(DataError, match="number of a visit"):
            gee("y ~ x", t.with_columns(v=bad), subject="id", visit="v")


def test_subjects_of_many_digits_and_days_before_the_first():
    assert words(pl.Series([1015001.0, 1015002.0, -0.0])) == ["1015001", "1015002", "0"]
    assert natural(["Day 8", "Day -7", "Day 1", "Day -14"]) == ["Day -14", "Day -7", "Day 1", "Day 8"]
    assert natural(["Visit 1-10", "Visit 1-2"]) == ["Visit 1-2", "Visit 1-10"]


def test_survival_with_infinite_covariates_and_one_event_time(trial):
    table = trial.with_columns(t=pl.lit(5.0), e=(pl.col("id") % 3 > 0).cast(pl.Int8))
    (cox,) = analyse(table, time="t", event="e", arm="arm", control=0, covariates=["x"])
    assert np.isfinite(cox.se)
    assert np.isnan(cox.extra["proportional_hazards_overall_p"])  # one event time shows no change in time
    with pytest.raises(DataError, match="no variation"):
        analyse(table, time="t", event="e", arm="arm", control=0, method="rmst")
    endless = table.with_columns(t=pl.col("id") + 1.0, x=pl.when(pl.col("id") == 1).then(float("inf")).otherwise("x"))
    for method in ("cox", "adjusted-logrank", "rmst"):
        with pytest.raises(DataError, match="finite"):
            analyse(endless, time="t", event="e", arm="arm", control=0, covariates=["x"], method=method)

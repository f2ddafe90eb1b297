"""MMRM and random-effects models against SAS PROC MIXED and R. Every value of the reference files is in the authorities; here are
more, printed by those programs: SAS as in github.com/openpharma/mmrm, design/SAS (ec290b2); R 4.2.2 with lme4 1.1-31, lmerTest
3.1-3, pbkrtest 0.5.2, emmeans 1.8.4, optimisers at their tightest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import ConvergenceError, DataError, RefusalError, UnsupportedError
from gemello.trial.analysis.mmrm import add_score, lme, mmrm, side_by_side, with_score
from gemello.trial.authorities.longitudinal import checks
from gemello.trial.benchmark_mmrm import cases

FULL = "FEV1 ~ RACE + SEX + ARMCD*AVISIT"
KEYS: dict[str, Any] = {"subject": "USUBJID", "visit": "AVISIT"}


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("shared_data") / "trial"


@pytest.fixture(scope="module")
def fev(trial: Path) -> pl.DataFrame:
    return pl.read_csv(trial / "mmrm_fev_data.csv")


def test_every_reference_value(trial: Path) -> None:
    found = list(checks(trial))
    assert len(found) == 356
    assert [c["check"] for c in found if not c["passed"]] == []


# ---- SAS -------------------------------------------------------------------------------------------------------------------
def test_covariance_by_group(fev: pl.DataFrame) -> None:
    fit = mmrm("FEV1 ~ 1", fev, group="ARMCD", covariance="adh", **KEYS)
    assert fit.minus2loglik == pytest.approx(3688.84024388, abs=1e-5)
    assert (fit.aic, fit.aicc, fit.bic) == pytest.approx((3716.8, 3717.6, 3763.0), abs=0.051)
    assert fit.coefficient("(Intercept)").df == pytest.approx(174, abs=0.5)
    assert fit.theta[4:8] == pytest.approx([0.8039, 0.02646, 0.1643, 83.7418], rel=2e-3)
    assert fit.theta_names[7] == "TRT: variance VIS1"


def test_maximum_likelihood_by_group(fev: pl.DataFrame) -> None:
    fit = mmrm("FEV1 ~ 1", fev, group="ARMCD", covariance="arh1", method="ML", **KEYS)
    assert fit.minus2loglik == pytest.approx(3724.22021102, abs=1e-5)
    assert (fit.aic, fit.aicc, fit.bic) == pytest.approx((3746.2, 3746.7, 3782.5), abs=0.051)
    e = fit.coefficient("(Intercept)")
    assert (e.estimate, e.se, e.df) == (
        pytest.approx(41.7161, abs=1e-4), pytest.approx(0.3713, abs=1e-4), pytest.approx(178, abs=0.5)
    )  # fmt: skip


def test_spatial_gaussian(fev: pl.DataFrame) -> None:
    fit = mmrm("FEV1 ~ 1", fev, covariance="spgau", times="VISITN", **KEYS)
    assert fit.minus2loglik == pytest.approx(3870.69846121, abs=1e-5)
    assert fit.theta == pytest.approx([88.7170, 1.0871], rel=5e-5)
    e = fit.coefficient("(Intercept)")
    assert (e.estimate, e.se, e.df) == pytest.approx((42.3542, 0.4780, 302), rel=1e-3)


def test_type3_of_one_degree(fev: pl.DataFrame) -> None:
    arm, sex = mmrm("FEV1 ~ ARMCD + SEX", fev, **KEYS).type3()
    assert (arm.F, arm.den_df, sex.F, sex.den_df) == pytest.approx((35.51, 161, 0.05, 161), abs=0.5)
    assert sex.p == pytest.approx(0.8276, abs=1e-3)


# ---- R ---------------------------------------------------------------------------------------------------------------------
RANDOM = "FEV1 ~ RACE + SEX + ARMCD*VISITN"


def test_satterthwaite_of_several_degrees(fev: pl.DataFrame) -> None:
    """lmerTest, anova(type = 3)."""
    fit = lme(RANDOM, fev, subject="USUBJID")
    assert fit.minus2loglik == pytest.approx(3534.20802293, abs=1e-7)
    tests = {t.label: t for t in fit.type3()}
    assert tests["RACE"].den_df == pytest.approx(186.497071, abs=1e-4)
    assert [t.F for t in tests.values()] == pytest.approx(
        [23.786427651, 0.226010797, 5.372801792, 459.400593546, 0.104454480], rel=1e-6
    )
    assert tests["RACE"].p == pytest.approx(6.29261318e-10, rel=1e-5)


def test_kenward_roger_of_several_degrees(fev: pl.DataFrame) -> None:
    """pbkrtest, which takes the expected information."""
    fit = lme(RANDOM, fev, subject="USUBJID", df="kenward-roger", information="expected")
    race, sex, arm, visit, both = fit.type3()
    assert (race.F, race.den_df) == pytest.approx((23.758472125, 182.243057), rel=1e-7)
    assert [t.den_df for t in (sex, arm, visit, both)] == pytest.approx(
        [181.121958, 527.511192, 412.290166, 412.772405], rel=1e-7
    )
    assert pytest.approx((0.225732546, 5.36187004, 458.394123, 0.104222978), rel=1e-6) == (sex.F, arm.F, visit.F, both.F)


@pytest.mark.parametrize(
    ("margins", "means", "errors", "dfs"),
    [
        ("equal", (40.89404, 44.45934), (0.4711803, 0.4775258), (193.60, 178.94)),
        ("observed", (40.53632, 44.10161), (0.4627441, 0.4796525), (193.09, 177.75)),
    ],
)
def test_least_squares_means(fev: pl.DataFrame, margins: Any, means: Any, errors: Any, dfs: Any) -> None:
    """emmeans, weights = "equal" and "proportional"."""
    found = lme(RANDOM, fev, subject="USUBJID").lsmeans("ARMCD", margins=margins)
    assert [e.estimate for e in found] == pytest.approx(means, abs=6e-6)
    assert [e.se for e in found] == pytest.approx(errors, abs=2e-7)
    assert [e.df for e in found] == pytest.approx(dfs, abs=0.006)


def test_optimum_of_lme4(trial: Path) -> None:
    table = pl.read_csv(trial / "survival_pbcseq.csv", infer_schema_length=None).with_columns(
        yr=pl.col("day") / 365.25, A=(pl.col("trt") == 1).cast(pl.Float64)
    )
    fit = lme("log(bili) ~ yr + yr:A", table, subject="id", random="1 + yr")
    assert fit.minus2loglik == pytest.approx(3068.3224311, abs=1e-6)
    found = [fit.coefficient(n) for n in fit.names]
    assert [e.estimate for e in found] == pytest.approx([0.495669101092, 0.176176412547, 0.002770772319], abs=4e-7)
    assert [e.se for e in found] == pytest.approx([0.05807574987, 0.01754808750, 0.02411157193], rel=1e-5)
    assert [e.df for e in found] == pytest.approx([305.13189, 164.1845343, 156.683247], rel=2e-5)


# ---- what the data may look like ------------------------------------------------------------------------------------------
def test_order_of_rows_is_nothing(fev: pl.DataFrame) -> None:
    a, b = (mmrm(FULL, t, **KEYS) for t in (fev, fev.sample(fraction=1.0, shuffle=True, seed=3)))
    assert b.minus2loglik == pytest.approx(a.minus2loglik, abs=1e-8)
    assert b.coefficients == pytest.approx(a.coefficients, rel=1e-7)


def test_scale_of_the_outcome(fev: pl.DataFrame) -> None:
    a = mmrm(FULL, fev, df="kenward-roger", **KEYS).difference("TRT", "PBO", "VIS4")
    b = mmrm(FULL, fev.with_columns(pl.col("FEV1") * 1e6 - 3e7), df="kenward-roger", **KEYS).difference("TRT", "PBO", "VIS4")
    assert (b.estimate, b.se, b.df) == pytest.approx((1e6 * a.estimate, 1e6 * a.se, a.df), rel=1e-6)


def test_visits_by_the_numbers_in_them(fev: pl.DataFrame) -> None:
    weeks = fev.with_columns(AVISIT=pl.format("Week {}", pl.col("VISITN").cast(pl.Int64) * 4))
    fit = mmrm(FULL, weeks, covariance="ar1", **KEYS)
    assert fit.visits == ("Week 4", "Week 8", "Week 12", "Week 16")
    assert fit.minus2loglik == pytest.approx(mmrm(FULL, fev, covariance="ar1", **KEYS).minus2loglik, abs=1e-7)
    numbers = mmrm("FEV1 ~ factor(VISITN)*ARMCD", fev, subject="USUBJID", visit="VISITN")
    words = mmrm("FEV1 ~ AVISIT*ARMCD", fev, **KEYS)
    assert numbers.difference("TRT", "PBO", "4").estimate == pytest.approx(words.difference("TRT", "PBO", "VIS4").estimate)


def test_subjects_without_an_outcome_are_counted(fev: pl.DataFrame) -> None:
    fit = mmrm(FULL, fev, **KEYS)
    assert (fit.n, fit.n_subjects, fit.n_without_outcome) == (537, 197, 3)


def test_duplicates_are_named(fev: pl.DataFrame) -> None:
    with pytest.raises(DataError, match=r"subject PT2 has AVISIT VIS3 twice \(rows 7 and 801\)"):
        mmrm(FULL, pl.concat([fev, fev[6:7]]), **KEYS)


def test_visits_out_of_order(fev: pl.DataFrame) -> None:
    late = fev.with_columns(day=pl.when((pl.col("USUBJID") == "PT2") & (pl.col("VISITN") == 3)).then(99).otherwise("VISITN"))
    with pytest.raises(DataError, match="subject PT2: visits out of order, VIS4 at 4 does not come after VIS3 at 99"):
        mmrm(FULL, late, times="day", **KEYS)
    with pytest.raises(DataError, match="not among those given"):
        mmrm(FULL, fev, visits=["VIS1", "VIS2"], **KEYS)


def test_two_visits_at_one_time(fev: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="subject PT1: visits VIS2 and VIS4 at the same time"):
        mmrm(FULL, fev.with_columns(a=0.0, b=1.0), times=("a", "b"), covariance="spexp", **KEYS)


def test_visit_with_one_observation(fev: pl.DataFrame) -> None:
    table = pl.concat([fev, fev[1:2].with_columns(AVISIT=pl.lit("VIS5"))])
    with pytest.raises(RefusalError, match="visit VIS5 has 1 observation"):
        mmrm("FEV1 ~ ARMCD + AVISIT", table, **KEYS)
    fit = mmrm("FEV1 ~ ARMCD + AVISIT", table, covariance=("us", "cs"), **KEYS)
    assert fit.covariance == "cs"
    assert [name for name, _ in fit.attempts] == ["us"]
    assert "cs covariance" in fit.coefficient("ARMCDTRT").method


def test_visits_never_seen_together(fev: pl.DataFrame) -> None:
    first = pl.col("USUBJID").str.slice(2).cast(pl.Int64) % 2 == 0
    table = fev.filter(pl.when(first).then(pl.col("AVISIT") != "VIS1").otherwise(pl.col("AVISIT") != "VIS4"))
    with pytest.raises(RefusalError, match="no subject was seen at both VIS1 and VIS4"):
        mmrm(FULL, table, **KEYS)
    with pytest.raises(RefusalError, match="no subject was seen at two visits 3 apart"):
        mmrm(FULL, table, covariance="toep", **KEYS)
    assert mmrm(FULL, table, covariance="ar1", **KEYS).n > 0


def test_arm_with_one_subject(fev: pl.DataFrame) -> None:
    few = fev.with_columns(ARMCD=pl.when(pl.col("USUBJID") == "PT2").then(pl.lit("NEW")).otherwise("ARMCD"))
    fit = mmrm("FEV1 ~ ARMCD + AVISIT", few, **KEYS)
    with pytest.raises(RefusalError, match="ARMCD NEW has one subject"):
        fit.difference("NEW", "PBO")


@pytest.mark.parametrize("name", ["us", "cs"])
def test_covariance_that_is_not_positive_definite(fev: pl.DataFrame, name: Any) -> None:
    table = fev.with_columns(y=pl.col("FEV1_BL") + pl.col("VISITN"))
    with pytest.raises(RefusalError, match="not positive definite"):
        mmrm("y ~ AVISIT", table, covariance=name, **KEYS)
    with pytest.raises(RefusalError, match="fits the outcome exactly"):
        mmrm("y ~ FEV1_BL + AVISIT", table, covariance=name, **KEYS)


def test_random_effects_that_are_not_there(trial: Path) -> None:
    table = pl.read_csv(trial / "lme4_sleepstudy.csv")
    noise = table.with_columns(y=pl.Series(np.sin(np.arange(len(table)) * 12.9898) * 43758.5453 % 1))
    with pytest.raises((RefusalError, ConvergenceError), match=r"drop|fewer"):
        lme("y ~ Days", noise, subject="Subject", random="1 + Days")


def test_what_does_not_go_together(fev: pl.DataFrame) -> None:
    for options, words in (
        ({"method": "ML", "df": "kenward-roger"}, "is for REML"),
        ({"df": "kenward-roger", "vcov": "empirical"}, "leave vcov out"),
    ):
        with pytest.raises(UnsupportedError, match=words):
            mmrm(FULL, fev, **KEYS, **options)  # type: ignore[arg-type]
    for options, words in (
        ({"covariance": "arma"}, "is unknown"), ({"df": "kr"}, "is unknown"), ({"weights": "none"}, "no column"),
        ({"covariance": "spexp"}, "needs times"), ({"vcov": "hc3"}, "is unknown"), ({"group": "AVISIT"}, "more than one group"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            mmrm(FULL, fev, **KEYS, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="weight not above 0"):
        mmrm(FULL, fev.with_columns(w=0.0), weights="w", **KEYS)
    with pytest.raises(DataError, match="cannot be told"):
        mmrm("FEV1 ~ ARMCD + FEV1_BL + I(2*FEV1_BL)", fev, **KEYS)
    fit = mmrm(FULL, fev, **KEYS)
    for wrong in (lambda: fit.difference("TRT", "ABC", "VIS4"), lambda: fit.difference("TRT", "PBO", "VIS9"),
                  lambda: fit.lsmeans("SITE"), lambda: fit.contrast(np.ones(3)), lambda: fit.coefficient("ARM")):  # fmt: skip
        with pytest.raises(DataError):
            wrong()


# ---- predictions and scores ------------------------------------------------------------------------------------------------
def test_prediction_of_missed_visits(fev: pl.DataFrame) -> None:
    """By the formula for a conditional normal distribution, for one subject by hand."""
    fit = mmrm(FULL, fev, **KEYS)
    found = fit.predict(fev)
    mine, S = found[:4], fit.Sigma["all"]
    X = fit.core.design.at(fev[:4])
    mean, y = X @ fit.coefficients, fev["FEV1"][:4].to_numpy()
    o, m = [1, 3], [0, 2]
    expected = mean[m] + S[np.ix_(m, o)] @ np.linalg.solve(S[np.ix_(o, o)], y[o] - mean[o])
    assert mine["prediction"].to_numpy()[m] == pytest.approx(expected)
    assert mine["prediction"].to_numpy()[o] == pytest.approx(y[o])
    alone = fit.predict(fev, conditional=False)[:4]
    assert alone["prediction"].to_numpy() == pytest.approx(mean)
    assert alone["se"].to_numpy() == pytest.approx(np.sqrt(np.einsum("ij,jk,ik->i", X, fit.vcov, X)))
    assert (alone["sd"].to_numpy()[m] > mine["sd"].to_numpy()[m]).all()


def test_residuals_are_whitened(fev: pl.DataFrame) -> None:
    """Standardised residuals have n − p degrees of freedom in all: their squares add up to n − p at the REML optimum."""
    fit = mmrm(FULL, fev, **KEYS)
    assert float((fit.residuals()["normalised"] ** 2).sum()) == pytest.approx(fit.n - len(fit.names), rel=1e-6)


def test_score_matched_in_time(fev: pl.DataFrame) -> None:
    """A forecast of each visit. Shifted or rescaled, by visit alike, it changes no estimate (1e-8, an iterative fit)."""
    observed = fev.filter(pl.col("FEV1").is_not_null())
    scores = observed.select("USUBJID", "AVISIT", score=pl.col("FEV1_BL") * pl.col("VISITN") + pl.col("VISITN2"))
    table = add_score(observed, scores, subject="USUBJID", visit="AVISIT")
    formula = with_score("FEV1 ~ ARMCD*AVISIT", "score", "AVISIT")
    assert formula.text == "FEV1 ~ ARMCD*AVISIT + score + score:AVISIT"
    a = mmrm(formula, table, **KEYS).difference("TRT", "PBO", "VIS4")
    b = mmrm(formula, table.with_columns(pl.col("score") * 7 - 40), **KEYS).difference("TRT", "PBO", "VIS4")
    assert (b.estimate, b.se) == pytest.approx((a.estimate, a.se), rel=1e-8)
    both = side_by_side(
        {"unadjusted": "FEV1 ~ ARMCD*AVISIT", "score": formula}, table, arm="TRT", control="PBO", at_visit="VIS4", **KEYS
    )
    ratio = (both.estimates["unadjusted"].se / both.estimates["score"].se) ** 2
    assert both.estimates["score"].extra["effective_sample_size"] == pytest.approx(ratio)
    assert (both.rows, both.rows_left_out) == (537, 0)
    with pytest.raises(DataError, match="no score for"):
        add_score(observed, scores[1:], subject="USUBJID", visit="AVISIT")
    with pytest.raises(DataError, match="given twice for"):
        add_score(observed, pl.concat([scores, scores[:1]]), subject="USUBJID", visit="AVISIT")


def test_benchmark_says_where_there_is_no_peer(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("gemello.trial.benchmark_mmrm.reference_data", lambda area: trial)
    adjusted, plain = cases()
    assert set(adjusted) == set(plain) == {"case", "ours", "peer", "peer_version", "unit", "ratio", "bar"}
    assert plain["peer"] is None
    assert plain["ratio"] is None
    assert "Rscript is not installed" in plain["peer_version"]
    monkeypatch.setattr("gemello.trial.benchmark_mmrm.reference_data", lambda area: None)
    (missing,) = cases()
    assert missing["ours"] is None

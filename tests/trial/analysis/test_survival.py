"""Curves, tests and Cox models against R 4.2.2, survival 3.5-3, on the data of its own package."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemello.base.errors import DataError, RefusalError
from gemello.base.random import generator
from gemello.base.reference import reference_data
from gemello.trial.analysis.survival import concordance, cox, kaplan_meier, logrank, proportional_hazards
from gemello.trial.authorities import survival as authority

FULL = "A + age + edema + log(bili) + log(albumin) + log(protime)"


@pytest.fixture(scope="module")
def pbc() -> pl.DataFrame:
    folder = reference_data("trial")
    if folder is None:
        pytest.skip("no reference data of trials: set GEMELLO_DATA")
    return authority.pbc(folder)


def trial(n: int = 120, seed: int = 1) -> pl.DataFrame:
    """Exponential times, ties by rounding, censoring, two strata."""
    rng = generator(seed, "survival")
    x, arm = rng.standard_normal(n), np.arange(n) % 2
    t = np.ceil(rng.exponential(10 * np.exp(-0.5 * x + 0.4 * arm)))
    c = np.ceil(rng.uniform(2, 30, n))
    return pl.DataFrame(
        {"t": np.minimum(t, c), "e": (t <= c).astype(int), "arm": arm, "x": x, "g": np.where(rng.random(n) < 0.5, "u", "v")}
    )


def test_every_reference_value() -> None:
    folder = reference_data("trial")
    if folder is None:
        pytest.skip("no reference data of trials: set GEMELLO_DATA")
    found = list(authority.checks(folder))
    assert len(found) == 228
    assert [c for c in found if not c["passed"]] == []


def test_curve_intervals_and_quantiles(pbc: pl.DataFrame) -> None:
    """survfit(conf.type = "log-log" and "log"): limits of S at the first two events, of the medians."""
    control, active = kaplan_meier(pbc, time="time", event="e", arm="A").values()
    assert control.interval()[0][:2] == pytest.approx([0.9548048109, 0.9490740770], rel=1e-9)
    assert control.quantile_interval() == (3090, 3853)
    assert active.quantile_interval() == (2540, 4191)
    low, high = active.quantile_interval(kind="log")
    assert low == 2583
    assert np.isnan(high)
    assert np.isnan(control.at(1e6)[0])  # beyond the follow-up nothing is known
    with pytest.raises(DataError, match="follow-up of 0 ends at 4523"):
        control.rmst(5000.0)


def test_curve_by_hand() -> None:
    """Times 1, 2, 2+, 3, 4+: S = 4/5, 3/5, 3/10; ∫ to 4 = 1 + 4/5 + 3/5 + 3/10 = 2.7."""
    t = pl.DataFrame({"t": [1.0, 2, 2, 3, 4], "e": [1, 1, 0, 1, 0]})
    (c,) = kaplan_meier(t, time="t", event="e").values()
    assert c.survival == pytest.approx([0.8, 0.6, 0.3], abs=1e-15)
    assert c.rmst(4.0)[0] == pytest.approx(2.7, abs=1e-15)
    # Greenwood: areas to 4 after each event 1.7, 0.9, 0.3 and d/(n(n − d)) 1/20, 1/12, 1/2
    assert c.rmst(4.0)[1] ** 2 == pytest.approx(1.7**2 / 20 + 0.9**2 / 12 + 0.3**2 / 2, abs=1e-14)
    assert c.median == 3


def test_logrank_of_four_arms_by_stratum_and_weighted(pbc: pl.DataFrame) -> None:
    """survdiff(~ stage + strata(sex)) and survdiff(~ stage, rho = 1)."""
    found = logrank(pbc, time="time", event="e", arm="stage", strata=["sex"])
    assert found.chisq == pytest.approx(52.29415526, rel=1e-9)
    assert found.df == 3
    assert found.expected == pytest.approx([10.62551827, 31.53755004, 50.53299931, 32.30393239], rel=1e-9)
    assert logrank(pbc, time="time", event="e", arm="stage", rho=1).chisq == pytest.approx(60.40772366, rel=1e-9)


def test_robust_errors_residuals_and_proportionality(pbc: pl.DataFrame) -> None:
    """coxph(robust = TRUE), residuals of type martingale and score, cox.zph(terms = FALSE)."""
    model = cox(FULL, pbc, time="time", event="e", robust=True)
    known = [0.19104525195, 0.01025789924, 0.33553020782, 0.09932115251, 0.65074223540, 1.00859770891]
    assert model.se == pytest.approx(known, rel=1e-7)
    assert model.martingale_residuals()[:3] == pytest.approx([-0.72165216297, -0.54273591322, 0.72056194516], rel=1e-7)
    first = [-0.3390148257, -1.563883838, -0.30372016783, -0.4432438463, 0.08695145158, -0.02914743692]
    assert model.score_residuals()[0] == pytest.approx(first, rel=1e-6)
    test = proportional_hazards(model)
    chisq = [0.6025371418, 0.5019407363, 4.1001449383, 1.6159359281, 0.1896474428, 5.4452979616]
    assert list(test.chisq.values()) == pytest.approx(chisq, rel=1e-7)
    assert test.overall == pytest.approx((12.0468905906, 6, 0.06093087101), rel=1e-7)
    assert test.residuals[0, :2] == pytest.approx([1.170390308, 0.07646924831], rel=1e-7)


def test_strata_ties_ridge_and_delayed_entry(pbc: pl.DataFrame) -> None:
    """coxph(~ ridge(A, age, theta = 2) + strata(sex), ties = "breslow"), and Surv(entry, futime, death) ~ year, cluster = id."""
    model = cox("A + age", pbc, time="time", event="e", strata=["sex"], ties="breslow", ridge=2.0)
    assert model.values == pytest.approx([-0.06373363, 0.03773921], rel=1e-5)
    assert model.se == pytest.approx([0.180641847752, 0.008978044694], rel=1e-6)
    assert model.log_likelihood == pytest.approx(-572.0291123438, rel=1e-9)
    plain = cox("A + age", pbc, time="time", event="e", strata=["sex"])
    for transform, chisq in (
        ("km", [0.7133942216, 0.8251482779]), ("rank", [0.7354396507, 0.7000896076]),
        ("identity", [0.5931833193, 0.7434751737]), ("log", [1.166205493, 2.866772747]),
    ):  # fmt: skip
        assert list(proportional_hazards(plain, transform).chisq.values()) == pytest.approx(chisq, rel=1e-7)
    folder = reference_data("trial")
    assert folder is not None
    late = authority.table(folder, "survival_myeloma").filter(pl.col("entry") < pl.col("futime"))
    model = cox("year", late, time="futime", event="death", entry="entry", robust=True)
    assert (model.values[0], model.se[0]) == pytest.approx((-8.023344435e-03, 2.218066429e-03), rel=1e-7)
    assert model.log_likelihood == pytest.approx(-19338.50645, rel=1e-9)
    assert proportional_hazards(model).chisq["year"] == pytest.approx(19.04548949, rel=1e-7)


def test_forecasts_follow_the_baseline(pbc: pl.DataFrame) -> None:
    """With Breslow ties H jumps by d / Σ exp(xβ), and forecasts are exp(−H exp(xβ))."""
    model = cox("A", pbc, time="time", event="e", ties="breslow")
    at, hazard = model.cumulative_hazard()
    first = 1 / np.exp(model.linear_predictor()).sum()
    assert hazard[0] == pytest.approx(first, rel=1e-12)
    forecast = model.survival(pbc[:3], np.array([0.0, at[0], 1e6]))
    assert forecast[:, 0] == pytest.approx(1.0)
    assert forecast[:, 1] == pytest.approx(np.exp(-first * np.exp(model.linear_predictor(pbc[:3]))), rel=1e-12)
    assert np.isnan(forecast[:, 2]).all()


def test_concordance_and_its_error(pbc: pl.DataFrame) -> None:
    """concordance(Surv(time, e) ~ edema, reverse = TRUE): C, √var, counts."""
    found = concordance(*(pbc[k].to_numpy() for k in ("time", "e", "edema")))
    assert (found.concordant, found.tied, found.pairs) == (8736, 14723, 8736 + 1538 + 14723)
    assert (found.c, found.se) == pytest.approx((0.643977277273, 0.02340171359), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e3), power=st.floats(0.2, 3.0))
def test_cox_minds_neither_scale_of_covariates_nor_of_time(shift: float, scale: float, power: float) -> None:
    """Only ranks of times count, and β scales with its covariate: 1e-10 on the arm, more only where a shift costs digits."""
    t = trial()
    a = cox("arm + x", t, time="t", event="e", strata=["g"])
    moved = t.with_columns(pl.col("x") * scale + shift, pl.col("t") ** power)
    b = cox("arm + x", moved, time="t", event="e", strata=["g"])
    tolerance = 1e-10 * (1 + abs(shift) / scale)
    assert b.values[0] == pytest.approx(a.values[0], abs=tolerance)
    assert b.se[0] == pytest.approx(a.se[0], abs=tolerance)
    assert b.values[1] * scale == pytest.approx(a.values[1], rel=1e-9 * (1 + abs(shift) / scale))


def test_score_test_of_cox_is_the_logrank_test() -> None:
    """Without ties the log-rank chi-square is the score test of the Cox model at 0: compared through its likelihood."""
    t = trial().with_columns(t=pl.col("t") + pl.int_range(pl.len()) * 1e-6)
    test = logrank(t, time="t", event="e", arm="arm")
    model = cox("arm", t, time="t", event="e")
    step = 1e-5
    from gemello.trial.analysis.survival.partial import evaluate

    up, here, down = (evaluate(model.x, np.array([b]), model.sets)[0] for b in (step, 0.0, -step))
    slope, curve = (up - down) / (2 * step), -(up - 2 * here + down) / step**2
    assert test.chisq == pytest.approx(slope**2 / curve, rel=1e-3)
    assert test.z == pytest.approx(slope / np.sqrt(curve), rel=1e-3)


@pytest.mark.parametrize(
    ("formula", "change", "error", "words"),
    [
        ("arm", {"e": pl.col("e") * 2}, DataError, r"event codes 0, 2 are not 0 \(censored\) and 1"),
        ("arm", {"t": -pl.col("t")}, DataError, "row 1, column t"),
        ("arm", {"e": pl.lit(0)}, DataError, "no event"),
        ("arm + x", {"x": pl.lit(1.0)}, DataError, "column x: the same for all"),
        ("arm + x", {"x": pl.col("arm") * 2.0}, DataError, "x cannot be told"),
        ("arm + x", {"x": pl.col("e")}, RefusalError, "monotone likelihood: the hazard ratio of x"),
        ("t ~ arm", {}, DataError, "has an outcome"),
    ],
)
def test_bad_input_of_cox(formula: str, change: dict[str, pl.Expr], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        cox(formula, trial().with_columns(**change), time="t", event="e")


def test_clusters_count_as_one() -> None:
    """Every subject twice: the model's errors shrink by √2, those by cluster do not."""
    t = trial().with_columns(id=pl.int_range(pl.len()))
    twice = pl.concat([t, t])
    one = cox("arm + x", t, time="t", event="e", robust=True, ties="breslow")
    two = cox("arm + x", twice, time="t", event="e", cluster="id", ties="breslow")
    assert two.values == pytest.approx(one.values, rel=1e-8)
    assert two.se == pytest.approx(one.se, rel=1e-8)
    assert np.sqrt(np.diag(two.model_covariance)) == pytest.approx(np.sqrt(np.diag(one.model_covariance) / 2), rel=1e-8)

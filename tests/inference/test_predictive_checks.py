"""Replicates, VPC and NPDE: under the true model they say so at the stated rate, and a wrong model is caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.inference.binning import bins_of, edges, natural_breaks
from gemello.inference.npde import normal_tests, npde
from gemello.inference.observed import Replicates, observations, replicates, time_after_dose
from gemello.inference.vpc import prediction_corrected, vpc
from gemello.model import registry
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject

PK = registry.get("pk1_oral")
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0])


def people(n: int) -> list[Subject]:
    """n subjects, doses 100 or 200 mg, 7 samples each; the values are filled in later."""
    return [
        Subject(str(i), Schedule().dose(0.0, 100.0 * (1 + i % 2)).observe(TIMES, np.ones(7)).covariates(DOSE=100.0 * (1 + i % 2)))
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def truth() -> PopulationParameters:
    return PopulationParameters.of(PK)


@pytest.fixture(scope="module")
def made(truth: PopulationParameters) -> Replicates:
    """700 data sets of 40 subjects: 100 to stand for data, 600 for the simulations."""
    return replicates(PK, truth, people(40), 700, seed=11)


def as_data(r: Replicates, i: int, number: int = 600) -> Replicates:
    """Replicate i as the data, and so many of the last 600 as what was simulated."""
    return replace(r, data=replace(r.data, value=r.simulated[i]), simulated=r.simulated[100 : 100 + number])


# ---- replicates ----------------------------------------------------------------------------------------------------
def test_replicates_have_the_moments_of_the_model(made: Replicates) -> None:
    """ln y of one value per subject over 700 replicates, against 20,000 draws by the closed form; 4 standard errors
    (false alarm 1e-4 for each of 4 comparisons)."""
    random = np.random.default_rng(5)
    e = np.sqrt([PK.parameters[n].variance for n in ("CL", "V", "KA")])[:, None] * random.standard_normal((3, 20_000))
    cl, v, ka = (PK.parameters[n].value * np.exp(x) for n, x in zip(("CL", "V", "KA"), e, strict=True))
    for j in (2, 5):
        t, k = TIMES[j], cl / v
        f = 100.0 * ka / v / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
        y = f * (1 + 0.2 * random.standard_normal(f.shape))
        own = made.simulated[:, j]  # subject 0, 100 mg
        se = np.sqrt(y.var() / len(own))
        assert abs(own.mean() - y.mean()) < 4 * se
        assert abs(own.var() / y.var() - 1) < 4 * np.sqrt((stats.kurtosis(y) + 2) / len(own))


def test_replicates_do_not_depend_on_how_many_run_at_once(truth: PopulationParameters, monkeypatch: pytest.MonkeyPatch) -> None:
    few = people(3)
    one = replicates(PK, truth, few, 12, seed=3)
    monkeypatch.setattr("gemello.inference.observed.LANES", 15)
    assert np.array_equal(replicates(PK, truth, few, 12, seed=3).simulated, one.simulated)
    assert not np.array_equal(replicates(PK, truth, few, 12, seed=4).simulated, one.simulated)
    assert np.array_equal(one.typical, replicates(PK, truth, few, 2, seed=9).typical)


def test_time_after_dose_counts_additional_doses() -> None:
    s = Schedule.of(-0.0, evid=2).dose(2.0, 1.0, every=12.0, times=3).observe([1.0, 2.5, 13.9, 14.5, 40.0])
    seen = time_after_dose(s)[s.evid == 0]
    np.testing.assert_allclose(seen, [np.nan, 0.5, 11.9, 0.5, 14.0], atol=1e-12)


# ---- bins ----------------------------------------------------------------------------------------------------------
def test_natural_breaks_are_the_best_of_all() -> None:
    """Against every possible partition of 9 values into 3 groups."""
    x = np.sort(generator(1, "bins").uniform(size=9))
    within = lambda cut: sum(np.sum((g - g.mean()) ** 2) for g in np.split(x, cut))  # noqa: E731
    best = min(((i, j) for i in range(1, 8) for j in range(i + 1, 9)), key=within)
    found = natural_breaks(x, np.ones(9, int), 3)
    np.testing.assert_allclose(found, [(x[k - 1] + x[k]) / 2 for k in best])


def test_bins_by_each_rule() -> None:
    x = np.repeat([1.0, 2.0, 4.0, 8.0], 25)
    for rule in ("auto", "nominal", "jenks", "quantile"):
        at = edges(x, rule, 4 if rule in ("jenks", "quantile") else None)  # type: ignore[arg-type]
        assert np.array_equal(np.bincount(bins_of(x, at)), [25] * 4), rule
    assert np.array_equal(np.bincount(bins_of(x, edges(x, [3.0]))), [50, 50])
    spread = np.concatenate([np.linspace(0, 10, 100), [50.0, 51.0]])
    assert np.bincount(bins_of(spread, edges(spread))).min() >= 10
    with pytest.raises(DataError, match="unknown rule"):
        edges(x, "deciles")  # type: ignore[arg-type]


# ---- VPC -----------------------------------------------------------------------------------------------------------
def test_percentiles_of_the_true_model_lie_inside_as_often_as_stated(made: Replicates) -> None:
    """100 data sets × 7 bins × 3 percentiles, intervals of 90 %: the share outside is 10 %. Percentiles of one data set are
    correlated, so its standard error comes from the 100 data sets (4 of them allowed: false alarm 1e-4), and 0.5 % is allowed for
    the interval's own Monte Carlo error."""
    share = []
    for i in range(100):
        (v,) = vpc(PK, as_data(made, i), level=0.9, bins="nominal")
        out, of = v.outside
        share.append(out / of)
    assert len(v.centre) == 7
    assert abs(np.mean(share) - 0.1) < 4 * np.std(share) / np.sqrt(100) + 0.005


def test_a_wrong_model_is_seen(made: Replicates, truth: PopulationParameters) -> None:
    """Half the clearance doubles the late values: all late medians lie outside."""
    wrong = replicates(PK, replace(truth, theta={**truth.theta, "CL": truth.theta["CL"] / 2}), people(40), 300, seed=2)
    (v,) = vpc(PK, replace(wrong, data=replace(wrong.data, value=made.simulated[0])), bins="nominal")
    assert v.percentiles[1].outside[-3:].all()
    assert v.outside[0] > 6


def test_prediction_correction_by_hand() -> None:
    """Bergstrand et al. 2011, equations 2 and 3, two bins; a typical prediction of 0 leaves its value alone."""
    y, pred, which = np.array([2.0, 9.0, 5.0, 7.0]), np.array([1.0, 3.0, 0.0, 4.0]), np.array([0, 0, 1, 1])
    np.testing.assert_allclose(prediction_corrected(y, pred, which), [2.0 * 2 / 1, 9.0 * 2 / 3, 5.0, 7.0 * 2 / 4])
    np.testing.assert_allclose(
        prediction_corrected(y, pred, which, 0.5), [0.5 + 1.5 * 3, 0.5 + 8.5 * 0.6, 0.5 - 4.5 * 3, 0.5 + 6.5 * 1.5 / 3.5]
    )
    np.testing.assert_allclose(prediction_corrected(y, pred, which, logarithms=True), [3.0, 8.0, 7.0, 5.0])


def test_prediction_correction_takes_the_dose_out(made: Replicates) -> None:
    """Doses of 100 and 200 mg of a linear model: after correction both halves have the same percentiles and the spread falls."""
    r = as_data(made, 0)
    (plain,), (right,) = vpc(PK, r, bins="nominal"), vpc(PK, r, bins="nominal", corrected=True)
    width = lambda v: v.percentiles[2].median - v.percentiles[0].median  # noqa: E731
    assert (width(right) < width(plain)).all()
    halves = [prediction_corrected(r.simulated, r.typical, bins_of(r.data.time, right.edges))[:, r.data.column("DOSE") == d]
              for d in (100.0, 200.0)]  # fmt: skip
    assert np.median(halves[0]) == pytest.approx(np.median(halves[1]), rel=0.02)  # 140,000 values each, spread 50 %
    by_dose = vpc(PK, r, bins="nominal", stratify="DOSE")
    assert [v.stratum for v in by_dose] == ["DOSE 100", "DOSE 200"]


def test_values_below_the_limit_count_by_rank(made: Replicates) -> None:
    r = as_data(made, 0)
    limit = float(np.quantile(r.data.value, 0.3))
    low = r.data.value < limit
    data = replace(r.data, value=np.where(low, limit, r.data.value), censored=low.astype(int))
    (v,), (full,) = vpc(PK, replace(r, data=data), bins="nominal"), vpc(PK, r, bins="nominal")
    assert v.limit == limit
    assert v.below is not None
    late = v.centre > 20
    assert np.isnan(v.percentiles[0].observed[late]).all()
    shown = np.isfinite(v.percentiles[1].observed)
    np.testing.assert_allclose(v.percentiles[1].observed[shown], full.percentiles[1].observed[shown])
    share = [np.mean(r.data.value[r.data.time == t] < limit) for t in v.centre]
    np.testing.assert_allclose(v.below.observed, share)
    assert (v.below.low <= v.below.observed).all()
    assert (v.below.observed <= v.below.high).all()  # 7 intervals of 95 %, fixed seed


# ---- NPDE ----------------------------------------------------------------------------------------------------------
def test_npde_of_the_true_model_are_standard_normal(made: Replicates) -> None:
    """40 data sets of 280 values: each test at 5 % rejects in 5 %, the global one in at most 5 % (Bonferroni), but for what the
    finite number of replicates adds. Allowed: up to 9 of 40 (false alarm of each 2e-5 for a rate of 5 %, 5e-4 for 7 %)."""
    tests = [npde(PK, as_data(made, i, 500)).tests for i in range(40)]
    for name in ("p_mean", "p_variance", "p_normality", "p_global"):
        rejected = sum(getattr(t, name) < 0.05 for t in tests)
        assert rejected <= 9, name
    mean, variance = (np.array([getattr(t, n) for t in tests]) for n in ("mean", "variance"))
    assert abs(mean.mean()) < 4 * mean.std() / np.sqrt(40) + 0.01
    assert abs(variance.mean() - 1) < 4 * variance.std() / np.sqrt(40) + 0.02


def test_npde_decorrelate_and_pd_do_not(made: Replicates) -> None:
    """Over 20 data sets × 40 subjects the correlation of successive npde is 0 within 4 standard errors, that of pd is not."""
    pairs, raw = [], []
    for i in range(20):
        n = npde(PK, as_data(made, i, 500))
        pairs.append(n.npde.reshape(40, 7))
        raw.append(n.pd.reshape(40, 7))
    e, u = np.concatenate(pairs), np.concatenate(raw)
    assert abs(np.corrcoef(e[:, 4], e[:, 5])[0, 1]) < 4 / np.sqrt(len(e)) + 0.02
    assert np.corrcoef(u[:, 4], u[:, 5])[0, 1] > 0.3
    assert abs(u.mean() - 0.5) < 0.02


def test_a_wrong_model_is_caught(made: Replicates, truth: PopulationParameters) -> None:
    """30 % less clearance, and half the variances: p below 1e-4 for the mean and for the variance."""
    less = replace(truth, theta={**truth.theta, "CL": 0.7 * truth.theta["CL"]})
    r = replicates(PK, less, people(40), 300, seed=2)
    assert npde(PK, replace(r, data=replace(r.data, value=made.simulated[0]))).tests.p_mean < 1e-4
    narrow = replace(truth, omega=truth.omega / 4, sigma={k: v / 1.5 for k, v in truth.sigma.items()})
    r = replicates(PK, narrow, people(40), 300, seed=2)
    found = npde(PK, replace(r, data=replace(r.data, value=made.simulated[0]))).tests
    assert found.p_variance < 1e-4
    assert found.variance > 1.3


def test_values_below_the_limit_are_put_in(made: Replicates) -> None:
    """A quarter of the values censored: npde of the true model stay standard normal (fixed seed; 1e-3)."""
    r = as_data(made, 4)
    limit = float(np.quantile(r.data.value, 0.25))
    low = r.data.value < limit
    found = npde(PK, replace(r, data=replace(r.data, value=np.where(low, limit, r.data.value), censored=low.astype(int))))
    assert found.tests.p_global > 1e-3
    assert "70 values that are limits only" in found.notes[0]


def test_the_monte_carlo_error_is_that_of_repetition(made: Replicates, truth: PopulationParameters) -> None:
    """Stated from parts of one run, and found by running anew 6 times: within a factor of 4 (F with 4 and 5 degrees: 2 %)."""
    again = [
        npde(PK, replace(replicates(PK, truth, people(40), 400, seed=s), data=replace(made.data, value=made.simulated[0]))).tests
        for s in range(6)
    ]
    spread = float(np.std([t.mean for t in again], ddof=1))
    assert spread / 4 < float(np.median([t.mean_error for t in again])) < 4 * spread


def test_normal_tests_reject_what_is_not_normal() -> None:
    x = generator(1, "normal").standard_normal(400)
    assert normal_tests(x).p_global > 0.01
    assert normal_tests(x + 0.3).p_mean < 1e-3
    assert normal_tests(1.4 * x).p_variance < 1e-3
    assert normal_tests(np.sign(x) * x**2).p_normality < 1e-6


def test_refusals(made: Replicates, truth: PopulationParameters) -> None:
    with pytest.raises(DataError, match="too few replicates"):
        replicates(PK, truth, people(2), 1, seed=1)
    with pytest.raises(DataError, match="replicates are too few"):
        npde(PK, replace(made, simulated=made.simulated[:50]))
    with pytest.raises(DataError, match="no measured value"):
        observations([Subject("1", Schedule().dose(0.0, 1.0).observe([1.0]))])
    with pytest.raises(DataError, match="no such column"):
        vpc(PK, made, stratify="SEX")
    with pytest.raises(DataError, match="a percentile or a level"):
        vpc(PK, made, percentiles=(5.0, 50.0))


def test_occasions_are_drawn_too() -> None:
    """Variance between occasions of CL: the covariance of ln y of two occasions is less than within one, by that variance times
    the squared slope. 24 subjects × 400 replicates; only the order is tested, at a distance of more than 10 standard errors."""
    table = registry.get("pk1_iv")
    model = type(table).__new__(type(table))
    model.__dict__.update({k: v for k, v in table.__dict__.items() if not k.endswith("_type")})
    rows = [replace(r, occasion_variance=0.09) if r.name == "CL" else r for r in table.parameters.rows]
    model.parameters = replace(table.parameters, rows=tuple(rows))
    s = Schedule().dose(0.0, 500.0).dose(48.0, 500.0).observe([12.0, 20.0, 60.0, 68.0], np.ones(4))
    s = replace(s, columns={"OCC": np.where(s.time < 48.0, 1.0, 2.0)})
    r = replicates(model, PopulationParameters.of(model), [Subject(str(i), s) for i in range(24)], 400, seed=1)
    y = np.log(np.abs(r.simulated)).reshape(-1, 4)
    c = np.corrcoef(y, rowvar=False)
    assert min(c[0, 1], c[2, 3]) - max(c[0, 3], c[0, 2], c[1, 3]) > 0.1

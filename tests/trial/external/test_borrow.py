"""Borrowing with patient-level data: exact posteriors, limits of the methods, operating characteristics, the same history
twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.special import digamma

from gemello.base.errors import DataError
from gemello.base.reference import reference_data
from gemello.trial.analysis.linear import ols
from gemello.trial.analysis.result import Estimate
from gemello.trial.external import binary, priors
from gemello.trial.external.borrow import FULL, NONE, borrow, commensurate, normalised_power, power, robust_map
from gemello.trial.external.hazard import hazard_ratio
from gemello.trial.external.likeforlike import like_for_like
from gemello.trial.external.operating import binary_operating, operating_characteristics
from gemello.trial.external.sensitivity import e_value, e_value_of, tipping_point


def made(n: tuple[int, int, int] = (60, 40, 80), drift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a = np.repeat([1, 0, 0], n)
    e = np.repeat([0, 0, 1], n)
    x = rng.normal(size=sum(n))
    y = 1 + 0.8 * a + drift * e + 0.5 * x + rng.normal(size=sum(n))
    rate = np.exp(-1 + 0.5 * a + drift * e + 0.3 * x)
    t = rng.exponential(1 / rate)
    c = rng.exponential(4, size=sum(n))
    return pl.DataFrame(
        {"a": a, "e": e, "x": x, "y": y, "t": np.minimum(t, c), "d": (t <= c).astype(int), "r": (y > 1).astype(int)}
    )


def go(table: pl.DataFrame, formula: str, method: object, **more: object):  # type: ignore[no-untyped-def]
    return borrow(table, formula, "a", "e", method, **more)  # type: ignore[arg-type]


def test_full_and_none_are_regressions() -> None:
    t = made()
    for method, rows in ((FULL, t), (NONE, t.filter(pl.col("e") == 0))):
        exact = ols("y ~ x + a", rows, "model").of("a")
        found = go(t, "y ~ x", method)
        assert found.effect.mean == pytest.approx(exact.estimate, abs=1e-7)
        assert found.effect.sd == pytest.approx(exact.se, rel=0.03)  # maximum likelihood divides by n, not n − k
    assert go(t, "y ~ 1", FULL).ess == pytest.approx(80, rel=0.1)


def test_exponential_without_covariates_is_a_gamma_posterior() -> None:
    t = made()
    arms = t.group_by("a").agg(pl.col("d").sum(), pl.col("t").sum()).sort("a").rows()
    exact = digamma(arms[1][1]) - np.log(arms[1][2]) - digamma(arms[0][1]) + np.log(arms[0][2])
    found = go(t, "t ~ 1", FULL, family="exponential", event="d")
    assert found.effect.mean == pytest.approx(exact, abs=2e-4)
    assert go(t, "t ~ 1", power(1.0), family="exponential", event="d").effect.mean == pytest.approx(found.effect.mean, abs=1e-12)


@pytest.mark.parametrize("family", ["normal", "binary", "exponential", "weibull"])
def test_methods_lie_between_none_and_full(family: str) -> None:
    t = made(drift=0.6)
    formula = {"normal": "y ~ x", "binary": "r ~ x"}.get(family, "t ~ x")
    more = {"family": family} | ({} if family in ("normal", "binary") else {"event": "d"})
    none, full = (go(t, formula, m, **more).effect.mean for m in (NONE, FULL))
    low, high = sorted((none, full))
    for m in (power(0.3), normalised_power(), commensurate(sd_scale=0.5), commensurate(gamma=(1, 0.001)), robust_map(0.3)):
        assert low - 0.02 < go(t, formula, m, **more).effect.mean < high + 0.02
    assert go(t, formula, power(1e-9), **more).effect.mean == pytest.approx(none, abs=0.02)
    assert go(t, formula, commensurate(sd_scale=1e-4), **more).effect.mean == pytest.approx(full, abs=1e-3)
    far = go(t, formula, commensurate(sd_scale=1e3), **more)
    assert far.effect.sd == pytest.approx(go(t, formula, NONE, **more).effect.sd, rel=0.25)


def test_commensurate_normal_against_integration() -> None:
    """No covariates and a large sample: the posterior is that of three normal means with the drift's prior between two of
    them."""
    t = made((400, 300, 500), drift=0.15, seed=5)
    found = go(t, "y ~ 1", commensurate(sd_scale=0.2))
    residual = t.with_columns(m=pl.col("y").mean().over("a", "e"))
    s = float(np.sqrt(((residual["y"] - residual["m"]) ** 2).mean()))
    means = t.group_by("e", "a").agg(pl.col("y").mean(), pl.len()).sort("e", "a").rows()
    (_, _, c, nc), (_, _, m1, n1), (_, _, h, nh) = means
    prior = priors.commensurate_prior([(h, s / np.sqrt(nh))], sd_scale=0.2)
    control = prior.update(c, s / np.sqrt(nc))
    assert found.effect.mean == pytest.approx(m1 - control.mean, abs=0.003)
    assert found.effect.sd == pytest.approx(np.hypot(control.sd, s / np.sqrt(n1)), rel=0.01)


def test_normalised_power_normal_against_the_closed_form() -> None:
    t = made((400, 300, 500), drift=0.15, seed=6)
    found = go(t, "y ~ 1", normalised_power(2, 2))
    means = t.group_by("e", "a").agg(pl.col("y").mean(), pl.col("y").std().alias("sd"), pl.len()).sort("e", "a").rows()
    (_, _, c, sc, nc), (_, _, m1, _, _), (_, _, h, sh, nh) = means
    control = priors.normalised_power_prior([(h, sh / np.sqrt(nh))], 2, 2).update(c, sc / np.sqrt(nc))
    assert found.effect.mean == pytest.approx(m1 - control.mean, abs=0.02)


def test_robust_map_lets_go() -> None:
    shares = [go(made(drift=d), "y ~ x", robust_map(0.1, 0.3)).history_share for d in (0.0, 3.0)]
    assert shares[0] > 0.7
    assert shares[1] < 0.05


def test_weibull_of_shape_one_is_exponential() -> None:
    t = made((300, 300, 300), seed=3)
    two = [hazard_ratio(t, "t ~ x", "a", "d", family=f) for f in ("exponential", "weibull")]  # type: ignore[arg-type]
    assert two[0].estimate == pytest.approx(two[1].estimate, abs=0.05)
    weights = np.ones(len(t))
    robust = hazard_ratio(t, "t ~ x", "a", "d", weights=weights)
    assert robust.estimate == pytest.approx(two[1].estimate, abs=1e-9)
    assert robust.se == pytest.approx(two[1].se, rel=0.15)


def test_operating_characteristics_of_fixed_power_are_closed() -> None:
    """The power prior's estimate is linear: bias −drift·w, type I error by the normal distribution; 4 Monte Carlo SE."""
    n_h, n_c, n_t, a0 = 100, 40, 80, 0.5
    out = operating_characteristics(
        lambda h: priors.power_prior(h, a0), n_history=n_h, n_control=n_c, n_treated=n_t, drifts=[-0.3, 0.0, 0.3], effect=0.4,
        replicates=4000, seed=1,
    )  # fmt: skip
    w = a0 * n_h / (a0 * n_h + n_c)
    for row in out.table.to_dicts():
        assert abs(row["bias"] - w * row["drift"]) < 4 * row["bias_se"]
        sd = np.sqrt(w**2 / n_h + (1 - w) ** 2 / n_c + 1 / n_t)
        post = np.sqrt(1 / (a0 * n_h + n_c) + 1 / n_t)
        z = [(s * 1.959964 * post - w * row["drift"]) / sd for s in (-1, 1)]
        assert abs(row["type1"] - (stats.norm.cdf(z[0]) + stats.norm.sf(z[1]))) < 4 * row["type1_se"]
    assert all(abs(r["type1"] - 0.05) < 4 * r["type1_se"] for r in out.alone.to_dicts())
    assert out.worst_type1 > 0.1


def test_binary_operating_against_a_direct_sum() -> None:
    prior = binary.beta_prior(4, 12)
    out = binary_operating(prior, n_control=4, n_treated=5, rates=[0.3], effect=0.4, threshold=0.9)
    rng = np.random.default_rng(2)
    total = 0.0
    for r in range(5):
        for t in range(6):
            d = rng.beta(1 + t, 6 - t, 40_000) - rng.beta(4 + r, 16 - r, 40_000)
            total += ((d > 0).mean() > 0.9) * stats.binom.pmf(r, 4, 0.3) * stats.binom.pmf(t, 5, 0.3)
    assert out.table["type1"][0] == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("ratio", "said"), [(3.9, 7.26), (1.8, 3.0), (10.73, 20.95), (0.8, 1.81), (0.5, 3.41)])
def test_e_value_as_published(ratio: float, said: float) -> None:
    """VanderWeele & Ding 2017, Ann Intern Med 167:268."""
    assert e_value(ratio) == pytest.approx(said, abs=0.005)
    assert e_value(1 / ratio) == pytest.approx(e_value(ratio))


def test_e_value_of_estimates() -> None:
    risk = Estimate("", "log risk ratio", float(np.log(3.9)), float(np.log(8.7 / 1.8) / 3.92), "", 100, scale="log")
    found = e_value_of(risk)
    assert (found.point, found.limit) == pytest.approx((7.26, 3.0), abs=0.06)
    assert not found.approximate
    odds = Estimate("", "log odds ratio", float(np.log(4.0)), 0.2, "", 100, scale="log")
    assert e_value_of(odds).point == pytest.approx(e_value(2.0))
    assert e_value_of(odds, rare=True).point == pytest.approx(e_value(4.0))
    assert e_value_of(Estimate("", "log hazard ratio", 0.1, 0.2, "", 9, scale="log")).limit == 1
    with pytest.raises(DataError, match="risk difference"):
        e_value_of(Estimate("", "risk difference", 0.1, 0.02, "", 100))


def test_tipping_point_is_where_the_limit_is_zero() -> None:
    found = tipping_point(lambda b: Estimate("", "mean difference", 2 - 0.5 * b, 0.4, "", 9), (-5, 5), outcome_sd=2.0)
    assert found.bias == pytest.approx((2 - 1.959964 * 0.4) / 0.5, rel=1e-5)
    assert found.in_sd == pytest.approx(found.bias / 2)
    assert tipping_point(lambda b: Estimate("", "mean difference", 2 - 0.5 * b, 0.4, "", 9), (-5, 1)).bias is None
    with pytest.raises(DataError, match="no conclusion"):
        tipping_point(lambda b: Estimate("", "mean difference", 0.1, 0.4, "", 9), (-5, 5))


def test_same_history_twice() -> None:
    """A drift of 1 in history moves external arms by about −1, and the covariate's estimate not at all."""
    t = made((150, 150, 600), seed=9)
    trial = t.filter(pl.col("e") == 0)
    history = t.filter(pl.col("e") == 1)
    plain = like_for_like(trial, history, "y ~ x", "a")
    moved = like_for_like(trial, history.with_columns(y=pl.col("y") + 1), "y ~ x", "a")
    a, b = plain.of("covariate")[0].estimate, moved.of("covariate")[0].estimate
    assert a is not None
    assert b is not None
    assert (a.estimate, a.se) == pytest.approx((b.estimate, b.se), rel=1e-9)
    for one, two in zip(plain.of("external arm"), moved.of("external arm"), strict=True):
        assert one.estimate is not None
        assert two.estimate is not None
        assert two.estimate.estimate - one.estimate.estimate == pytest.approx(-1, abs=1e-6)
    assert plain.correlation == pytest.approx(moved.correlation)
    survival = like_for_like(trial, history, "t ~ x", "a", family="weibull", event="d")
    assert all(r.estimate is not None for r in survival.rows)
    assert set(survival.table()["role"]) == {"randomised", "covariate", "external arm", "hybrid"}
    rates = like_for_like(trial, history, "r ~ x", "a", family="binary")
    assert rates.truth.measure == "risk difference"
    assert rates.of("hybrid")[0].gap is None


def test_a_score_is_blind_to_outcome_and_arm() -> None:
    t = made()
    seen: list[str] = []

    def score(history: pl.DataFrame, trial: pl.DataFrame) -> np.ndarray:
        seen.extend(trial.columns)
        return trial["x"].to_numpy()

    like_for_like(t.filter(pl.col("e") == 0), t.filter(pl.col("e") == 1), "y ~ x", "a", score=score)
    assert seen == ["x"]


def test_actg175() -> None:
    folder = reference_data("trial")
    if folder is None:
        pytest.skip("no reference data; set GEMELLO_DATA")
    known = json.loads((Path(folder) / "reference" / "covariate_adjustment.json").read_text())["prognostic_ACTG175"]
    table = pl.read_csv(folder / "ACTG175.csv", null_values="")
    old = (pl.col("arms") == 0) & (pl.col("pidnum") % 2 == 0)
    formula = "cd420 ~ cd40 + cd80 + age + wtkg + karnof + hemo + homo + drugs + race + gender + str2 + symptom"
    found = like_for_like(table.filter(~old), table.filter(old), formula, "arms")
    score = found.of("covariate")[0].estimate
    assert score is not None
    assert (found.truth.estimate, found.truth.se) == pytest.approx((known["unadjusted"]["est"], known["unadjusted"]["se_HC3"]))
    assert (score.estimate, score.se) == pytest.approx((known["score"]["est"], known["score"]["se_HC3"]), rel=1e-6)
    assert found.correlation == pytest.approx(known["rho_control"], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.with_columns(e=pl.when(pl.col("a") == 1).then(1).otherwise(pl.col("e"))), "is treated"),
        (lambda t: t.filter(pl.col("e") == 0), "external control arm"),
        (lambda t: t.with_columns(a=pl.col("a") * 2), "not 0 or 1"),
        (lambda t: t.with_columns(t=0.0), "not above 0"),
        (lambda t: t.with_columns(d=pl.when(pl.col("e") == 1).then(0).otherwise(pl.col("d"))), "no events"),
    ],
)
def test_refused(change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        go(change(made()), "t ~ x", FULL, family="exponential", event="d")  # type: ignore[operator]

"""Checks of external and hybrid controls: published analyses of public data, closed forms, and the randomised truth beside
them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats
from scipy.special import digamma, polygamma

from gemello.base.reference import Check, check
from gemello.trial.external import binary, priors
from gemello.trial.external.balance import balance
from gemello.trial.external.borrow import FULL, borrow, commensurate
from gemello.trial.external.comparison import comparison, propensity
from gemello.trial.external.doubly import doubly_robust, standardised
from gemello.trial.external.likeforlike import like_for_like
from gemello.trial.external.sensitivity import e_value
from gemello.trial.external.weight import entropy_balance, inverse_probability, weighted_difference

BOOK = "Hernán & Robins 2020, Causal Inference: What If, chapters 12 and 13 (NHEFS)"
NHEFS = (
    "wt82_71 ~ factor(sex) + factor(race) + age + square(age) + factor(education) + smokeintensity + square(smokeintensity)"
    " + smokeyrs + square(smokeyrs) + factor(exercise) + factor(active) + wt71 + square(wt71)"
)
ACTG = "cd420 ~ cd40 + cd80 + age + wtkg + karnof + hemo + homo + drugs + race + gender + str2 + symptom"
SPONDYLITIS = ((23, 107), (12, 44), (19, 51), (9, 39), (39, 139), (6, 20), (9, 78), (10, 35))  # responders, subjects
CROHN = ((-51, 74), (-49, 166), (-36, 328), (-47, 20), (-90, 25), (-54, 58))  # mean, subjects; SD 88


def checks(folder: Path) -> Iterator[Check]:
    """folder: the trial reference data."""
    yield from _nhefs(folder)
    yield from _e_values()
    yield from _predictive_priors()
    yield from _hazards(folder)
    yield from _same_history(folder)


def _nhefs(folder: Path) -> Iterator[Check]:
    table = pl.read_csv(folder / "causaldata_nhefs.csv", null_values="", infer_schema_length=None)
    groups = comparison(table.filter(pl.col("wt82").is_not_null()), NHEFS, "qsmk", label="quit − did not")
    score = propensity(groups)
    yield check("NHEFS: complete cases", len(groups), 1566, 0, BOOK)
    weights = inverse_probability(groups, score, "ATE")
    weighted = weighted_difference(groups, weights, se="known")
    low, high = weighted.interval
    for name, value, said in (("difference", weighted.estimate, 3.4), ("lower limit", low, 2.4), ("upper limit", high, 4.5)):
        yield check(f"NHEFS: inverse probability weighting, {name} (kg)", value, said, 0.05, BOOK)
    model = standardised(groups, "ATE", interactions=("smokeintensity",))
    yield check("NHEFS: standardisation (kg)", model.estimate, 3.5, 0.05, BOOK)
    plain = standardised(groups, "ATE", interactions=())
    yield check("NHEFS: outcome regression (kg)", plain.estimate, 3.5, 0.05, f"{BOOK}; chapter 15")
    both = doubly_robust(groups, "ATE")
    yield check("NHEFS: doubly robust beside weighting (kg)", both.estimate, weighted.estimate, 0.15, "two consistent estimators")
    exact = balance(groups, entropy_balance(groups, moments=2).values).worst
    yield check("NHEFS: worst standardised difference after entropy balancing", exact, 0.0, 1e-6, "Hainmueller 2012, equation 6")


def _e_values() -> Iterator[Check]:
    source = "VanderWeele & Ding 2017, Ann Intern Med 167:268"
    for ratio, said in ((3.9, 7.26), (1.8, 3.0), (10.73, 20.9), (8.02, 15.5)):
        yield check(f"E-value of a risk ratio of {ratio}", e_value(ratio), said, 0.05, source)


def _predictive_priors() -> Iterator[Check]:
    rate = binary.map_prior(SPONDYLITIS, 1.0, mean_sd=2.0)
    source = "RBesT documentation, ankylosing spondylitis (Baeten et al. 2013, Lancet 382:1705); 4,000 draws, 3 Monte Carlo SE"
    yield check("MAP prior of a rate: mean", rate.mean, 0.255, 0.005, source)
    yield check("MAP prior of a rate: SD", rate.sd, 0.0864, 0.005, source)
    yield check("MAP prior of a rate: median", rate.quantile(0.5), 0.247, 0.005, source)
    yield check("MAP prior of a rate: subjects worth, by moments", rate.moment_sample_size(), 24, 2, source)
    crohn = priors.map_prior([(y, 88 / np.sqrt(n)) for y, n in CROHN], 44, mean=0, mean_sd=88)
    source = "RBesT documentation, Crohn's disease (Hueber et al. 2012, Gut 61:1693); 4,000 draws, 3 Monte Carlo SE"
    yield check("MAP prior of a mean: mean", crohn.mean, -50.3, 1.0, source)
    yield check("MAP prior of a mean: SD", crohn.sd, 19.1, 1.5, source)
    yield check("MAP prior of a mean: median", crohn.quantile(0.5), -48.7, 0.8, source)
    beta = binary.power_prior([(20, 80)], 0.4)
    exact = stats.beta(1 + 8, 1 + 24)
    yield check("power prior of a rate: 97.5 % quantile", beta.quantile(0.975), exact.ppf(0.975), 1e-4, "beta distribution")
    post = priors.power_prior([(1.0, 0.2)], 0.25).update(2.0, 0.4)
    yield check("power prior of a mean: posterior mean", post.mean, 1.5, 1e-12, "normal conjugate: two equal errors")


def _hazards(folder: Path) -> Iterator[Check]:
    """Exponential survival without covariates has an exact posterior: independent gamma rates, weighted by the prior of the
    drift."""
    table = pl.read_csv(folder / "psborrow2_example_matrix.csv")
    full = borrow(table, "time ~ 1", "trt", "ext", FULL, family="exponential", event="status")
    arms = table.group_by("trt").agg(pl.col("status").sum(), pl.col("time").sum()).sort("trt")
    (_, d0, t0), (_, d1, t1) = arms.iter_rows()
    exact = float(digamma(d1) - np.log(t1) - digamma(d0) + np.log(t0))
    source = "exact gamma posterior of the rates, psborrow2 example data"
    yield check("pooled exponential: log hazard ratio", full.effect.mean, exact, 1e-4, source)
    spread = float(np.sqrt(polygamma(1, d0) + polygamma(1, d1)))
    yield check("pooled exponential: its SD", full.effect.sd, spread, 0.005, source, relative=True)
    mean, sd = _exact_commensurate(table, 0.5)
    some = borrow(table, "time ~ 1", "trt", "ext", commensurate(sd_scale=0.5), family="exponential", event="status")
    yield check("commensurate exponential: log hazard ratio", some.effect.mean, mean, 2e-3, source)
    yield check("commensurate exponential: its SD", some.effect.sd, sd, 0.01, source, relative=True)


def _exact_commensurate(table: pl.DataFrame, sd_scale: float) -> tuple[float, float]:
    """Mean and SD by integration over a grid of the two control rates' logarithms."""
    arms = table.group_by("ext", "trt").agg(pl.col("status").sum(), pl.col("time").sum()).sort("ext", "trt")
    (_, _, d_c, t_c), (_, _, d_t, t_t), (_, _, d_e, t_e) = arms.iter_rows()
    log_rates = []
    for d, t in ((d_c, t_c), (d_e, t_e)):
        grid = np.log(d / t) + np.linspace(-6, 6, 801) / np.sqrt(d)
        log_rates.append((grid, d * grid - t * np.exp(grid)))
    (c, like_c), (e, like_e) = log_rates
    sds, w = priors.drift_nodes(sd_scale, None)
    at = np.linspace(-4, 4, 4001)
    density = (stats.norm.pdf(at[:, None] / sds) / sds) @ w
    joint = np.exp(like_c - like_c.max())[:, None] * np.exp(like_e - like_e.max())
    joint = joint * np.interp(e[None, :] - c[:, None], at, density)
    mass = joint.sum(1) / joint.sum()
    mean = float(mass @ c)
    spread = float(mass @ (c - mean) ** 2)
    return float(digamma(d_t) - np.log(t_t)) - mean, float(np.sqrt(polygamma(1, d_t) + spread))


def _same_history(folder: Path) -> Iterator[Check]:
    """ACTG175: 269 controls as history, used as a covariate and as an external arm, beside the randomised comparison."""
    known = json.loads((folder / "reference" / "covariate_adjustment.json").read_text())["prognostic_ACTG175"]
    whole = json.loads((folder / "reference" / "covariate_adjustment.json").read_text())["ACTG175_cd420"]["arm1_vs_0"]
    table = pl.read_csv(folder / "ACTG175.csv", null_values="")
    old = (pl.col("arms") == 0) & (pl.col("pidnum") % 2 == 0)
    found = like_for_like(table.filter(~old & pl.col("arms").is_in([0, 1])), table.filter(old), ACTG, "arms")
    source = "covariate_adjustment.json"
    score = found.of("covariate")[0].estimate
    assert score is not None
    yield check("same history: unadjusted randomised estimate", found.truth.estimate, known["unadjusted"]["est"], 1e-6, source)
    yield check("same history as a score: estimate", score.estimate, known["score"]["est"], 1e-6, source)
    yield check("same history as a score: HC3", score.se, known["score"]["se_HC3"], 1e-6, source)
    pooled = found.of("hybrid")[-1].estimate
    assert pooled is not None
    said = "ANCOVA of all 532 controls: full borrowing is pooling"
    yield check("same history pooled: estimate", pooled.estimate, whole["ANCOVA_full"]["est"], 1e-4, said)
    outside = [r.gap for r in found.of("external arm") if r.gap is not None]
    gaps = f"external arms beside the randomised estimate: within 4 of its standard errors ({len(outside)} methods)"
    yield check(gaps, float(np.abs(outside).max()), 0.0, 4 * found.truth.se, "like for like")

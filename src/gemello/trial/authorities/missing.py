"""Checks of imputation: against the mixed model that it must agree with, against R's mice, and identities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from gemello.base.reference import Check, check
from gemello.trial.analysis.mmrm.fit import mmrm
from gemello.trial.analysis.result import Estimate
from gemello.trial.missing.imputation import conditional_mean, fill, impute, plan
from gemello.trial.missing.normal import maximum_likelihood
from gemello.trial.missing.rubin import degrees_of_freedom, pool
from gemello.trial.missing.visits import visits

MICE = "R 4.2.2, mice, method norm, 100 imputations, seed 1"


def checks(folder: Path) -> Iterator[Check]:
    """folder: the trial reference data."""
    yield from _pooling()
    table = pl.read_csv(folder / "mmrm_fev_data.csv", null_values="")
    plain = visits(table, subject="USUBJID", visit="AVISIT", outcome="FEV1", arm="ARMCD", control="PBO")
    model = maximum_likelihood(plain, restricted=True)
    same = mmrm("FEV1 ~ ARMCD*AVISIT", table, subject="USUBJID", visit="AVISIT")
    gap = float((model.coefficients[1] - model.coefficients[0])[-1])
    difference = same.difference("TRT", "PBO", "VIS4")
    yield check("REML by EM: difference at VIS4", gap, difference.estimate, 1e-5, "MMRM of the same model by Newton's method")
    sigma = next(iter(same.Sigma.values()))
    worst = float(np.abs(model.covariances[0] / sigma - 1).max())
    yield check("REML by EM: largest relative difference of the covariance", worst, 0.0, 1e-5, "the same")
    mean = conditional_mean(plain, error="bootstrap", replicates=2)[0]
    yield check("conditional mean imputation at random: VIS4", mean.estimate, gap, 1e-6, "equal to the MMRM without covariates")
    many = impute(plain, 100, seed=1).analyse()[0]
    limit = 4 * float(many.extra["monte_carlo_se"])
    yield check("multiple imputation at random: VIS4", many.estimate, gap, limit, "MMRM, 4 Monte Carlo SE")
    data = visits(table, subject="USUBJID", visit="AVISIT", outcome="FEV1", arm="ARMCD", control="PBO", covariates="RACE + SEX")
    found = impute(data, 100, seed=1).analyse()[0]
    limit = 4 * float(np.hypot(found.extra["monte_carlo_se"], np.sqrt(0.907725 / 100)))
    yield check("multiple imputation with covariates: VIS4", found.estimate, 4.073102, limit, f"{MICE}; 4 Monte Carlo SE of both")
    yield check("multiple imputation with covariates: SE", found.se, 1.71262, 0.08, MICE, relative=True)
    for strategy in ("J2R", "CR", "CIR"):
        chosen = plan(data, strategy)  # type: ignore[arg-type]
        fitted = maximum_likelihood(data, restricted=True)
        done = fill(data, data, fitted, chosen, None)
        none = (data.occurred == 0) & (data.arm == 1)
        off = done[none] - fitted.mean(data, np.zeros(len(data), np.int64))[none]
        name = f"{strategy}: a subject without visits has the control arm's mean"
        yield check(name, float(np.abs(off).max()), 0.0, 1e-10, "Carpenter, Roger & Kenward 2013, section 4")


def _pooling() -> Iterator[Check]:
    values, variances = (1, 1.2, 0.9, 1.4, 1.1), (0.04, 0.05, 0.045, 0.05, 0.04)
    each = [Estimate("", "mean difference", q, float(np.sqrt(u)), "", 60) for q, u in zip(values, variances, strict=True)]
    out = pool(each, complete_df=58)
    source = "R 4.2.2, mice: pool.scalar"
    for name, value, said in (
        ("estimate", out.estimate, 1.12), ("variance", out.se**2, 0.0894), ("degrees of freedom", out.df or 0.0, 10.30101),
        ("fraction of missing information", out.extra["fraction_missing"], 0.5723311),
    ):  # fmt: skip
        yield check(f"Rubin's rules: {name}", value, said, 1e-6, source, relative=True)
    share = (1 + 1 / 20) * 1 / (0.5 + (1 + 1 / 20) * 1)  # 20 imputations, between 1, within 0.5
    yield check("Barnard & Rubin: no missing information", degrees_of_freedom(20, 0.0, 50), 51 / 53 * 50, 1e-12, "their limit")
    yield check("Rubin's degrees of freedom", degrees_of_freedom(20, share), 19 / share**2, 1e-9, "Rubin 1987")

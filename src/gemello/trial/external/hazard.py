"""Hazard ratio of two groups by parametric proportional hazards, with weights and a robust error."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import design
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.models import SURVIVAL, Data, Family, Gaussian, parts, posterior_mode

Array = NDArray[np.float64]


def hazard_ratio(
    table: pl.DataFrame,
    formula: str,
    treatment: str,
    event: str,
    *,
    family: Family = "weibull",
    weights: Array | None = None,
    level: float = 0.95,
) -> Estimate:
    """Log hazard ratio treated over control, exponential or Weibull.

    formula: time ~ covariates (~ 1 for none). treatment, event: columns of 0 and 1. weights: (rows,) for external controls; the
    error is then the robust (sandwich) one and treats them as known; a weight of 0 leaves a subject out. Raises DataError for a
    group without events.
    """
    if family not in SURVIVAL:
        raise DataError("not a survival family", column="family", value=family, remedy=f"one of {', '.join(SURVIVAL)}")
    d = design(formula, table)
    if problem := d.rank_problem():
        raise DataError(f"formula {formula!r}: {problem}", remedy="leave it out")
    assert d.outcome is not None
    a, seen = (d.table[c].cast(pl.Float64).to_numpy() for c in (treatment, event))
    w = np.ones(len(d)) if weights is None else np.asarray(weights, float)[d.kept]
    if np.any(d.outcome <= 0):
        raise DataError("time not above 0", column=d.formula.text, remedy="give times after the start of follow-up")
    for v in (0, 1):
        if not (w * seen)[a == v].sum() > 0:
            raise DataError(f"no events where {treatment} is {v}", column=event, remedy="there is no hazard to compare")
    z = d.matrix[:, 1:] - d.matrix[:, 1:].mean(0)
    scale = np.where((sd := z.std(0)) > 0, sd, 1.0) if z.shape[1] else np.ones(0)
    data = Data(family, np.column_stack([np.ones(len(a)), a, z / scale]), d.outcome, seen)
    flat = Gaussian(np.zeros(data.size), np.zeros(data.size))
    fit = posterior_mode(data, flat, w)
    covariance = fit.covariance
    words = f"{family} proportional hazards"
    if weights is not None:
        scores = np.array([parts(_one(data, i), fit.values, w[i : i + 1])[1] for i in range(len(a))])
        covariance = covariance @ (scores.T @ scores) @ covariance
        words += ", weighted, robust SE"
    se = float(np.sqrt(covariance[1, 1]))
    return Estimate(
        "treated / control", "log hazard ratio", float(fit.values[1]), se, words, int((w > 0).sum()), scale="log", level=level
    )


def _one(data: Data, i: int) -> Data:
    return Data(data.family, data.x[i : i + 1], data.y[i : i + 1], data.event[i : i + 1])

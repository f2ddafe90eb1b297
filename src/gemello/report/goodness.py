"""Goodness of fit: predictions and weighted residuals of every measured value at the estimates of a fit.

CWRES (Hooker, Staatz & Karlsson 2007, Pharm Res 24:2187, equations 4 to 6): with f and its derivative J by the etas, both at the
subject's own etas η̂, the first-order approximation there has the mean f − J η̂ and the covariance J Ω Jᵀ + R, and
CWRES = C^(−1/2) (y − mean). If the model is right they are about standard normal and independent. IWRES = (y − f)/sd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.engine.lanes import precision
from gemello.inference.population import Fit
from gemello.model.contract import Model
from gemello.model.individuals import residual_sd
from gemello.model.schedule import Subject
from gemello.model.simulate import simulate

Floats = NDArray[np.float64]
STEP = 1e-4  # of the central differences, in etas: error of order 1e-8 of the third derivative


@dataclass(frozen=True, eq=False)
class Goodness:
    """All arrays (measurements,). ids: whose. output: index. typical: prediction with all etas 0; individual: at η̂."""

    ids: tuple[str, ...]
    time: Floats
    output: NDArray[np.int64]
    measured: Floats
    typical: Floats
    individual: Floats
    iwres: Floats
    cwres: Floats


def goodness(model: Model, fit: Fit, subjects: Sequence[Subject], *, bind: Mapping[str, str] | None = None) -> Goodness:
    """Predictions and residuals of the subjects of `fit`. subjects: those it was made from (others are left out).

    bind: as in the fit. Raises DataError where a subject of the fit is missing, and what `simulate` raises.
    """
    by_id = {s.id: s for s in subjects}
    missing = [i for i in fit.ids if i not in by_id]
    if missing:
        raise DataError(
            "a subject of the fit is missing", column="subjects", value=missing[0], remedy="give the subjects that were fitted"
        )
    chosen = [by_id[i] for i in fit.ids]
    n = len(fit.etas)
    shifts = np.concatenate([np.eye(n), -np.eye(n)]) * STEP
    etas = np.concatenate([np.zeros((1, *fit.individual.shape)), fit.individual[None], fit.individual + shifts[:, None, :]])
    lanes = [Subject(s.id, s.schedule.without_values()) for _ in etas for s in chosen]
    values = {k: v for k, v in fit.theta.items() if k not in (bind or {})}
    found = simulate(model, lanes, values, etas=etas.reshape(-1, n), bind=bind).check()
    stacked = np.stack([found.outputs[o.name] for o in model.outputs])  # (outputs, lanes, records)
    parts = stacked.reshape(len(model.outputs), len(etas), len(chosen), -1)
    rows = [_subject(model, fit, k, s, parts[:, :, k, : len(s.schedule)]) for k, s in enumerate(chosen)]
    joined = [np.concatenate(column) for column in zip(*(r for r in rows), strict=True)]
    ids = tuple(s.id for s, r in zip(chosen, rows, strict=True) for _ in range(len(r[0])))
    return Goodness(ids, *joined)


def _subject(model: Model, fit: Fit, k: int, s: Subject, f: Floats) -> tuple[Any, ...]:
    """Columns of one subject, from predictions (outputs, [typical, individual, up…, down…], records)."""
    seen = np.flatnonzero(s.schedule.measured)
    output = s.schedule.output[seen]
    y, g = s.schedule.value[seen], f[output, :, seen].T  # (predictions, measurements)
    n = len(fit.etas)
    typical, individual = g[0], g[1]
    slope = ((g[2 : 2 + n] - g[2 + n :]) / (2 * STEP)).T
    sd = np.empty(len(seen))
    with precision():
        for i in np.unique(output):
            sd[output == i] = np.asarray(residual_sd(model, int(i), individual[output == i], fit.sigma))
    lognormal = np.array([(r := model.outputs[i].residual) is not None and r.form == "lognormal" for i in output], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(lognormal, 1.0 / individual, 1.0)  # d ln f = df / f
        miss = np.where(lognormal, np.log(y) - np.log(individual), y - individual)
        iwres = miss / sd
    j = slope * scale[:, None]
    cwres = whiten(miss + j @ fit.individual[k], j @ fit.omega @ j.T + np.diag(sd**2))
    return s.schedule.time[seen], output, y, typical, individual, iwres, cwres


def whiten(residual: Floats, covariance: Floats) -> Floats:
    """C^(−1/2) r with the symmetric root, NaN where C is not positive definite."""
    if not np.all(np.isfinite(covariance)) or not len(residual):
        return np.full_like(residual, np.nan)
    size, directions = np.linalg.eigh(covariance)
    if size[0] <= 0:
        return np.full_like(residual, np.nan)
    return np.asarray(directions @ ((directions.T @ residual) / np.sqrt(size)))

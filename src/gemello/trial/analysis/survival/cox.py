"""Cox's proportional hazards model (Cox 1972): ties, strata, delayed entry, ridge, robust errors, baseline, forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.formula import Design, Formula, design
from gemello.trial.analysis.result import Coefficients, Estimate
from gemello.trial.analysis.survival import partial
from gemello.trial.analysis.survival.data import listed, prepare, words
from gemello.trial.analysis.survival.partial import RiskSets, Ties

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cox:
    """A fitted Cox model. p coefficients, n subjects.

    coefficients: log hazard ratios per unit, with the covariance asked for (`method` says which). model_covariance: (p, p)
    inverse of the (penalised) information. log_likelihood: at β and at 0. x: (n, p), centred at `centre` (p,). design: None where
    the matrix was given. strata: names; stratum: (n,). kept: (n,) rows of the table.
    """

    coefficients: Coefficients
    model_covariance: Array
    log_likelihood: float
    log_likelihood_null: float
    events: int
    ties: Ties
    ridge: float
    x: Array
    centre: Array
    sets: RiskSets
    stratum: NDArray[np.int64]
    strata: tuple[str, ...]
    design: Design | None
    kept: NDArray[np.int64]

    @property
    def names(self) -> tuple[str, ...]:
        """(p,) coefficients."""
        return self.coefficients.names

    @property
    def values(self) -> Array:
        """(p,) log hazard ratios."""
        return self.coefficients.values

    @property
    def se(self) -> Array:
        """(p,) standard errors."""
        return self.coefficients.se

    def of(self, name: str, label: str = "") -> Estimate:
        """One log hazard ratio. Raises DataError for an unknown name."""
        return self.coefficients.of(name, label, "log hazard ratio", "log")

    def linear_predictor(self, table: pl.DataFrame | None = None) -> Array:
        """(rows,) xβ, as the data's mean has 0; of the data, or of other rows (NaN where a value is missing)."""
        return (self.x if table is None else self._x(table)) @ self.values

    def cumulative_hazard(self, stratum: str | None = None) -> tuple[Array, Array]:
        """Event times (m,) and the baseline's cumulative hazard (m,) there, at the mean of the covariates (linear predictor 0).

        Breslow 1972 (Efron's form where ties are Efron's). stratum: which, needed where there are several.
        """
        s = self.sets.strata[self._stratum(stratum)]
        r = partial.rows(self.x, self.x @ self.values, s)
        hazard = np.zeros(len(s.times))
        np.add.at(hazard, s.row_time, r.jump)
        return s.times, np.cumsum(hazard)

    def survival(self, table: pl.DataFrame, times: Array, stratum: str | None = None) -> Array:
        """(rows, T) forecast probability to be free of the event at each time: exp(−H0(t) exp(xβ)). Times beyond the last time
        under observation are NaN: the data say nothing there."""
        at, hazard = self.cumulative_hazard(stratum)
        t = np.asarray(times, float)
        h0 = np.concatenate([[0.0], hazard])[np.searchsorted(at, t, side="right")]
        out = np.exp(-np.exp(self.linear_predictor(table))[:, None] * h0[None, :])
        last = self.sets.time[self.sets.strata[self._stratum(stratum)].who].max()
        out[:, t > last] = np.nan
        return out

    def martingale_residuals(self) -> Array:
        """(n,) events seen less events expected."""
        eta = self.x @ self.values
        out = np.empty(len(self.x))
        for s in self.sets.strata:
            r = partial.rows(self.x, eta, s)
            out[s.who] = self.sets.event[s.who] - partial.exposure(r.jump, s) * r.w
        return out

    def score_residuals(self) -> Array:
        """(n, p) each subject's share of the score (Lin & Wei 1989)."""
        eta = self.x @ self.values
        out = np.empty_like(self.x)
        for s in self.sets.strata:
            r = partial.rows(self.x, eta, s)
            x = self.x[s.who]
            mean = event_means(r.mean, s)
            seen = s.event_time >= 0
            u = -r.w[:, None] * (x * partial.exposure(r.jump, s)[:, None] - partial.exposure(r.jump[:, None] * r.mean, s))
            u[seen] += x[seen] - mean[s.event_time[seen]]
            out[s.who] = u
        return out

    def _x(self, table: pl.DataFrame) -> Array:
        if self.design is None:
            raise DataError("this model was given a matrix, not a formula", remedy="use linear_predictor() without a table")
        return self.design.at(table)[:, _columns(self.design)] - self.centre

    def _stratum(self, name: str | None) -> int:
        if name is None and len(self.strata) == 1:
            return 0
        if name not in self.strata:
            raise DataError("which stratum?", value=name, remedy=f"one of {', '.join(self.strata[:20])}")
        return self.strata.index(name)


def event_means(row_means: Array, s: partial.Stratum) -> Array:
    """(m, p) mean covariates of the risk set at each event time, averaged over its rows."""
    out = np.zeros((len(s.times), row_means.shape[1]))
    np.add.at(out, s.row_time, row_means)
    return out / np.bincount(s.row_time, minlength=len(s.times))[:, None]


def cox(
    formula: str | Formula, table: pl.DataFrame, *, time: str, event: str, entry: str | None = None, strata: Sequence[str] = (),
    ties: Ties = "efron", ridge: float = 0.0, robust: bool = False, cluster: str | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
) -> Cox:  # fmt: skip
    """Fit log hazard ratios by partial likelihood.

    formula: the right-hand side, "~ arm + log(bili)". time, event (0/1): columns. entry: column of the time at which a subject
    came under observation. strata: columns; each combination has its own baseline hazard. ridge: penalty ½ ridge Σ (β sd(x))².
    robust: sandwich covariance of Lin & Wei 1989; cluster: column of independent units (implies robust).
    Raises DataError (codes, times, columns that the others determine), RefusalError (monotone likelihood), ConvergenceError.
    """
    f = Formula.parse(formula.strip().removeprefix("~")) if isinstance(formula, str) else formula
    if f.outcome is not None:
        raise DataError(f"formula {f.text!r} has an outcome", remedy="write only the right-hand side, and name time= and event=")
    d = prepare(table, time=time, event=event, entry=entry, strata=strata)
    units = words(table, [cluster]) if cluster else None
    used = [c for c in f.columns if c in table.columns]
    there = [i for i in d.kept if (units is None or units[i] is not None)]
    full = design(f, table[there], levels=levels) if used else None
    if full is None:
        raise DataError(f"formula {f.text!r} has no column", remedy="name a covariate")
    rows = np.asarray(there, np.int64)[full.kept]
    again = prepare(table[rows], time=time, event=event, entry=entry, strata=strata)
    group = None if units is None else np.unique([str(units[i]) for i in rows], return_inverse=True)[1]
    keep = _columns(full)
    x, names = full.matrix[:, keep], tuple(full.names[i] for i in keep)
    return fit(
        x, names, again.time, again.event, entry=again.entry, stratum=again.stratum, strata=again.strata, ties=ties, ridge=ridge,
        robust=robust, cluster=group, design=full, kept=rows,
    )  # fmt: skip


def _columns(d: Design) -> list[int]:
    return [i for i, t in enumerate(d.term_of) if t >= 0]


def fit(
    x: Array, names: tuple[str, ...], time: Array, event: Array, *, entry: Array | None = None,
    stratum: NDArray[np.int64] | None = None, strata: tuple[str, ...] = ("all",), ties: Ties = "efron", ridge: float = 0.0,
    robust: bool = False, cluster: NDArray[np.int64] | None = None, design: Design | None = None,
    kept: NDArray[np.int64] | None = None,
) -> Cox:  # fmt: skip
    """The same from arrays that have been checked. x: (n, p). time, event, entry, stratum, cluster: (n,)."""
    n, p = x.shape
    if not event.any():
        raise DataError("no event in the data", remedy="the Cox model needs events")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise DataError("no ridge penalty", column="ridge", value=ridge, remedy="give a number from 0 up")
    where = np.zeros(n, np.int64) if stratum is None else stratum
    centre, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    _independent(x - centre, scale, names, where, ridge)
    sets = partial.risk_sets(time, event, np.full(n, -np.inf) if entry is None else entry, where, ties)
    z = (x - centre) / scale
    gamma, value, null = partial.maximise(z, sets, np.full(p, float(ridge)), names)
    value, _, information = partial.evaluate(z, gamma, sets)
    inverse = np.linalg.inv(information + ridge * np.eye(p))
    covariance = inverse / np.outer(scale, scale)
    how = f"Cox model, {ties.capitalize()} ties" + (", stratified" if len(strata) > 1 else "")
    how += f", ridge penalty {ridge:g}" if ridge else ""
    first = Coefficients(names, gamma / scale, covariance, None, n, how + ", model-based standard errors")
    out = Cox(
        first, covariance, value, null, int(event.sum()), ties, float(ridge), x - centre, centre, sets, where, strata, design,
        np.arange(n) if kept is None else kept,
    )  # fmt: skip
    if not robust and cluster is None:
        return out
    return _with(out, Coefficients(names, first.values, sandwich(out, cluster), None, n, how + ", robust standard errors"))


def _with(model: Cox, coefficients: Coefficients) -> Cox:
    return Cox(**{**model.__dict__, "coefficients": coefficients})


def sandwich(model: Cox, cluster: NDArray[np.int64] | None = None) -> Array:
    """(p, p) robust covariance of Lin & Wei 1989. cluster: (n,) numbers of independent units, each subject its own without."""
    u = model.score_residuals()
    if cluster is not None:
        total = np.zeros((int(cluster.max()) + 1, u.shape[1]))
        np.add.at(total, cluster, u)
        if len(total) <= u.shape[1]:
            raise DataError(f"{len(total)} clusters for {u.shape[1]} coefficients", remedy="give more clusters than coefficients")
        u = total
    d = u @ model.model_covariance
    return d.T @ d


def _independent(x: Array, scale: Array, names: tuple[str, ...], stratum: NDArray[np.int64], ridge: float) -> None:
    """DataError for columns that are constant, constant within all strata, or determined by others."""
    for i, name in enumerate(names):
        if not scale[i] > 1e-12 * np.abs(x[:, i]).max(initial=0.0) or scale[i] == 0:
            raise DataError("the same for all subjects", column=name, remedy="leave it out of the model")
    count = np.bincount(stratum)
    means = np.stack([np.bincount(stratum, weights=x[:, i]) for i in range(len(names))], axis=1) / np.maximum(count, 1)[:, None]
    z = (x - means[stratum]) / scale
    if ridge == 0:
        if len(z) <= len(names):
            raise DataError(
                f"{len(names)} coefficients for {len(z)} subjects", remedy="leave covariates out or add a ridge penalty"
            )
        r = np.abs(np.diag(np.linalg.qr(z, mode="r"))) / np.sqrt(len(z))
        lost = [n for n, v in zip(names, r, strict=True) if v < 1e-9]
        if lost:
            words = f"{listed(lost)} cannot be told from the other columns and the strata"
            raise DataError(words, remedy="leave it out of the model")

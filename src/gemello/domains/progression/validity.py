"""The population that a generator learned from, in summary: what a locked file carries, and what drift is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gemello.base.errors import DataError
from gemello.model.generator import Array, History

GRID = np.linspace(0.0, 1.0, 101)  # of the quantiles kept


@dataclass(frozen=True)
class Covariate:
    """One variable at baseline. n: persons with a value, missing: without. quantiles: (101,) of a continuous one or a count, by
    percent. levels, counts: of a discrete one. horizon of the history's visits is in Validity."""

    name: str
    kind: str
    n: int
    missing: int
    mean: float
    sd: float
    low: float
    high: float
    quantiles: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Validity:
    """persons: how many. covariates: what is known at baseline. mean, covariance: (k,), (k, k) of the covariates, missing
    values at their means. last_time: of any visit, in the history's unit."""

    persons: int
    covariates: tuple[Covariate, ...]
    mean: Array
    covariance: Array
    last_time: float
    time_unit: str

    @classmethod
    def of(cls, history: History) -> Validity:
        """Raises DataError where nothing is known at baseline."""
        kinds = {v.name: v.kind for v in history.variables}
        values = baseline_values(history)
        values = {k: a for k, a in values.items() if not np.isnan(a).all()}
        if not values:
            raise DataError("nothing is known at baseline", remedy="give baseline values, or visits at time 0")
        x = np.column_stack([np.where(np.isnan(a), np.nanmean(a), a) for a in values.values()])
        last = float(history.time.max()) if len(history.time) else 0.0
        return cls(
            len(history), tuple(_covariate(k, kinds[k], a) for k, a in values.items()), x.mean(0),
            np.atleast_2d(np.cov(x, rowvar=False, ddof=1)) if len(x) > 1 else np.zeros((x.shape[1],) * 2), last,
            history.time_unit,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {
            "persons": self.persons, "covariates": [asdict(c) for c in self.covariates], "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(), "last_time": self.last_time, "time_unit": self.time_unit,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Validity:
        """The validity of `to_dict`; DataError where its parts do not fit each other."""
        covariates = tuple(
            Covariate(**{**c, **{k: tuple(c[k]) for k in ("quantiles", "levels", "counts")}}) for c in d["covariates"]
        )
        k = len(covariates)
        mean, covariance = np.array(d["mean"], float), np.array(d["covariance"], float)
        if mean.shape != (k,) or covariance.shape != (k, k):
            raise DataError("a validity range whose parts do not fit", remedy="lock the generator anew")
        return cls(int(d["persons"]), covariates, mean, covariance, float(d["last_time"]), str(d["time_unit"]))


def baseline_values(history: History) -> dict[str, Array]:
    """name -> (persons,) of all that is known at baseline: baseline variables, and longitudinal ones at the latest time up to
    0."""
    out = {k: np.asarray(a, float) for k, a in history.baseline.items()}
    before = np.flatnonzero(history.time <= 0)
    for k, a in history.values.items():
        if k in out:
            continue
        last = np.full(len(history), np.nan)
        for i in before:
            if not np.isnan(a[i]):
                last[history.person[i]] = a[i]
        out[k] = last
    return out


def _covariate(name: str, kind: str, a: Array) -> Covariate:
    seen = a[~np.isnan(a)]
    sd = float(seen.std(ddof=1)) if len(seen) > 1 else 0.0
    low, high = float(seen.min()), float(seen.max())
    common = (name, kind, len(seen), int(np.isnan(a).sum()), float(seen.mean()), sd, low, high)
    if kind in ("binary", "ordinal"):
        levels, counts = np.unique(seen, return_counts=True)
        return Covariate(*common, levels=tuple(levels.tolist()), counts=tuple(int(c) for c in counts))
    return Covariate(*common, quantiles=tuple(np.quantile(seen, GRID).tolist()))

"""Visual predictive check: percentiles of the data over time, beside the same percentiles of data simulated from the model.

Prediction-corrected (Bergstrand, Hooker, Wallin & Karlsson 2011, AAPS J 13:143, equations 2 to 4): before percentiles are taken
every value, measured or simulated, is brought to the typical prediction of its bin,

    y_pc = lb + (y − lb) (PRED_bin − lb) / (PRED − lb),    or, of logarithms,  y_pc = y + (PRED_bin − PRED),

with PRED the typical prediction of the value, PRED_bin the median of PRED in the bin and lb the lower bound of y, so that doses
and covariates within a bin do not blur the picture. Values beyond a limit of quantification take part by their rank, in the data
and in the simulations alike (Bergstrand & Karlsson 2009, AAPS J 11:371), and a percentile that lies beyond the limit is not
shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.inference.binning import Floats, Rule, bins_of, edges
from gemello.inference.observed import Replicates
from gemello.model.contract import Model

BEYOND = 1e250  # stands for "below" and "above" the limits: percentiles keep the order


@dataclass(frozen=True, eq=False)
class Percentile:
    """One percentile `p` in each bin, (bins,): of the data, and of the replicates the median and a central interval; error: Monte
    Carlo standard error of the worst of the three. NaN: beyond a limit of quantification."""

    p: float
    observed: Floats
    median: Floats
    low: Floats
    high: Floats
    error: Floats

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(bins,) where the data's percentile lies outside the interval of the simulated ones."""
        with np.errstate(invalid="ignore"):
            return (self.observed < self.low) | (self.observed > self.high)


@dataclass(frozen=True, eq=False)
class Vpc:
    """A visual predictive check of one output (of one stratum). x, y: (values,) what was measured, corrected where `corrected`;
    beyond: whether the value is a limit only. edges: (bins + 1,), centre, count: (bins,). below: share under the lower limit of
    quantification, where there is one. level: of the intervals. replicates, seed: of the simulation.
    """

    output: str
    unit: str
    axis: str
    axis_unit: str
    stratum: str
    corrected: bool
    x: Floats
    y: Floats
    beyond: NDArray[np.bool_]
    edges: Floats
    centre: Floats
    count: NDArray[np.int64]
    percentiles: tuple[Percentile, ...]
    limit: float | None
    below: Percentile | None
    level: float
    replicates: int
    seed: int
    provenance: dict[str, Any]

    @property
    def outside(self) -> tuple[int, int]:
        """How many of the data's percentiles lie outside their intervals, and of how many; (1 − level) of them are expected
        to."""
        seen = [np.isfinite(p.observed) & np.isfinite(p.low) & np.isfinite(p.high) for p in self.percentiles]
        return sum(int((p.outside & s).sum()) for p, s in zip(self.percentiles, seen, strict=True)), sum(
            int(s.sum()) for s in seen
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        words = {k: getattr(self, k) for k in ("output", "unit", "axis", "axis_unit", "stratum", "corrected", "limit", "level",
                                               "replicates", "seed", "provenance")}  # fmt: skip
        wide = (*self.percentiles, *((self.below,) if self.below else ()))
        rows = [
            {"percentile": p.p, **{k: getattr(p, k).tolist() for k in ("observed", "median", "low", "high", "error")}}
            for p in wide
        ]
        return words | {
            "edges": self.edges.tolist(), "centre": self.centre.tolist(), "count": self.count.tolist(),
            "percentiles": rows[: len(self.percentiles)], "below_limit": rows[-1] if self.below else None,
            "outside": list(self.outside),
        }  # fmt: skip


def vpc(
    model: Model,
    simulated: Replicates,
    *,
    corrected: bool = False,
    by: Literal["time", "after dose"] = "time",
    bins: Rule | Sequence[float] = "auto",
    number: int | None = None,
    percentiles: Sequence[float] = (0.05, 0.5, 0.95),
    level: float = 0.95,
    stratify: str | None = None,
    limit: float | None = None,
    lower_bound: float = 0.0,
    logarithms: bool = False,
) -> tuple[Vpc, ...]:
    """Visual predictive checks, one for each output that was measured (and each value of the column `stratify`).

    corrected: by prediction. by: the axis. bins, number: see `binning.edges`. percentiles: shown. level: of their intervals over
    the replicates. limit: lower limit of quantification, by default the highest below which a value of this output is said to
    lie. lower_bound, logarithms: of the correction, see above. Raises DataError.
    """
    data = simulated.data
    if by not in ("time", "after dose"):
        raise DataError("unknown axis", column="by", value=by, remedy="use time or after dose")
    if not all(0 < p < 1 for p in percentiles) or not 0 < level < 1:
        raise DataError("a percentile or a level is not between 0 and 1", column="percentiles", remedy="give them like 0.05")
    x = data.time if by == "time" else data.after_dose
    groups = data.column(stratify) if stratify else np.zeros(len(data))
    if len(np.unique(groups)) > 12:
        raise DataError("more than 12 strata", column=str(stratify), remedy="stratify by a column of few different values")
    out = []
    for k in np.unique(data.output):
        for g in np.unique(groups):
            here = np.flatnonzero((data.output == k) & (groups == g) & np.isfinite(x))
            if not len(here):
                continue
            o, label = model.outputs[int(k)], f"{stratify} {g:g}" if stratify else ""
            part = _Part(x[here], data.value[here], data.censored[here], simulated.simulated[:, here], simulated.typical[here])
            shape = (corrected, tuple(sorted(percentiles)), level, limit, lower_bound, logarithms)
            out.append(
                Vpc(
                    output=o.name, unit=o.unit, axis="time" if by == "time" else "time after dose", axis_unit=model.time_unit,
                    stratum=label, corrected=corrected, x=part.x, level=level, replicates=len(simulated), seed=simulated.seed,
                    provenance=simulated.provenance, **_one(part, edges(part.x, bins, number), *shape),
                )
            )  # fmt: skip
    if not out:
        raise DataError("no value to be shown", column="by", value=by, remedy="all values lie before the first dose; use time")
    return tuple(out)


@dataclass(frozen=True, eq=False)
class _Part:
    """What one panel is made from: (values,), y_sim (replicates, values)."""

    x: Floats
    y: Floats
    censored: NDArray[np.int64]
    y_sim: Floats
    typical: Floats


def _one(
    d: _Part, at: Floats, corrected: bool, percentiles: tuple[float, ...], level: float, limit: float | None, bound: float,
    logs: bool,
) -> dict[str, Any]:  # fmt: skip
    """What of a `Vpc` depends on the values."""
    which = bins_of(d.x, at)
    used = np.unique(which)
    low = limit if limit is not None else float(d.y[d.censored == 1].max()) if (d.censored == 1).any() else None
    high = float(d.y[d.censored == -1].min()) if (d.censored == -1).any() else None
    y, y_sim = d.y, d.y_sim
    under, under_sim = d.censored == 1, np.zeros(y_sim.shape, bool)
    if low is not None:
        under, under_sim = under | (y < low), y_sim < low
    over, over_sim = d.censored == -1, y_sim > high if high is not None else np.zeros(y_sim.shape, bool)
    if corrected:
        y, y_sim = (prediction_corrected(v, d.typical, which, bound, logs) for v in (y, y_sim))
    ranked = np.where(under, -BEYOND, np.where(over, BEYOND, y))
    ranked_sim = np.where(under_sim, -BEYOND, np.where(over_sim, BEYOND, y_sim))
    rows = [_percentile(ranked, ranked_sim, which, used, p, level) for p in percentiles]
    below = None
    if low is not None:
        shares = lambda v: np.stack([v[..., which == b].mean(axis=-1) for b in used], axis=-1)  # noqa: E731
        below = _band(float("nan"), shares(under.astype(float)), shares(under_sim.astype(float)), level)
    centre = np.array([np.median(d.x[which == b]) for b in used])
    count = np.array([int((which == b).sum()) for b in used])
    return {
        "y": y, "beyond": under | over, "edges": at, "centre": centre, "count": count, "percentiles": tuple(rows), "limit": low,
        "below": below,
    }  # fmt: skip


def prediction_corrected(
    y: Floats, typical: Floats, which: NDArray[np.int64], bound: float = 0.0, logarithms: bool = False
) -> Floats:
    """y (..., values) brought to the median typical prediction of each value's bin, `which`. A value whose typical prediction is
    at the bound (a sample before the first dose) stays as it is."""
    middle = np.empty_like(typical)
    for b in np.unique(which):
        middle[which == b] = np.median(typical[which == b])
    if logarithms:
        return np.asarray(y + (middle - typical))
    small = np.abs(typical - bound) <= 1e-12 * np.maximum(np.abs(typical).max(), 1e-300)
    ratio = np.where(small, 1.0, (middle - bound) / np.where(small, 1.0, typical - bound))
    return np.asarray(bound + (y - bound) * ratio)


def _percentile(
    y: Floats, y_sim: Floats, which: NDArray[np.int64], used: NDArray[np.int64], p: float, level: float
) -> Percentile:
    of = lambda v: np.stack([np.quantile(v[..., which == b], p, axis=-1) for b in used], axis=-1)  # noqa: E731
    return _band(p, of(y), of(y_sim), level)


def _band(p: float, observed: Floats, replicated: Floats, level: float) -> Percentile:
    """Median and central interval over replicates (replicates, bins), with the standard error of these quantiles.

    The error is half the distance between the quantiles at q ± √(q (1 − q) / replicates).
    """
    n = len(replicated)
    ends = np.array([0.5, 0.5 - level / 2, 0.5 + level / 2])
    room = np.sqrt(ends * (1 - ends) / n)
    at = np.quantile(replicated, np.clip(np.concatenate([ends, ends - room, ends + room]), 0, 1), axis=0)
    hidden = lambda v: np.where(np.abs(v) > BEYOND / 1e50, np.nan, v)  # noqa: E731
    with np.errstate(invalid="ignore"):
        error = np.max((hidden(at[6:9]) - hidden(at[3:6])) / 2, axis=0)
    return Percentile(p, hidden(observed), hidden(at[0]), hidden(at[1]), hidden(at[2]), error)

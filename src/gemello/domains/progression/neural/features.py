"""What a forecast is made from: a person's baseline values and a summary of the visits seen, up to an origin.

An origin is a moment at which a forecast is made: baseline, or any later visit. A pair is an origin and a later visit. Training
takes pairs of every kind, so that one model forecasts from baseline and from any history, over any gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.domains.progression.neural.scales import Scale
from gemello.model.generator import Array, History

Int = NDArray[np.int64]
ORIGINS, TARGETS = 6, 12  # at most, of one person and of one origin
TIME_TERMS = 2


@dataclass(frozen=True)
class Origins:
    """person: (n,). visit: (n,) last visit seen, −1 for none. time: (n,) of the origin. core: (n, P + J) baseline values and last
    values, NaN where missing. more: (n, M) what else is known of the visits."""

    person: Int
    visit: Int
    time: Array
    core: Array
    more: Array


def states(history: History, scales: Mapping[str, Scale], baseline: tuple[str, ...], visits: tuple[str, ...]) -> dict[str, Array]:
    """What is known of each variable after each visit, (visits, J): last value and its time, the mean so far, how many values."""
    v, j = len(history.person), len(visits)
    values = np.column_stack([scales[k].forward(history.values[k]) for k in visits]) if j else np.empty((v, 0))
    out = {k: np.full((v, j), np.nan) for k in ("last", "at", "mean")} | {"count": np.zeros((v, j))}
    for i in range(v):
        fresh = i == 0 or history.person[i] != history.person[i - 1]
        seen = ~np.isnan(values[i])
        last, at, mean = (np.full(j, np.nan),) * 3 if fresh else (out[k][i - 1] for k in ("last", "at", "mean"))
        count = np.zeros(j) if fresh else out["count"][i - 1]
        total = np.where(count > 0, mean, 0.0) * count + np.where(seen, values[i], 0.0)
        out["count"][i] = count + seen
        out["last"][i] = np.where(seen, values[i], last)
        out["at"][i] = np.where(seen, history.time[i], at)
        out["mean"][i] = np.where(out["count"][i] > 0, total / np.maximum(out["count"][i], 1), np.nan)
    return out


def training_origins(history: History) -> tuple[Int, Int]:
    """Person and last visit of the origins to learn from: baseline (visits up to time 0) and later visits, spread evenly."""
    first = np.searchsorted(history.person, np.arange(len(history)))
    last = np.searchsorted(history.person, np.arange(len(history)), side="right")
    person, visit = [], []
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        start = a - 1 + int(np.sum(history.time[a:b] <= 0))  # a − 1: nothing seen
        later = np.arange(start + 1, b)
        if len(later) > ORIGINS - 1:
            later = later[np.unique(np.round(np.linspace(0, len(later) - 1, ORIGINS - 1)).astype(int))]
        for k in (start, *later):
            person.append(i)
            visit.append(k if k >= a else -1)
    return np.array(person, np.int64), np.array(visit, np.int64)


def origins(
    history: History, scales: Mapping[str, Scale], baseline: tuple[str, ...], visits: tuple[str, ...], person: Int, visit: Int
) -> Origins:
    """The origins of given persons and last visits."""
    s = states(history, scales, baseline, visits)
    j = len(visits)
    none = visit < 0
    at = np.where(none, 0, visit)

    def picked(name: str, empty: float) -> Array:
        if not len(history.person):
            return np.full((len(person), j), empty)
        return np.where(none[:, None], empty, s[name][at])

    time = np.zeros(len(person)) if not len(history.person) else np.where(none, 0.0, history.time[at])
    time = np.maximum(time, 0.0)
    last, mean, count = picked("last", np.nan), picked("mean", np.nan), picked("count", 0.0)
    stale = np.nan_to_num(time[:, None] - picked("at", np.nan))
    columns = [scales[k].forward(np.asarray(history.baseline[k], float))[person] for k in baseline]
    core = np.column_stack([*columns, last]) if columns or j else np.empty((len(person), 0))
    more = np.column_stack([
        np.nan_to_num(mean - last), np.log1p(np.maximum(stale, 0.0)), np.isnan(core).astype(float), np.log1p(count.sum(1)), time,
    ])  # fmt: skip
    return Origins(person, visit, time, core, more)


def pairs(history: History, o: Origins) -> tuple[Int, Int, Array]:
    """Origin number, visit number and weight of each pair. A person's visit weighs one, half of it forecast from baseline: a
    trial's forecasts are made there."""
    first = np.searchsorted(history.person, np.arange(len(history)))
    end = np.searchsorted(history.person, np.arange(len(history)), side="right")
    number, visit, from_start = [], [], []
    for k, (i, v) in enumerate(zip(o.person, o.visit, strict=True)):
        start = k == 0 or o.person[k - 1] != i
        begin = v + 1 if v >= 0 else first[i]
        targets = np.arange(begin, end[i])
        targets = targets[history.time[targets] > o.time[k]]
        if len(targets) > TARGETS:
            targets = targets[np.unique(np.round(np.linspace(0, len(targets) - 1, TARGETS)).astype(int))]
        number += [k] * len(targets)
        visit += targets.tolist()
        from_start += [start] * len(targets)
    n, t, s = np.array(number, np.int64), np.array(visit, np.int64), np.array(from_start, bool)
    others = np.bincount(t[~s], minlength=len(history.person)) if len(t) else np.zeros(0)
    weight = np.where(s, np.where(others[t] > 0, 0.5, 1.0), 0.5 / np.maximum(others[t], 1)) if len(t) else np.zeros(0)
    return n, t, weight


@dataclass(frozen=True)
class Encoder:
    """Puts origins and times on common scales and fills gaps in the core by its conditional mean given what is there.

    core_mean, core_cov: of baseline and last values. more_mean, more_rate: (M,), a rate is one over the SD, 0 where nothing
    varies. gap: scale of log(1 + gap/scale). Two time terms: the log gap and the time itself, standardised by time_mean and
    time_rate."""

    core_mean: Array
    core_cov: Array
    more_mean: Array
    more_rate: Array
    gap: float
    time_mean: Array
    time_rate: Array

    @classmethod
    def learn(cls, o: Origins, gaps: Array, times: Array) -> Encoder:
        """gaps, times: (pairs,) of the pairs."""
        mean, cov = conditional_normal(o.core)
        sd = o.more.std(0)
        gap = float(np.median(gaps)) if len(gaps) else 1.0
        raw = np.column_stack([np.log1p(gaps / gap), times]) if len(gaps) else np.zeros((1, TIME_TERMS))
        spread = raw.std(0)
        return cls(mean, cov, o.more.mean(0), _rate(sd), gap, raw.mean(0), _rate(spread))

    def static(self, o: Origins) -> Array:
        """(n, P + J + M) of each origin."""
        filled = fill(o.core, self.core_mean, self.core_cov)
        sd = np.sqrt(np.diag(self.core_cov))
        return np.column_stack(
            [np.clip((filled - self.core_mean) / sd, -6, 6), np.clip((o.more - self.more_mean) * self.more_rate, -6, 6)]
        )

    def clock(self, gaps: Array, times: Array) -> Array:
        """(..., 2) time terms."""
        raw = np.stack([np.log1p(np.maximum(gaps, 0.0) / self.gap), times], -1)
        return (raw - self.time_mean) * self.time_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Encoder:
        """The encoder of `to_dict`."""
        arrays: dict[str, Any] = {k: float(v) if k == "gap" else np.array(v, float) for k, v in d.items()}
        return cls(**arrays)


def _rate(sd: Array) -> Array:
    return np.where(sd > 1e-9, 1 / np.where(sd > 1e-9, sd, 1.0), 0.0)


def conditional_normal(x: Array, iterations: int = 20) -> tuple[Array, Array]:
    """Mean and covariance of rows with gaps, by EM for the multivariate normal, lightly shrunk to its diagonal."""
    p = x.shape[1]
    if not p:
        return np.zeros(0), np.zeros((0, 0))
    seen = ~np.isnan(x)
    some = seen.any(0)
    mean = np.where(some, np.nansum(x, 0) / np.maximum(seen.sum(0), 1), 0.0)
    var = np.where(some, np.nansum((np.where(seen, x, mean) - mean) ** 2, 0) / np.maximum(seen.sum(0), 1), 1.0)
    var = np.where(var > 1e-9, var, 1.0)
    cov = np.diag(var)
    for _ in range(iterations if len(x) else 0):
        extra = np.zeros((p, p))
        full = fill(x, mean, cov, extra)
        mean = full.mean(0)
        cov = (full - mean).T @ (full - mean) / len(x) + extra / len(x)
        if seen.all():
            break
    shrink = min(1.0, p / (len(x) + p)) * 0.5 + 1e-3
    d = np.where(np.diag(cov) > 1e-9, np.diag(cov), 1.0)
    return mean, (1 - shrink) * cov + np.diag(shrink * d + np.where(np.diag(cov) > 1e-9, 0.0, 1.0))


def fill(x: Array, mean: Array, cov: Array, extra: Array | None = None) -> Array:
    """Missing values replaced by their conditional mean given the row's others. extra: gathers the conditional covariances."""
    out = x.copy()
    patterns, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
    for k, gone in enumerate(patterns):
        if not gone.any():
            continue
        rows = np.flatnonzero(which.ravel() == k)
        here = ~gone
        inner = cov[np.ix_(here, here)] + 1e-9 * np.eye(int(here.sum()))
        b = np.linalg.solve(inner, cov[np.ix_(here, gone)]) if here.any() else np.zeros((0, int(gone.sum())))
        out[np.ix_(rows, gone)] = mean[gone] + (x[np.ix_(rows, here)] - mean[here]) @ b
        if extra is not None:
            extra[np.ix_(gone, gone)] += len(rows) * (cov[np.ix_(gone, gone)] - cov[np.ix_(gone, here)] @ b)
    return out

"""From a history to the arrays that are learnt from: scaled baseline columns, scaled observations, levels.

Columns of x: baseline variables, then the baseline value (time 0) of each longitudinal variable that has one, on the scale of
that variable. Columns that are constant or empty in training are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, RefusalError
from gemello.domains.progression.mixed import knots as places
from gemello.domains.progression.mixed.course import Points
from gemello.domains.progression.mixed.scale import FEW, Scale, choose
from gemello.model.generator import History, Variable

Array = NDArray[np.float64]
LEAST = 6  # persons below whom nothing is learnt


@dataclass(frozen=True)
class Frame:
    """How a history becomes arrays. courses: names of the longitudinal variables; scales of them and of the columns of x, by
    name; levels of the variables that are cut from a latent one (empty: not cut); columns: names of x; low, high (p,): range of
    their values in training; knots (K,); horizon: last time seen."""

    courses: tuple[str, ...]
    scales: Mapping[str, Scale]
    levels: Mapping[str, tuple[float, ...]]
    columns: tuple[str, ...]
    low: Array
    high: Array
    knots: Array
    horizon: float

    def x(self, h: History) -> Array:
        """(persons, p) scaled baseline values, NaN where missing. DataError for a variable that h does not have."""
        return (
            np.column_stack([self.scales[n].forward(start(h, n)) for n in self.columns])
            if self.columns
            else np.zeros((len(h), 0))
        )

    def points(self, h: History) -> Points:
        """Observations after time 0; a cut variable's z is the number of its level."""
        later = h.time > 0
        parts = []
        for j, name in enumerate(self.courses):
            y = h.values[name][later] if name in h.values else np.full(int(later.sum()), np.nan)
            seen = np.isfinite(y)
            z = self.coded(name, y[seen])
            parts.append((h.person[later][seen], np.full(int(seen.sum()), j), h.time[later][seen], z))
        person, variable, time, z = map(np.concatenate, zip(*parts, strict=True)) if parts else (np.zeros(0),) * 4
        order = np.argsort(person, kind="stable")
        return Points(person[order].astype(np.int64), variable[order].astype(np.int64), time[order], z[order])

    def coded(self, name: str, y: Array) -> Array:
        """Scaled values, or numbers of the nearest levels."""
        if not self.levels.get(name):
            return self.scales[name].forward(y)
        levels = np.array(self.levels[name])
        return np.argmin(np.abs(y[:, None] - levels), axis=1).astype(float) if len(y) else np.zeros(0)

    def to_dict(self) -> dict[str, Any]:
        """Plain."""
        return {
            "courses": list(self.courses), "columns": list(self.columns), "low": self.low.tolist(), "high": self.high.tolist(),
            "levels": {k: list(v) for k, v in self.levels.items()}, "scales": {k: s.to_dict() for k, s in self.scales.items()},
            "knots": self.knots.tolist(), "horizon": self.horizon,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Frame:
        """The frame of `to_dict`."""
        return cls(
            tuple(d["courses"]), {k: Scale.from_dict(s) for k, s in d["scales"].items()},
            {k: tuple(v) for k, v in d["levels"].items()}, tuple(d["columns"]), np.array(d["low"], float),
            np.array(d["high"], float), np.array(d["knots"], float), float(d["horizon"]),
        )  # fmt: skip


def start(h: History, name: str) -> Array:
    """Baseline value of any variable, NaN where there is none; DataError where h does not know the name."""
    if name in h.baseline or name in h.values:
        return h.at_zero(name)
    if name not in {v.name for v in h.variables}:
        raise DataError("needed by the generator", column=name, remedy=f"give {name} (missing values may be NaN)")
    return np.full(len(h), np.nan)


def learn(h: History) -> Frame:
    """The frame of a training history. Raises DataError where there is too little."""
    refuse_empty(h)
    if len(h) < LEAST:
        raise DataError(f"{len(h)} persons", column="persons", remedy=f"learn from at least {LEAST}")
    courses = tuple(v for v in h.of_role("longitudinal") if v.name in h.values and _later(h, v.name)[0].sum() >= LEAST)
    scales: dict[str, Scale] = {}
    levels: dict[str, tuple[float, ...]] = {}
    for v in courses:
        levels[v.name] = _levels(v, h.values[v.name])
        scales[v.name] = _scale_of_course(h, v, cut=bool(levels[v.name]))
    columns = []
    for v in (*h.of_role("baseline"), *courses):
        y = h.at_zero(v.name)
        seen = y[np.isfinite(y)]
        if len(seen) < LEAST or np.ptp(seen) == 0:
            continue
        columns.append(v.name)
        if v.name not in scales:
            scales[v.name] = choose(v, y)
    edges = [h.at_zero(n) for n in columns]
    later = h.time > 0
    return Frame(
        tuple(v.name for v in courses), scales, levels, tuple(columns), np.array([np.nanmin(y) for y in edges]),
        np.array([np.nanmax(y) for y in edges]), _knots(h, courses), float(h.time[later].max()) if later.any() else 0.0,
    )  # fmt: skip


def refuse_empty(h: History) -> None:
    """DataError for persons made only of missing values."""
    anything = np.zeros(len(h), bool)
    for y in h.baseline.values():
        anything |= np.isfinite(y)
    for y in h.values.values():
        anything[h.person[np.isfinite(y)]] = True
    if not anything.all():
        who = [p for p, a in zip(h.persons, anything, strict=True) if not a]
        words = f"{len(who)} persons made only of missing values, the first {who[0]}" if len(who) > 1 else "only missing values"
        raise DataError(words, column="persons", value=who[0], remedy="leave such persons out")


def _later(h: History, name: str) -> tuple[NDArray[np.bool_], Array]:
    there = (h.time > 0) & np.isfinite(h.values[name])
    return there, h.values[name][there]


def _levels(v: Variable, y: Array) -> tuple[float, ...]:
    """Levels of a variable that is cut from a latent one; empty for one that is treated as continuous."""
    seen = np.unique(y[np.isfinite(y)])
    if v.kind == "binary" or (v.kind in ("ordinal", "count") and len(seen) <= FEW):
        whole = sorted({*map(float, seen), *map(float, v.levels)})
        return tuple(whole) if len(whole) > 1 else ()
    return ()


def _scale_of_course(h: History, v: Variable, cut: bool) -> Scale:
    """Scale of a longitudinal variable from what is left after its own baseline value and the time."""
    there, y = _later(h, v.name)
    plain = replace(v, kind="binary") if cut else v
    own = h.at_zero(v.name)[h.person[there]]
    at = places.hats(h.time[there], np.unique(np.quantile(h.time[there], [0.1, 0.5, 0.9])))
    group = np.argmax(at, axis=1)

    def residual(g: Any) -> Array:
        b = g(own)
        b = np.where(np.isfinite(b), b, np.nanmean(b) if np.isfinite(b).any() else 0.0)
        design = np.column_stack([at, at * (b - b.mean())[:, None]])
        z = g(y)
        return np.asarray(z - design @ np.linalg.lstsq(design, z, rcond=None)[0])

    return choose(plain, y, residual, group)


def _knots(h: History, courses: tuple[Variable, ...]) -> Array:
    any_seen = np.zeros(len(h.time), bool)
    for v in courses:
        any_seen |= np.isfinite(h.values[v.name])
    later = (h.time > 0) & any_seen
    return places.place(h.time[later], h.person[later]) if later.any() else np.ones(1)


# ---- what may be asked ---------------------------------------------------------------------------------------------------
def known(seen: History, variables: Sequence[Variable], time_unit: str, columns: Sequence[str]) -> None:
    """DataError unless a generator of these variables, unit and baseline columns can read `seen`."""
    names = {v.name for v in variables}
    for v in seen.variables:
        if v.name not in names:
            raise DataError("unknown to the generator", column=v.name, remedy=f"it knows {', '.join(sorted(names))}")
    if seen.time_unit != time_unit:
        raise DataError("another unit of time", value=seen.time_unit, remedy=f"give times in {time_unit}")
    for name in columns:
        start(seen, name)


def ahead(times: Array, horizon: float, last: float, unit: str) -> Array:
    """(T,) times of a forecast. Raises DataError for times not after baseline, RefusalError for times beyond `last`."""
    at = np.atleast_1d(np.asarray(times, float))
    if not at.size or not (np.all(np.isfinite(at)) and np.all(at > 0)):
        raise DataError("impossible time of a forecast", column="times", value=at, remedy="give times after baseline (0)")
    if at.max() > last:
        words = f"forecast at {at.max():g} {unit}, learnt from visits up to {horizon:g}"
        raise RefusalError(f"{words}; ask for times up to {last:g}")
    return at

"""A history from tables: one row a visit (`from_long`) or one row a person with a column a visit (`from_wide`).

Words become indicators ("sex=M" against the first level in the order of the alphabet). Kinds are those given, else inferred: two
values are binary, three to ten whole numbers ordinal, all else continuous; a count must be said. A second table (the trial) is
read `like` the first: the same variables, levels and bounds, whatever occurs in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.model.generator import History, Kind, Role, Variable

Array = NDArray[np.float64]
Events = Mapping[str, tuple[str, str]]
MOST_LEVELS = 10


def from_long(
    table: pl.DataFrame,
    *,
    person: str,
    time: str,
    longitudinal: Sequence[str] = (),
    baseline: Sequence[str] = (),
    events: Events | None = None,
    kinds: Mapping[str, Kind] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    units: Mapping[str, str] | None = None,
    time_unit: str = "day",
    since_first: bool = False,
    like: History | Sequence[Variable] | None = None,
) -> History:
    """History from one row a visit.

    person, time: columns. longitudinal: columns with a value a visit. baseline: columns whose value at the person's first visit
    holds. events: name -> columns of the time and of whether it was seen (0/1). bounds: lowest and highest value that can
    occur. since_first: take times since the person's first visit. like: variables of another history, whose names then stand.
    Visits need not be sorted; a person's visits twice at one time are refused. Raises DataError, also for persons made only of
    missing values."""
    events = dict(events or {})
    _have(table, (person, time, *longitudinal, *baseline, *(c for pair in events.values() for c in pair)))
    at = _numbers(table, time)
    if not np.all(np.isfinite(at)):
        raise DataError(
            "no time", row=int(np.flatnonzero(~np.isfinite(at))[0]) + 1, column=time, remedy="give every visit its time"
        )
    names = _persons(table[person])
    who, first_seen = np.unique(names, return_index=True)
    order_of = {w: i for i, w in enumerate(who[np.argsort(first_seen)])}
    number = np.array([order_of[n] for n in names], np.int64)
    order = np.lexsort((at, number))
    number, at = number[order], at[order]
    first = np.flatnonzero(np.diff(number, prepend=-1))
    table = table[order]
    if since_first:
        at = at - at[first][number]
    twice = np.flatnonzero((np.diff(number) == 0) & (np.diff(at) == 0))
    if len(twice):
        where = int(order[twice[0] + 1]) + 1
        raise DataError("a second visit at one time", row=where, column=time, value=at[twice[0]], remedy="keep one of them")
    build = _Builder(kinds, bounds, units, like)
    base = build.columns(table[first], baseline, "baseline")
    values = build.columns(table, longitudinal, "longitudinal")
    times, seen = build.events(table[first], events)
    return _whole(build, tuple(order_of), base, number, at, values, times, seen, time_unit)


def from_wide(
    table: pl.DataFrame,
    *,
    person: str | None = None,
    visits: Mapping[str, Mapping[float, str]] | None = None,
    baseline: Sequence[str] = (),
    events: Events | None = None,
    kinds: Mapping[str, Kind] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    units: Mapping[str, str] | None = None,
    time_unit: str = "day",
    like: History | Sequence[Variable] | None = None,
) -> History:
    """History from one row a person. visits: variable -> time -> column, `{"cd4": {0: "cd40", 140: "cd420"}}`; person: column of
    names (default: the number of the row). The rest as in `from_long`."""
    visits, events = dict(visits or {}), dict(events or {})
    columns = [c for v in visits.values() for c in v.values()]
    _have(table, (*([person] if person else []), *columns, *baseline, *(c for pair in events.values() for c in pair)))
    n = len(table)
    names = _persons(table[person]) if person else np.array([str(i + 1) for i in range(n)])
    times = np.array(sorted({float(t) for v in visits.values() for t in v}))
    build = _Builder(kinds, bounds, units, like)
    base = build.columns(table, baseline, "baseline")
    values = {}
    for name, at in visits.items():
        grid = np.full((n, len(times)), np.nan)
        for t, column in at.items():
            grid[:, int(np.searchsorted(times, float(t)))] = _numbers(table, column)
        values[name] = grid.ravel()
        build.add(name, values[name], "longitudinal")
    event_time, event_seen = build.events(table, events)
    number, at_all = np.repeat(np.arange(n), len(times)), np.tile(times, n)
    kept = np.zeros(n * len(times), bool)
    for y in values.values():
        kept |= np.isfinite(y)
    values = {k: y[kept] for k, y in values.items()}
    return _whole(build, tuple(names), base, number[kept], at_all[kept], values, event_time, event_seen, time_unit)


def _whole(
    build: _Builder, persons: tuple[str, ...], base: Mapping[str, Array], number: NDArray[np.int64], at: Array,
    values: Mapping[str, Array], times: Mapping[str, Array], seen: Mapping[str, NDArray[np.bool_]], unit: str,
) -> History:  # fmt: skip
    variables = build.variables
    base, values = dict(base), dict(values)
    if build.like:  # what this table does not have is missing
        variables = build.like
        for v in build.like:
            if v.role == "baseline":
                base.setdefault(v.name, np.full(len(persons), np.nan))
            elif v.role == "longitudinal":
                values.setdefault(v.name, np.full(len(number), np.nan))
    anything = np.zeros(len(persons), bool)
    for y in base.values():
        anything |= np.isfinite(y)
    for y in values.values():
        anything[number[np.isfinite(y)]] = True
    if not anything.all() and (base or values):
        who = persons[int(np.flatnonzero(~anything)[0])]
        raise DataError("a person made only of missing values", column="persons", value=who, remedy="leave this person out")
    return History(variables, persons, base, number.astype(np.int64), at, values, times, seen, unit)


class _Builder:
    """Variables as they are met, those of `like` first."""

    def __init__(
        self, kinds: Mapping[str, Kind] | None, bounds: Mapping[str, tuple[float, float]] | None,
        units: Mapping[str, str] | None, like: History | Sequence[Variable] | None,
    ) -> None:  # fmt: skip
        self.kinds, self.bounds, self.units = dict(kinds or {}), dict(bounds or {}), dict(units or {})
        self.like = tuple(like.variables if isinstance(like, History) else like or ())
        self.variables: tuple[Variable, ...] = ()

    def columns(self, table: pl.DataFrame, names: Iterable[str], role: Role) -> dict[str, Array]:
        """name -> values, with words turned to indicators."""
        out: dict[str, Array] = {}
        for name in names:
            found = self._words(table, name) if _is_words(table[name]) else {name: _numbers(table, name)}
            for key, y in found.items():
                out[key] = y
                self.add(key, y, role)
        return out

    def add(self, name: str, y: Array, role: Role) -> None:
        """Note a variable; DataError where `like` has none of this name, or a level that it does not have."""
        known = next((v for v in self.like if v.name == name), None)
        if self.like and known is None:
            raise DataError("not in the history to read like", column=name, remedy="leave the column out")
        if known is None:
            kind = self.kinds.get(name) or _infer(y)
            levels = tuple(map(float, np.unique(y[np.isfinite(y)]))) if kind in ("binary", "ordinal") else ()
            if kind == "binary" and len(levels) > 2:
                raise DataError(f"{len(levels)} levels", column=name, remedy="a binary variable has two")
            low, high = self.bounds.get(name, (-np.inf, np.inf))
            known = Variable(name, kind, role, self.units.get(name, "1"), levels, float(low), float(high))
        seen = y[np.isfinite(y)]
        outside = seen[(seen < known.lower) | (seen > known.upper)]
        if known.kind == "binary" and known.levels:
            outside = seen[~np.isin(seen, known.levels)]
        if len(outside):
            words = f"outside of {known.lower:g} to {known.upper:g}" if known.kind != "binary" else "not among the levels"
            raise DataError(words, column=name, value=outside[0], remedy="mend the value or the bounds")
        self.variables = (*self.variables, known)

    def events(self, table: pl.DataFrame, events: Events) -> tuple[dict[str, Array], dict[str, NDArray[np.bool_]]]:
        """Times and whether seen."""
        times, seen = {}, {}
        for name, (time, status) in events.items():
            t, s = _numbers(table, time), _numbers(table, status)
            bad = np.flatnonzero(~(np.isfinite(t) & (t >= 0) & np.isin(s, (0.0, 1.0))))
            if len(bad):
                words = "no time of an event, or a status other than 0 and 1"
                raise DataError(words, row=int(bad[0]) + 1, column=name, remedy="give both for every person")
            times[name], seen[name] = t, s == 1.0
            self.variables = (*self.variables, Variable(name, "event", "event", lower=0.0))
        return times, seen

    def _words(self, table: pl.DataFrame, name: str) -> dict[str, Array]:
        words = np.array([None if w is None or w == "" else str(w) for w in table[name].to_list()], object)
        levels = sorted({w for w in words if w is not None})
        before = [v.name for v in self.like if v.name.startswith(f"{name}=")]
        wanted = before or [f"{name}={w}" for w in levels[1:]]
        strange = [w for w in levels if f"{name}={w}" not in before] if before else []
        first = min(k[len(name) + 1 :] for k in wanted) if wanted else ""
        if len(strange) > 1 or any(w > first for w in strange):  # the level that has no indicator is the first in the alphabet
            problem = "words other than those of the history" if len(strange) > 1 else "a word that the history does not have"
            raise DataError(problem, column=name, value=", ".join(strange[:4]), remedy="write them as in the history")
        missing = np.array([w is None for w in words])
        return {k: np.where(missing, np.nan, words == k[len(name) + 1 :]).astype(float) for k in wanted}


def schema(history: History, **changes: Variable) -> History:
    """The history with some of its variables declared anew, by name."""
    return replace(history, variables=tuple(changes.get(v.name, v) for v in history.variables))


def _infer(y: Array) -> Kind:
    seen = np.unique(y[np.isfinite(y)])
    if len(seen) == 2:
        return "binary"
    whole = len(seen) > 0 and bool(np.all(seen == np.round(seen)))
    return "ordinal" if whole and 2 < len(seen) <= MOST_LEVELS else "continuous"


def _is_words(s: pl.Series) -> bool:
    return s.dtype in (pl.String, pl.Categorical) or isinstance(s.dtype, pl.Enum)


def _numbers(table: pl.DataFrame, name: str) -> Array:
    if _is_words(table[name]):
        raise DataError("holds words", column=name, remedy="give numbers here")
    if table[name].dtype.is_nested() or table[name].dtype in (pl.Object, pl.Binary):
        raise DataError(f"holds {table[name].dtype}", column=name, remedy="give numbers here")
    out = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(float)
    if np.any(np.isinf(out)):
        raise DataError("infinite value", column=name, row=int(np.argmax(np.isinf(out))) + 1, remedy="mend it or leave it empty")
    return out


def _persons(s: pl.Series) -> NDArray[np.str_]:
    if s.is_null().any():
        raise DataError("no name of a person", row=int(s.is_null().arg_max() or 0) + 1, column=s.name, remedy="name every person")
    return np.array([str(v) for v in s.to_list()])


def _have(table: pl.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise DataError("no such column", column=name, remedy=f"the table has {', '.join(table.columns[:30])}")

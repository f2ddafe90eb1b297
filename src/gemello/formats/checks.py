"""What is wrong in which row: faults are collected over the whole file, then the first stops, or its subject is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.formats.columns import Table
from gemello.formats.mapping import Heads
from gemello.model.contract import Model
from gemello.model.schedule import Schedule, rules

Mask = NDArray[np.bool_]


class Faults:
    """The first fault of each row, in the order in which they are added."""

    def __init__(self, table: Table, heads: Heads) -> None:
        self.table, self.heads = table, heads
        self._which = np.full(len(table), -1)
        self._said: list[tuple[str, str | Mapping[int, str], str]] = []

    def add(self, bad: Mask, column: str, problem: str | Mapping[int, str], remedy: str) -> None:
        """Rows `bad` cannot be used. column: role or name. problem: words, or words by row."""
        fresh = bad & (self._which < 0)
        if fresh.any():
            self._which[fresh] = len(self._said)
            self._said.append((column, problem, remedy))

    def settle(self, ids: Sequence[str], start: NDArray[np.int64], quarantine: bool) -> tuple[tuple[str, str], ...]:
        """Raise the first fault of the file; or with `quarantine` (id, first fault) of each subject that has one."""
        bad = np.flatnonzero(self._which >= 0)
        if not len(bad):
            return ()
        group = np.searchsorted(start, bad, side="right") - 1
        if not quarantine:
            raise self.error(int(bad[0]), ids[group[0]])
        out: dict[str, str] = {}
        for i, g in zip(bad.tolist(), group.tolist(), strict=True):
            if ids[g] not in out:
                out[ids[g]] = str(self.error(i, ids[g]))
        return tuple(out.items())

    def error(self, i: int, subject: str) -> DataError:
        """The fault of row i."""
        column, problem, remedy = self._said[self._which[i]]
        words = problem if isinstance(problem, str) else problem[i]
        value = self.table.cell(i, self.heads.roles[column]) if column in self.heads.roles else None
        return DataError(
            f"subject {subject}: {words}", source=self.table.source, row=int(self.table.lines[i]),
            column=self.heads.name(column, self.table), value=value, remedy=remedy,
        )  # fmt: skip


def check_records(
    faults: Faults, model: Model, records: Mapping[str, Any], extra: Mapping[str, NDArray[np.float64]], start: NDArray[np.int64]
) -> None:
    """Add what no subject may have: impossible events, time that runs backwards, impossible covariates, repeated records."""
    s = Schedule(columns=extra, **records)
    first = np.zeros(len(s), bool)
    first[start] = True
    _check_events(faults, model, s)
    back = (np.diff(s.time, prepend=s.time[:1]) < 0) & ~first
    restart = back & np.isin(s.evid, (3, 4))
    faults.add(
        restart,
        "TIME",
        "time starts anew at a reset",
        "count time on from the subject's first record, or give the period its own ID",
    )
    for bad, column, _, problem, remedy in rules(s, first):
        faults.add(bad, column, problem, remedy)
    for c in model.covariates:
        v = extra[c.name]
        bad = ~((v >= c.possible[0]) & (v <= c.possible[1]))
        bad |= ~np.isin(v, c.categorical) if c.categorical else False
        unit = "" if c.unit == "1" else f" {c.unit}"
        allowed = (
            f"one of {', '.join(f'{x:g}' for x in c.categorical)}"
            if c.categorical
            else f"between {c.possible[0]:g} and {c.possible[1]:g}{unit}"
        )
        faults.add(bad, c.name, "impossible covariate", f"give a value {allowed}")
    _check_repeated(faults, s, first)


def _check_events(faults: Faults, model: Model, s: Schedule) -> None:
    dose = (s.evid == 1) | (s.evid == 4)
    ports = ", ".join(f"{k} {q.name}" for k, q in enumerate(model.ports, start=1)) or "none"
    faults.add(dose & (s.port > len(model.ports)), "CMT", f"no such compartment to dose in {model.name}", f"use one of: {ports}")
    idle = np.isin(s.evid, (0, 2, 3))
    for bad, column in ((s.amount != 0, "AMT"), (s.rate != 0, "RATE")):
        what = "an amount" if column == "AMT" else "a rate"
        faults.add(
            (s.evid == 0) & bad, column, f"an observation with {what}", f"use EVID 1 for a dose, {column} 0 for an observation"
        )
        faults.add(
            idle & (s.evid != 0) & bad,
            column,
            f"an event that is no dose, with {what}",
            f"use EVID 1 or 4 for a dose, or {column} 0",
        )
    faults.add(
        ~np.isin(s.steady_state, (0, 1, 2)),
        "SS",
        "unknown steady state",
        "use 0 (none), 1 or 2; other codes for none must be written 0",
    )
    lonely = dose & (s.interval > 0) & (s.additional == 0) & (s.steady_state == 0)
    faults.add(lonely, "II", "an interval without ADDL or SS", "give ADDL (further doses) or SS (steady state), or II 0")
    signal_ports = np.array([False, *(q.kind == "signal" for q in model.ports)])
    index = np.where(dose & (s.port >= 0) & (s.port <= len(model.ports)), np.maximum(s.port, 1), 0)
    signal = signal_ports[np.minimum(index, len(signal_ports) - 1)]
    faults.add((s.amount < 0) & ~signal, "AMT", "amount is negative", "give 0 or more")
    faults.add(
        signal & (s.rate != 0),
        "RATE",
        "a rate into a signal",
        "give the level as AMT and RATE 0",
    )


def _check_repeated(faults: Faults, s: Schedule, first: Mask) -> None:
    """Records that agree in every column that is used."""
    same = np.zeros(len(s), bool)
    same[1:] = (s.time[1:] == s.time[:-1]) & ~first[1:]
    near = np.flatnonzero(same | np.append(same[1:], False))
    if not len(near):
        return
    arrays = {n: v[near] for n, v in (vars(s) | dict(s.columns)).items() if n not in ("columns", "row")}
    keys = pl.DataFrame({"group": np.cumsum(~same)[near], **arrays}).with_columns(pl.col(pl.Float64).fill_nan(None))
    again = near[~keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()]
    if not len(again):
        return
    repeated = np.zeros(len(s), bool)
    repeated[again] = True
    home = keys.select(pl.lit(pl.Series(s.row[near])).first().over(keys.columns)).to_series().to_list()
    words = {i: f"the same record as in row {row}" for i, row in zip(near.tolist(), home, strict=True)}
    faults.add(repeated, "TIME", words, "take one of them out, or tell them apart by time, CMT or DVID")

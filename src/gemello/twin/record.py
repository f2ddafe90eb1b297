"""The record of one subject: what was done and what was measured. It only grows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from gemello.base.errors import DataError
from gemello.base.provenance import data_hash
from gemello.model.schedule import DOSE, OTHER, RESET, RESET_AND_DOSE, Schedule, Subject


@dataclass(frozen=True, eq=False)
class Piece:
    """Records that arrived together, and the hash of their content."""

    schedule: Schedule
    hash: str


def schedule_hash(s: Schedule) -> str:
    """Hash of every column but `row`: the same records from another file hash equally."""
    arrays = {f.name: getattr(s, f.name) for f in fields(s) if f.name not in ("columns", "row")}
    return data_hash({**arrays, **{f"columns.{k}": v for k, v in s.columns.items()}})


def from_zero(s: Schedule) -> Schedule:
    """The schedule with a record at time 0, where it has none.

    The engine starts a subject at its first record. A twin's clock starts at 0, or what is asked about early times would
    change the answer about late ones.
    """
    if not len(s):
        return Schedule.of(0.0, evid=OTHER)
    if s.time[0] <= 0:
        return s
    start = Schedule.of(0.0, evid=OTHER, columns={k: v[:1] for k, v in s.columns.items()})
    joined = {f.name: np.concatenate([getattr(start, f.name), getattr(s, f.name)]) for f in fields(s) if f.name != "columns"}
    return Schedule(columns={k: np.concatenate([start.columns[k], v]) for k, v in s.columns.items()}, **joined)


@dataclass(frozen=True, eq=False)
class Record:
    """Append-only record of one subject, whose clock starts at 0 in its initial state.

    What arrives late may lie before what is already there (a laboratory result, a dose that had not been written down), as
    long as it does not contradict it. Refused with DataError: a measured value, dose or signal that is already there, or
    another one of the same output or port at the same time (give replicates together); a covariate whose value differs
    from the one that the record says held then; a reset before anything that was recorded.
    """

    id: str
    pieces: tuple[Piece, ...] = ()

    @cached_property
    def schedule(self) -> Schedule:
        """All records in order of time, from time 0 on."""
        out = Schedule()
        for p in self.pieces:
            out = out.merge(p.schedule)
        return from_zero(out) if len(out) else out

    @property
    def hash(self) -> str:
        """Hash of all pieces in their order; of nothing for an empty record."""
        return data_hash([self.id, *(p.hash for p in self.pieces)])

    @property
    def last(self) -> float:
        """Time of the last record, 0 where there is none."""
        return float(self.schedule.time[-1]) if len(self.schedule) else 0.0

    def __len__(self) -> int:
        return sum(len(p.schedule) for p in self.pieces)

    def add(self, schedule: Schedule) -> Record:
        """A new record with these records too. Raises DataError for impossible, double or contradicting ones."""
        Subject(self.id, schedule).check()
        if len(self):
            _check_new(self.id, self.schedule, schedule)
        return replace(self, pieces=(*self.pieces, Piece(schedule, schedule_hash(schedule))))


def _check_new(who: str, old: Schedule, new: Schedule) -> None:
    key = np.isin(new.evid, (DOSE, RESET_AND_DOSE))
    old_dose = np.isin(old.evid, (DOSE, RESET_AND_DOSE))
    for i in range(len(new)):
        row = int(new.row[i]) or None
        at = old.time == new.time[i]
        if new.measured[i]:
            twice, column, value = at & old.measured & (old.output == new.output[i]), "DV", new.value[i]
            same = twice & (old.value == new.value[i])
        elif key[i]:
            twice, column, value = at & old_dose & (np.maximum(old.port, 1) == max(int(new.port[i]), 1)), "AMT", new.amount[i]
            same = twice & (old.amount == new.amount[i]) & (old.rate == new.rate[i])
        else:
            twice = same = np.zeros(len(old), bool)
            column, value = "", None
        if twice.any():
            what = "is already in the record" if same.any() else "contradicts the record, which has another value then"
            raise DataError(
                f"subject {who}, time {new.time[i]:g}: {what}",
                row=row,
                column=column,
                value=value,
                remedy="give only what is new",
            )
        if new.evid[i] in (RESET, RESET_AND_DOSE) and new.time[i] < old.time[-1]:
            raise DataError(
                f"subject {who}, time {new.time[i]:g}: a reset before records that are already there", row=row, column="EVID",
                value=int(new.evid[i]), remedy="start a new twin for a new episode",
            )  # fmt: skip
        for name in set(new.columns) & set(old.columns) if new.time[i] <= old.time[-1] else ():
            held = old.columns[name][min(int(np.searchsorted(old.time, new.time[i])), len(old) - 1)]
            if held != new.columns[name][i]:
                raise DataError(
                    f"subject {who}, time {new.time[i]:g}: contradicts the record, in which {name} is {held:g} then", row=row,
                    column=name, value=new.columns[name][i], remedy="give the value of the record, or start a new twin",
                )  # fmt: skip

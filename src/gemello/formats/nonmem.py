"""NONMEM data sets: one row per event, in the order of the file. Read into subjects, written as tables of predictions.

Names of columns are NONMEM's (ID TIME EVID AMT RATE II ADDL SS CMT MDV DV DVID, capitals or not) and the model's
covariates by name. An empty cell, `.` and `NA` are missing values. docs/data.md tells what each column means and what is
refused; after NONMEM 7.5 users guides, part IV (PREDPP) and part VI, event records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError, ModelError
from gemello.base.provenance import data_hash
from gemello.formats import columns as table_of
from gemello.formats.checks import Faults, check_records
from gemello.formats.columns import Table
from gemello.formats.mapping import Heads, Units
from gemello.model.contract import Model
from gemello.model.schedule import OCCASION, Schedule, Subject

LARGEST = 1e30  # no amount, time or measurement comes near it in any unit
ADDITIONAL_LIMIT = 100_000  # doses that one record may stand for

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Dataset:
    """What a file holds for a model.

    subjects: in the order of the file. excluded: (id, reason) of subjects left out, only with `quarantine`. notes: what a
    reader should know, one sentence each. hash: of the numbers as the model sees them. columns: role to name in the file.
    """

    subjects: tuple[Subject, ...]
    excluded: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    hash: str
    columns: Mapping[str, str]
    source: str

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def records(self) -> int:
        """Number of records of all subjects."""
        return sum(len(s.schedule) for s in self.subjects)


def read(
    path: Path | str,
    model: Model,
    *,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    bind: Mapping[str, str] | None = None,
    observed: Mapping[int, str] | None = None,
    quarantine: bool = False,
) -> Dataset:
    """The subjects of a NONMEM data set, checked and in the model's units.

    columns: role or covariate to the name that the file has for it, where they differ (`{"DV": "conc"}`). units: unit of
    every column used (`{"TIME": "h", "AMT": "mg", "DV": "mg/L"}`); without it the file is taken to be in the model's units,
    which a note says. bind: parameter to data column, for `simulate(..., bind=bind)`. observed: CMT of an observation to
    the output that it measured, for files without DVID. quarantine: leave out subjects whose records cannot be used, by
    name, and go on with the others; faults of the file as a whole always stop.

    Raises DataError with row (line of the file), column, value and remedy; ModelError for an unknown parameter.
    """
    table = table_of.read(path)
    heads = Heads.of(table, model, columns or {}, bind or {})
    table, ignored = _without_ignored(table, heads)
    scale = Units(table, heads, model, units)
    faults = Faults(table, heads)
    records = _records(table, heads, model, scale, faults, observed)
    extra = _extra_columns(table, heads, model, scale, faults, bind or {})
    ids, start = _groups(table, heads, faults)
    check_records(faults, model, records, extra, start)
    excluded = faults.settle(ids, start, quarantine)
    schedule = Schedule(columns=extra, **records)
    subjects = _subjects(schedule, ids, start, {name for name, _ in excluded})
    if not subjects:
        raise DataError(f"no subject can be used; the first: {excluded[0][1]}", source=table.source, remedy="correct the file")
    notes = _notes(table, heads, model, scale, records, ignored, bool(observed))
    return Dataset(subjects, excluded, notes, _hash(subjects, schedule), heads.used(table), table.source)


# ---- records -----------------------------------------------------------------------------------------------------------
def _without_ignored(table: Table, heads: Heads) -> tuple[Table, int]:
    """Without the rows marked C or # in a column named C (NONMEM's IGNORE=C)."""
    if "C" not in heads.roles:
        return table, 0
    marked = table.cells(heads.roles["C"]).str.to_uppercase().is_in(["C", "#"]).to_numpy()
    if marked.all():
        raise DataError(
            "every row is marked to be ignored", source=table.source, column="C", remedy="clear the mark of the rows to use"
        )
    return table.rows(~marked), int(marked.sum())


class _Cells:
    """Numbers of the columns by role; what cannot be read becomes a fault."""

    def __init__(self, table: Table, heads: Heads, faults: Faults) -> None:
        self.table, self.heads, self.faults = table, heads, faults

    def number(self, role: str, filler: float, where: Mask | None = None) -> Numbers:
        """The column, `filler` where missing or where the file has none. Faults only on rows `where`."""
        if role not in self.heads.roles:
            return np.full(len(self.table), filler)
        values, bad = self.table.numbers(self.heads.roles[role])
        bad = bad if where is None else bad & where
        if bad.any():
            problem, remedy = "not a finite number", "give a number, or . where there is none"
            if role == "TIME" and self.table.cells(self.heads.roles[role]).filter(pl.Series(bad)).str.contains(":").any():
                problem, remedy = "a clock time or date", "give the time since the first record as a decimal number"
            self.faults.add(bad, role, problem, remedy)
        self.faults.add(np.abs(values) > LARGEST, role, "an absurdly large number", f"give one below {LARGEST:g}")
        return np.where(np.isnan(values), filler, values) if not np.isnan(filler) else values

    def whole(self, role: str, filler: int) -> NDArray[np.int64]:
        """The column as whole numbers."""
        values = self.number(role, filler)
        wrong = (values != np.rint(values)) | (np.abs(values) > 1e9)
        self.faults.add(wrong, role, "not a whole number", "give a whole number")
        return np.where(wrong, filler, values).astype(np.int64)


def _records(
    table: Table, heads: Heads, model: Model, scale: Units, faults: Faults, observed: Mapping[int, str] | None
) -> dict[str, Any]:
    """The columns of a schedule, over all rows."""
    cells = _Cells(table, heads, faults)
    time = cells.number("TIME", np.nan)
    faults.add(np.isnan(time), "TIME", "no time", "give every record a time")
    amount, rate = cells.number("AMT", 0.0), cells.number("RATE", 0.0)
    evid = cells.whole("EVID", 0) if "EVID" in heads.roles else (amount > 0).astype(np.int64)
    faults.add(evid >= 100, "EVID", "a compound event code", "use 0 to 4, with CMT, RATE and SS in columns of their own")
    dose = (evid == 1) | (evid == 4)
    unsaid = np.isnan(cells.number("AMT", np.nan, np.zeros(len(table), bool))) & dose & (rate == 0)
    faults.add(unsaid, "AMT", "a dose without an amount", "give AMT (0 where nothing was given)")
    port = cells.whole("CMT", 0)
    known = dose & (port >= 0) & (port <= len(model.ports))
    mdv = cells.whole("MDV", 0)
    faults.add(~np.isin(mdv, (0, 1)), "MDV", "is neither 0 nor 1", "use 0 where DV was measured, 1 where not")
    additional = cells.whole("ADDL", 0)
    faults.add(
        additional > ADDITIONAL_LIMIT,
        "ADDL",
        f"more than {ADDITIONAL_LIMIT} additional doses",
        "give fewer, or SS for a steady state",
    )
    looks = evid == 0
    value = np.where(looks & (mdv == 0), cells.number("DV", np.nan, looks & (mdv == 0)), np.nan)
    output = _outputs(table, heads, model, faults, looks, ~np.isnan(value), port, observed)
    clock = scale.factor("TIME", model.time_unit)
    return {
        "time": time * clock,
        "evid": evid,
        "port": port,
        "amount": scale.amounts(amount, port, known),
        "rate": scale.rates(rate, port, known),
        "interval": cells.number("II", 0.0) * scale.factor("II", model.time_unit, "TIME"),
        "additional": additional,
        "steady_state": cells.whole("SS", 0),
        "value": scale.values(value, output),
        "output": output,
        "row": table.lines,
        "censored": np.where(looks & (mdv == 0), cells.whole("CENS", 0), 0),
    }


def _outputs(
    table: Table,
    heads: Heads,
    model: Model,
    faults: Faults,
    looks: Mask,
    measured: Mask,
    port: NDArray[np.int64],
    observed: Mapping[int, str] | None,
) -> NDArray[np.int64]:
    """Index of the output of each observation, from DVID (number or name), or CMT where `observed` says so, else the first."""
    names = [o.name for o in model.outputs]
    choices = ", ".join(f"{k} {n}" for k, n in enumerate(names, start=1))
    out = np.zeros(len(table), np.int64)
    if observed:
        for cmt, name in observed.items():
            out[port == cmt] = model.output_index(name)
        unknown = measured & ~np.isin(port, list(observed))
        faults.add(
            unknown,
            "CMT",
            f"an observation of a compartment that no output of {model.name} is said to measure",
            "name its output",
        )
    elif "DVID" in heads.roles:
        cells = table.cells(heads.roles["DVID"])
        index = {str(k): k - 1 for k in range(1, len(names) + 1)} | {n.upper(): k for k, n in enumerate(names)}
        kinds = cells.unique().to_list()
        position = {
            c: index.get(c.upper().removesuffix(".0"), 0 if c in table_of.MISSING and len(names) == 1 else -1) for c in kinds
        }
        out = cells.replace_strict(position, return_dtype=pl.Int64).to_numpy().copy()
        faults.add(looks & (out < 0), "DVID", f"no such output of {model.name}", f"use one of: {choices}")
        out = np.where(out < 0, 0, out)
    else:
        several = np.unique(port[measured])
        if len(several) > 1:
            other = measured & (port != several[0])
            faults.add(
                other, "CMT",
                f"observations of compartments {', '.join(map(str, several))}, and nothing says which output each measured",
                f"add a column DVID ({choices}), or name the output of each compartment",
            )  # fmt: skip
    return np.where(looks, out, 0)


def _extra_columns(
    table: Table, heads: Heads, model: Model, scale: Units, faults: Faults, bind: Mapping[str, str]
) -> dict[str, Numbers]:
    """Covariates and bound columns by name, in the units of the model, all records."""
    cells, out = _Cells(table, heads, faults), {}
    wanted = {c.name: c.unit for c in model.covariates}
    if model.parameters.occasion_names and OCCASION in heads.roles:
        wanted.setdefault(OCCASION, "1")
    for parameter, column in bind.items():
        unit = model.parameters[parameter].unit
        if wanted.setdefault(column, unit) != unit and scale.given:
            raise DataError(
                f"stands for two things, in {wanted[column]} and in {unit}",
                column=column,
                remedy="give it twice, under two names",
            )
    for name, unit in wanted.items():
        values = cells.number(name, np.nan)
        faults.add(np.isnan(values), name, "no value", "give it in every record")
        out[name] = values * scale.factor(name, unit)
    for parameter, column in bind.items():
        row = model.parameters[parameter]
        outside = (out[column] < row.lower) | (out[column] > row.upper)
        faults.add(
            outside,
            column,
            f"outside the range of {parameter}",
            f"give a value between {row.lower:g} and {row.upper:g} {row.unit}",
        )
    return out


# ---- subjects ----------------------------------------------------------------------------------------------------------
def _groups(table: Table, heads: Heads, faults: Faults) -> tuple[list[str], NDArray[np.int64]]:
    """Identifier and first row of each run of rows with one ID."""
    cells = table.cells(heads.roles["ID"])
    nameless = cells.is_in(table_of.MISSING).to_numpy()
    if nameless.any():
        line = int(table.lines[np.argmax(nameless)])
        raise DataError(
            "a record of nobody", source=table.source, row=line, column=heads.name("ID", table), remedy="give every record an ID"
        )
    start = np.flatnonzero((cells != cells.shift()).fill_null(True).to_numpy())
    ids = cells.gather(start).to_list()
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        again = np.zeros(len(table), bool)
        for i, name in zip(start, ids, strict=True):
            again[i] = name in seen
            seen.add(name)
        faults.add(
            again, "ID", "records of this subject stand in two places", "put all records of a subject together, or number it anew"
        )
    return ids, start


def _subjects(s: Schedule, ids: Sequence[str], start: NDArray[np.int64], left_out: set[str]) -> tuple[Subject, ...]:
    stop = np.append(start[1:], len(s))
    arrays = {n: v for n, v in vars(s).items() if n != "columns"}
    out = []
    for name, a, b in zip(ids, start.tolist(), stop.tolist(), strict=True):
        if name not in left_out:
            part = {k: v[a:b] for k, v in arrays.items()}
            out.append(Subject(name, Schedule(columns={k: v[a:b] for k, v in s.columns.items()}, **part)))
    return tuple(out)


def _hash(subjects: Sequence[Subject], s: Schedule) -> str:
    """Hash of all numbers that the model sees; of the subjects used only, so that a quarantined one does not count."""
    names = [n for n in vars(s) if n not in ("columns", "row")]
    whole = len(s) == sum(len(u.schedule) for u in subjects)

    def joined(get: Any) -> Any:
        return get(s) if whole else np.concatenate([get(u.schedule) for u in subjects])

    arrays = {n: joined(lambda q, n=n: getattr(q, n)) for n in names}
    arrays |= {f"column {n}": joined(lambda q, n=n: q.columns[n]) for n in s.columns}
    return data_hash({"id": [u.id for u in subjects], "counts": [len(u.schedule) for u in subjects], **arrays})


def _notes(
    table: Table, heads: Heads, model: Model, scale: Units, records: Mapping[str, Any], ignored: int, said: bool
) -> tuple[str, ...]:
    comments, empty = table.skipped
    measurable = [o.name for o in model.outputs if o.residual is not None]
    first = model.outputs[0].name
    guessed = len(measurable) > 1 and "DVID" not in heads.roles and not said and not np.isnan(records["value"]).all()
    blind = int(((records["evid"] == 0) & np.isnan(records["value"])).sum())
    inferred = "EVID" not in heads.roles
    nothing = inferred and "AMT" not in heads.roles
    unused = heads.unused(table)
    notes = [
        *heads.notes,
        f"{comments + ignored} rows marked as comments were passed over" if comments + ignored else "",
        f"{empty} lines without any value were passed over" if empty else "",
        "no column EVID: rows with AMT above 0 are doses, the others observations" if inferred and not nothing else "",
        "no column AMT: nobody is dosed" if nothing else "",
        "no column DV: nothing is measured" if "DV" not in heads.roles else "",
        f"{blind} observation records without a value: predicted only" if blind and "DV" in heads.roles else "",
        f"no column DVID: every observation is taken to be of {first} (the model also has {', '.join(measurable[1:])})"
        if guessed
        else "",
        scale.note(),
        f"columns not used: {', '.join(unused)}" if unused else "",
    ]
    return tuple(n for n in notes if n)


# ---- writing -----------------------------------------------------------------------------------------------------------
def frame(subjects: Sequence[Subject], outputs: Mapping[str, Any]) -> pl.DataFrame:
    """ID, TIME (model's unit), EVID and one column per output, all records in the order of the file.

    outputs: by name (subjects, records), as in `Trajectories.outputs`; what is beyond a subject's last record is not read.
    """
    counts = np.array([len(s.schedule) for s in subjects])
    ids = pl.Series("ID", [s.id for s in subjects], dtype=pl.String).gather(np.repeat(np.arange(len(subjects)), counts))
    joined = {n: np.concatenate([getattr(s.schedule, f) for s in subjects]) for n, f in (("TIME", "time"), ("EVID", "evid"))}
    clash = {"ID", *joined} & set(outputs)
    if clash:
        raise ModelError(f"output {', '.join(sorted(clash))}: has the name of a column of the table; rename it in the model")
    there = {n: np.asarray(v)[np.arange(np.shape(v)[1]) < counts[:, None]] for n, v in outputs.items()}
    return pl.DataFrame({"ID": ids, **joined, **there})


def write(target: Any, subjects: Sequence[Subject], outputs: Mapping[str, Any]) -> int:
    """`frame` as CSV to a path or an open file; a value that is not a number is written as `.`; returns the number of rows."""
    out = frame(subjects, outputs)
    plain = out.with_columns(pl.col(pl.Float64).fill_nan(None))
    if isinstance(target, str | Path):
        plain.write_csv(target, null_value=".")
    else:
        target.write(plain.write_csv(null_value="."))  # through Python, so that a closed pipe is seen as one
    return len(out)

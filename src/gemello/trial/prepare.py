"""From a protocol and its file to the table that is analysed: who is in it, in which arm, and a log of who was left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gemello.base.errors import DataError
from gemello.formats import cdisc
from gemello.formats.yamlfile import name_of
from gemello.trial.protocol import Arms, Endpoint, Protocol, Rule

ARM = "arm"  # the arm as text, in the table that is analysed
FEWEST = 2  # subjects of an arm
RESERVED = ("prognostic_score", "visit_name", "visit_time")  # columns that the analysis makes


@dataclass(frozen=True)
class Prepared:
    """table: rows that are analysed, with the column `arm`. arms: control first. log: what was done, in order. subjects: of
    each arm, their number. hash: SHA-256 of the data file."""

    table: pl.DataFrame
    arms: tuple[str, ...]
    log: tuple[str, ...]
    subjects: dict[str, int]
    hash: str


def prepare(protocol: Protocol) -> Prepared:
    """Read the data of a protocol and take its population and arms.

    Raises DataError for columns that are not there, arms with fewer than two subjects, subjects twice (of a repeated endpoint:
    twice at a visit), subjects in two arms.
    """
    table, digest = load(protocol.data)
    need = [protocol.subject, protocol.arms.column, *_columns_of(protocol.endpoint), *protocol.randomisation.strata]
    demand(table, need, protocol.source)
    for name in table.columns:
        if name in RESERVED or (name == ARM and protocol.arms.column != ARM and ARM in need):
            raise DataError("a name that the analysis uses itself", column=name, remedy="rename the column")
    log = [f"{protocol.data.name}: {len(table)} rows"]
    table, kept = filtered(table, protocol.where, protocol.source)
    log += kept
    table = with_arm(table, protocol.arms)
    wanted = (protocol.arms.control, *protocol.arms.active)
    outside = table.filter(~pl.col(ARM).is_in(wanted))
    if len(outside):
        log.append(f"{_count(outside, protocol.subject)} in arms that the protocol does not compare: left out")
    table = table.filter(pl.col(ARM).is_in(wanted))
    counts = _check(table, protocol, wanted)
    table, more = _ordered(_coded(table, protocol.endpoint), protocol)
    log += more
    log.append(", ".join(f"{protocol.arms.label(a)}: {n}" for a, n in counts.items()))
    return Prepared(table, wanted, tuple(log), counts, digest)


def load(path: Path) -> tuple[pl.DataFrame, str]:
    """A table from any file that is read here, and the file's SHA-256."""
    import hashlib  # noqa: PLC0415

    table, _ = cdisc.read_table(path)
    return table, hashlib.sha256(path.read_bytes()).hexdigest()


def demand(table: pl.DataFrame, columns: Sequence[str], source: str) -> None:
    """DataError for a column that is not there."""
    for name in columns:
        if name and name not in table.columns:
            words = f"the table has {', '.join(table.columns[:30])}"
            raise DataError("no such column in the data", source=source, column=name, remedy=words)


def filtered(table: pl.DataFrame, rules: Sequence[Rule], source: str) -> tuple[pl.DataFrame, list[str]]:
    """Rows that all rules keep, and the log. Raises DataError for unknown columns, and where nothing stays."""
    log = []
    for rule in rules:
        demand(table, [rule.column], source)
        before = len(table)
        if rule.values:
            names = {_cell(v) for v in rule.values}
            keep = [_cell(v) in names for v in table[rule.column].to_list()]
            said = f"one of {', '.join(sorted(n or 'empty' for n in names))}"
        else:
            if not table.schema[rule.column].is_numeric():
                remedy = "name the values that stay, in place of a range"
                raise DataError("no column of numbers", source=source, column=rule.column, remedy=remedy)
            values = table[rule.column].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
            keep = list((values >= rule.low) & (values <= rule.high))
            said = f"from {rule.low:g} to {rule.high:g}"
        table = table.filter(pl.Series(keep, dtype=pl.Boolean))
        log.append(f"{rule.column} {said}: {len(table)} of {before} rows stay")
        if not len(table):
            raise DataError("no row stays", source=source, column=rule.column, value=said, remedy="mend data: where:")
    return table, log


def _cell(value: object) -> str:
    """A value as text, empty where it is missing."""
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else name_of(value)


def with_arm(table: pl.DataFrame, arms: Arms) -> pl.DataFrame:
    """The table with the arm as text in column `arm`. Raises DataError for a missing arm."""
    values = table[arms.column].to_list()
    missing = next((i for i, v in enumerate(values) if not _cell(v)), None)
    if missing is not None:
        raise DataError("no arm", row=missing + 1, column=arms.column, remedy="give each subject an arm, or leave the row out")
    return table.with_columns(pl.Series(ARM, [name_of(v) for v in values], dtype=pl.String))


def _columns_of(e: Endpoint) -> list[str]:
    return [e.outcome, e.event, e.visit, e.exposure, e.baseline]


def _count(table: pl.DataFrame, subject: str) -> str:
    n = table[subject].n_unique()
    return f"{n} subject{'s' if n != 1 else ''}"


def _check(table: pl.DataFrame, protocol: Protocol, wanted: Sequence[str]) -> dict[str, int]:
    subject, visit = protocol.subject, protocol.endpoint.visit
    for name, what in ((subject, "subject"), (visit, "visit")):
        if name and any(not _cell(v) for v in table[name].to_list()):
            raise DataError(f"a row without {what}", column=name, remedy=f"give each row its {what}, or leave it out by where:")
    per = table.group_by(subject).agg(pl.col(ARM).n_unique().alias("arms"), pl.len().alias("rows"))
    two = per.filter(pl.col("arms") > 1)
    if len(two):
        raise DataError("a subject in two arms", column=protocol.arms.column, value=two[subject][0], remedy="give each one arm")
    key = [subject, visit] if visit else [subject]
    twice = table.group_by(key, maintain_order=True).len().filter(pl.col("len") > 1)
    if len(twice):
        where = f" at {visit} {name_of(twice[visit][0])}" if visit else ""
        raise DataError(
            f"subject {name_of(twice[subject][0])} stands {twice['len'][0]} times{where}", column=subject,
            remedy="keep one row each, by data: where: (an analysis flag, one arm) or in the file",
        )  # fmt: skip
    counts = {a: table.filter(pl.col(ARM) == a)[subject].n_unique() for a in wanted}
    for arm, n in counts.items():
        if n < FEWEST:
            words = f"{n} subject{'s' if n != 1 else ''} in arm {protocol.arms.label(arm)}"
            remedy = f"an arm needs at least {FEWEST}; the column has {', '.join(sorted(table[ARM].unique().to_list()))}"
            raise DataError(words, column=protocol.arms.column, value=arm, remedy=remedy)
    return counts


def _coded(table: pl.DataFrame, e: Endpoint) -> pl.DataFrame:
    """Levels in words as numbers, in the order that the protocol gives (binary 0 and 1, ordinal 1, 2, …). Raises DataError for a
    level that is not in it, and for an outcome that is no number."""
    if e.order:
        names = [_cell(v) for v in table[e.outcome].to_list()]
        unknown = next((n for n in names if n and n not in e.order), None)
        if unknown is not None:
            raise DataError("a level without place", column=e.outcome, value=unknown, remedy="name it in endpoint: order:")
        first = 0 if e.kind == "binary" else 1
        codes = [e.order.index(n) + first if n else None for n in names]
        return table.with_columns(pl.Series(e.outcome, codes, dtype=pl.Int64))
    for name in (e.outcome, e.event, e.exposure, e.baseline):
        kind = table.schema[name] if name else pl.Null
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            more = ", or name its levels in endpoint: order: [lowest, …]" if e.kind in ("binary", "ordinal") else ""
            raise DataError("no column of numbers", column=name, value=table[name].drop_nulls()[0], remedy=f"give numbers{more}")
    return table


def _ordered(table: pl.DataFrame, protocol: Protocol) -> tuple[pl.DataFrame, list[str]]:
    """Rows of a repeated endpoint by visit, and words about those that were not."""
    e = protocol.endpoint
    if not e.visit:
        return table, []
    order = {v: k for k, v in enumerate(visit_order(table[e.visit].to_list(), e.times))}
    place = [order[name_of(v)] for v in table[e.visit].to_list()]
    marked = table.with_columns(pl.Series("__place", place, dtype=pl.Int64))
    step = pl.col("__place").diff().min().over(protocol.subject)
    out = marked.filter(step < 0)[protocol.subject].n_unique()
    first = marked.with_columns(pl.int_range(pl.len()).min().over(protocol.subject).alias("__first"))
    table = first.sort("__first", "__place", maintain_order=True).drop("__first", "__place")
    return table, [f"{out} subjects with visits out of order: sorted by {e.visit}"] if out else []


def visit_order(values: Sequence[object], times: Mapping[str, float]) -> tuple[str, ...]:
    """Visits by the times that the protocol gives, else by the first number in each, else as they first appear."""
    seen = list(dict.fromkeys(name_of(v) for v in values))
    if all(n in times for n in seen):
        return tuple(sorted(seen, key=lambda n: times[n]))
    found = [re.search(r"(?:(?<=\s)|^)-?\d+\.?\d*|\d+\.?\d*", n) for n in seen]
    numbers = [float(m[0]) for m in found if m is not None]
    if len(set(numbers)) < len(seen):
        return tuple(seen)
    return tuple(n for _, n in sorted(zip(numbers, seen, strict=True)))

"""From a protocol and its file to the table that is analysed: who is in it, in which arm, and a log of who was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gemello.base.errors import DataError
from gemello.formats import cdisc
from gemello.trial.protocol import Arms, Endpoint, Protocol, Rule, name_of

ARM = "arm"  # the arm as text, in the table that is analysed
FEWEST = 2  # subjects of an arm


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
            names = {name_of(v) for v in rule.values}
            keep = [v is not None and name_of(v) in names for v in table[rule.column].to_list()]
            said = f"one of {', '.join(sorted(names))}"
        else:
            values = table[rule.column].cast(pl.Float64, strict=False).to_numpy()
            keep = list((values >= rule.low) & (values <= rule.high))
            said = f"from {rule.low:g} to {rule.high:g}"
        table = table.filter(pl.Series(keep, dtype=pl.Boolean))
        log.append(f"{rule.column} {said}: {len(table)} of {before} rows stay")
        if not len(table):
            raise DataError("no row stays", source=source, column=rule.column, value=said, remedy="mend data: where:")
    return table, log


def with_arm(table: pl.DataFrame, arms: Arms) -> pl.DataFrame:
    """The table with the arm as text in column `arm`. Raises DataError for a missing arm."""
    values = table[arms.column].to_list()
    missing = next((i for i, v in enumerate(values) if v is None or (isinstance(v, float) and np.isnan(v)) or v == ""), None)
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
    if table[subject].null_count():
        raise DataError("a row without subject", column=subject, remedy="give each row its subject, or leave it out")
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

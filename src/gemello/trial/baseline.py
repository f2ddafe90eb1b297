"""Who was randomised and what happened to them, arm by arm: the table of baseline values that CONSORT 2010 asks for (item 15;
Moher et al., BMJ 340:c869), and how many had each intercurrent event of the estimand.

No p values of baseline: differences between randomised arms are chance by design (Senn 1994, Stat Med 13:1715)."""

from __future__ import annotations

import polars as pl

from gemello.formats.yamlfile import name_of
from gemello.report.tables import Table
from gemello.report.words import number, percent
from gemello.trial.analyse import Result, covariate_columns
from gemello.trial.estimands import happened
from gemello.trial.prepare import ARM

FEW = 5  # different numbers up to which a column is told by its levels
MOST = 12  # levels of a column that are told one by one


def table(result: Result) -> Table | None:
    """Covariates, baseline value of the outcome and factors of stratification: mean (SD) of numbers, number and share of levels;
    missing values apart. None where the protocol names none."""
    p, arms = result.protocol, result.prepared.arms
    persons = result.prepared.table.unique(p.subject, keep="first", maintain_order=True)
    names = [n for n in dict.fromkeys((*covariate_columns(p, persons), *p.randomisation.strata)) if n in persons.columns]
    if not names:
        return None
    groups = [persons.filter(pl.col(ARM) == a) for a in arms] + [persons]
    rows = [row for n in names for row in _rows(n, persons, groups)]
    heads = [f"{p.arms.label(a)} (n = {len(g)})" for a, g in zip(arms, groups, strict=False)] + [f"all (n = {len(persons)})"]
    note = "Mean (SD), or number (share of those with a value). As in the data, before anything is left out for missing outcomes."
    return Table("Baseline by arm", ("", *heads), tuple(rows), frozenset(range(1, len(heads) + 1)), note=note)


def events(result: Result) -> Table | None:
    """Participants of each arm with each intercurrent event of the estimand. None where no event names its column."""
    p, arms = result.protocol, result.prepared.arms
    told = [e for e in (p.estimand.events if p.estimand else ()) if e.column]
    if not told:
        return None
    rows = []
    for e in told:
        had = result.prepared.table.with_columns(pl.Series("__had", happened(result.prepared.table, e), dtype=pl.Boolean))
        each = had.group_by(p.subject, maintain_order=True).agg(pl.col(ARM).first(), pl.col("__had").any())
        seen = [each.filter(pl.col(ARM) == a)["__had"] for a in arms]
        rows.append((e.name, e.strategy, *(_share(int(s.sum()), len(s)) for s in seen)))
    heads = [f"{p.arms.label(a)} (n = {result.prepared.subjects[a]})" for a in arms]
    note = "At any visit. An event that depends on the arm makes strategies other than treatment policy differ between arms."
    return Table(
        "Intercurrent events by arm", ("event", "strategy", *heads), tuple(rows), frozenset(range(2, len(arms) + 2)), note=note
    )


def _rows(name: str, persons: pl.DataFrame, groups: list[pl.DataFrame]) -> list[tuple[str, ...]]:
    seen = [_known(g[name]) for g in groups]
    lost = [len(g) - len(s) for g, s in zip(groups, seen, strict=True)]
    levels = list(dict.fromkeys(name_of(v) for v in _known(persons[name]).sort().to_list()))
    if persons.schema[name].is_numeric() and len(levels) > FEW:
        out = [(name, *(_moments(s.cast(pl.Float64)) for s in seen))]
    else:
        told = [[name_of(v) for v in s.to_list()] for s in seen]
        out = [(f"{name}: {v}", *(_share(t.count(v), len(t)) for t in told)) for v in levels[:MOST]]
        if len(levels) > MOST:
            rest = levels[MOST:]
            out.append((f"{name}: {len(rest)} others", *(_share(sum(v in rest for v in t), len(t)) for t in told)))
    if any(lost):
        out.append((f"{name}: missing", *map(str, lost)))
    return out


def _known(values: pl.Series) -> pl.Series:
    values = values.drop_nulls()
    return values.drop_nans() if values.dtype.is_float() else values


def _moments(values: pl.Series) -> str:
    if not len(values):
        return "–"
    sd = values.std()
    return f"{number(float(values.mean()), 4)} ({number(float(sd), 3) if isinstance(sd, float) else '–'})"  # type: ignore[arg-type]


def _share(n: int, of: int) -> str:
    return f"{n} ({percent(n / of, 1)})" if of else "–"

"""Who was randomised, arm by arm: the table of baseline values that CONSORT 2010 asks for (item 15; Moher et al., BMJ 340:c869).

No p values: differences between randomised arms are chance by design (Senn 1994, Stat Med 13:1715)."""

from __future__ import annotations

import polars as pl

from gemello.formats.yamlfile import name_of
from gemello.report.tables import Table
from gemello.report.words import number, percent
from gemello.trial.analyse import Result, covariates
from gemello.trial.analysis.arms import quoted
from gemello.trial.analysis.formula import Formula
from gemello.trial.prepare import ARM

FEW = 5  # different numbers up to which a column is told by its levels
MOST = 12  # levels of a column that are told one by one


def table(result: Result) -> Table | None:
    """Covariates, baseline value of the outcome and factors of stratification: mean (SD) of numbers, number and share of levels;
    missing values apart. None where the protocol names none."""
    p, arms = result.protocol, result.prepared.arms
    persons = result.prepared.table.unique(p.subject, keep="first", maintain_order=True)
    terms = [quoted(c, persons) for c in covariates(p)]
    own = Formula.parse(" + ".join(terms)).columns if terms else ()
    names = [n for n in dict.fromkeys((*own, *p.randomisation.strata)) if n in persons.columns]
    if not names:
        return None
    groups = [persons.filter(pl.col(ARM) == a) for a in arms] + [persons]
    rows = [row for n in names for row in _rows(n, persons, groups)]
    heads = [f"{p.arms.label(a)} (n = {len(g)})" for a, g in zip(arms, groups, strict=False)] + [f"all (n = {len(persons)})"]
    note = "Mean (SD), or number (share of those with a value). As in the data, before anything is left out for missing outcomes."
    return Table("Baseline by arm", ("", *heads), tuple(rows), frozenset(range(1, len(heads) + 1)), note=note)


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

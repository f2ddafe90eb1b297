"""Least-squares means over a grid of factor levels, and type III tests of terms.

LS means as in SAS (LSMEANS) and emmeans: predictions on the grid of all factors' levels with numeric columns at their mean over
the rows used, averaged over the other factors with equal weights (margins="equal") or with the frequencies of their combinations
in the rows used (margins="observed": SAS OM, emmeans weights="proportional"). A column that is transformed is averaged before
its transformation, as emmeans does.
Type III: a term's coefficients under codings of every factor that sum to zero, which for designs without empty cells are SAS's
type III hypotheses; their rows are differences from the reference level, the first here and the last in SAS (Fai and Cornelius's
degrees of freedom depend a little on the rows that are taken).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product
from typing import Any, Literal

import numpy as np
import polars as pl

from gemello.base.errors import DataError, UnsupportedError
from gemello.trial.analysis.formula import Array, Atom, Design, Formula, by_contrasts, design
from gemello.trial.analysis.mmrm.data import label_of, natural

Margins = Literal["equal", "observed"]
GRID_LIMIT = 200_000


# ---- LS means ---------------------------------------------------------------------------------------------------------------
def means(
    found: Design, by: Sequence[str], at: Mapping[str, Any] | None = None, margins: Margins = "equal"
) -> list[tuple[dict[str, str], Array]]:
    """For every combination of the levels of `by`: the levels by column, and the weights (p,) of the coefficients.

    at: values of columns in place of their mean or of the average over their levels. Raises DataError for unknown columns.
    """
    if margins not in ("equal", "observed"):
        raise DataError(f"margins={margins!r} is unknown", remedy="equal or observed")
    used = _predictors(found.formula)
    for name in (*by, *(at or {})):
        if name not in used:
            raise DataError(f"{name!r} is not in the model", remedy=f"one of {', '.join(used) or 'no column'}")
    fixed = dict(at or {})
    grid = {c: _levels(found, c) for c in used if c not in fixed and (c in by or _categorical(found, c))}
    others = [c for c in grid if c not in by]
    table = _grid(found, used, grid, fixed, by, others)
    X = found.at(table)
    weights = _weights(found, others, table, margins)
    out = []
    for levels in product(*(range(len(grid[c])) for c in by)):
        here = np.ones(len(table), bool)
        for c, i in zip(by, levels, strict=True):
            here &= table[f"{c}\0"].to_numpy() == i
        w = weights * here
        if not w.sum() > 0:
            raise DataError(f"no observation for {dict(zip(by, levels, strict=True))}", remedy="take margins='equal'")
        shown = {c: label_of(grid[c][i]) for c, i in zip(by, levels, strict=True)}
        out.append((shown, w @ X / w.sum()))
    return out


def _predictors(f: Formula) -> list[str]:
    return list(Formula(f.text, None, f.terms, f.intercept, f.quoted).columns)


def _categorical(found: Design, column: str) -> bool:
    """Words, booleans, and numbers that the formula makes a factor of or compares with a value."""
    if not found.table[column].dtype.is_numeric():
        return True
    atoms = {a for t in found.formula.terms for a in t}
    mine = [a for a in atoms if column in Formula("", None, ((a,),), False, found.formula.quoted).columns]
    return any(a.factor or any(isinstance(n, ast.Compare) for n in ast.walk(a.tree)) for a in mine)


def _levels(found: Design, column: str) -> list[Any]:
    values = found.table[column].unique().to_list()
    label = {label_of(v): v for v in values}
    known = found.levels.get(column) or found.levels.get(f"factor({column})")
    order = [v for v in known if v in label] if known else natural(sorted(label))
    return [label[v] for v in order]


def _grid(
    found: Design, used: Sequence[str], grid: Mapping[str, list[Any]], fixed: Mapping[str, Any], by: Sequence[str],
    others: Sequence[str],
) -> pl.DataFrame:  # fmt: skip
    """Every combination of levels; a column with \\0 after its name holds the level's number."""
    names = [*by, *others]
    size = int(np.prod([len(grid[c]) for c in names], initial=1))
    if size > GRID_LIMIT:
        raise DataError(f"LS means over a grid of {size} cells", remedy="fix some factors with at=")
    index = np.array(list(product(*(range(len(grid[c])) for c in names))), np.int64).reshape(size, len(names))
    table = {f"{c}\0": index[:, k] for k, c in enumerate(names)}
    columns: dict[str, Any] = {c: pl.Series(c, grid[c], dtype=found.table.schema[c])[index[:, k]] for k, c in enumerate(names)}
    for c in used:
        if c in fixed:
            columns[c] = pl.Series(c, [fixed[c]] * size)
        elif c not in columns:
            columns[c] = pl.Series(c, np.full(size, float(found.table[c].cast(pl.Float64).mean())))  # type: ignore[arg-type]
    return pl.DataFrame({**columns, **table})


def _weights(found: Design, others: Sequence[str], table: pl.DataFrame, margins: Margins) -> Array:
    if margins == "equal" or not others:
        return np.ones(len(table))
    counts = found.table.group_by(others).len("weight\0")
    return (
        table.join(counts, on=list(others), how="left", maintain_order="left")["weight\0"].fill_null(0).to_numpy().astype(float)
    )


# ---- type III -----------------------------------------------------------------------------------------------------------------
def type3(found: Design) -> list[tuple[str, Array]]:
    """For every term: its name and the rows (r, p) of its hypothesis. Raises UnsupportedError where main effects are missing."""
    sums = centred(found)
    A, *_ = np.linalg.lstsq(found.matrix, sums, rcond=None)
    if not np.allclose(found.matrix @ A, sums, atol=1e-8 * (1 + np.abs(sums).max())) or np.linalg.cond(A) > 1e12:
        raise UnsupportedError("type III tests need every main effect of an interaction in the model; test a contrast instead")
    back = np.linalg.inv(A)
    of = np.array(found.term_of)
    return [(":".join(a.text for a in t), back[of == k]) for k, t in enumerate(found.formula.terms)]


def centred(found: Design) -> Array:
    """The design matrix with centred differences from the reference level for contrasts; other columns as they are."""
    f = found.formula
    blocks = {a: _block(found, a) for a in dict.fromkeys(a for t in f.terms for a in t)}
    factors = {a for a in blocks if a.text in found.levels}
    columns = [np.ones(len(found))] if f.intercept else []
    for term in f.terms:
        parts = []
        for a in term:
            coded = a in factors and by_contrasts(f, term, a, factors)
            parts.append(blocks[a][:, 1:] - 1 / blocks[a].shape[1] if coded else blocks[a])
        for picked in product(*(range(b.shape[1]) for b in reversed(parts))):
            columns.append(reduce(np.multiply, (b[:, i] for b, i in zip(parts, reversed(picked), strict=True))))
    return np.column_stack(columns)


def _block(found: Design, atom: Atom) -> Array:
    """(rows, levels) indicators of a factor, or (rows, 1) values."""
    alone = Formula(atom.text, None, ((atom,),), False, found.formula.quoted)
    return design(alone, found.table, levels=found.levels).matrix

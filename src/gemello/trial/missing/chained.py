"""Multiple imputation of a table of mixed columns by chained equations, and of monotone visits one after the other.

Chained equations (van Buuren 2018, Flexible Imputation of Missing Data, chapter 4): every incomplete column is drawn from its
regression on all others, round after round. Regression parameters are drawn too, so the imputation is proper (Rubin 1987, p.
167): normal regression, predictive mean matching, logistic regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.trial.external.fits import logistic
from gemello.trial.missing.imputation import Imputations
from gemello.trial.missing.visits import Visits

Array = NDArray[np.float64]
Kind = Literal["normal", "pmm", "logistic"]
RIDGE = 1e-5  # share of the diagonal that is added, so that nearly dependent columns can be drawn


def chained_equations(
    table: pl.DataFrame,
    columns: Mapping[str, Kind],
    draws: int,
    *,
    predictors: Sequence[str] = (),
    rounds: int = 10,
    donors: int = 5,
    seed: int,
) -> list[pl.DataFrame]:
    """Imputed copies of a table.

    columns: incomplete columns and how each is drawn; each is regressed on all the others and on `predictors` (complete columns;
    words are coded by level; name the arm and the outcome here, or the analysis is biased). rounds: of the chain before each
    copy. donors: of predictive mean matching. Every copy has a chain of its own. Raises DataError for a column made only of
    missing values, an incomplete predictor, fewer observed rows than regressors.
    """
    if missing := [c for c in (*columns, *predictors) if c not in table.columns]:
        raise DataError("no such column", column=missing[0], remedy=f"the table has {', '.join(table.columns[:30])}")
    fixed = np.column_stack([np.ones(len(table)), *(_coded(table, c) for c in predictors)])
    start, holes = {}, {}
    for name, kind in columns.items():
        if kind not in _DRAW:
            raise DataError("no such kind", column=name, value=kind, remedy=f"one of {', '.join(_DRAW)}")
        v = table[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()
        holes[name], start[name] = np.isnan(v), v
        seen = v[~holes[name]]
        if len(seen) <= fixed.shape[1] + len(columns) - 1:
            raise DataError(f"{len(seen)} observed values", column=name, remedy="use fewer predictors, or leave the column out")
        if kind == "logistic" and not set(np.unique(seen)) <= {0.0, 1.0}:
            raise DataError("not 0 or 1", column=name, remedy="code it 0 and 1, or draw it by pmm")
    order = sorted((c for c in columns if holes[c].any()), key=lambda c: int(holes[c].sum()))
    copies = []
    for k in range(draws):
        rng = generator(seed, "chained equations", k)
        now = {c: v.copy() for c, v in start.items()}
        for c in order:
            now[c][holes[c]] = rng.choice(start[c][~holes[c]], int(holes[c].sum()))
        for _ in range(rounds if len(order) > 1 else 1):
            for c in order:
                x = np.column_stack([fixed, *(now[o] for o in columns if o != c)])
                now[c][holes[c]] = _DRAW[columns[c]](x, start[c], holes[c], rng, donors)
        copies.append(table.with_columns(pl.Series(c, now[c]) for c in columns))
    return copies


def _coded(table: pl.DataFrame, name: str) -> Array:
    s = table[name]
    if s.null_count() or (s.dtype.is_float() and s.is_nan().any()):
        raise DataError("an incomplete predictor", column=name, remedy="name it among the columns to impute")
    if s.dtype.is_numeric() or s.dtype == pl.Boolean:
        return s.cast(pl.Float64).to_numpy()[:, None]
    words = s.cast(pl.String).to_numpy()
    return np.column_stack([words == v for v in sorted(set(words))[1:]]).astype(float)


def _regression(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array, float]:
    """Least-squares coefficients, a draw of them, and a draw of the residual SD (Rubin 1987, p. 167)."""
    gram = x.T @ x
    inverse = np.linalg.inv(gram + RIDGE * np.diag(np.diag(gram)))
    b = inverse @ (x.T @ y)
    df = max(len(y) - x.shape[1], 1)
    sd = float(np.sqrt(np.sum((y - x @ b) ** 2) / rng.chisquare(df)))
    return b, b + sd * np.linalg.cholesky(inverse) @ rng.standard_normal(len(b)), sd


def _normal(x: Array, y: Array, hole: NDArray[np.bool_], rng: np.random.Generator, donors: int) -> Array:
    _, b, sd = _regression(x[~hole], y[~hole], rng)
    return np.asarray(x[hole] @ b + sd * rng.standard_normal(int(hole.sum())))


def _matching(x: Array, y: Array, hole: NDArray[np.bool_], rng: np.random.Generator, donors: int) -> Array:
    """An observed value of one of the nearest by prediction: fitted for those seen, drawn for those missing (type 1)."""
    b, drawn, _ = _regression(x[~hole], y[~hole], rng)
    have, want = x[~hole] @ b, x[hole] @ drawn
    near = np.argsort(np.abs(have[None, :] - want[:, None]), axis=1, kind="stable")[:, :donors]
    pick = near[np.arange(len(want)), rng.integers(0, near.shape[1], len(want))]
    return np.asarray(y[~hole][pick])


def _logistic(x: Array, y: Array, hole: NDArray[np.bool_], rng: np.random.Generator, donors: int) -> Array:
    """Logistic regression, coefficients drawn from their normal approximation. A few pseudo-observations of weight ½ in each
    corner keep separated data finite (White, Daniel & Royston 2010, Comput Stat Data Anal 54:2267)."""
    a, v = x[~hole], y[~hole]
    mean, sd = a.mean(0), a.std(0)
    corners = np.concatenate([mean + sign * np.diag(sd)[1:] for sign in (1.0, -1.0)])
    weight = x.shape[1] / (2 * max(len(corners), 1))
    both = np.concatenate([a, corners, corners])
    label = np.concatenate([v, np.ones(len(corners)), np.zeros(len(corners))])
    w = np.concatenate([np.ones(len(v)), np.full(2 * len(corners), weight)])
    fit = logistic(both, label, w, "the column")
    b = fit.values + np.linalg.cholesky(fit.covariance) @ rng.standard_normal(len(fit.values))
    return np.asarray(rng.random(int(hole.sum())) < expit(x[hole] @ b), float)


_DRAW: dict[str, Callable[[Array, Array, NDArray[np.bool_], np.random.Generator, int], Array]] = {
    "normal": _normal, "pmm": _matching, "logistic": _logistic,
}  # fmt: skip


def sequential_regression(data: Visits, draws: int, *, by_arm: bool = True, seed: int) -> Imputations:
    """Monotone missingness: each visit from its regression on the earlier ones, in order, at random (Rubin 1987, section 5.4).

    by_arm: regressions within arms, else with the arm as a regressor. Exact and without a chain, but monotone data only:
    DataError for a subject who is seen again after a missing visit.
    """
    if not data.monotone:
        who = data.subjects[int(np.flatnonzero((data.missing[:, :-1] & ~data.missing[:, 1:]).any(1))[0])]
        raise DataError("seen again after a missing visit", value=who, remedy="use imputation.impute, which needs no order")
    arms = np.eye(len(data.arms))[data.arm]
    groups = [np.flatnonzero(data.arm == a) for a in range(len(data.arms))] if by_arm else [np.arange(len(data))]
    values = np.repeat(data.y[None], draws, 0)
    for k in range(draws):
        rng = generator(seed, "sequential regression", k)
        for t in range(len(data.visits)):
            for rows in groups:
                hole = data.missing[rows, t]
                if not hole.any():
                    continue
                head = np.ones((len(rows), 1)) if by_arm else arms[rows]
                x = np.column_stack([head, data.x[rows], values[k][rows, :t]])
                if (~hole).sum() <= x.shape[1]:
                    raise DataError(f"{(~hole).sum()} subjects at visit {data.visits[t]}", remedy="do not split by arm")
                values[k][rows[hole], t] = _normal(x, data.y[rows, t], hole, rng, 0)
    words = f"sequential regression (MAR{', by arm' if by_arm else ''})"
    after = data.missing & (np.arange(len(data.visits))[None, :] >= data.occurred[:, None])
    return Imputations(values, data, ("MAR",) * len(data), words, after)

"""Bins of a continuous axis: at nominal values, of equal counts, or at natural breaks (Fisher 1958, J Am Stat Assoc 53:789)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

Floats = NDArray[np.float64]
Rule = Literal["auto", "nominal", "quantile", "jenks"]
RULES: tuple[Rule, ...] = ("auto", "nominal", "quantile", "jenks")
MOST_NOMINAL = 60
FEW = 14  # up to so many different values "auto" gives each its own bin
PER_BIN = 20  # values in a bin that "auto" aims at
LEAST = 10  # values in a bin of "auto"; a bin of fewer joins the nearer neighbour
SUPPORT = 800  # different values at most that natural breaks are sought among


def edges(x: Floats, rule: Rule | Sequence[float] = "auto", number: int | None = None) -> Floats:
    """Edges (bins + 1,) that hold all of x (values,); bin k is [edge k, edge k+1), the last one closed.

    rule: "nominal" (one bin for each different value), "quantile" (about equal counts), "jenks" (natural breaks: least squares
    within bins), "auto" (nominal where values are few, else jenks), or the inner edges themselves. number: of bins, at most; by
    default one for every 20 values, from 2 to 12. Raises DataError.
    """
    if not len(x) or not np.isfinite(x).all():
        raise DataError("no number to be binned", column="x", remedy="leave out values before the first dose, or bin by time")
    if not isinstance(rule, str):
        inner = np.unique(np.asarray(rule, float))
        return _closed(x, inner[(inner > x.min()) & (inner <= x.max())])
    if rule not in RULES:
        raise DataError("unknown rule", column="bins", value=rule, remedy=f"use {', '.join(RULES)}, or edges")
    if number is not None and number < 1:
        raise DataError("not a number of bins", column="bins", value=number, remedy="give 1 or more")
    values, counts = np.unique(x, return_counts=True)
    few = len(values) <= FEW and counts.min() >= 3
    if rule == "nominal" or (rule == "auto" and number is None and few):
        if len(values) > MOST_NOMINAL:
            raise DataError(
                f"{len(values)} different values are not nominal", column="bins", value=rule, remedy="use jenks or quantile"
            )
        return _closed(x, (values[1:] + values[:-1]) / 2)
    k = min(number or int(np.clip(len(x) // PER_BIN, 2, 12)), len(values))
    if rule == "quantile":
        last = np.searchsorted(values, np.unique(np.quantile(x, np.arange(1, k) / k, method="inverted_cdf")))  # of each bin
        last = last[last + 1 < len(values)]
        return _closed(x, (values[last] + values[last + 1]) / 2)
    found = _closed(x, natural_breaks(values, counts, k))
    return _joined(x, found) if rule == "auto" and number is None else found


def _joined(x: Floats, at: Floats) -> Floats:
    """Edges without those around bins of few values."""
    while len(at) > 2:
        which = bins_of(x, at)
        count = np.bincount(which, minlength=len(at) - 1)
        k = int(np.argmin(count))
        if count[k] >= LEAST:
            return at
        centre = np.array([np.median(x[which == b]) if count[b] else (at[b] + at[b + 1]) / 2 for b in range(len(count))])
        left = centre[k] - centre[k - 1] if k > 0 else np.inf
        right = centre[k + 1] - centre[k] if k + 1 < len(centre) else np.inf
        at = np.delete(at, k if left <= right else k + 1)
    return at


def _closed(x: Floats, inner: Floats) -> Floats:
    return np.concatenate([[x.min()], inner, [x.max()]])


def bins_of(x: Floats, at: Floats) -> NDArray[np.int64]:
    """(values,) index of each value's bin."""
    return np.clip(np.searchsorted(at[1:-1], x, side="right"), 0, len(at) - 2)


def natural_breaks(values: Floats, counts: NDArray[np.int64], number: int) -> Floats:
    """Inner edges (number − 1,) between groups of sorted different values with least sum of squares within (dynamic
    programme)."""
    if len(values) > SUPPORT:  # neighbours that are next to equal become one
        group = np.minimum(np.cumsum(counts) * SUPPORT // counts.sum(), SUPPORT - 1)
        first = np.flatnonzero(np.diff(group, prepend=-1))
        weight = np.add.reduceat(counts, first)
        values, counts = np.add.reduceat(counts * values, first) / weight, weight
    n = len(values)
    number = min(number, n)
    centred = values - np.average(values, weights=counts)
    w, s, q = (np.concatenate([[0.0], np.cumsum(v)]) for v in (counts, counts * centred, counts * centred**2))
    i, j = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(j > i, (q[j] - q[i]) - (s[j] - s[i]) ** 2 / (w[j] - w[i]), np.inf)  # of one group, values i to j − 1
    best = cost[0].copy()
    back = np.zeros((number, n + 1), int)
    for k in range(1, number):
        total = best[:, None] + cost
        back[k] = np.argmin(total, axis=0)
        best = total[back[k], np.arange(n + 1)]
    cuts, end = [], n
    for k in range(number - 1, 0, -1):
        end = int(back[k, end])
        cuts.append((values[end - 1] + values[end]) / 2)
    return np.array(cuts[::-1])

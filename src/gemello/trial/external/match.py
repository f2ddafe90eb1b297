"""Matching on the propensity score: nearest neighbour within a caliper, several controls a subject, with or without
replacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.comparison import Comparison, Propensity, propensity

Array = NDArray[np.float64]
Order = Literal["descending", "ascending", "random"]


@dataclass(frozen=True, eq=False)
class Matching:
    """sets: of each matched treated subject (its row) the rows of its controls. weights: (n,) 1 for a matched treated subject,
    for a control the sum over its sets of 1 / controls in the set. dropped: treated rows without a match."""

    sets: tuple[tuple[int, tuple[int, ...]], ...]
    weights: Array
    dropped: tuple[int, ...]
    replacement: bool
    method: str


def match(
    groups: Comparison,
    score: Propensity,
    *,
    ratio: int = 1,
    caliper: float | None = 0.2,
    replacement: bool = False,
    order: Order = "descending",
    seed: int = 0,
) -> Matching:
    """Greedy nearest-neighbour matching on the logit of the propensity score.

    ratio: controls a treated subject (fewer where the caliper has no more). caliper: in standard deviations of the logit, pooled
    over both groups (Austin 2011, Pharm Stat 10:150: 0.2); None: none. order: of treated subjects, without replacement it
    matters. Raises DataError where nobody is matched, or where controls are fewer than asked for without replacement.
    """
    a, logit = groups.treated, score.linear
    if ratio < 1:
        raise DataError("not a number of controls", column="ratio", value=ratio, remedy="give 1 or more")
    treated, controls = np.flatnonzero(a), np.flatnonzero(~a)
    if not replacement and len(controls) < ratio * len(treated) and caliper is None:
        raise DataError(
            f"{len(controls)} controls for {len(treated)} treated subjects",
            column="ratio", value=ratio, remedy="match with replacement, or with a caliper",
        )  # fmt: skip
    width = np.inf if caliper is None else caliper * np.sqrt((logit[a].var(ddof=1) + logit[~a].var(ddof=1)) / 2)
    queue = {
        "descending": lambda: treated[np.argsort(-logit[treated], kind="stable")],
        "ascending": lambda: treated[np.argsort(logit[treated], kind="stable")],
        "random": lambda: generator(seed, "matching").permutation(treated),
    }[order]()
    free = np.ones(len(controls), bool)
    at = logit[controls]
    sets: list[tuple[int, tuple[int, ...]]] = []
    weights = np.zeros(len(a))
    for i in queue:
        gap = np.abs(at - logit[i])
        gap[~free] = np.inf
        near = np.argsort(gap, kind="stable")[:ratio]
        near = near[(gap[near] <= width) & np.isfinite(gap[near])]
        if not len(near):
            continue
        if not replacement:
            free[near] = False
        chosen = controls[near]
        sets.append((int(i), tuple(int(c) for c in chosen)))
        weights[i] = 1.0
        weights[chosen] += 1 / len(chosen)
    if not sets:
        raise DataError("no treated subject has a control within the caliper", column="caliper", value=caliper, remedy="widen it")
    dropped = tuple(sorted({int(i) for i in treated} - {i for i, _ in sets}))
    words = f"nearest neighbour 1:{ratio}, {'with' if replacement else 'without'} replacement"
    words += "" if caliper is None else f", caliper {caliper:g} SD of the logit"
    return Matching(tuple(sorted(sets)), weights, dropped, replacement, words)


def matched_difference(groups: Comparison, score: Propensity, matched: Matching, *, level: float = 0.95) -> Estimate:
    """Effect on the matched treated subjects (ATT) with its standard error.

    Without replacement: from the differences within matched sets (Abadie & Spiess 2022, JASA 117:983). With replacement: Abadie &
    Imbens 2006 (Econometrica 74:235, theorem 7), the variance of a control's outcome from its nearest control by the score; the
    score counts as known. Treated subjects left out by the caliper change whose effect this is: `extra["dropped"]` counts them.
    """
    y = groups.outcome
    gaps = np.array([y[i] - y[list(cs)].mean() for i, cs in matched.sets])
    n1 = len(gaps)
    effect = float(gaps.mean())
    if n1 < 2:
        raise DataError("one matched set only", remedy="widen the caliper")
    if matched.replacement:
        controls = np.flatnonzero(~groups.treated)
        square = np.zeros(len(y))
        for _, cs in matched.sets:
            square[list(cs)] += 1 / len(cs) ** 2
        used = controls[matched.weights[controls] > 0]
        spread = _local_variance(score.linear[controls], y[controls])
        of = dict(zip(controls.tolist(), spread, strict=True))
        extra = sum((matched.weights[c] ** 2 - square[c]) * of[int(c)] for c in used)
        variance = float((np.sum((gaps - effect) ** 2) + extra) / n1**2)
        words = "Abadie–Imbens SE"
    else:
        variance = float(gaps.var(ddof=1) / n1)
        words = "SE of matched sets"
    w = matched.weights[~groups.treated]
    used_controls = int((w > 0).sum())
    said = {
        "target": "ATT" if not matched.dropped else "ATT of those matched", "matched": n1, "dropped": len(matched.dropped),
        "controls_used": used_controls, "ess_control": float(w.sum() ** 2 / (w @ w)),
    }  # fmt: skip
    measure = "risk difference" if groups.kind == "binary" else "mean difference"
    return Estimate(
        groups.label,
        measure,
        effect,
        float(np.sqrt(variance)),
        f"{matched.method}, {words}",
        n1 + used_controls,
        level=level,
        extra=said,
    )


def _local_variance(at: Array, y: Array) -> Array:
    """(n,) variance of each one's outcome from its nearest neighbour: (y − y of the nearest)² / 2."""
    order = np.argsort(at, kind="stable")
    s, v = at[order], y[order]
    left = np.r_[np.inf, np.diff(s)]
    right = np.r_[np.diff(s), np.inf]
    near = np.where(left <= right, np.arange(len(s)) - 1, np.minimum(np.arange(len(s)) + 1, len(s) - 1))
    out = np.empty(len(s))
    out[order] = (v - v[near]) ** 2 / 2
    return out


def bootstrap_error(
    groups: Comparison, estimate: Callable[[Comparison, Propensity], float], *, draws: int = 500, seed: int
) -> tuple[float, float]:
    """Standard error of any estimate by drawing subjects anew within each group, and its own Monte Carlo error.

    The propensity score is fitted to each sample. Not valid for matching with replacement (Abadie & Imbens 2008, Econometrica
    76:1537). Raises DataError where more than a tenth of the samples cannot be analysed.
    """
    rng = generator(seed, "bootstrap of external controls")
    a, b = np.flatnonzero(groups.treated), np.flatnonzero(~groups.treated)
    values: list[float] = []
    for _ in range(draws):
        sample = groups.take(np.r_[rng.choice(a, len(a)), rng.choice(b, len(b))])
        try:
            values.append(estimate(sample, propensity(sample)))
        except DataError:
            continue
    if len(values) < max(2, 0.9 * draws):
        raise DataError(f"{draws - len(values)} of {draws} samples could not be analysed", remedy="use fewer covariates")
    error = float(np.std(values, ddof=1))
    return error, error / np.sqrt(2 * (len(values) - 1))

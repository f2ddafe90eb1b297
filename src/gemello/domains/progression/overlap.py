"""Whether participants of a trial are among the persons that a generator learned from.

A score of persons who trained it has seen their outcomes: it fits them better than it forecasts others, and the type I error of
a trial adjusted for it can double. So a locked file carries a mark of each person's baseline values (of nine significant digits),
and a trial's participants are compared with them. Marks say nothing of a person to who does not hold the same values already.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gemello.domains.progression.validity import baseline_values
from gemello.model.generator import History

FEW = 0.01  # share of participants that may agree by what chance alone does not explain
ALARM = 1e-4  # probability of as many agreements by chance


@dataclass(frozen=True)
class Overlap:
    """agree: participants whose baseline values are those of a person of the history. expected: by chance, as often as two
    persons of the history agree. of: participants. reason: why the score must be refused; empty where it need not be."""

    agree: int
    expected: float
    of: int
    reason: str


def marks(history: History, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """A mark of 12 hexadecimal digits for each person. names: the values to use (default all, sorted)."""
    values = baseline_values(history)
    used = sorted(values) if names is None else list(names)
    rows = np.column_stack([values[k] for k in used]) if used else np.empty((len(history), 0))
    texts = ("|".join(f"{k}={v:.9g}" for k, v in zip(used, row, strict=True) if not np.isnan(v)) for row in rows)
    return tuple(hashlib.sha256(t.encode()).hexdigest()[:12] for t in texts)


def overlap(known: Sequence[str], trial: History) -> Overlap:
    """known: the marks of the history. A trial that has other variables than the history agrees with nobody: that is drift's."""
    n = len(known)
    counts = Counter(known)
    twice = sum(c * (c - 1) for c in counts.values()) / max(n * (n - 1), 1)  # two persons of the history agree
    shares = np.array(list(counts.values())) / max(n, 1)
    chance = float(np.sum(shares * (1.0 - (1.0 - shares) ** n))) if twice > 0 else 0.0  # of a participant like the history's
    mine = marks(trial)
    agree = sum(m in counts for m in mine)
    expected = chance * len(mine)
    surprise = float(stats.binom.sf(agree - 1, len(mine), chance)) if agree else 1.0
    uncertain = twice > 0.0 and chance > 0.2  # few values: agreement tells nothing
    if uncertain or agree - expected <= max(FEW * len(mine), 1) or surprise > ALARM:
        return Overlap(agree, expected, len(mine), "")
    return Overlap(
        agree, expected, len(mine),
        f"{agree} of {len(mine)} participants have the baseline values of persons that the generator learned from "
        f"({expected:.1f} expected by chance): train it on other persons",
    )  # fmt: skip

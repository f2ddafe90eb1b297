"""Harrell's C: how often the subject with the higher risk has the event first (Harrell 1982)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

Array = NDArray[np.float64]
BLOCK = 512


@dataclass(frozen=True)
class Concordance:
    """c: share of usable pairs in the right order, ties of the risk counting half. se: infinitesimal jackknife. pairs: usable
    pairs; concordant, tied: of them."""

    c: float
    se: float
    pairs: int
    concordant: int
    tied: int


def concordance(time: Array, event: Array, risk: Array) -> Concordance:
    """time, event (0/1), risk: (n,); a higher risk means an earlier event.

    A pair can be used where the shorter time ended in an event; of two equal times, where one ended in an event and the other
    was censored. Raises DataError for missing values and where no pair can be used.
    """
    t, e, r = (np.asarray(v, float) for v in (time, event, risk))
    if np.isnan(t).any() or np.isnan(e).any() or np.isnan(r).any():
        raise DataError("missing values among times, events or risks", remedy="leave these subjects out")
    n = len(t)
    good, half, used = np.zeros(n), np.zeros(n), np.zeros(n)
    for i in (np.flatnonzero(e == 1)[k : k + BLOCK] for k in range(0, int(e.sum()), BLOCK)):
        later = (t[None, :] > t[i, None]) | ((t[None, :] == t[i, None]) & (e[None, :] == 0))
        more, same = later & (r[i, None] > r[None, :]), later & (r[i, None] == r[None, :])
        for total, part in ((good, more), (half, same), (used, later)):
            total[:] += part.sum(axis=0)
            total[i] += part.sum(axis=1)
    pairs = used.sum() / 2
    if pairs == 0:
        raise DataError(
            "no pair of subjects can be compared", column="event", remedy="there must be an event before another's end"
        )
    c = (good.sum() + half.sum() / 2) / 2 / pairs
    influence = (good + half / 2 - c * used) / pairs
    return Concordance(float(c), float(np.sqrt((influence**2).sum())), round(pairs), round(good.sum() / 2), round(half.sum() / 2))

"""How like another an ECG is."""

from __future__ import annotations

import numpy as np

from gemello.domains.heart.organ.cloud import Floats
from gemello.domains.heart.organ.ecg import independent


def correlation(
    time: Floats, leads: Floats, other_time: Floats, other: Floats, start: tuple[float, float], window: tuple[float, float]
) -> Floats:
    """(9,) Pearson correlations of two ECGs (12, times): of the eight independent leads, and of all of them end to end.

    start: QRS onset of each (ms), at which they are laid on each other. window: ms after it. No shift or scale is fitted.
    """
    grid = np.arange(window[0], window[1], 1.0)
    a, b = (
        np.stack([np.interp(grid + s, t, lead) for lead in independent(v)])
        for t, v, s in ((time, leads, start[0]), (other_time, other, start[1]))
    )
    each = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    return np.array([*each, np.corrcoef(a.ravel(), b.ravel())[0, 1]])

"""QRS duration, QT and QTcF of a beat.

QRS begins and ends, over all leads at once, where the spatial velocity sqrt(Σ (dV/dt)²) of the independent leads first and last
exceeds a share of its largest value (spatial velocity and a global onset and end: CSE Working Party 1985, Eur Heart J 6:815).
The T wave ends where the tangent at its steepest point after the peak meets the baseline (Lepeschkin & Surawicz 1952,
Circulation 6:378). QT runs from the global QRS onset to the latest T end of the leads whose T wave is tall enough (AHA/ACCF/HRS
2009, Circulation 119:e241: global QT). QTcF = QT / (RR/1000 ms)^(1/3) (Fridericia 1920).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import Floats
from gemello.domains.heart.organ.ecg import LEADS, independent

SHARE = 0.05  # of the largest spatial velocity
QUIET = 12.0  # ms without it that end the QRS
LEAST_T = 0.3  # of the tallest T wave, for a lead to count
AFTER = 60.0  # ms from the end of QRS in which no T peak is looked for


class Intervals(NamedTuple):
    """Times in ms on the ECG's own clock; t_peak and t_end: (12,) by lead, NaN where the T wave is too small; t_height: (12,)
    mV above the baseline, at the peak; qt: to the latest end; qt_median: to the median of the leads' ends."""

    qrs_onset: float
    qrs_end: float
    qrs: float
    t_peak: Floats
    t_end: Floats
    t_height: Floats
    qt: float
    qt_median: float
    qtcf: float


def intervals(time: Floats, leads: Floats, cycle_length: float = 1000.0) -> Intervals:
    """Of one beat: time (times,) ms in equal steps, leads (12, times), cycle length (RR) in ms. Raises DataError where there is
    no QRS complex or no T wave that ends in the recording."""
    step = float(time[1] - time[0])
    if leads.shape != (len(LEADS), len(time)) or not np.isfinite(leads).all() or cycle_length <= 0.0:
        raise DataError(
            "no twelve leads", value=str(leads.shape), remedy="give finite leads (12, times) and a positive cycle length"
        )
    first, last = qrs(time, leads)
    before = time <= max(first, time[0] + step)
    base = np.median(leads[:, before], axis=1)
    rise = leads - base[:, None]
    here = time > last + AFTER
    if here.sum() < 20.0 / step:
        raise DataError("the beat ends with the QRS complex", value=f"{time[-1]:g} ms", remedy="simulate or record a whole beat")
    ends = [t_end(time[here], lead[here]) for lead in rise]
    peak, end, height = (np.array(v) for v in zip(*ends, strict=True))
    small = ~(np.abs(height) >= LEAST_T * np.abs(height).max())
    peak, end = np.where(small, np.nan, peak), np.where(small, np.nan, end)
    if not np.isfinite(end).any():
        raise DataError("no T wave ends in the beat", value=f"{time[-1]:g} ms", remedy="simulate a longer beat")
    qt, median = float(np.nanmax(end)) - first, float(np.nanmedian(end)) - first
    return Intervals(first, last, last - first, peak, end, height, qt, median, fridericia(qt, cycle_length))


def fridericia(qt: float, cycle_length: float) -> float:
    """QTcF in ms, of QT and RR in ms."""
    return float(qt / (cycle_length / 1000.0) ** (1.0 / 3.0))


def qrs(time: Floats, leads: Floats) -> tuple[float, float]:
    """Onset and end in ms."""
    step = float(time[1] - time[0])
    signal = _smooth(independent(leads), max(1, round(3.0 / step)))
    velocity = np.sqrt((np.gradient(signal, step, axis=1) ** 2).sum(0))
    top = int(velocity.argmax())
    if not velocity[top] > 0.0:
        raise DataError("flat leads", value=0.0, remedy="check the activation and the electrodes")
    fast = np.flatnonzero(velocity > SHARE * velocity[top])
    gap = np.flatnonzero(np.diff(fast) * step > QUIET)
    at = int(np.searchsorted(fast, top))
    low = fast[gap[gap < at].max() + 1] if (gap < at).any() else fast[0]
    high = fast[gap[gap >= at].min()] if (gap >= at).any() else fast[-1]
    return float(time[low]), float(time[high])


def t_end(time: Floats, lead: Floats) -> tuple[float, float, float]:
    """Peak (ms), end (ms) and height (mV) of the T wave of a lead that starts after QRS, above its baseline; end is NaN where
    the tangent meets the baseline outside the recording."""
    step = float(time[1] - time[0])
    lead = _smooth(lead[None], max(1, round(5.0 / step)))[0]
    top = int(np.abs(lead).argmax())
    height = float(lead[top])
    down = -np.sign(height) * np.gradient(lead, step)
    after = down[top:]
    crossed = np.flatnonzero(lead[top:] * np.sign(height) <= 0.0)
    reach = int(crossed[0]) + 1 if len(crossed) else len(after)
    k = top + int(after[:reach].argmax())
    if not down[k] > 0.0:
        return float(time[top]), np.nan, height
    end = float(time[k] + abs(lead[k]) / down[k])
    return float(time[top]), end if end <= time[-1] else np.nan, height


def _smooth(signal: Floats, width: int) -> Floats:
    """Moving mean over an odd number of samples (leads, times); the ends stay."""
    width += 1 - width % 2
    if width < 3:
        return signal
    padded = np.pad(signal, ((0, 0), (width // 2, width // 2)), mode="edge")
    total = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1)
    return (total[:, width:] - total[:, :-width]) / width

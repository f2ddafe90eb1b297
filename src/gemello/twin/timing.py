"""When things happen in a schedule, and where in its records to read a value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gemello.model.schedule import DOSE, RESET_AND_DOSE, Schedule, numbered

Floats = NDArray[np.float64]


def dose_times(s: Schedule) -> Floats:
    """Sorted times of all doses and signals, additional ones written out."""
    dose = np.flatnonzero((s.evid == DOSE) | (s.evid == RESET_AND_DOSE))
    repeat = np.repeat(dose, s.additional[dose] + 1)
    return np.unique(s.time[repeat] + numbered(s.additional[dose] + 1) * s.interval[repeat])


def infusion_ends(s: Schedule) -> Floats:
    """Sorted ends of all infusions with a given rate (F = 1, no lag), additional ones written out."""
    some = np.flatnonzero(((s.evid == DOSE) | (s.evid == RESET_AND_DOSE)) & (s.rate > 0) & (s.amount > 0))
    ends = [s.time[i] + s.amount[i] / s.rate[i] + np.arange(s.additional[i] + 1) * s.interval[i] for i in some]
    return np.unique(np.concatenate(ends)) if ends else np.zeros(0)


def all_times(s: Schedule) -> Floats:
    """Sorted times of all records, doses and ends of infusions."""
    return np.unique(np.concatenate([s.time, dose_times(s), infusion_ends(s)]))


def positions(record_time: Floats, at: Floats) -> NDArray[np.int64]:
    """Index of the first record at each of these times: the value before anything that is done then."""
    return np.searchsorted(record_time, at, side="left")

"""From a study to records of subjects: concentrations as levels of the signal port, QTcF as observations, days as occasions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.domains.heart.qt.records import Study
from gemello.model.schedule import DOSE, OBSERVATION, OCCASION, Schedule, Subject

Floats = NDArray[np.float64]
WEEK = 168.0  # h between the first and the second day of a crossover; the same time of day
STEPS = 4  # levels between two samples


def levels(time: ArrayLike, conc: ArrayLike, *, start: float = 0.0, before: float = 0.0, steps: int = STEPS) -> Schedule:
    """Levels of the concentration that follow straight lines between samples, in `steps` steps each.

    time: h, after `start`, where the concentration is `before`. conc: in the model's unit. A step begins half-way to the point
    that it stands for, so that the level at each sample is the sample, and the mean over an interval is that of the line. Raises
    DataError for times that do not increase, or negative concentrations.
    """
    t, c = np.atleast_1d(np.asarray(time, float)), np.atleast_1d(np.asarray(conc, float))
    knots = np.concatenate([[start], t])
    if len(t) != len(c) or not np.all(np.diff(knots) > 0):
        raise DataError(
            "times of concentrations that do not increase", column="time", value=t.tolist(),
            remedy=f"give one time after {start:g} h for each concentration, in order",
        )  # fmt: skip
    if not (np.isfinite(c).all() and (c >= 0).all() and before >= 0 and steps >= 1):
        raise DataError("a concentration that is no number of 0 or more", column="conc", remedy="give 0 below the limit")
    ends = np.arange(1, steps + 1) / steps
    width = np.diff(knots)
    at = knots[:-1, None] + width[:, None] * (ends - 0.5 / steps)
    first = np.concatenate([[before], c[:-1]])
    level = first[:, None] + (c - first)[:, None] * ends
    return Schedule.of(np.concatenate([[start], at.ravel()]), evid=DOSE, port=1, amount=np.concatenate([[before], level.ravel()]))


def day(
    time: ArrayLike,
    conc: ArrayLike,
    qtcf: ArrayLike | None = None,
    *,
    baseline: float | None = None,
    start: float = 0.0,
    occasion: int = 1,
    steps: int = STEPS,
) -> Schedule:
    """One day of records: concentrations and QTcF (ms) at these times (h after the dose), and QTcF before the dose.

    start: time of the dose on the subject's clock, h; a multiple of 24 h for a morning dose. occasion: number of the day. Without
    qtcf: times at which to predict. Raises DataError.
    """
    t = np.atleast_1d(np.asarray(time, float))
    out = levels(start + t, conc, start=start, steps=steps)
    seen = Schedule().observe(start + t, qtcf)
    if baseline is not None:
        seen = seen.merge(Schedule().observe(start, baseline))
    return out.merge(seen).covariates(**{OCCASION: float(occasion)})


def subjects(study: Study, *, steps: int = STEPS) -> list[Subject]:
    """Subjects of a study: placebo as the first day, the drug as the day a week later (each dose a further week); a parallel
    study has one day each."""
    out = []
    for s in dict.fromkeys(study.subject.tolist()):
        own = Schedule()
        for k, here in enumerate(_days(study, s)):
            one = _day_of(study, here, WEEK * k, k + 1, steps)
            own = own.merge(one)
        out.append(Subject(s, own))
    return out


def drug_day(study: Study, subject: str, *, occasion: int = 1, steps: int = STEPS) -> Schedule:
    """The day of one subject on the (first dose of the) drug, its clock at 0 at the dose. Raises DataError without one."""
    days = [d for d in _days(study, subject) if study.active[d].all()]
    if not days:
        raise DataError("no record on the drug", source=study.source, column="ID", value=subject, remedy="name another subject")
    return _day_of(study, days[0], 0.0, occasion, steps)


def _day_of(study: Study, here: NDArray[np.int64], start: float, occasion: int, steps: int) -> Schedule:
    conc = study.conc[here]
    few = 1 if not conc.any() else steps  # a level of 0 needs no steps
    return day(
        study.time[here],
        conc,
        study.qtcf[here],
        baseline=float(study.baseline[here][0]),
        start=start,
        occasion=occasion,
        steps=few,
    )


def _days(study: Study, subject: str) -> list[NDArray[np.int64]]:
    """Records of each of a subject's days in order of time, placebo first, then by dose."""
    own = np.flatnonzero(study.subject == subject)
    dose = np.where(study.active[own], np.nan_to_num(study.dose[own], nan=1.0), -1.0)
    found = [own[dose == d] for d in np.unique(dose)]
    return [d[np.argsort(study.time[d])] for d in found]


def until(s: Schedule, time: float) -> Schedule:
    """What is known at `time`: records up to it, levels with them."""
    return s.take(s.time <= time)


def after(s: Schedule, time: float) -> Schedule:
    """What comes after `time`, measured values included."""
    return s.take(s.time > time)


def measured(s: Schedule) -> tuple[Floats, Floats]:
    """Times and values of QTcF."""
    here = (s.evid == OBSERVATION) & ~np.isnan(s.value)
    return s.time[here], s.value[here]

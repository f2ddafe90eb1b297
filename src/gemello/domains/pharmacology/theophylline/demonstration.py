"""The demo's work: real patients, a real forecast, a decision and its report.

Eleven patients came earlier; their data fit the population. Of the twelfth the twin sees the first hour only, forecasts the rest
and is held against what was measured. The same is then done with each of the twelve in turn, so that nobody has to take one
patient's word for it: every forecast comes from a population that was fitted without that patient.

Goal: the usual therapeutic range of serum theophylline, 5 to 15 mg/L at steady state (National Asthma Education and Prevention
Program, Expert Panel Report 3, NIH publication 07-4051, 2007); above 20 mg/L toxicity becomes frequent (Hendeles & Weinberger
1983, Pharmacotherapy 3:2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemello.base.errors import DataError
from gemello.domains.pharmacology.theophylline import boeckmann1994
from gemello.domains.pharmacology.theophylline import model as theophylline
from gemello.inference.population import fit
from gemello.inference.result import Fit
from gemello.inference.scores import Coverage, coverage
from gemello.inference.search import Report
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.decide import Decision
from gemello.twin.forecast import Forecast
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Grid
from gemello.twin.twin import Twin

Say = Callable[[str], None]

MODEL = theophylline.oral
OUTPUT = "cp"
FIRST = 3  # samples after the dose that the twin sees: about one hour
DRAWS = 2000
LEVEL = 0.9
START, STEADY = (
    25.0,
    (121.0, 145.0),
)  # h: the next dose (after the last sample), and a day at steady state (over 10 half-lives after it)
POINTS = 49  # every half hour of that day, and each dose
GOALS = (Target(OUTPUT, "min", STEADY, low=5.0, points=POINTS), Target(OUTPUT, "max", STEADY, high=15.0, points=POINTS))
SAFE = (Constraint(Target(OUTPUT, "max", STEADY, high=20.0, points=POINTS), risk=0.05),)
GRID = Grid(doses=tuple(range(50, 426, 25)), intervals=(6.0, 8.0, 12.0), start=START, until=STEADY[1])


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo found. whole: fit to all 12. fit: to all but the patient shown, from which the twin starts. twin: after the
    first hour. held_back: what it had not seen.

    decisions: by what is known, the present one under `known`. everyone: coverage of the 90 % interval of held-back samples over
    all patients, each forecast from a population fitted without that patient.
    """

    whole: Fit
    fit: Fit
    fitted: tuple[Subject, ...]
    twin: Twin
    held_back: Schedule
    forecast: Forecast
    decisions: dict[str, Decision]
    known: str
    course: Forecast | None
    everyone: Coverage
    own: Coverage

    @property
    def decision(self) -> Decision:
        return self.decisions[self.known]


def compute(seed: int = 20, progress: Say | None = None, *, patient: str = "12") -> Demo:
    """Everything but the report. Raises DataError for a patient that there is not."""
    say = progress or (lambda _: None)
    subjects = boeckmann1994.subjects()
    ids = [s.id for s in subjects]
    if patient not in ids:
        raise DataError("no such patient", column="patient", value=patient, remedy=f"give one of {', '.join(ids)}")
    number = ids.index(patient)
    say(f"Fitting the population to {len(subjects)} patients (compiling; about 20 s the very first time)")
    whole = fit(
        MODEL, subjects, report=lambda i, o, _: say(f"Fitting the population: objective {o:.3f} after {i} improvements")
    ).check()
    say(f"Fitting the population without patient {patient}")
    found = _fit_without(subjects, number, whole)
    everyone = _check_all(subjects, number, found, seed, say)
    say(f"Patient {patient}: first hour seen, the rest forecast")
    twin, held_back = _twin(subjects[number], found, seed)
    times = np.concatenate([np.linspace(0.0, 25.0, 126), held_back.time])
    forecast = twin.forecast(times=times, outputs=OUTPUT, seed=seed)
    say(f"Patient {patient}: weighing {len(GRID.regimens(0, 1))} regimens")
    decisions, known = _decide(subjects[number], twin, held_back, seed)
    chosen = decisions[known].chosen
    course = None
    if chosen is not None:
        look = np.linspace(0.0, STEADY[1], 433)
        course = twin.forecast(chosen.candidate.schedule, times=look, outputs=OUTPUT, seed=seed, residual=False)
    own = _coverage([_inside(forecast, held_back)])
    fitted = tuple(s for i, s in enumerate(subjects) if i != number)
    return Demo(whole, found, fitted, twin, held_back, forecast, decisions, known, course, everyone, own)


def write(demo: Demo, path: Path, progress: Say | None = None) -> Path:
    """The demo's report. Raises DataError where it cannot be written."""
    if progress:
        progress("Writing the report")
    from gemello.report.page import twin_report  # noqa: PLC0415  (plotly and jinja2: only where a report is wanted)

    return twin_report(
        demo.twin,
        demo.forecast,
        demo.decision,
        demo.fit,
        demo.held_back,
        path=path,
        course=demo.course,
        goals=GOALS,
        reconsidered=demo.decisions,
        fitted=demo.fitted,
        remarks=remarks(demo),
        labels={OUTPUT: "theophylline in plasma"},
        title=f"Theophylline: twin of patient {demo.twin.id}",
    )


def remarks(demo: Demo) -> tuple[str, ...]:
    """What a reader of the report must know, in sentences."""
    e, theta = demo.everyone, demo.whole.theta
    share, error, level = (f"{100 * v:.0f} %" for v in (e.share, e.error, LEVEL))
    return (
        f"A real patient: number {demo.twin.id} of the 12 of Upton's study ({boeckmann1994.CITATION}). Fitted to all 12 the "
        f"FOCEI objective is {demo.whole.objective:.3f} (CL/F {theta['CL']:.3g} L/h, V/F {theta['V']:.3g} L, "
        f"ka {theta['KA']:.3g} 1/h). For an honest forecast the twin's population was fitted to the other "
        f"{len(demo.fitted)}; of this patient the twin knows the dose, the sample before it and the {FIRST} samples "
        "of the first hour.",
        "The same was done with each of the 12 patients in turn, always with a population fitted without that patient: "
        f"{_count(e)} held-back samples ({share}, standard error {error}) lie in the {level} interval.",
        "Goal: serum theophylline of 5 to 15 mg/L at steady state (NAEPP Expert Panel Report 3, 2007), with a risk of at most "
        "5 % of a peak above 20 mg/L, where toxicity becomes frequent (Hendeles & Weinberger 1983). An immediate-release "
        "oral form is assumed.",
    )


def summary(demo: Demo) -> tuple[str, ...]:
    """The result in a few lines, for a terminal."""
    chosen, refused = demo.decision.chosen, demo.decision.refused
    advice = f"refused: {refused}"
    if chosen is not None:
        advice = f"{chosen.candidate.label}, meets the goal with probability {chosen.probability:.2f} ± {chosen.error:.2f}"
    return (
        f"Population of {len(demo.whole.ids)} patients: {demo.whole.method.upper()} objective {demo.whole.objective:.3f}; "
        f"without patient {demo.twin.id}: {demo.fit.objective:.3f}",
        f"Patient {demo.twin.id}, first hour seen: {_count(demo.own)} later samples lie in the {100 * LEVEL:.0f} % interval",
        f"All 12 patients treated so: {_count(demo.everyone)} ({100 * demo.everyone.share:.0f} %)",
        f"Recommended for 5 to 15 mg/L: {advice}",
    )


# ---- steps ---------------------------------------------------------------------------------------------------------
def _fit_without(subjects: Sequence[Subject], number: int, start: Fit | None = None, report: Report | None = None) -> Fit:
    values = {**start.theta, **start.sigma} if start is not None else None
    return fit(MODEL, [s for i, s in enumerate(subjects) if i != number], start=values, report=report).check()


def _split(subject: Subject) -> tuple[Schedule, Schedule]:
    """What the twin sees (the dose, and the samples up to the FIRST-th after it), and what it does not."""
    s = subject.schedule
    until = np.sort(s.time[s.measured & (s.time > 0)])[FIRST - 1]
    return s.take(s.time <= until), s.take(s.time > until)


def _twin(subject: Subject, population: Fit, seed: int) -> tuple[Twin, Schedule]:
    seen, held_back = _split(subject)
    empty = Twin.new(MODEL, PopulationParameters.from_fit(population), id=subject.id, draws=DRAWS, seed=seed)
    return empty.assimilate(seen, draws=DRAWS, seed=seed), held_back


def _inside(forecast: Forecast, held_back: Schedule) -> np.ndarray:
    at = np.searchsorted(forecast.time, held_back.time)
    bundle = forecast[OUTPUT].measurement
    assert bundle is not None  # cp is measured
    low, high = bundle.quantiles[0, at], bundle.quantiles[-1, at]
    return np.asarray((held_back.value >= low) & (held_back.value <= high))


def _coverage(inside: Sequence[np.ndarray]) -> Coverage:
    hit = np.concatenate(inside).astype(float)
    return coverage(
        np.ones_like(hit), np.ones_like(hit), hit, cluster=np.repeat(np.arange(len(inside)), [len(i) for i in inside])
    )


def _check_all(subjects: Sequence[Subject], number: int, found: Fit, seed: int, say: Say) -> Coverage:
    """Every patient's held-back samples against the forecast from a population that was fitted without that patient."""
    inside = []
    for k, s in enumerate(subjects):
        say(f"Forecasting each patient from the others: {k + 1} of {len(subjects)}")
        twin, held_back = _twin(s, found if k == number else _fit_without(subjects, k, found), seed)
        inside.append(_inside(twin.forecast(times=held_back.time, outputs=OUTPUT, seed=seed), held_back))
    return _coverage(inside)


def _decide(subject: Subject, twin: Twin, held_back: Schedule, seed: int) -> tuple[dict[str, Decision], str]:
    """The same decision before any sample, after the first hour and after all samples."""
    dose = subject.schedule.take(subject.schedule.evid == 1)
    blind = Twin.new(MODEL, twin.parameters, id=subject.id, draws=DRAWS, seed=seed).assimilate(dose, draws=DRAWS, seed=seed)
    full = twin.assimilate(held_back, draws=DRAWS, seed=seed)
    known = f"the first hour ({twin.posterior.observations} samples)"
    by = {"the population alone": blind, known: twin, f"the first day (all {full.posterior.observations} samples)": full}
    return {name: t.optimise(GOALS, GRID, constraints=SAFE) for name, t in by.items()}, known


def _count(c: Coverage) -> str:
    return f"{round(c.share * c.number)} of {c.number}"

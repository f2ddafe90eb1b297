"""What every candidate of a decision does under every draw of the posterior: statistics, probabilities, risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemello.inference.scores import quantiles
from gemello.model.contract import Model
from gemello.model.schedule import OTHER, Schedule, Subject
from gemello.twin.data import TwinData, together
from gemello.twin.goals import Constraint, Target
from gemello.twin.propagate import propagate, settle
from gemello.twin.regimens import Candidate, day_of
from gemello.twin.timing import all_times

Floats = NDArray[np.float64]
MEMORY = 2**28  # bytes of outputs that one batch of cases may hold


@dataclass(frozen=True)
class Expected:
    """Distribution of one statistic over the posterior: mean, median and central 90 % interval, in its unit; and the
    probabilities that it lies below and above the range aimed at."""

    label: str
    mean: float
    low: float
    median: float
    high: float
    below: float = float("nan")
    above: float = float("nan")


@dataclass(frozen=True)
class Risk:
    """Probability that a constraint is missed, its Monte Carlo standard error, and the limit."""

    label: str
    probability: float
    error: float
    limit: float

    @property
    def kept(self) -> bool:
        return self.probability <= self.limit


@dataclass(frozen=True, eq=False)
class Assessed:
    """One candidate: probability that all goals are met, its Monte Carlo standard error, expectations, risks.

    by_model: the probability under each of several models that are averaged; empty for one model.
    """

    candidate: Candidate
    probability: float
    error: float
    expected: tuple[Expected, ...]
    risks: tuple[Risk, ...]
    by_model: tuple[float, ...] = ()

    @property
    def feasible(self) -> bool:
        return all(r.kept for r in self.risks)


class Case(NamedTuple):
    """One subject (with the draws of its posterior), what would be done, and what is asked of it."""

    twin: TwinData
    schedule: Schedule
    targets: tuple[Target, ...]


def cases_of(
    twin: TwinData,
    candidates: Sequence[Candidate],
    targets: Sequence[Target],
    *,
    steady: bool = False,
    covariates: Mapping[str, float] | None = None,
) -> list[Case]:
    """The candidates as cases of one twin. steady: each regimen in its steady state, over whole intervals of a day or more.

    covariates: values from the start of each candidate on, where they differ from the last known ones.
    """
    out, asked_of_all = [], tuple(targets)
    for c in candidates:
        schedule, asked = c.schedule, asked_of_all
        if steady and c.regimen is not None:
            r = c.regimen
            length = r.interval * max(1, int(np.ceil(day_of(twin.model) / r.interval - 1e-9)))
            begin = r.start + r.interval  # not where it starts: an accumulator still holds the past there, and is 0 thereafter
            schedule = r.steady(begin + length)
            asked = tuple(t.during((begin, begin + length)) for t in targets)
        out.append(Case(twin, changed(twin, schedule, covariates or {}), asked))
    return out


def changed(twin: TwinData, schedule: Schedule, covariates: Mapping[str, float]) -> Schedule:
    """The schedule with these covariates from its first record on; until then the last known ones hold."""
    if not covariates or not len(schedule):
        return schedule
    known = {**twin.covariates, **twin.posterior.covariates}
    before = Schedule.of(schedule.time[0], evid=OTHER, columns={n: known[n] for n in covariates})
    return before.merge(schedule.covariates(**covariates))


def statistics(cases: Sequence[Case], *, history: bool = True) -> list[Floats]:
    """Of every case the statistics of its targets, (targets, draws), under the draws of its twin's posterior.

    All twins share a model and a population. history: on top of the record; otherwise the subjects start empty.
    """
    model, _ = together([c.twin for c in cases])
    planner = _Planner(history)
    planned = [planner.plan(c) for c in cases]
    subjects, plans = [s for s, _ in planned], [p for _, p in planned]
    names = tuple(dict.fromkeys(t.output for c in cases for t in c.targets))
    depth, draws = max(len(s.schedule) for s in subjects), len(cases[0].twin.posterior.weights)
    parts = -(-8 * depth * draws * len(names) * len(cases) // MEMORY)
    batch = -(-len(cases) // parts)  # even batches, so that one program serves all
    out = []
    for i in range(0, len(cases), batch):
        out += _batch(model, cases[i : i + batch], subjects[i : i + batch], plans[i : i + batch], names, batch)
    return out


class _Planner:
    """Joins records and candidates; what many cases share is worked out once."""

    def __init__(self, history: bool) -> None:
        self.history = history
        self.past: dict[int, tuple[Schedule, float]] = {}  # by record: what was done, and when the last of it ended
        self.ahead: dict[
            tuple[int, tuple[Target, ...]], tuple[Schedule, Schedule]
        ] = {}  # by candidate and targets: with observations, and plain

    def plan(self, c: Case) -> tuple[Subject, Schedule]:
        """The subject with observations where the targets need them, and the plan that the targets are evaluated on."""
        if not self.history:
            done = c.schedule.written_out()
            missing = {n: v for n, v in c.twin.posterior.covariates.items() if n not in done.columns}
            done = done.covariates(**missing) if len(c.twin.record) else done
            return self._subject(c, _observed(done, c.targets)), done
        key = id(c.twin.record)
        if key not in self.past:
            record = c.twin.record.schedule.without_values().written_out()
            self.past[key] = record, float(all_times(record)[-1]) if len(record) else 0.0
        past, end = self.past[key]
        if end <= min(t.span[0] for t in c.targets) and not np.any(c.schedule.steady_state):  # nothing of the past in a window
            both = (id(c.schedule), c.targets)
            if both not in self.ahead:
                done = c.schedule.written_out()
                self.ahead[both] = _observed(done, c.targets), done
            ahead, done = self.ahead[both]
            return self._subject(c, past.merge(ahead)), done
        done = c.twin.record.schedule.without_values().merge(c.schedule).written_out()
        return self._subject(c, _observed(done, c.targets)), done

    def _subject(self, c: Case, schedule: Schedule) -> Subject:
        return Subject(c.twin.id, c.twin.complete(schedule))


def _observed(plan: Schedule, targets: Sequence[Target]) -> Schedule:
    return plan.observe(np.unique(np.concatenate([t.times(plan) for t in targets])))


def _batch(
    model: Model, cases: Sequence[Case], subjects: Sequence[Subject], plans: Sequence[Schedule], names: tuple[str, ...], size: int
) -> list[Floats]:
    fill = size - len(cases)
    padded = [*subjects, *[subjects[-1]] * fill]
    beliefs = [c.twin.posterior for c in cases] + [cases[-1].twin.posterior] * fill
    etas, weights = np.stack([b.draws for b in beliefs]), np.stack([b.weights for b in beliefs])
    found = settle(model, padded, etas, weights, propagate(model, cases[0].twin.parameters, padded, etas, names))
    out = []
    for k, (c, s, plan) in enumerate(zip(cases, subjects, plans, strict=True)):
        time = s.schedule.time
        out.append(np.stack([t.evaluate(time, found.outputs[t.output][k, :, : len(time)], plan) for t in c.targets]))
    return out


# ---- probabilities -------------------------------------------------------------------------------------------------
def label(model: Model, t: Target, steady: bool = False) -> str:
    """The target in words, with the units of the model. steady: in the steady state of each candidate, not in its window."""
    words = "in steady state" if steady else ""
    return t.label(model.outputs[model.output_index(t.output)].unit, model.time_unit, words)


def assessed(
    model: Model,
    candidates: Sequence[Candidate],
    goals: Sequence[Target],
    constraints: Sequence[Constraint],
    values: Floats,
    weights: Floats,
    *,
    steady: bool = False,
    parts: Sequence[slice] = (),
) -> tuple[Assessed, ...]:
    """All candidates from the statistics of goals and constraints, (candidates, statistics, draws), and weights (draws,).

    parts: where the draws of each of several models lie.
    """
    met = np.all([t.met(values[:, i]) for i, t in enumerate(goals)], axis=0)
    p, error = probability(met, weights)
    missed = [probability(~q.target.met(values[:, i]), weights) for i, q in enumerate(constraints, start=len(goals))]
    mean = values[:, : len(goals)] @ weights
    q05, q50, q95 = quantiles(np.moveaxis(values[:, : len(goals)], -1, 0), [0.05, 0.5, 0.95], weights)
    names = [label(model, t, steady) for t in (*goals, *(q.target for q in constraints))]
    below = np.stack([(values[:, i] < t.low) @ weights for i, t in enumerate(goals)], axis=1)
    above = np.stack([(values[:, i] > t.high) @ weights for i, t in enumerate(goals)], axis=1)
    numbers = np.stack([mean, q05, q50, q95, below, above], axis=-1).tolist()  # (candidates, goals, 6)
    by_model = [met[:, s] @ weights[s] / max(float(np.sum(weights[s])), 1e-300) for s in parts]
    out = []
    for k, c in enumerate(candidates):
        expected = tuple(Expected(n, *five) for n, five in zip(names, numbers[k], strict=False))
        risks = tuple(
            Risk(names[len(goals) + i], float(missed[i][0][k]), float(missed[i][1][k]), q.risk) for i, q in enumerate(constraints)
        )
        out.append(Assessed(c, float(p[k]), float(error[k]), expected, risks, tuple(float(m[k]) for m in by_model)))
    return tuple(out)


def probability(event: NDArray[np.bool_], w: Floats) -> tuple[Floats, Floats]:
    """Probabilities of events among weighted draws (..., draws), and Monte Carlo standard errors as for independent draws."""
    p = np.minimum(event @ w, 1.0)
    return p, np.sqrt((event - p[..., None]) ** 2 @ w**2)

"""`optimise`: which candidate most probably meets the goal, or a refusal with its reason; and the dose that hits a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from gemello.base.errors import DataError, DomainError, RefusalError
from gemello.base.provenance import Provenance
from gemello.inference.scores import quantiles
from gemello.model.schedule import Schedule, Subject
from gemello.twin.data import TwinData
from gemello.twin.goals import Constraint, Target
from gemello.twin.propagate import propagate, settle
from gemello.twin.regimens import Candidate, Grid, Regimen, candidates_of, with_dose
from gemello.twin.timing import dose_times

Floats = NDArray[np.float64]
MEMORY = 2**28  # bytes of outputs that one batch of candidates may hold


@dataclass(frozen=True)
class Expected:
    """Distribution of one statistic over the posterior: mean, median and central 90 % interval, in its unit."""

    label: str
    mean: float
    low: float
    median: float
    high: float


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
    """One candidate: probability that all goals are met, its Monte Carlo standard error, expectations, risks."""

    candidate: Candidate
    probability: float
    error: float
    expected: tuple[Expected, ...]
    risks: tuple[Risk, ...]

    @property
    def feasible(self) -> bool:
        return all(r.kept for r in self.risks)


@dataclass(frozen=True, eq=False)
class Decision:
    """All candidates, assessed, and the chosen one; or `refused`, the reason why none is chosen.

    goals: in words. least_probability: below which a choice is refused. outside: covariates outside the population that the
    model was built on, where the caller chose to go on; `overridden` says so.
    """

    id: str
    goals: tuple[str, ...]
    table: tuple[Assessed, ...]
    chosen: Assessed | None
    refused: str | None
    least_probability: float
    outside: tuple[str, ...]
    overridden: bool
    provenance: Provenance

    @property
    def schedule(self) -> Schedule:
        """What to do. Raises RefusalError, with its reason, for a refused decision."""
        if self.chosen is None:
            raise RefusalError(f"subject {self.id}: {self.refused}")
        return self.chosen.candidate.schedule

    def frame(self) -> Any:
        """All candidates (polars): candidate, total, probability, error, feasible, chosen, then by goal mean, low, median, high,
        then by constraint its risk."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        rows = []
        for a in self.table:
            row: dict[str, Any] = {
                "candidate": a.candidate.label, "total": a.candidate.total, "probability": a.probability, "error": a.error,
                "feasible": a.feasible, "chosen": a is self.chosen,
            }  # fmt: skip
            for i, e in enumerate(a.expected, start=1):
                row |= {f"{k}_{i}": getattr(e, k) for k in ("mean", "low", "median", "high")}
            row |= {f"risk_{i}": r.probability for i, r in enumerate(a.risks, start=1)}
            rows.append(row)
        return pl.DataFrame(rows)


def optimise(
    twin: TwinData,
    goal: Target | Sequence[Target],
    candidates: Grid | Mapping[str, Schedule] | Sequence[Regimen],
    *,
    constraints: Sequence[Constraint] = (),
    least_probability: float = 0.5,
    override_domain: bool = False,
    override_doubt: bool = False,
    raise_refusal: bool = False,
) -> Decision:
    """The candidate with the largest probability of meeting all goals, among those that keep every constraint.

    Goals are about the noise-free course, under the posterior's draws. Equal probabilities: the least amount in all. What a
    candidate does is added to what the record holds, its future included. Refused (`Decision.refused`, or RefusalError with
    `raise_refusal`): a posterior whose draws cannot be trusted, no candidate that keeps the constraints, a best probability
    under `least_probability`. Raises DataError for regimens that would start before the record's last value, or on top of doses
    that it holds. `override_doubt` goes on in spite of a doubtful posterior, and records it. Raises DomainError for a
    subject outside the model's population unless `override_domain`, and
    DataError, ModelError, SolverError for what cannot be computed.
    """
    goals = (goal,) if isinstance(goal, Target) else tuple(goal)
    _check_goals(twin, goals, constraints, least_probability)
    targets = (*goals, *(c.target for c in constraints))
    chosen_from = candidates_of(twin.model, candidates, twin.record.last, max(t.span[1] for t in targets))
    if not isinstance(candidates, Mapping):
        _check_planned(twin, chosen_from)
    outside = _inside(twin, [c.schedule for c in chosen_from], override_domain)
    words = tuple(_label(twin, t) for t in goals)
    stamp = Provenance.collect(
        twin.model, parameters=twin.parameters, data=twin.record.hash, seed=twin.posterior.provenance.seed
    )  # the draws are the posterior's: its seed
    table: tuple[Assessed, ...] = ()
    refused = twin.posterior.doubt
    if refused is not None and override_doubt:
        outside, refused = (*outside, refused), None
    best = None
    if refused is None:
        table = assess(twin, goals, constraints, chosen_from)
        best, refused = _choose(twin, table, least_probability)
    if refused and raise_refusal:
        raise RefusalError(f"subject {twin.id}: {refused}")
    return Decision(twin.id, words, table, best, refused, least_probability, outside, bool(outside), stamp)


def _check_planned(twin: TwinData, candidates: Sequence[Candidate]) -> None:
    """Refuse to plan on top of what is planned already, or to plan for a time that has been measured."""
    begin = min(float(c.schedule.time[0]) for c in candidates)
    done = dose_times(twin.record.schedule)
    later = done[done >= begin - 1e-9]
    seen = twin.record.schedule.time[twin.record.schedule.measured]
    unit = twin.model.time_unit
    if len(later):
        raise DataError(
            f"subject {twin.id}: the record holds doses from {later[0]:g} {unit} on, and the new ones would come on top of them",
            column="start", value=begin, remedy="start after the last recorded dose, or take those to come out of the record",
        )  # fmt: skip
    if len(seen) and seen[-1] > begin + 1e-9:
        raise DataError(
            f"subject {twin.id}: values are measured until {seen[-1]:g} {unit}, after the new doses would start",
            column="start", value=begin, remedy="start at the last measurement or later",
        )  # fmt: skip


def _inside(twin: TwinData, schedules: Sequence[Schedule], override: bool) -> tuple[str, ...]:
    """Covariates outside the model's population, in words. Raises DomainError for any, unless overridden."""
    outside = twin.outside(*schedules)
    if outside and not override:
        raise DomainError(
            f"subject {twin.id}: {'; '.join(outside)}, the population that {twin.model.name} was built on; use another model, "
            "or override_domain=True to go on at your own judgement"
        )
    return outside


def _check_goals(twin: TwinData, goals: Sequence[Target], constraints: Sequence[Constraint], least: float) -> None:
    if not goals:
        raise DataError("no goal", column="goal", remedy="give a Target")
    if not 0 <= least <= 1:
        raise DataError("impossible probability", column="least_probability", value=least, remedy="give 0 to 1")
    for t in (*goals, *(c.target for c in constraints)):
        twin.model.output_index(t.output)
        if not (np.isfinite(t.low) or np.isfinite(t.high)):
            raise DataError(f"target for {t.output}: no bounds", column="low", remedy="give low, high or both")


def _label(twin: TwinData, t: Target) -> str:
    m = twin.model
    return t.label(m.outputs[m.output_index(t.output)].unit, m.time_unit)


def _choose(twin: TwinData, table: Sequence[Assessed], least: float) -> tuple[Assessed | None, str | None]:
    feasible = [a for a in table if a.feasible]
    if not feasible:
        near = min(table, key=lambda a: sum(max(r.probability - r.limit, 0.0) for r in a.risks))
        worst = max(near.risks, key=lambda r: r.probability - r.limit)
        return None, (
            f"none of {len(table)} candidates keeps the constraints; the nearest, {near.candidate.label}, misses "
            f"'{worst.label}' with probability {worst.probability:.2f} (limit {worst.limit:g}); widen the grid or the limits"
        )
    best = max(feasible, key=lambda a: (round(a.probability, 12), -a.candidate.total))
    if best.probability < least:
        return None, (
            f"the best candidate, {best.candidate.label}, meets the goal with probability {best.probability:.2f} only "
            f"(below {least:g}); measure once more, widen the grid or the goal"
        )
    return best, None


def assess(
    twin: TwinData, goals: Sequence[Target], constraints: Sequence[Constraint], candidates: Sequence[Candidate]
) -> tuple[Assessed, ...]:
    """Every candidate under every draw of the posterior, in lanes."""
    targets = (*goals, *(c.target for c in constraints))
    w = twin.posterior.weights
    values = statistics(twin, targets, [c.schedule for c in candidates], twin.posterior.draws, w)
    out = []
    for k, c in enumerate(candidates):
        here = values[k]
        met = np.all([t.met(here[i]) for i, t in enumerate(goals)], axis=0)
        expected = []
        for i, t in enumerate(goals):
            q05, q50, q95 = quantiles(here[i], [0.05, 0.5, 0.95], w).tolist()
            expected.append(Expected(_label(twin, t), float(w @ here[i]), q05, q50, q95))
        risks = []
        for i, q in enumerate(constraints, start=len(goals)):
            p, error = _probability(~q.target.met(here[i]), w)
            risks.append(Risk(_label(twin, q.target), p, error, q.risk))
        p, error = _probability(met, w)
        out.append(Assessed(c, p, error, tuple(expected), tuple(risks)))
    return tuple(out)


def _probability(event: NDArray[np.bool_], w: Floats) -> tuple[float, float]:
    """Probability and its Monte Carlo standard error, as for independent draws."""
    p = min(float(np.sum(w[event])), 1.0)
    return p, float(np.sqrt(np.sum(w**2 * (event - p) ** 2)))


def statistics(
    twin: TwinData,
    targets: Sequence[Target],
    schedules: Sequence[Schedule],
    etas: Floats,
    weights: Floats,
    *,
    history: bool = True,
) -> list[Floats]:
    """For every schedule the targets' statistics, (targets, draws), at etas (draws, etas). history: on top of the record."""
    names = tuple(dict.fromkeys(t.output for t in targets))
    subjects, plans = [], []
    for s in schedules:
        done = (twin.record.schedule.without_values().merge(s) if history else s).written_out()
        if not history and len(twin.record):
            done = done.covariates(**{n: v for n, v in twin.posterior.covariates.items() if n not in done.columns})
        at = np.unique(np.concatenate([t.times(done) for t in targets]))
        plans.append(done)
        subjects.append(Subject(twin.id, twin.complete(done.observe(at))))
    depth = max(len(s.schedule) for s in subjects)
    batch = max(1, int(MEMORY / (8 * depth * len(etas) * len(names))))
    parts = -(-len(subjects) // batch)
    batch = -(-len(subjects) // parts)  # even batches, so that one program serves all
    out = []
    for i in range(0, len(subjects), batch):
        some = subjects[i : i + batch]
        padded = some + [some[-1]] * (batch - len(some))
        found = settle(twin.model, padded, etas, weights, propagate(twin.model, twin.parameters, padded, etas, names))
        for k, one in enumerate(some):
            time, plan = one.schedule.time, plans[i + k]
            out.append(np.stack([t.evaluate(time, found.outputs[t.output][k, :, : len(time)], plan) for t in targets]))
    return out


# ---- a dose for a value --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class DoseSolution:
    """Dose (in the port's unit) with which the target's statistic is `value` at the posterior's mode; `reached`: recomputed.

    outside: covariates outside the model's population, where the caller chose to go on.
    """

    dose: float
    reached: float
    regimen: Regimen
    outside: tuple[str, ...]
    provenance: Provenance


def solve_dose(
    twin: TwinData,
    target: Target,
    value: float,
    regimen: Regimen,
    *,
    history: bool = True,
    bounds: tuple[float, float] | None = None,
    override_domain: bool = False,
) -> DoseSolution:
    """The dose of `regimen` that brings the target's statistic to `value` at the mode (MAP estimate), by Brent's method.

    history: on top of the record; otherwise the subject starts empty. bounds: where to look; default 0 to 1000 times the
    regimen's dose (which is otherwise not used). Raises RefusalError where no dose within the bounds reaches the value,
    DomainError as `optimise` does.
    """
    outside = _inside(twin, (), override_domain)
    eta, one = twin.posterior.mode[None, :], np.ones(1)

    def miss(dose: float) -> float:
        plan = with_dose(regimen, dose).schedule()
        return float(statistics(twin, [target], [plan], eta, one, history=history)[0][0, 0]) - value

    low, high = bounds or (0.0, 1000.0 * max(regimen.dose, 1e-6))
    at_low, at_high = miss(low), miss(high)
    if at_low * at_high > 0:
        reach = sorted((at_low + value, at_high + value))
        raise RefusalError(
            f"subject {twin.id}: no dose from {low:g} to {high:g} brings {_label(twin, target)} to {value:g}; it lies between "
            f"{reach[0]:g} and {reach[1]:g} there"
        )
    dose = float(brentq(miss, low, high, xtol=1e-9 * max(high, 1e-12), rtol=1e-10))
    stamp = Provenance.collect(twin.model, parameters=twin.parameters, data=twin.record.hash)
    return DoseSolution(dose, miss(dose) + value, with_dose(regimen, dose), outside, stamp)

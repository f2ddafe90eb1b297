"""`optimise`: which candidate most probably meets the goal, or a refusal with its reason; and the dose that hits a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq

from gemello.base.errors import DataError, DomainError, RefusalError
from gemello.base.provenance import Provenance
from gemello.model.contract import Model
from gemello.model.schedule import Schedule
from gemello.twin.assess import Assessed, Case, Floats, assessed, cases_of, label, statistics
from gemello.twin.data import T, TwinData, together
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Candidate, Choices, Regimen, candidates_of, with_dose
from gemello.twin.timing import dose_times


@dataclass(frozen=True)
class Rules:
    """What a decision is held to.

    least_probability: below which it is refused. steady_state: goals and constraints count in the steady state of each regimen,
    over whole intervals of a day or more, in place of their windows. covariates: values from the first new dose on.
    override_domain, override_doubt: go on for a subject outside the model's population, or with a doubtful posterior.
    """

    least_probability: float = 0.5
    steady_state: bool = False
    covariates: Mapping[str, float] | None = None
    override_domain: bool = False
    override_doubt: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.least_probability <= 1:
            raise DataError(
                "impossible probability", column="least_probability", value=self.least_probability, remedy="give 0 to 1"
            )


@dataclass(frozen=True, eq=False)
class Decision:
    """All candidates, assessed, and the chosen one; or `refused`, the reason why none is chosen.

    goals: in words. least_probability: below which a choice is refused. outside: covariates outside the population that the
    model was built on, and doubts, where the caller chose to go on; `overridden` says so. assumed: what else the answer rests
    on, in words. models: names and posterior probabilities of models that are averaged.
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
    assumed: tuple[str, ...] = ()
    models: tuple[tuple[str, float], ...] = ()

    @property
    def schedule(self) -> Schedule:
        """What to do. Raises RefusalError, with its reason, for a refused decision."""
        if self.chosen is None:
            raise RefusalError(f"subject {self.id}: {self.refused}")
        return self.chosen.candidate.schedule

    def frame(self) -> Any:
        """All candidates (polars): candidate, total, probability, error, feasible, chosen, then by goal mean, low, median, high,
        then by constraint its risk, then by model its probability."""
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
            row |= {f"probability_{n}": p for (n, _), p in zip(self.models, a.by_model, strict=True)}
            rows.append(row)
        return pl.DataFrame(rows)


def optimise(
    twin: TwinData,
    goal: Target | Sequence[Target],
    candidates: Choices,
    *,
    constraints: Sequence[Constraint] = (),
    raise_refusal: bool = False,
    **rules: Any,
) -> Decision:
    """The candidate with the largest probability of meeting all goals, among those that keep every constraint.

    Goals are about the noise-free course, under the posterior's draws. Equal probabilities: the least amount in all. What a
    candidate does is added to what the record holds, its future included. rules: those of `Rules`. Refused (`Decision.refused`,
    or RefusalError with `raise_refusal`): a posterior whose draws cannot be trusted, no candidate that keeps the constraints, a
    best probability under `least_probability`. Raises DataError for regimens that would start before the record's last value, or
    on top of doses that it holds; RefusalError for a grid of which nothing can be given; DomainError for a subject outside the
    model's population unless `override_domain`, and DataError, ModelError, SolverError for what cannot be computed.
    """
    decision = optimise_many([twin], goal, candidates, constraints=constraints, **rules)[0]
    if decision.refused and raise_refusal:
        raise RefusalError(f"subject {twin.id}: {decision.refused}")
    return decision


def optimise_many(
    twins: Sequence[TwinData],
    goal: Target | Sequence[Target],
    candidates: Choices,
    *,
    constraints: Sequence[Constraint] = (),
    **rules: Any,
) -> list[Decision]:
    """`optimise` for many twins of one model and population, in lanes: the same goals and candidates for all.

    A grid without a start begins where each twin's record ends.
    """
    model, _ = together(twins)
    held, goals = Rules(**rules), (goal,) if isinstance(goal, Target) else tuple(goal)
    chosen_from: dict[float, list[Candidate]] = {}  # by where the record ends, which is where a grid begins by default
    asked = [question(t, goals, candidates, constraints, held, chosen_from) for t in twins]
    trusted = [q for q in asked if q.refused is None]
    cases = [c for q in trusted for c in q.cases]
    values = statistics(cases) if cases else []
    found, at = [], 0
    for q in asked:
        table: tuple[Assessed, ...] = ()
        if q.refused is None:
            w, here = q.twin.posterior.weights, values[at : at + len(q.cases)]
            at += len(q.cases)
            table = assessed(model, q.candidates, goals, constraints, np.stack(here), w, steady=held.steady_state)
        found.append(answer(q, table))
    return found


@dataclass(frozen=True)
class Question:
    """What is asked of one twin: checked, and ready to be computed. refused: why its posterior cannot answer."""

    twin: TwinData
    goals: tuple[Target, ...]
    candidates: tuple[Candidate, ...]
    cases: tuple[Case, ...]
    rules: Rules
    outside: tuple[str, ...]
    refused: str | None


def question(
    twin: TwinData,
    goals: tuple[Target, ...],
    given: Choices,
    constraints: Sequence[Constraint],
    rules: Rules,
    known: dict[float, list[Candidate]] | None = None,
) -> Question:
    """Raise what `optimise` raises, or say what is to be computed. known: candidates by their start, filled here."""
    targets = (*goals, *(c.target for c in constraints))
    known, last = {} if known is None else known, twin.record.last
    if last not in known:
        _check_goals(twin.model, goals, targets)
        known[last] = candidates_of(twin.model, given, last, max(t.span[1] for t in targets))
    chosen_from = known[last]
    if not isinstance(given, Mapping):
        _check_planned(twin, chosen_from)
    elif rules.steady_state:
        raise DataError("schedules have no steady state", column="candidates", remedy="give a grid or regimens")
    _check_covariates(twin, rules.covariates or {})
    cases = cases_of(twin, chosen_from, targets, steady=rules.steady_state, covariates=rules.covariates)
    outside = _inside(twin, [c.schedule for c in cases], rules.override_domain)
    refused = twin.posterior.doubt
    if refused is not None and rules.override_doubt:
        outside, refused = (*outside, refused), None
    return Question(twin, goals, tuple(chosen_from), tuple(cases), rules, outside, refused)


def answer(q: Question, table: tuple[Assessed, ...]) -> Decision:
    """The decision from all assessed candidates (none where the posterior cannot answer)."""
    twin, held = q.twin, q.rules
    words = tuple(label(twin.model, t, held.steady_state) for t in q.goals)
    best, refused = choose(table, held.least_probability) if q.refused is None else (None, q.refused)
    stamp = Provenance.collect(
        twin.model, parameters=twin.parameters, data=twin.record.hash, seed=twin.posterior.provenance.seed
    )  # the draws are the posterior's: its seed
    assumed = [*twin.posterior.assumed]
    if held.covariates:
        assumed.append(f"{', '.join(f'{n} {v:g}' for n, v in held.covariates.items())} from the first new dose on")
    return Decision(
        twin.id, words, table, best, refused, held.least_probability, q.outside, bool(q.outside), stamp, tuple(assumed)
    )


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
            "or override_domain=True (--override-domain) to go on at your own judgement"
        )
    return outside


def _check_goals(model: Model, goals: Sequence[Target], targets: Sequence[Target]) -> None:
    if not goals:
        raise DataError("no goal", column="goal", remedy="give a Target")
    for t in targets:
        model.output_index(t.output)
        if not (np.isfinite(t.low) or np.isfinite(t.high)):
            raise DataError(f"target for {t.output}: no bounds", column="low", remedy="give low, high or both")


def _check_covariates(twin: TwinData, given: Mapping[str, float]) -> None:
    known = {c.name: c for c in twin.model.covariates}
    for name, v in given.items():
        if name not in known:
            raise DataError(
                f"{twin.model.name} has no such covariate", column=name, value=v, remedy=f"it has {', '.join(known) or 'none'}"
            )


ALIKE = 1e-3  # probabilities that differ by less are the same for a patient: then the least amount is chosen


def choose(table: Sequence[Assessed], least: float) -> tuple[Assessed | None, str | None]:
    """The best candidate; or None and the reason, with the best there is and its probability."""
    feasible = [a for a in table if a.feasible]
    if not feasible:
        near = min(table, key=lambda a: sum(max(r.probability - r.limit, 0.0) for r in a.risks))
        worst = max(near.risks, key=lambda r: r.probability - r.limit)
        return None, (
            f"none of {len(table)} candidates keeps the constraints; the nearest, {near.candidate.label}, misses "
            f"'{worst.label}' with probability {worst.probability:.2f} (limit {worst.limit:g}) and meets the "
            f"goal with probability {near.probability:.2f}; widen the grid or the limits"
        )
    best = max(feasible, key=lambda a: (round(a.probability, 12), -a.candidate.total))
    if best.probability < least:
        return None, (
            f"the best candidate, {best.candidate.label}, meets the goal with probability {best.probability:.2f} only "
            f"(below {least:g}); measure once more, widen the grid or the goal"
        )
    alike = [a for a in feasible if a.probability >= max(best.probability - ALIKE, least)]
    return min(alike, key=lambda a: (a.candidate.total, -a.probability)), None


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
    typical = with_draws(twin, twin.posterior.mode[None, :])

    def miss(dose: float) -> float:
        plan = with_dose(regimen, dose).schedule()
        return float(statistics([Case(typical, plan, (target,))], history=history)[0][0, 0]) - value

    low, high = bounds or (0.0, 1000.0 * max(regimen.dose, 1e-6))
    at_low, at_high = miss(low), miss(high)
    if at_low * at_high > 0:
        reach = sorted((at_low + value, at_high + value))
        raise RefusalError(
            f"subject {twin.id}: no dose from {low:g} to {high:g} brings {label(twin.model, target)} to {value:g}; it lies "
            f"between {reach[0]:g} and {reach[1]:g} there"
        )
    dose = float(brentq(miss, low, high, xtol=1e-9 * max(high, 1e-12), rtol=1e-10))
    stamp = Provenance.collect(twin.model, parameters=twin.parameters, data=twin.record.hash)
    return DoseSolution(dose, miss(dose) + value, with_dose(regimen, dose), outside, stamp)


def with_draws(twin: T, etas: Floats) -> T:
    """The twin as if these etas, (draws, etas), equally weighted, were its posterior: to ask what holds at them."""
    n = len(etas)
    return replace(twin, posterior=replace(twin.posterior, draws=etas, weights=np.full(n, 1.0 / n), ess=float(n)))

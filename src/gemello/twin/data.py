"""What a twin holds, and what arrives when it assimilates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.base.random import check_seed
from gemello.inference.ensemble import Ensemble, ensemble, population_of, prior_draws
from gemello.inference.laplace import modes
from gemello.inference.likelihood import Problem, problem
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.adaptive import drifted
from gemello.twin.plausible import before_any_dose
from gemello.twin.posterior import CLOSE, Posterior
from gemello.twin.record import Record, from_zero
from gemello.twin.weighting import Weighting

Floats = NDArray[np.float64]
APART = 1.0  # squared distance, in the Laplace covariance, from which on two ends of a search are two modes
SETTLED = 1e-6  # promised decrease of the objective below which a search has ended in a mode

New = Schedule | Record | Sequence[Schedule]


@dataclass(frozen=True, eq=False)
class TwinData:
    """Model, population, record and posterior of one subject; `Twin` adds the verbs.

    covariates: values that hold wherever a schedule does not give its own. history: posteriors before `posterior`, the
    prior first.
    """

    model: Model
    parameters: PopulationParameters
    record: Record
    posterior: Posterior
    covariates: Mapping[str, float]
    history: tuple[Posterior, ...] = ()

    @property
    def id(self) -> str:
        return self.record.id

    def outside(self, *schedules: Schedule) -> tuple[str, ...]:
        """Covariates outside the population that the model was built on, in words; empty where all are inside."""
        found = []
        for c in self.model.covariates:
            values = [s.columns[c.name] for s in (self.record.schedule, *schedules) if c.name in s.columns]
            values = values or [np.array([self.covariates[c.name]])] if c.name in self.covariates or values else []
            for v in np.unique(np.concatenate(values)) if values else ():
                if not c.lower <= v <= c.upper:
                    found.append(f"{c.name} {v:g} {c.unit} is outside [{c.lower:g}, {c.upper:g}]")
        return tuple(found)

    def complete(self, schedule: Schedule) -> Schedule:
        """The schedule from time 0 on, with the twin's covariates where neither it nor the record has them."""
        schedule = from_zero(schedule)
        have = {*schedule.columns, *self.record.schedule.columns}
        return schedule.covariates(**{n: v for n, v in self.covariates.items() if n not in have})


T = TypeVar("T", bound=TwinData)


def pieces_of(data: New) -> tuple[Schedule, ...]:
    """What arrived, as schedules."""
    if isinstance(data, Record):
        return tuple(p.schedule for p in data.pieces)
    return (data,) if isinstance(data, Schedule) else tuple(data)


def together(twins: Sequence[TwinData]) -> tuple[Model, PopulationParameters]:
    """Model and population that all these twins share. Raises DataError where they do not."""
    if not twins:
        raise DataError("no twins", remedy="give at least one")
    model, parameters = twins[0].model, twins[0].parameters
    for t in twins:
        if t.model is not model or (t.parameters is not parameters and t.parameters.hash() != parameters.hash()):
            raise DataError(
                f"subject {t.id}: another model or population than subject {twins[0].id}",
                remedy="treat twins of one kind at a time",
            )
    return model, parameters


def assimilate_many(
    twins: Sequence[T],
    data: Sequence[New],
    *,
    draws: int = 2000,
    seed: int = 0,
    starts: int = 3,
    prior_weight: float = 1.0,
    half_life: float | None = None,
    drift: float | None = None,
) -> tuple[T, ...]:
    """New posteriors of many twins of one model and population, in lanes.

    starts: of the search for each mode: the last mode, 0, and draws from the prior. prior_weight, half_life, drift: see
    `Weighting`. Raises DataError (impossible, double or contradicting records, a level before any dose), ModelError.
    """
    model, parameters = together(twins)
    seed, how = check_seed(seed), Weighting(prior_weight, half_life, drift)
    records = [_grown(t, new) for t, new in zip(twins, data, strict=True)]
    out = list(twins)
    filled = [i for i, r in enumerate(records) if len(r)]
    if how.drift is not None:  # what has no new measurement keeps its posterior, and only its record grows
        out = [replace(t, record=r) for t, r in zip(twins, records, strict=True)]
        filled = [i for i in filled if _measurements(records[i]) > _measurements(twins[i].record)]
    if not filled:
        return tuple(out)
    subjects = [Subject(records[i].id, records[i].schedule) for i in filled]
    cautions = before_any_dose(model, parameters, subjects)
    weighted, rivals = how.population(parameters), cast("list[float | None]", [None] * len(filled))
    if how.drift is None:
        ready = how.weigh(problem(model, subjects, values=parameters.theta), [s.schedule for s in subjects])
        start, rivals = best_modes(ready, weighted, [twins[i].posterior.mode for i in filled], starts, seed)
        found = ensemble(ready, weighted, draws=draws, seed=seed, start=start)
    else:
        old = [(twins[i].record, twins[i].posterior) for i in filled]
        found = drifted(model, weighted, [records[i] for i in filled], old, how, draws=draws, seed=seed)
    common = Provenance.collect(model, parameters=weighted, seed=seed)
    for k, i in enumerate(filled):
        belief = _posterior(model, weighted, found, k, records[i], twins[i].covariates, common)
        belief = replace(belief, weighting=how, rival=rivals[k], cautions=cautions[k])
        if how.drift is not None:  # that of the periods before, too: models are compared by all of their data
            belief = replace(belief, log_evidence=belief.log_evidence + twins[i].posterior.log_evidence)
        out[i] = replace(twins[i], record=records[i], posterior=belief, history=(*twins[i].history, twins[i].posterior))
    return tuple(out)


def _measurements(record: Record) -> int:
    return int(record.schedule.measured.sum()) if len(record) else 0


def _grown(twin: TwinData, new: New) -> Record:
    """The twin's record with what is new, the twin's own covariates filled in."""
    record = twin.record
    for s in pieces_of(new):
        have = {*s.columns, *record.schedule.columns}
        record = record.add(s.covariates(**{n: v for n, v in twin.covariates.items() if n not in have}))
    return record


def best_modes(
    ready: Problem, parameters: PopulationParameters, known: Sequence[Floats], starts: int, seed: int
) -> tuple[Floats, list[float | None]]:
    """The best mode of each subject from several starts, (subjects, etas), and by how many ln units a second one is worse.

    known: (etas,) a start for each subject. Further ones are 0 and draws from the prior.
    """
    if starts < 1:
        raise DataError("impossible", column="starts", value=starts, remedy="give 1 or more")
    n, count = ready.etas, len(known)
    pop = population_of(parameters, ready.prepared.occasions)
    first = np.stack([np.pad(k, (0, max(n - len(k), 0)))[:n] for k in known])
    if n == 0 or starts == 1 or not ready.informed.any():
        return first, [None] * count
    drawn = prior_draws(seed, [s.id for s in ready.subjects], max(starts - 1, 2), np.asarray(pop.omega))
    others = [*([np.zeros_like(first)] if np.any(first) else []), *np.moveaxis(drawn, 1, 0)]
    found = [modes(ready, pop, s) for s in (first, *others[: starts - 1])]
    objective = np.stack([np.where(np.isfinite(m.objective), m.objective, np.inf) for m in found])
    eta = np.stack([m.eta for m in found])
    best = np.argmin(objective, axis=0)
    rows = np.arange(count)
    top, least = eta[best, rows], objective[best, rows]
    with np.errstate(invalid="ignore"):
        precision = np.linalg.pinv(np.nan_to_num(np.stack([m.covariance for m in found])[best, rows]), hermitian=True)
    away = np.einsum("ski,kij,skj->sk", eta - top, precision, eta - top) > APART
    settled = np.stack([m.decrement for m in found]) < SETTLED
    behind = np.where(away & settled & ready.informed, 0.5 * (objective - least), np.inf).min(axis=0)
    return np.where(np.isfinite(least)[:, None], top, first), [float(b) if b <= CLOSE else None for b in behind]


def _posterior(
    model: Model,
    parameters: PopulationParameters,
    e: Ensemble,
    k: int,
    record: Record,
    covariates: Mapping[str, float],
    common: Provenance,
) -> Posterior:
    s = record.schedule
    last = {**covariates, **{c.name: float(s.columns[c.name][-1]) for c in model.covariates if c.name in s.columns}}
    return Posterior(
        model,
        parameters,
        parameters.eta_names,
        mode=e.mode[k],
        covariance=e.covariance[k],
        draws=e.draws[k],
        weights=e.weights[k],
        ess=float(e.ess[k]),
        khat=float(e.khat[k]),
        log_evidence=float(e.evidence[k]),
        objective=float(e.objective[k]),
        observations=int(e.observations[k]),
        covariates=last,
        until=record.last,
        provenance=replace(common, data_hash=record.hash),
        misfit=float(e.misfit[k]),
    )

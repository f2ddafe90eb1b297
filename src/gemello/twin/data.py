"""What a twin holds, and what arrives when it assimilates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.base.random import check_seed
from gemello.inference.ensemble import Ensemble, ensemble
from gemello.inference.likelihood import problem
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.posterior import Posterior
from gemello.twin.record import Record, from_zero

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


def assimilate_many(twins: Sequence[T], data: Sequence[New], *, draws: int = 2000, seed: int = 0) -> tuple[T, ...]:
    """New posteriors of many twins of one model and population, in lanes."""
    model, parameters = together(twins)
    seed = check_seed(seed)
    records = []
    for t, new in zip(twins, data, strict=True):
        record = t.record
        for s in pieces_of(new):
            have = {*s.columns, *record.schedule.columns}
            record = record.add(s.covariates(**{n: v for n, v in t.covariates.items() if n not in have}))
        records.append(record)
    filled = [i for i, r in enumerate(records) if len(r)]
    if not filled:
        return tuple(twins)
    subjects = [Subject(records[i].id, records[i].schedule) for i in filled]
    start = np.stack([twins[i].posterior.mode for i in filled])
    found = ensemble(problem(model, subjects, values=parameters.theta), parameters, draws=draws, seed=seed, start=start)
    common = Provenance.collect(model, parameters=parameters, seed=seed)
    out = list(twins)
    for k, i in enumerate(filled):
        belief = _posterior(model, parameters, found, k, records[i], twins[i].covariates, common)
        out[i] = replace(twins[i], record=records[i], posterior=belief, history=(*twins[i].history, twins[i].posterior))
    return tuple(out)


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

"""The twin: a model plus what one subject's data say about it. The same object for a cell, an organ, a patient or a reactor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from gemello.base.errors import DataError, ModelError
from gemello.base.provenance import Provenance
from gemello.base.random import check_seed
from gemello.inference.ensemble import prior_draws
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin import decide
from gemello.twin import forecast as forecasts
from gemello.twin.data import New, TwinData, assimilate_many
from gemello.twin.posterior import Posterior
from gemello.twin.record import Record


@final
@dataclass(frozen=True, eq=False)
class Twin(TwinData):
    """One subject's twin. Immutable: every verb returns something new, and what was believed before stays in `history`."""

    @classmethod
    def new(
        cls,
        model: Model,
        population: PopulationParameters | None = None,
        *,
        covariates: Mapping[str, float] | None = None,
        id: str = "1",
        draws: int = 2000,
        seed: int = 0,
    ) -> Twin:
        """A twin that knows only its population (default: the parameter table's) and its covariates. Raises ModelError."""
        return new_twins(model, population, [id], [covariates or {}], draws=draws, seed=seed)[0]

    # ---- verbs, each one line ------------------------------------------------------------------------------------------
    def assimilate(self, data: New, *, draws: int = 2000, seed: int = 0, **options: Any) -> Twin:
        """A new twin that has also seen `data`: mode and Laplace approximation, then the weighted ensemble.

        data: a schedule, several, or a record. options: starts, prior_weight, half_life, drift; see
        `gemello.twin.data.assimilate_many`. Raises DataError (impossible, double or contradicting records), ModelError.
        """
        return assimilate_many([self], [data], draws=draws, seed=seed, **options)[0]

    def forecast(self, schedule: Schedule | None = None, **options: Any) -> Any:
        """Quantiles and draws of every output; see `gemello.twin.forecast.forecast`."""
        return forecasts.forecast(self, schedule, **options)

    def compare(self, schedules: Mapping[str, Schedule], **options: Any) -> Any:
        """What if, on the same draws; see `gemello.twin.forecast.compare`."""
        return forecasts.compare(self, schedules, **options)

    def optimise(self, goal: Any, candidates: Any, **options: Any) -> Any:
        """A decision, the probability that it meets the goal, or a refusal; see `gemello.twin.decide.optimise`."""
        return decide.optimise(self, goal, candidates, **options)

    def solve_dose(self, target: Any, value: float, regimen: Any, **options: Any) -> Any:
        """The dose that brings a target to a value at the mode; see `gemello.twin.decide.solve_dose`."""
        return decide.solve_dose(self, target, value, regimen, **options)


# ---- many at once --------------------------------------------------------------------------------------------------
def new_twins(
    model: Model,
    population: PopulationParameters | None,
    ids: Sequence[str],
    covariates: Sequence[Mapping[str, float]] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[Twin, ...]:
    """Twins of these subjects before any data: their posterior is the prior."""
    parameters = (population or PopulationParameters.of(model)).check(model)
    check_seed(seed)
    given = covariates if covariates is not None else [{}] * len(ids)
    for who, one in zip(ids, given, strict=True):
        _check_covariates(model, who, one)
    n = len(parameters.eta_names)
    points = prior_draws(seed, ids, draws, parameters.omega)
    weights = np.full(draws, 1.0 / draws)
    objective = float(np.linalg.slogdet(parameters.omega)[1]) if n else 0.0
    first = Provenance.collect(model, parameters=parameters, seed=seed)
    out = []
    for who, one, x in zip(ids, given, points, strict=True):
        record = Record(who)
        belief = Posterior(
            model, parameters, parameters.eta_names, np.zeros(n), parameters.omega.copy(), x, weights, float(draws), -np.inf, 0.0,
            objective, 0, dict(one), 0.0, replace(first, data_hash=record.hash),
        )  # fmt: skip
        out.append(Twin(model, parameters, record, belief, dict(one)))
    return tuple(out)


def _check_covariates(model: Model, who: str, given: Mapping[str, float]) -> None:
    known = {c.name: c for c in model.covariates}
    for name, v in given.items():
        if name not in known:
            raise ModelError(f"subject {who}: {model.name} has no covariate {name!r}; it has {', '.join(known) or 'none'}")
        low, high = known[name].possible
        allowed = known[name].categorical
        if not low <= v <= high or (allowed and v not in allowed):
            what = f"one of {allowed}" if allowed else f"a value between {low:g} and {high:g} {known[name].unit}"
            raise DataError(f"subject {who}: impossible covariate", column=name, value=v, remedy=f"give {what}")


def assimilate_subjects(
    model: Model,
    population: PopulationParameters | None,
    subjects: Sequence[Subject],
    *,
    draws: int = 2000,
    seed: int = 0,
    **options: Any,
) -> tuple[Twin, ...]:
    """Twins of many subjects from their data, in lanes; options as in `assimilate_many`."""
    twins = new_twins(model, population, [s.id for s in subjects], draws=draws, seed=seed)
    return assimilate_many(twins, [s.schedule for s in subjects], draws=draws, seed=seed, **options)

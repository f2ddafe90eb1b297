"""Are forecasts calibrated, and do stated probabilities come true? Patients are simulated from the population and followed.

If the model is right, a central 90 % forecast interval must hold 90 % of what is measured later: simulation-based
calibration of the whole path from data to forecast (after Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.base.random import generator
from gemello.inference.ensemble import Ensemble, ensemble
from gemello.inference.likelihood import problem
from gemello.inference.scores import Coverage, mixture_pit, share
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import OBSERVATION, Schedule, Subject
from gemello.model.simulate import simulate
from gemello.twin.assess import Case, statistics
from gemello.twin.decide import optimise_many, with_draws
from gemello.twin.forecast import log_error, measure, noise_sd
from gemello.twin.goals import Target
from gemello.twin.propagate import propagate, settle
from gemello.twin.record import from_zero, schedule_hash
from gemello.twin.regimens import Choices
from gemello.twin.twin import assimilate_subjects

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Coverage of central forecast intervals of probability `level` for new measurements.

    coverage: over all later measurements, its Monte Carlo standard error clustered by patient. by_time: the same at each
    (time, output). pit: (patients, later measurements) probability integral transforms, uniform if calibrated. ess, khat:
    (patients,) of the ensembles.
    """

    level: float
    coverage: Coverage
    by_time: tuple[tuple[float, str, Coverage], ...]
    pit: Floats
    ess: Floats
    khat: Floats
    provenance: Provenance

    def at_level(self, level: float) -> Coverage:
        """Coverage of intervals of another probability."""
        return _coverage(self.pit, level)


def simulate_subjects(
    model: Model,
    parameters: PopulationParameters,
    schedule: Schedule,
    count: int,
    *,
    covariates: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> tuple[list[Subject], Floats]:
    """`count` subjects drawn from the population, with measured values at the schedule's observations; and their etas.

    Schedules begin at time 0, as a twin's record does (a record is added there if need be).

    covariates: scalars or (count,) by name, constant in time. Raises DataError, ModelError, SolverError.
    """
    parameters.check(model)
    schedule = from_zero(schedule)
    n = len(parameters.eta_names)
    etas = generator(seed, "etas").standard_normal((count, n)) @ (
        np.linalg.cholesky(parameters.omega).T if n else np.zeros((0, 0))
    )
    columns = {k: np.broadcast_to(np.asarray(v, float), (count,)) for k, v in (covariates or {}).items()}
    bare = schedule.without_values()
    plans = [bare.covariates(**{k: float(v[i]) for k, v in columns.items()}) if columns else bare for i in range(count)]
    subjects = [Subject(str(i + 1), s) for i, s in enumerate(plans)]
    found = simulate(model, subjects, parameters.theta, etas=etas).check()
    seen = schedule.evid == OBSERVATION
    value = np.full((count, len(schedule)), np.nan)
    for k, o in enumerate(model.outputs):
        here = seen & (schedule.output == k)
        if here.any() and o.residual is not None:
            value[:, here] = measure(
                model, parameters, o.name, found.outputs[o.name][:, here], generator(seed, "measurement", o.name)
            )
    return [Subject(s.id, replace(s.schedule, value=v)) for s, v in zip(subjects, value, strict=True)], etas


def calibrate(
    model: Model,
    schedule: Schedule,
    until: float,
    *,
    population: PopulationParameters | None = None,
    patients: int = 1000,
    covariates: Mapping[str, ArrayLike] | None = None,
    draws: int = 512,
    level: float = 0.9,
    seed: int = 0,
) -> Calibration:
    """Simulate `patients`, assimilate what is measured up to `until`, forecast what is measured later, and count.

    schedule: doses and observations of all patients. covariates: scalars or (patients,) by name. The forecast distribution
    is the mixture of the draws' normal errors, so no measurement noise is drawn. Raises DataError where nothing is measured
    after `until`, and what `assimilate` and `forecast` raise.
    """
    parameters = population or PopulationParameters.of(model)
    schedule = from_zero(schedule)
    observable = np.isin(schedule.output, [k for k, o in enumerate(model.outputs) if o.residual is not None])
    seen = (schedule.evid == OBSERVATION) & observable
    later = np.flatnonzero(seen & (schedule.time > until))
    if not len(later):
        raise DataError(
            "nothing is measured later", column="until", value=until, remedy="add observations of a measurable output after it"
        )
    subjects, _ = simulate_subjects(model, parameters, schedule, patients, covariates=covariates, seed=seed)
    first = [Subject(s.id, s.schedule.take(s.schedule.time <= until)) for s in subjects]
    e = ensemble(problem(model, first, values=parameters.theta), parameters, draws=draws, seed=seed)
    pit = _later(model, parameters, subjects, later, e)
    by_time = []
    for t, k in sorted({(float(schedule.time[i]), int(schedule.output[i])) for i in later}):
        here = (schedule.time[later] == t) & (schedule.output[later] == k)
        by_time.append((t, model.outputs[k].name, _coverage(pit[:, here], level)))
    stamp = Provenance.collect(model, parameters=parameters, data=schedule_hash(schedule), seed=seed)
    return Calibration(level, _coverage(pit, level), tuple(by_time), pit, e.ess, e.khat, stamp)


def _later(
    model: Model, parameters: PopulationParameters, subjects: list[Subject], later: NDArray[np.int64], e: Ensemble
) -> Floats:
    """(patients, later) probability integral transforms of the measured values."""
    s = subjects[0].schedule
    names = list(dict.fromkeys(model.outputs[k].name for k in s.output[later]))
    plain = [Subject(x.id, x.schedule.without_values()) for x in subjects]
    found = settle(model, plain, e.draws, e.weights, propagate(model, parameters, plain, e.draws, names))
    values = np.stack([x.schedule.value[later] for x in subjects])
    out = np.empty_like(values)
    for j, i in enumerate(later):
        name = model.outputs[s.output[i]].name
        f = found.outputs[name][:, :, i].T  # (draws, patients)
        sd, y = noise_sd(model, parameters, name, f), values[:, j]
        if log_error(model, name):
            f, y = np.log(f), np.log(y)
        out[:, j] = mixture_pit(f, sd, y, e.weights.T)
    return out


def _coverage(pit: Floats, level: float) -> Coverage:
    inside = (pit >= 0.5 - level / 2) & (pit <= 0.5 + level / 2)
    return share(inside, cluster=np.broadcast_to(np.arange(len(pit))[:, None], pit.shape))


# ---- probabilities of target attainment ----------------------------------------------------------------------------
class Bin(NamedTuple):
    """Patients whose stated probability lies in [low, high]: how many, its mean, the share realised and its binomial error."""

    low: float
    high: float
    number: int
    stated: float
    realised: float
    error: float


@dataclass(frozen=True, eq=False)
class Attainment:
    """Probability of target attainment stated by the twins against what came true, all (patients,).

    stated: of the chosen regimen. realised: whether the true course meets all goals. values: the true first statistic. chosen:
    the regimen's label. overall, bins: of stated against realised. doubts: patients whose twin was in doubt; they are left out.
    """

    stated: Floats
    realised: NDArray[np.bool_]
    values: Floats
    chosen: tuple[str, ...]
    overall: Bin
    bins: tuple[Bin, ...]
    doubts: int
    provenance: Provenance


def attainment(
    model: Model,
    population: PopulationParameters,
    schedule: Schedule,
    goal: Target | Sequence[Target],
    candidates: Choices,
    *,
    patients: int = 1000,
    covariates: Mapping[str, ArrayLike] | None = None,
    draws: int = 512,
    bins: int = 5,
    seed: int = 0,
    **options: Any,
) -> Attainment:
    """Simulate `patients`, assimilate what `schedule` measures, choose a regimen for each, and see what it does to the truth.

    Nobody is refused for a low probability: the best candidate is given to all. options: constraints and rules of `optimise`.
    bins: with equally many patients. Raises what `assimilate` and `optimise` raise.
    """
    goals = (goal,) if isinstance(goal, Target) else tuple(goal)
    subjects, etas = simulate_subjects(model, population, schedule, patients, covariates=covariates, seed=seed)
    twins = assimilate_subjects(model, population, subjects, draws=draws, seed=seed, starts=1)
    decisions = optimise_many(twins, goals, candidates, least_probability=0.0, **options)
    kept = [i for i, d in enumerate(decisions) if d.chosen is not None]
    if not kept:
        raise DataError("no twin could decide", column="patients", value=patients, remedy=str(decisions[0].refused))
    truth = [Case(with_draws(twins[i], etas[i : i + 1]), decisions[i].schedule, goals) for i in kept]
    values = np.stack([v[:, 0] for v in statistics(truth)])  # (kept, goals)
    met = np.all([g.met(values[:, k]) for k, g in enumerate(goals)], axis=0)
    chosen = [c for i in kept if (c := decisions[i].chosen) is not None]
    stated = np.array([c.probability for c in chosen])
    stamp = Provenance.collect(model, parameters=population, data=schedule_hash(schedule), seed=seed)
    order = np.array_split(np.argsort(stated, kind="stable"), bins)
    return Attainment(
        stated, met, values[:, 0], tuple(c.candidate.label for c in chosen), against(stated, met),
        tuple(against(stated[i], met[i]) for i in order if len(i)), patients - len(kept), stamp,
    )  # fmt: skip


def against(stated: Floats, met: NDArray[np.bool_]) -> Bin:
    """Stated probabilities (n,) against what came true (n,). The error is that of the share under the stated probabilities."""
    n = len(stated)
    error = float(np.sqrt(np.sum(stated * (1.0 - stated)))) / n
    return Bin(float(np.min(stated)), float(np.max(stated)), n, float(np.mean(stated)), float(np.mean(met)), error)

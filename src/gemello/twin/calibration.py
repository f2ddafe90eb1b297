"""Are forecasts calibrated? Patients are simulated from the population, seen at first, forecast later, and compared.

If the model is right, a central 90 % forecast interval must hold 90 % of what is measured later: simulation-based
calibration of the whole path from data to forecast (after Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
from gemello.twin.forecast import measure, noise_sd
from gemello.twin.propagate import propagate, settle
from gemello.twin.record import from_zero, schedule_hash

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
        out[:, j] = mixture_pit(f, noise_sd(model, parameters, name, f), values[:, j], e.weights.T)
    return out


def _coverage(pit: Floats, level: float) -> Coverage:
    inside = (pit >= 0.5 - level / 2) & (pit <= 0.5 + level / 2)
    return share(inside, cluster=np.broadcast_to(np.arange(len(pit))[:, None], pit.shape))

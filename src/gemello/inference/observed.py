"""The measured values of all subjects as one long table, and the same values simulated anew from a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, SolverError
from gemello.base.provenance import Provenance
from gemello.base.random import generator
from gemello.engine.lanes import precision
from gemello.model.contract import Model
from gemello.model.individuals import individual, kappas, measurement
from gemello.model.population import PopulationParameters
from gemello.model.schedule import DOSE, RESET_AND_DOSE, Schedule, Subject
from gemello.model.simulate import Prepared, prepare, solve_prepared, theta_of

Floats = NDArray[np.float64]
LANES = 4096  # simulated at once: memory stays small, and the program is compiled once


@dataclass(frozen=True, eq=False)
class Observations:
    """All measured values, (values,) each: whose (index into `subjects`), which record, time, time after the last dose (NaN
    before the first), output index, value, and whether it is a limit only (1 below, −1 above, as in `Schedule`)."""

    subjects: tuple[Subject, ...]
    subject: NDArray[np.int64]
    record: NDArray[np.int64]
    time: Floats
    after_dose: Floats
    output: NDArray[np.int64]
    value: Floats
    censored: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def ids(self) -> tuple[str, ...]:
        """(values,) identifiers."""
        return tuple(self.subjects[i].id for i in self.subject)

    def column(self, name: str) -> Floats:
        """(values,) a covariate at each measured value. Raises DataError where a subject lacks it."""
        for s in self.subjects:
            if name not in s.schedule.columns:
                raise DataError(f"subject {s.id}: no such column", column=name, remedy="name a column of the data")
        columns = [s.schedule.columns[name] for s in self.subjects]
        return np.array([columns[i][j] for i, j in zip(self.subject, self.record, strict=True)])


def observations(subjects: Sequence[Subject]) -> Observations:
    """The measured values of these subjects, subject by subject. Raises DataError where there is none."""
    kept = tuple(s for s in subjects if s.schedule.measured.any())
    if not kept:
        raise DataError("no measured value", remedy="give subjects with observations")
    records = [np.flatnonzero(s.schedule.measured) for s in kept]
    take = lambda values: np.concatenate([v[r] for v, r in zip(values, records, strict=True)])  # noqa: E731
    schedules = [s.schedule for s in kept]
    return Observations(
        kept, np.repeat(np.arange(len(kept)), [len(r) for r in records]), np.concatenate(records),
        take([s.time for s in schedules]), take([time_after_dose(s) for s in schedules]), take([s.output for s in schedules]),
        take([s.value for s in schedules]), take([s.censored for s in schedules]),
    )  # fmt: skip


def time_after_dose(s: Schedule) -> Floats:
    """(records,) time since the last dose given at or before the record, additional doses included; NaN before the first."""
    w = s.written_out()
    given = np.sort(w.time[(w.evid == DOSE) | (w.evid == RESET_AND_DOSE)])
    last = np.searchsorted(given, s.time + 1e-9 * (1.0 + np.abs(s.time)), side="right") - 1
    return np.where(last >= 0, s.time - given[np.maximum(last, 0)], np.nan) if len(given) else np.full(len(s), np.nan)


@dataclass(frozen=True, eq=False)
class Replicates:
    """The measured values of `data`, simulated: simulated (replicates, values), with etas and residual errors drawn anew; typical
    (values,), the prediction with all etas 0 (PRED)."""

    data: Observations
    simulated: Floats
    typical: Floats
    seed: int
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.simulated)


def replicates(
    model: Model,
    population: Any,
    subjects: Sequence[Subject],
    number: int = 1000,
    *,
    seed: int,
    bind: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replicates:
    """Simulate the design of these subjects `number` times from a population: new etas, occasions and residual errors each time.

    population: a `Fit` or `PopulationParameters`. bind: as in the fit. progress(done, number) is called while it runs. What is
    drawn does not depend on how many are simulated at once. Raises DataError, SolverError where a replicate cannot be solved.
    """
    if number < 2:
        raise DataError("too few replicates", column="replicates", value=number, remedy="give at least 2; 1000 are usual")
    p = population if isinstance(population, PopulationParameters) else PopulationParameters.from_fit(population)
    data = observations(subjects)
    plain = [Subject(s.id, s.schedule.without_values()) for s in data.subjects]
    values = {k: v for k, v in p.theta.items() if k not in (bind or {})}
    copies = max(1, min(number, LANES // len(plain)))
    ready = prepare(model, plain * copies, values=values, bind=bind)
    omega = p.covariance_of_etas(ready.occasions)
    random = generator(seed, "replicates", "etas")
    root = _root(omega)
    noise = generator(seed, "replicates", "residuals")
    out = np.empty((number, len(data)))
    typical: Floats | None = None
    for first in range(0, number, copies):
        here = min(copies, number - first)
        etas = np.zeros((copies, len(plain), len(omega)))
        etas[:here] = random.standard_normal((here, len(plain), len(omega))) @ root.T
        if typical is None:
            typical = _solve(ready, values, np.zeros_like(etas), data, copies)[0][0]
        f, own = _solve(ready, values, etas, data, copies)
        out[first : first + here] = _measure(model, p, data, f[:here], own, noise.standard_normal((here, len(data))))
        if progress:
            progress(first + here, number)
    assert typical is not None
    hashed = {"id": np.array(data.ids), "time": data.time, "output": data.output, "value": data.value, "censored": data.censored}
    stamp = Provenance.collect(model, parameters=p, data=hashed, seed=seed)
    return Replicates(data, out, typical, seed, stamp.to_dict())


def _root(omega: Floats) -> Floats:
    """R with R R' = OMEGA, also where OMEGA is singular."""
    if not len(omega):
        return omega
    size, directions = np.linalg.eigh(omega)
    return np.asarray(directions * np.sqrt(np.maximum(size, 0.0)))


def _solve(
    ready: Prepared, values: Mapping[str, float], etas: Floats, data: Observations, copies: int
) -> tuple[Floats, Callable[[NDArray[np.bool_]], Any]]:
    """Predictions (copies, values) at these etas (copies, subjects, etas), and a function that gives individual parameters."""
    model, flat = ready.model, etas.reshape(-1, etas.shape[-1])
    found = solve_prepared(ready, values, flat)
    if found.failures:
        who, when = found.failures[0]
        raise SolverError(
            f"model {model.name}, a replicate of subject {who}, time {when:g} {model.time_unit}: the equations could not be "
            f"solved at drawn parameters ({len(found.failures)} in this batch); look at OMEGA, or at the model's tolerances"
        )
    stacked = np.stack([found.outputs[o.name] for o in model.outputs]).reshape(len(model.outputs), copies, len(data.subjects), -1)
    f = stacked[data.output, :, data.subject, data.record].T
    return f, lambda which: _individuals(ready, values, flat, data, copies, which)


def _individuals(
    ready: Prepared, values: Mapping[str, float], etas: Floats, data: Observations, copies: int, which: NDArray[np.bool_]
) -> Any:
    """Individual parameters (copies, chosen values) at the records of the chosen values."""
    table, order = ready.model.parameters, ready.timeline.order
    n, e = len(table.eta_names), etas[order].T
    with precision():
        kappa = kappas(e, ready.occasion, n, len(table.occasion_names)) if len(e) > n else ()
        p = individual(ready.model, theta_of(ready.model, values, ready.bound, order), tuple(e[:n]), ready.cov, kappa)
    back, lanes = np.argsort(order, kind="stable"), ready.lanes

    def one(v: Any) -> Floats:
        a = np.asarray(v, float)
        rows = np.broadcast_to(a, (*a.shape[:-1], lanes) if a.ndim else (lanes,))[..., back].reshape(*a.shape[:-1], copies, -1)
        if a.ndim == 2:
            return np.asarray(rows[data.record[which], :, data.subject[which]].T)
        return np.asarray(rows[:, data.subject[which]])

    return type(p)(*map(one, p))


def _measure(
    model: Model, p: PopulationParameters, data: Observations, f: Floats, individuals: Callable[[NDArray[np.bool_]], Any],
    noise: Floats,
) -> Floats:  # fmt: skip
    """(copies, values) predictions with residual errors."""
    out = np.empty_like(f)
    for k in np.unique(data.output):
        here = data.output == k
        own = getattr(model.outputs[int(k)].residual, "sd", None)
        at = None
        if own is not None:
            at = individuals(here)
            at = type(at)(*(v[: len(f)] for v in at))
        out[:, here] = measurement(model, int(k), f[:, here], p.sigma, noise[:, here], at)
    return out

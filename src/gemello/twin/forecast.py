"""`forecast` and `compare`: what will be measured, with its uncertainty, under one schedule or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.base.random import check_seed, generator
from gemello.engine.lanes import precision
from gemello.inference.scores import quantiles, quantiles_with_error
from gemello.model.contract import Model
from gemello.model.individuals import measurement, residual_sd
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.data import TwinData, together
from gemello.twin.propagate import propagate, settle
from gemello.twin.record import schedule_hash
from gemello.twin.timing import all_times, positions

Floats = NDArray[np.float64]
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Draws (draws, times) and their weighted quantiles with Monte Carlo standard errors, (levels, times)."""

    draws: Floats
    quantiles: Floats
    error: Floats


@dataclass(frozen=True, eq=False)
class OutputForecast:
    """One output: `prediction` is free of measurement noise, `measurement` is what a new measurement would show (None where
    the output is never measured, or was not asked for). observed: (times, values) of the record."""

    name: str
    unit: str
    prediction: Bundle
    measurement: Bundle | None
    observed: tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecast of one subject at `time` (times,), which may lie in the past of its record, too.

    weights: (draws,) of the posterior. notes: what a reader must know (a subject outside the model's population, a posterior
    in doubt). Monte Carlo errors are those of independent draws.
    """

    id: str
    time: Floats
    time_unit: str
    levels: tuple[float, ...]
    weights: Floats
    outputs: Mapping[str, OutputForecast]
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def __getitem__(self, output: str) -> OutputForecast:
        if output not in self.outputs:
            raise DataError("not in this forecast", column=output, remedy=f"it has {', '.join(self.outputs)}")
        return self.outputs[output]

    def frame(self) -> Any:
        """Long table (polars): id, output, kind (prediction or measurement), time, level, value, error."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        parts = []
        for name, o in self.outputs.items():
            for kind, b in (("prediction", o.prediction), ("measurement", o.measurement)):
                if b is None:
                    continue
                n, m = len(self.time), len(self.levels)
                words = {"id": self.id, "output": name, "kind": kind}
                columns = {"time": np.tile(self.time, m), "level": np.repeat(self.levels, n)}
                values = {"value": b.quantiles.ravel(), "error": b.error.ravel()}
                parts.append(pl.DataFrame({**{k: [v] * (n * m) for k, v in words.items()}, **columns, **values}))
        return pl.concat(parts)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Forecasts by name of the schedule, all on the same draws and the same noise."""

    forecasts: Mapping[str, Forecast]

    def __getitem__(self, name: str) -> Forecast:
        if name not in self.forecasts:
            raise DataError("not in this comparison", column=name, remedy=f"it has {', '.join(self.forecasts)}")
        return self.forecasts[name]

    def difference(self, first: str, second: str, output: str) -> tuple[Floats, Floats]:
        """Quantiles of second − first, (levels, times), and the probability that second is larger, (times,); paired by draw."""
        a, b = self[first], self[second]
        d = b[output].prediction.draws - a[output].prediction.draws
        return quantiles(d, a.levels, a.weights), np.asarray(a.weights @ (d > 0))


def forecast(twin: TwinData, schedule: Schedule | None = None, **options: Any) -> Forecast:
    """What one twin expects; options as in `forecast_many`.

    schedule: what will be done, added to what the record holds (None: only that). times: where to look, in the model's
    time unit; default: 121 times and every event from 0 to the last one.
    """
    return forecast_many([twin], [schedule], **options)[0]


def compare(twin: TwinData, schedules: Mapping[str, Schedule], *, times: ArrayLike | None = None, **options: Any) -> Comparison:
    """Forecasts under each of these schedules at the same times, on the same draws and noise."""
    if not schedules:
        raise DataError("no schedules to compare", column="schedules", remedy="give at least one by name")
    plans = [_full(twin, s) for s in schedules.values()]
    look = _times(times, max(plans, key=lambda s: all_times(s)[-1] if len(s) else 0.0))
    found = forecast_many([twin] * len(plans), list(schedules.values()), times=look, **options)
    return Comparison(dict(zip(schedules, found, strict=True)))


def forecast_many(
    twins: Sequence[TwinData],
    schedules: Sequence[Schedule | None] | None = None,
    *,
    times: ArrayLike | None = None,
    outputs: str | Sequence[str] | None = None,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    residual: bool = True,
) -> list[Forecast]:
    """Forecasts of many twins of one model, in lanes.

    times: the same for all. outputs: names (default: all). levels: of the quantiles. seed: of the measurement noise, drawn
    anew for each subject. residual: whether to forecast new measurements. Raises DataError, ModelError, SolverError.
    """
    model, parameters = together(twins)
    seed = check_seed(seed)
    if not len(levels) or not all(0 <= p <= 1 for p in levels):
        raise DataError("a level outside 0 to 1", column="levels", value=tuple(levels), remedy="give probabilities")
    names = [outputs] if isinstance(outputs, str) else list(outputs or [o.name for o in model.outputs])
    for n in names:
        model.output_index(n)
    plans = [_full(t, s) for t, s in zip(twins, schedules or [None] * len(twins), strict=True)]
    looks = [_times(times, p) for p in plans]
    subjects = [Subject(t.id, t.complete(p.observe(at))) for t, p, at in zip(twins, plans, looks, strict=True)]
    sizes = {len(t.posterior.weights) for t in twins}
    if len(sizes) > 1:
        raise DataError(
            "posteriors with different numbers of draws", column="draws", value=sorted(sizes), remedy="assimilate with one number"
        )
    etas, weights = np.stack([t.posterior.draws for t in twins]), np.stack([t.posterior.weights for t in twins])
    found = settle(model, subjects, etas, weights, propagate(model, parameters, subjects, etas, names))
    common = Provenance.collect(model, parameters=parameters, seed=seed)
    out = []
    for k, (t, s, at) in enumerate(zip(twins, subjects, looks, strict=True)):
        here = {n: found.outputs[n][k][:, positions(s.schedule.time, at)] for n in names}
        made = {n: _output(model, parameters, t, n, v, tuple(levels), seed if residual else None) for n, v in here.items()}
        doubt = t.posterior.doubt
        notes = (*t.outside(s.schedule), *((doubt,) if doubt else ()))
        stamp = replace(common, data_hash=schedule_hash(s.schedule) if not len(t.record) else t.record.hash)
        out.append(Forecast(t.id, at, model.time_unit, tuple(levels), weights[k], made, stamp, notes))
    return out


def _full(twin: TwinData, schedule: Schedule | None) -> Schedule:
    """Record and schedule together, without measured values."""
    past = twin.record.schedule.without_values()
    if schedule is None:
        return past.written_out()
    return past.merge(schedule.without_values() if len(past) else twin.complete(schedule).without_values()).written_out()


def _times(times: ArrayLike | None, plan: Schedule) -> Floats:
    if times is None:
        end = float(all_times(plan)[-1]) if len(plan) else 0.0
        if end <= 0:
            raise DataError("nothing says how far to forecast", column="times", remedy="give times, or a schedule")
        return np.unique(np.concatenate([np.linspace(0.0, end, 121), all_times(plan)]))
    at = np.unique(np.atleast_1d(np.asarray(times, float)))
    bad = ~(np.isfinite(at) & (at >= 0))
    if bad.any() or not len(at):
        raise DataError(
            "impossible time of a forecast",
            column="times",
            value=at[bad][0] if len(at) else None,
            remedy="give times of 0 or more",
        )
    return at


def _output(
    model: Model,
    parameters: PopulationParameters,
    twin: TwinData,
    name: str,
    f: Floats,
    levels: tuple[float, ...],
    seed: int | None,
) -> OutputForecast:
    k = model.output_index(name)
    weights, s = twin.posterior.weights, twin.record.schedule
    seen = s.measured & (s.output == k)
    measurement = None
    if seed is not None and model.outputs[k].residual is not None:
        noisy = measure(model, parameters, name, f, generator(seed, "measurement", twin.id, name))
        measurement = Bundle(noisy, *quantiles_with_error(noisy, levels, weights))
    prediction = Bundle(f, *quantiles_with_error(f, levels, weights))
    return OutputForecast(name, model.outputs[k].unit, prediction, measurement, (s.time[seen], s.value[seen]))


def log_error(model: Model, name: str) -> bool:
    """Whether the residual error of this output is log-normal."""
    residual = model.outputs[model.output_index(name)].residual
    return residual is not None and residual.form == "lognormal"


def noise_sd(model: Model, parameters: PopulationParameters, name: str, f: Floats) -> Floats:
    """Standard deviation of a new measurement at predictions f; of its logarithm where the error is log-normal.

    Raises UnsupportedError where the error is a function of the individual parameters.
    """
    with precision():
        return np.asarray(residual_sd(model, model.output_index(name), f, parameters.sigma), float)


def measure(model: Model, parameters: PopulationParameters, name: str, f: Floats, rng: np.random.Generator) -> Floats:
    """New measurements, of the shape of the predictions f."""
    return np.asarray(measurement(model, model.output_index(name), f, parameters.sigma, rng.standard_normal(f.shape)), float)

"""`LatentTime`: the generator by a nonlinear disease course, and its twin model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import Each, check_seed, generator
from gemello.domains.progression.latent_time import curves
from gemello.domains.progression.latent_time.curves import Curves, Data, Modes
from gemello.domains.progression.mixed import frame as frames
from gemello.domains.progression.mixed import hazard, impute
from gemello.domains.progression.mixed.hazard import Hazard
from gemello.domains.progression.plain import check_file, check_names, numbers, variables_from_list, variables_to_list
from gemello.model.contract import Covariate, Model
from gemello.model.generator import Generator, History, Trajectories, Variable, check_draws
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.population import PopulationParameters

Array = NDArray[np.float64]
LEAST_PERSONS, LEAST_VISITS = 10, 2.0
BEYOND, EXPECTED_DRAWS, CANDIDATES, ROOM = 2.0, 256, 4, 0.1


@final
@dataclass(frozen=True, eq=False)
class LatentTime(Generator):
    """A trained disease course. outcomes: names of the longitudinal variables; population: `Curves`; columns: baseline
    variables that shift the start, with centre, spread (p,), mean and covariance of the scaled ones; low, high (p,): range in
    training; hazards of events by name; horizon: last visit learnt from (forecasts go to twice that)."""

    kind: ClassVar[str] = "latent_time"
    version: ClassVar[str] = "1"
    variables: tuple[Variable, ...]
    time_unit: str
    outcomes: tuple[str, ...]
    population: Curves
    columns: tuple[str, ...]
    centre: Array
    spread: Array
    mean: Array
    covariance: Array
    low: Array
    high: Array
    hazards: Mapping[str, Hazard]
    horizon: float

    @classmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        """Learn from history. Option rounds: of EM (default 150). Raises DataError for fewer than 10 persons, fewer than 2
        visits a person on average, persons made only of missing values."""
        check_seed(seed)
        rounds = int(options.pop("rounds", curves.ROUNDS))
        if options:
            raise DataError("not an option of this generator", column=next(iter(options)), remedy="it has rounds")
        frames.refuse_empty(history)
        outcomes = tuple(
            v for v in history.of_role("longitudinal") if np.isfinite(history.values.get(v.name, np.zeros(0))).sum() > 1
        )
        if len(history) < LEAST_PERSONS or len(history.time) < LEAST_VISITS * len(history) or not outcomes:
            words = f"{len(history)} persons with {len(history.time)} visits"
            raise DataError(
                words, column="persons", remedy=f"a course needs {LEAST_PERSONS} persons with {LEAST_VISITS:g} visits on average"
            )
        columns = tuple(n for n, y in history.baseline.items() if np.isfinite(y).sum() > 2 and np.nanstd(y) > 0)
        raw = np.column_stack([history.baseline[n] for n in columns]) if columns else np.zeros((len(history), 0))
        centre, spread = (np.nanmean(raw, axis=0), np.nanstd(raw, axis=0)) if columns else (np.zeros(0), np.zeros(0))
        mean, covariance = impute.fit((raw - centre) / spread) if columns else (np.zeros(0), np.zeros((0, 0)))
        low, high = (np.nanmin(raw, axis=0), np.nanmax(raw, axis=0)) if columns else (np.zeros(0), np.zeros(0))
        names = tuple(v.name for v in outcomes)
        empty = cls(
            history.variables, history.time_unit, names, _nothing(history, outcomes, len(columns)), columns, centre, spread, mean,
            covariance, low, high, {}, float(history.time.max()),
        )  # fmt: skip
        data = empty._data(history)
        population = curves.fit(curves.begin(data, empty.population.low, empty.population.high), data, rounds)
        known = {k: np.isfinite(t) for k, t in history.event_time.items()}
        x = np.column_stack([data.x, empty._baseline_courses(history)])
        hazards = {
            k: hazard.fit(x[known[k]], t[known[k]], history.event_seen[k][known[k]], seed) for k, t in history.event_time.items()
        }
        return cls(
            history.variables, history.time_unit, names, population, columns, centre, spread, mean, covariance, low, high,
            hazards, float(history.time.max()),
        )  # fmt: skip

    # ---- forecasts -----------------------------------------------------------------------------------------------------
    @property
    def last_time(self) -> float:
        """Latest time of a forecast."""
        return BEYOND * self.horizon

    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        """Futures: pace, start and shifts from each person's posterior (importance resampling), with measurement error."""
        at = self._times(times)
        check_draws(draws)
        rng = Each.of(seen.persons, seed, "latent time", "sample")
        data, m = self._posterior(seen)
        normal, uniform = rng.normal(CANDIDATES * draws, m.u.shape[1]), (np.arange(draws)[:, None] + rng.uniform(1)) / draws
        u = curves.posterior(self.population, data, m, normal, uniform)
        course = self._courses(data, u, at)
        values = {}
        for i, name in enumerate(self.outcomes):
            y = course[i] + self.population.noise[i] * rng.normal(draws, len(at))
            values[name] = self._measured(name, course[i], y, rng)
        x = np.column_stack([data.x, self._baseline_courses(seen)])
        events = {}
        for name, h in self.hazards.items():
            drawn = h.draw(x, _since(seen, name), rng.uniform(draws))
            known = seen.event_seen.get(name, np.zeros(len(seen), bool))
            events[name] = np.where(known, seen.event_time.get(name, np.zeros(len(seen))), drawn)
        return Trajectories(seen.persons, at, values, events, seed)

    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        """Conditional means over 256 fixed draws of the person's effects."""
        at = self._times(times)
        data, m = self._posterior(seen)
        half = generator(0, "latent time", "expected").standard_normal((CANDIDATES * EXPECTED_DRAWS // 2, 1, m.u.shape[1]))
        uniform = (np.arange(EXPECTED_DRAWS)[:, None] + 0.5) / EXPECTED_DRAWS
        u = curves.posterior(self.population, data, m, np.concatenate([half, -half]), uniform)
        return {n: c.mean(axis=0) for n, c in zip(self.outcomes, self._courses(data, u, at), strict=True)}

    def survival(self, seen: History, name: str, times: Array) -> Array:
        """(persons, T) probability of no event by each time, given none until the person was last seen."""
        if name not in self.hazards:
            raise DataError("no event that was learnt", column=name, remedy=f"the events are {', '.join(self.hazards) or 'none'}")
        data, _ = self._posterior(seen)
        x, since, h = np.column_stack([data.x, self._baseline_courses(seen)]), _since(seen, name), self.hazards[name]
        start = np.array([h.survival(x[i : i + 1], since[i : i + 1])[0, 0] for i in range(len(seen))])
        return np.minimum(h.survival(x, np.asarray(times, float)) / np.maximum(start, 1e-300)[:, None], 1.0)

    def check(self, seen: History) -> Mapping[str, str]:
        """Baseline values over a tenth of the range outside of what was learnt from; outcomes outside of their asymptotes."""
        self._known(seen)
        frames.refuse_empty(seen)
        out: dict[str, str] = {}
        for k, name in enumerate(self.columns):
            y, room = frames.start(seen, name), ROOM * (self.high[k] - self.low[k])
            for i in np.flatnonzero((y < self.low[k] - room) | (y > self.high[k] + room)):
                out.setdefault(seen.persons[i], f"{name} {y[i]:g}: learnt from {self.low[k]:g} to {self.high[k]:g}")
        c = self.population
        for k, name in enumerate(self.outcomes):
            y, room = seen.values.get(name, np.zeros(0)), 3.0 * c.noise[k]
            for v in np.flatnonzero((y < c.low[k] - room) | (y > c.high[k] + room)):
                out.setdefault(
                    seen.persons[seen.person[v]], f"{name} {y[v]:g}: the course runs from {c.low[k]:g} to {c.high[k]:g}"
                )
        return out

    # ---- the twin ------------------------------------------------------------------------------------------------------
    def model(self, name: str = "disease_course_learnt") -> Model:
        """The course as a model of the contract: `Twin.new(generator.model(), …)` has the same verbs as a patient's twin."""
        from gemello.domains.progression.latent_time.model import DiseaseCourse  # noqa: PLC0415  (brings JAX)

        words = [_word(n) for n in self.outcomes]
        units = [next(v.unit for v in self.variables if v.name == n) for n in self.outcomes]
        covariates = [
            Covariate(_word(n), next(v.unit for v in self.variables if v.name == n), self.low[k], self.high[k], self.centre[k],
                      possible=(-1e12, 1e12))
            for k, n in enumerate(self.columns)
        ]  # fmt: skip
        table = parameter_table(self.population, words, units, covariates, self.spread, self.time_unit)
        return DiseaseCourse(name, words, table, units=units, covariates=covariates, time_unit=self.time_unit)

    def population_parameters(self) -> PopulationParameters:
        """The population of `model`."""
        return PopulationParameters.of(self.model(), source="trained latent-time generator")

    # ---- the file ------------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words."""
        c = self.population
        numbers = {k: getattr(self, k).tolist() for k in ("centre", "spread", "mean", "covariance", "low", "high")}
        return {
            "kind": self.kind, "version": self.version, "variables": variables_to_list(self.variables),
            "time_unit": self.time_unit,
            "outcomes": list(self.outcomes), "columns": list(self.columns), **numbers, "horizon": self.horizon,
            "population": {k: getattr(c, k).tolist() for k in c.__dataclass_fields__},
            "hazards": {k: h.to_dict() for k, h in self.hazards.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The generator of `to_dict`; DataError for anything else."""
        check_file(data, cls.kind, cls.version)
        try:
            variables, p, n = variables_from_list(data["variables"]), len(data["columns"]), len(data["outcomes"])
            check_names(variables, any=data["columns"], longitudinal=data["outcomes"], event=data["hazards"])
            own = {k: numbers(data[k], p) for k in ("centre", "spread", "mean", "low", "high")}
            shape = {"pace": (2, 2), "start": (p,)}
            parts = {k: numbers(data["population"][k], *shape.get(k, (n,))) for k in Curves.__dataclass_fields__}
            return cls(
                variables, str(data["time_unit"]), tuple(data["outcomes"]), Curves(**parts), tuple(data["columns"]), **own,
                covariance=numbers(data["covariance"], p, p) if p else np.zeros((0, 0)),
                hazards={k: Hazard.from_dict(h, p + n) for k, h in data["hazards"].items()}, horizon=float(data["horizon"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(f"a broken file of a latent-time generator ({e})", remedy="give the file that to_dict made") from e

    # ---- inside --------------------------------------------------------------------------------------------------------
    def _known(self, seen: History) -> None:
        frames.known(seen, self.variables, self.time_unit, self.columns)

    def _times(self, times: Array) -> Array:
        return frames.ahead(times, self.horizon, self.last_time, self.time_unit)

    def _data(self, h: History) -> Data:
        raw = np.column_stack([frames.start(h, n) for n in self.columns]) if self.columns else np.zeros((len(h), 0))
        x, _ = impute.conditional((raw - self.centre) / self.spread, self.mean, self.covariance)
        person, outcome, time, value = [], [], [], []
        for k, name in enumerate(self.outcomes):
            y = h.values.get(name, np.full(len(h.time), np.nan))
            seen = np.isfinite(y)
            person.append(h.person[seen])
            outcome.append(np.full(int(seen.sum()), k))
            time.append(h.time[seen])
            value.append(y[seen])
        return Data(
            np.concatenate(person).astype(np.int64),
            np.concatenate(outcome).astype(np.int64),
            np.concatenate(time),
            np.concatenate(value),
            x,
        )

    def _posterior(self, seen: History) -> tuple[Data, Modes]:
        self._known(seen)
        frames.refuse_empty(seen)
        data = self._data(seen)
        return data, curves.modes(self.population, data)

    def _courses(self, data: Data, u: Array, at: Array) -> list[Array]:
        """Courses (draws, persons, T) of each outcome for effects u (draws, persons, 2 + K)."""
        n, t = u.shape[1], len(at)
        wide = np.repeat(u, t, axis=1)
        onset = np.repeat(data.x @ self.population.start, t)
        return [
            self.population.value(wide, onset, np.full(n * t, k), np.tile(at, n))[0].reshape(len(u), n, t)
            for k in range(len(self.outcomes))
        ]

    def _measured(self, name: str, course: Array, y: Array, rng: Each) -> Array:
        v = next(v for v in self.variables if v.name == name)
        if v.kind == "binary":
            low, high = v.levels if len(v.levels) == 2 else (0.0, 1.0)
            return np.where(rng.uniform(len(course), course.shape[2]) < (course - low) / (high - low), high, low)
        if v.kind == "ordinal" and v.levels:
            levels = np.array(v.levels)
            return levels[np.searchsorted(0.5 * (levels[1:] + levels[:-1]), y)]
        y = np.round(y) if v.kind == "count" else y
        return np.clip(y, max(v.lower, 0.0) if v.kind == "count" else v.lower, v.upper)

    def _baseline_courses(self, h: History) -> Array:
        """(persons, K) outcomes at time 0, less the mid of their range and in units of it, 0 where missing: for hazards."""
        c = self.population
        y = np.column_stack([h.at_zero(n) if n in h.values else np.full(len(h), np.nan) for n in self.outcomes])
        return np.nan_to_num((y - 0.5 * (c.low + c.high)) / (c.high - c.low))


def parameter_table(
    c: Curves, names: list[str], units: list[str], covariates: list[Covariate], spread: Array, time: str,
    source: str = "trained latent-time generator",
) -> ParameterTable:  # fmt: skip
    """The table of `DiseaseCourse` from a population. spread: SD of the covariates in training."""
    row = lambda n, v, u, d, **more: Parameter(n, float(v), u, source=source, description=d, **more)  # noqa: E731
    free: dict[str, Any] = {"lower": -np.inf}
    rows = [
        row("PACE", 1.0, "1", "pace of the disease against the population", distribution="lognormal",
            variance=float(c.pace[0, 0]), estimate=False),
        row("START", 0.0, time, "disease time at baseline", distribution="normal", variance=float(c.pace[1, 1]),
            estimate=False, **free),
    ]  # fmt: skip
    for g, s, v in zip(c.start, spread, covariates, strict=True):
        rows.append(row(f"EFFECT_{v.name}", g / s, f"({time})/({v.unit})", f"shift of the start by {v.name}", **free))
    for k, (n, u) in enumerate(zip(names, units, strict=True)):
        rows += [
            row(f"LOW_{n}", c.low[k], u, f"lower asymptote of {n}", kind="theta", estimate=False, **free),
            row(f"HIGH_{n}", c.high[k], u, f"upper asymptote of {n}", kind="theta", estimate=False, **free),
            row(f"SPEED_{n}", c.speed[k], f"1/({time})", f"speed of {n} on the logit scale", **free),
            row(f"PLACE_{n}", c.place[k], time, f"disease time at the middle of {n}", **free),
            row(f"SHIFT_{n}", 0.0, "1", f"person's shift of {n} on the logit scale", distribution="normal",
                variance=float(c.shifts[k]), estimate=False, **free),
            row(f"{n}_additive", c.noise[k], u, f"residual standard deviation of {n}", kind="residual"),
        ]  # fmt: skip
    return ParameterTable(tuple(rows), {("PACE", "START"): float(c.pace[0, 1])})


def _nothing(h: History, outcomes: tuple[Variable, ...], p: int) -> Curves:
    """Asymptotes of the outcomes, everything else empty: declared bounds, else the range seen and a tenth more."""
    low, high = [], []
    for v in outcomes:
        y = h.values[v.name]
        room = ROOM * float(np.nanmax(y) - np.nanmin(y)) or 1.0
        if v.kind in ("binary", "ordinal") and v.levels:
            low.append(v.levels[0])
            high.append(v.levels[-1])
            continue
        least = 0.0 if v.kind == "count" else v.lower
        low.append(least if np.isfinite(least) else float(np.nanmin(y)) - room)
        high.append(v.upper if np.isfinite(v.upper) else float(np.nanmax(y)) + room)
    k = len(outcomes)
    return Curves(np.array(low), np.array(high), np.ones(k), np.zeros(k), np.ones(k), np.eye(2), np.ones(k), np.zeros(p))


def _since(seen: History, name: str) -> Array:
    out = np.zeros(len(seen))
    np.maximum.at(out, seen.person, np.maximum(seen.time, 0.0))
    if name in seen.event_time:
        out = np.maximum(out, np.nan_to_num(seen.event_time[name], nan=0.0))
    return out


def _word(name: str) -> str:
    """A name of letters, digits and _."""
    out = re.sub(r"\W+", "_", name).strip("_")
    return out if out and not out[0].isdigit() else f"x_{out}"

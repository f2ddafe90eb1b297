"""`Mixed`: the generator by mixed effects and a Gaussian process in time under transformed margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from gemello.base.errors import DataError
from gemello.base.random import Each, check_seed
from gemello.domains.progression.mixed import course as courses
from gemello.domains.progression.mixed import frame as frames
from gemello.domains.progression.mixed import hazard, impute, learn
from gemello.domains.progression.mixed.course import Course, Points
from gemello.domains.progression.mixed.frame import Frame
from gemello.domains.progression.mixed.hazard import Hazard
from gemello.domains.progression.mixed.learn import Margin
from gemello.domains.progression.mixed.shape import NODES, WEIGHTS
from gemello.domains.progression.plain import check_file, check_names, numbers, variables_from_list, variables_to_list
from gemello.model.generator import Generator, History, Trajectories, Variable, check_draws

Array = NDArray[np.float64]
BEYOND, FAR, LATENT_ROUNDS = 1.1, 0.1, 20


@dataclass(frozen=True)
class _Seen:
    """Persons to be continued: x (n, p) complete, spread (n, JK, JK) of what is missing in it, posterior at the knots."""

    x: Array
    spread: Array | None
    posterior: courses.Posterior


@dataclass(frozen=True)
class _Ahead:
    """Of one variable at the times asked for, all (n, T): marginal mean and SD of the latent observation; mean and SD of its
    standardised value given all that is seen. h: (T, K) weights of the knots."""

    mean: Array
    sd: Array
    e_mean: Array
    e_sd: Array
    h: Array


@final
@dataclass(frozen=True, eq=False)
class Mixed(Generator):
    """A trained generator. frame: how histories become arrays; mean, covariance (p,), (p, p) of scaled baseline values; course
    and margins of the longitudinal variables; hazards of the events by name. Forecasts end at 1.1 times the last visit learnt
    from."""

    kind: ClassVar[str] = "mixed"
    version: ClassVar[str] = "1"
    variables: tuple[Variable, ...]
    time_unit: str
    frame: Frame
    mean: Array
    covariance: Array
    course: Course
    margins: tuple[Margin, ...]
    hazards: Mapping[str, Hazard]

    @classmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        """Learn from history. No options. Raises DataError for fewer than 6 persons, for persons made only of missing values."""
        if options:
            raise DataError("not an option of the mixed generator", column=next(iter(options)), remedy="it has none")
        check_seed(seed)
        frame = frames.learn(history)
        raw = frame.x(history)
        mean, covariance = impute.fit(raw)
        x, _ = impute.conditional(raw, mean, covariance)
        if not frame.courses and not history.event_time:
            raise DataError("nothing to learn", column="values", remedy="give longitudinal variables after time 0, or events")
        course, margins = learn.learn(frame, frame.points(history), x, seed)
        hazards = {}
        for name, time in history.event_time.items():
            known = np.isfinite(time)
            hazards[name] = hazard.fit(x[known], time[known], history.event_seen[name][known], seed)
        return cls(history.variables, history.time_unit, frame, mean, covariance, course, margins, hazards)

    @property
    def last_time(self) -> float:
        """Latest time of a forecast."""
        return BEYOND * self.frame.horizon if self.frame.courses else np.inf

    # ---- forecasts -----------------------------------------------------------------------------------------------------
    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        """Futures: a person's deviation, measurement error and events are drawn together. Times in `time_unit` after baseline."""
        at = self._times(times)
        check_draws(draws)
        rng = Each.of(seen.persons, seed, "mixed", "sample")
        state = self._state(seen)
        n, (j, k) = len(seen), self.course.shape
        noise = rng.normal(draws, j * k)
        root = _root(state.posterior.covariance)
        theta = state.posterior.mean + np.einsum("nab,dnb->dna", root, noise)
        values = {}
        for i, name in enumerate(self.frame.courses):
            ahead, own = self._ahead(state, i, at)
            inside = theta.reshape(draws, n, j, k)[:, :, i] @ ahead.h.T + own
            error = rng.normal(draws, len(at)) * np.sqrt(self.course.noise[i])
            values[name] = self._value(i, (inside + error - ahead.mean) / ahead.sd, ahead)
        events = {name: self._events(h, name, seen, state.x, draws, rng) for name, h in self.hazards.items()}
        return Trajectories(seen.persons, at, values, events, seed)

    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        """Conditional means, by Gauss–Hermite quadrature over the normal scale."""
        at = self._times(times)
        state = self._state(seen)
        out = {}
        for i, name in enumerate(self.frame.courses):
            a, _ = self._ahead(state, i, at)
            out[name] = self._mean_of(i, name, a)
        return out

    def quantiles(self, seen: History, times: Array, levels: Array) -> Mapping[str, Array]:
        """name -> (levels, persons, T) conditional quantiles without draws."""
        at = self._times(times)
        state = self._state(seen)
        out = {}
        for i, name in enumerate(self.frame.courses):
            a, _ = self._ahead(state, i, at)
            e = a.e_mean + a.e_sd * stats.norm.ppf(np.asarray(levels, float))[:, None, None]
            out[name] = self._value(i, e, a)
        return out

    def survival(self, seen: History, name: str, times: Array) -> Array:
        """(persons, T) probability of no event by each time, given none until the last time at which the person was seen."""
        if name not in self.hazards:
            raise DataError("no event that was learnt", column=name, remedy=f"the events are {', '.join(self.hazards) or 'none'}")
        x = self._state(seen).x
        since = _since(seen, name)
        start = np.array([self.hazards[name].survival(x[i : i + 1], since[i : i + 1])[0, 0] for i in range(len(seen))])
        ratio = self.hazards[name].survival(x, np.asarray(times, float)) / np.maximum(start, 1e-300)[:, None]
        return np.minimum(ratio, 1.0)

    def check(self, seen: History) -> Mapping[str, str]:
        """Baseline values more than a tenth of the range outside of what was learnt from, or jointly farther from the centre than
        all of a thousand persons would be."""
        self._known(seen)
        frames.refuse_empty(seen)
        raw = self.frame.x(seen)
        out: dict[str, str] = {}
        room = FAR * (self.frame.high - self.frame.low)
        limit = stats.chi2.ppf(1 - 1e-6, max(len(self.mean), 1))
        for i, who in enumerate(seen.persons):
            y = np.array([frames.start(seen, n)[i] for n in self.frame.columns])
            bad = np.flatnonzero((y < self.frame.low - room) | (y > self.frame.high + room))
            if len(bad):
                b = bad[0]
                out[who] = f"{self.frame.columns[b]} {y[b]:g}: learnt from {self.frame.low[b]:g} to {self.frame.high[b]:g}"
                continue
            there = np.isfinite(raw[i])
            d = raw[i, there] - self.mean[there]
            if there.any() and d @ np.linalg.solve(self.covariance[np.ix_(there, there)], d) > limit:
                out[who] = "its baseline values occur together in none of the persons learnt from"
        return out

    # ---- the file ------------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words."""
        c = self.course
        return {
            "kind": self.kind, "version": self.version, "variables": variables_to_list(self.variables),
            "time_unit": self.time_unit,
            "frame": self.frame.to_dict(), "mean": self.mean.tolist(), "covariance": self.covariance.tolist(),
            "coefficients": c.coefficients.tolist(), "deviations": c.deviations.tolist(), "noise": c.noise.tolist(),
            "pins": c.pins.tolist(), "cuts": [q.tolist() for q in c.cuts], "margins": [m.to_dict() for m in self.margins],
            "hazards": {k: h.to_dict() for k, h in self.hazards.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The generator of `to_dict`; DataError for anything else."""
        check_file(data, cls.kind, cls.version)
        try:
            frame = Frame.from_dict(data["frame"])
            j, k, p = len(frame.courses), len(frame.knots), len(frame.columns)
            variables = variables_from_list(data["variables"])
            check_names(variables, any=frame.columns, longitudinal=frame.courses, event=data["hazards"])
            cuts, margins = (tuple(data[q]) for q in ("cuts", "margins"))
            if {len(cuts), len(margins)} != {j}:
                raise ValueError(f"{len(cuts)} cuts and {len(margins)} margins of {j} courses")
            course = Course(
                frame.knots, np.array(data["coefficients"], float).reshape(1 + p, j, k),
                np.array(data["deviations"], float).reshape(j * k, j * k), numbers(data["noise"], j),
                numbers(data["pins"], j).astype(np.int64), tuple(np.array(q, float) for q in cuts),
            )  # fmt: skip
            return cls(
                variables, str(data["time_unit"]), frame, numbers(data["mean"], p),
                np.array(data["covariance"], float).reshape(p, p), course, tuple(Margin.from_dict(m) for m in margins),
                {name: Hazard.from_dict(h, p) for name, h in data["hazards"].items()},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(f"a broken file of a mixed generator ({e})", remedy="give the file that to_dict made") from e

    # ---- inside --------------------------------------------------------------------------------------------------------
    def _known(self, seen: History) -> None:
        frames.known(seen, self.variables, self.time_unit, self.frame.columns)

    def _times(self, times: Array) -> Array:
        return frames.ahead(times, self.frame.horizon, self.last_time, self.time_unit)

    def _state(self, seen: History) -> _Seen:
        self._known(seen)
        frames.refuse_empty(seen)
        raw = self.frame.x(seen)
        x, gap = impute.conditional(raw, self.mean, self.covariance)
        c = self.course
        spread = None
        if np.isnan(raw).any() and c.shape[0]:
            b = c.coefficients[1:].reshape(len(self.mean), -1)
            spread = np.einsum("pa,npq,qb->nab", b, gap, b)
        points = self.frame.points(seen)
        prior = c.mean(x).reshape(len(seen), -1)
        return _Seen(x, spread, self._posterior(points, x, prior, spread))

    def _posterior(self, points: Points, x: Array, prior: Array, spread: Array | None) -> courses.Posterior:
        """Given what was seen after baseline: residuals are first brought to the normal scale of their margins."""
        c = self.course
        if not c.shape[0]:
            return courses.Posterior(prior, np.zeros((len(x), 0, 0)))
        _, own = c.weights(points.time, points.variable)
        offset = own * c.start(x, points.variable, points.person)
        z = learn.normalised(c, self.margins, points, x, spread)
        h, _ = c.weights(points.time, points.variable)
        if not any(map(len, c.cuts)) or not len(points):
            return courses.condition(c, points, z, offset, prior, spread)
        centre, _ = learn.marginal(c, points, x)
        for _ in range(LATENT_ROUNDS):
            p = courses.condition(c, points, courses.latent(c, replace(points, z=z), centre), offset, prior, spread)
            theta = p.mean.reshape(len(x), *c.shape)
            centre = offset + np.sum(h * theta[points.person, points.variable], axis=1)
        return p

    def _ahead(self, state: _Seen, i: int, at: Array) -> tuple[_Ahead, Array]:
        """Of variable i: what is ahead, and the part of the own baseline (n, T)."""
        c, (n, t) = self.course, (len(state.x), len(at))
        k = c.shape[1]
        person, variable = np.repeat(np.arange(n), t), np.full(n * t, i)
        time = np.tile(at, n)
        mean, sd = learn.marginal(c, Points(person, variable, time, time), state.x, state.spread)
        h, w = c.weights(at, np.full(t, i))
        own = w[None, :] * c.start(state.x, np.full(n, i), np.arange(n))[:, None]
        here = slice(i * k, (i + 1) * k)
        inside = state.posterior.mean[:, here] @ h.T + own
        spread = np.einsum("tk,nkl,tl->nt", h, state.posterior.covariance[:, here, here], h) + c.noise[i]
        mean, sd = mean.reshape(n, t), sd.reshape(n, t)
        return _Ahead(mean, sd, (inside - mean) / sd, np.sqrt(spread) / sd, h), own

    def _value(self, i: int, e: Array, a: _Ahead) -> Array:
        """Values of variable i for standardised normal e (..., n, T)."""
        name, m = self.frame.courses[i], self.margins[i]
        levels = self.frame.levels[name]
        if levels:
            z = m.centre(a.mean, a.h) + a.sd * e
            return np.array(levels)[np.searchsorted(m.cuts, z)]
        return self.frame.scales[name].backward(a.mean + a.sd * m.shape.forward(e))

    def _mean_of(self, i: int, name: str, a: _Ahead) -> Array:
        levels = self.frame.levels[name]
        if not levels:
            out = np.zeros_like(a.mean)
            for node, weight in zip(NODES, WEIGHTS, strict=True):
                out += weight * self._value(i, a.e_mean + a.e_sd * node, a)
            return out
        m = self.margins[i]
        above = 1 - ndtr((m.cuts - (m.centre(a.mean, a.h) + a.sd * a.e_mean)[..., None]) / (a.sd * a.e_sd)[..., None])
        binary = next(v.kind for v in self.variables if v.name == name) == "binary"
        return above[..., 0] if binary else levels[0] + above @ np.diff(levels)

    def _events(self, h: Hazard, name: str, seen: History, x: Array, draws: int, rng: Each) -> Array:
        out = h.draw(x, _since(seen, name), rng.uniform(draws))
        if name in seen.event_seen:
            out = np.where(seen.event_seen[name], seen.event_time[name], out)
        return out


def _since(seen: History, name: str) -> Array:
    """(n,) last time at which a person was known to be without the event."""
    out = np.zeros(len(seen))
    np.maximum.at(out, seen.person, np.maximum(seen.time, 0.0))
    if name in seen.event_time:
        out = np.maximum(out, np.nan_to_num(seen.event_time[name], nan=0.0))
    return out


def _root(covariance: Array) -> Array:
    """Square roots of covariances (n, m, m)."""
    value, vector = np.linalg.eigh(covariance)
    return vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]

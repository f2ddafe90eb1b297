"""The neural generator: from mixed histories to whole trajectories.

Model: y = F⁻¹(Φ(z); seen, time) for each variable and time, where F is a mixture of normal distributions whose parameters a small
ensemble of nets gives on top of a ridge regression, and z a Gaussian process over variables, times and events. It is a
conditional normalising flow of one monotone layer (Papamakarios et al. 2021, JMLR 22:57). How much the nets say is decided by
held-out scores: where the data are small, the linear forecast remains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gemello.base.errors import DataError, DomainError
from gemello.base.random import Each, child_seed, generator
from gemello.domains.progression.neural import dependence, events, features, marginal, network
from gemello.domains.progression.neural.scales import Scale, learn_scale, plain_bound, read_bound
from gemello.model.generator import Array, Generator, History, Trajectories, Variable, check_draws

FEWEST = 30  # persons to learn from
FOLDS = 5
MARGIN = 0.1  # of a variable's range, beyond which a person is outside of what was learned from
REACH = 1.1  # of the longest gap learned from
BLOCK = 400_000  # values sampled at once


@dataclass(frozen=True)
class Neural(Generator):
    """A trained neural generator; see `train`. reach: longest gap that a forecast may span."""

    variables: tuple[Variable, ...]
    time_unit: str
    scales: Mapping[str, Scale]
    encoder: features.Encoder
    marginals: marginal.Marginals | None
    hazards: Mapping[str, events.Hazard]
    dependence: dependence.Dependence
    reach: float
    kind: ClassVar[str] = "neural"
    version: ClassVar[str] = "1"

    @classmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        """Learn from history. options: fields of network.Recipe (hidden, steps, batch, rate, decay, every, noise).

        Raises DataError for fewer than 30 persons, a person made only of missing values, a variable never seen, and unknown
        options."""
        known = {f.name for f in fields(network.Recipe)}
        if unknown := sorted(set(options) - known):
            raise DataError("no such option", column=unknown[0], remedy=f"options are {', '.join(sorted(known))}")
        recipe = network.Recipe(**options)
        if len(history) < FEWEST:
            raise DataError(f"{len(history)} persons to learn from", remedy=f"give {FEWEST} or more")
        if not history.values and not history.event_time:
            raise DataError("nothing to forecast", remedy="give a longitudinal variable with visits, or an event")
        _refuse_empty(history)
        names = {v.name: v for v in history.variables}
        scales = {k: learn_scale(names[k], a) for k, a in (*history.baseline.items(), *history.values.items())}
        return cls(**_learned(history, scales, seed, recipe))

    @property
    def _baseline(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables if v.role == "baseline")

    @property
    def _visits(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables if v.role == "longitudinal")

    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        """Futures of the persons of `seen`; see Generator.sample. A value seen at a time asked for is given back as it was.

        Raises DataError for times before what is seen, DomainError for times beyond the reach of the history."""
        t = self._times(seen, times)
        check_draws(draws)
        here = self._origins(seen)
        static = self.encoder.static(here)
        rng = Each.of(seen.persons, seed, "neural", "sample")
        names, n = self._visits, len(seen)
        given = np.empty((draws, n, len(self.hazards)))
        event_time = {}
        for e, (name, hazard) in enumerate(self.hazards.items()):
            given[:, :, e], event_time[name] = self._event(seen, name, hazard, here.time, static, rng, draws)
        values = {k: np.empty((draws, n, len(t))) for k in names}
        step = max(1, BLOCK // max(draws * len(t) * max(len(names), 1), 1))
        for a in range(0, n if names else 0, step):
            block = slice(a, min(a + step, n))
            _, z = self.dependence.draw(t, draws, rng[block], given[:, block])
            m = self._marginal(static[block], here.time[block], t)
            u = np.moveaxis(special.ndtr(z), 0, -1)  # (persons, T, J, draws)
            v = m.quantile(u)
            for j, k in enumerate(names):
                values[k][:, block] = np.moveaxis(self.scales[k].backward(v[:, :, j]), -1, 0)
        for k, known in self._known(seen, t).items():
            values[k] = np.where(np.isnan(known), values[k], known)
        return Trajectories(seen.persons, t, values, event_time, seed)

    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        """Conditional means in closed form; see Generator.expected."""
        t = self._times(seen, times)
        names = self._visits
        if not names:
            return {}
        here = self._origins(seen)
        m = self._marginal(self.encoder.static(here), here.time, t)
        known = self._known(seen, t)
        out = {}
        for j, k in enumerate(names):
            one = type(m)(m.weight[:, :, j], m.mean[:, :, j], m.sd[:, :, j])
            out[k] = np.where(np.isnan(known[k]), _mean(self.scales[k], one), known[k])
        return out

    def risk(self, seen: History, times: Array) -> Mapping[str, Array]:
        """name -> (persons, T) probability of each event by a time, in closed form, given that it has not come by the origin (the
        last visit seen, or the time to which the person is known to be free of it); 1 where it was seen."""
        t = self._times(seen, times)
        here = self._origins(seen)
        static = self.encoder.static(here)
        out = {}
        for name, hazard in self.hazards.items():
            free, had = self._free(seen, name, here.time)
            gaps = np.maximum(t[None, :] - here.time[:, None], 0.0)
            survived = 1 - hazard.risk(static, np.maximum(free - here.time, 0.0)[:, None])
            p = 1 - (1 - hazard.risk(static, gaps)) / survived
            out[name] = np.where(had[:, None] & (t >= free[:, None]), 1.0, np.clip(p, 0.0, 1.0))
        return out

    def check(self, seen: History) -> Mapping[str, str]:
        """Person -> reason; see Generator.check."""
        missing = [k for k in self._baseline if k not in seen.baseline] + [k for k in self._visits if k not in seen.values]
        if missing:
            raise DataError("missing from what is seen", column=missing[0], remedy="give it, as NaN where it was not measured")
        unknown = sorted((set(seen.baseline) | set(seen.values)) - {v.name for v in self.variables})
        if unknown:
            raise DataError("not learned", column=unknown[0], remedy="leave it out or train with it")
        if seen.time_unit != self.time_unit:
            raise DataError("another unit of time", value=seen.time_unit, remedy=f"the generator learned in {self.time_unit}")
        _refuse_empty(seen)
        out: dict[str, str] = {}
        every = [(k, a, np.arange(len(seen))) for k, a in seen.baseline.items()]
        every += [(k, a, seen.person) for k, a in seen.values.items()]
        for k, a, person in every:
            s = self.scales[k]
            room = MARGIN * (s.high - s.low)
            bad = ~np.isnan(a) & ~((a >= s.low - room) & (a <= s.high + room))
            for i in np.flatnonzero(bad):
                out.setdefault(seen.persons[person[i]], f"{k} {a[i]:g} is outside of {s.low:g} to {s.high:g}")
        return out

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers, lists and words."""
        return {
            "kind": self.kind, "version": self.version, "time_unit": self.time_unit,
            "variables": [
                asdict(v) | {"levels": list(v.levels), "lower": plain_bound(v.lower), "upper": plain_bound(v.upper)}
                for v in self.variables
            ],
            "scales": {k: s.to_dict() for k, s in self.scales.items()}, "encoder": self.encoder.to_dict(),
            "marginals": None if self.marginals is None else self.marginals.to_dict(),
            "hazards": [[k, h.to_dict()] for k, h in self.hazards.items()], "dependence": self.dependence.to_dict(),
            "reach": self.reach,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The generator of `to_dict`; DataError for anything else."""
        try:
            if (data["kind"], data["version"]) != (cls.kind, cls.version):
                raise ValueError(f"kind {data['kind']!s:.20}, version {data['version']!s:.20}, not {cls.kind} {cls.version}")
            made = cls(
                tuple(_variable(v) for v in data["variables"]), str(data["time_unit"]),
                {k: Scale.from_dict(s) for k, s in data["scales"].items()}, features.Encoder.from_dict(data["encoder"]),
                None if data["marginals"] is None else marginal.Marginals.from_dict(data["marginals"]),
                {k: events.Hazard.from_dict(h) for k, h in data["hazards"]}, dependence.Dependence.from_dict(data["dependence"]),
                float(data["reach"]),
            )  # fmt: skip
            made._try()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, np.linalg.LinAlgError) as e:
            raise DataError(f"no neural generator ({type(e).__name__}: {e})", remedy="train it again") from e
        return made

    # ---- inside -----------------------------------------------------------------------------------------------------------
    def _try(self) -> None:
        """One forecast of one person: shapes that do not fit each other fail here and not in a trial."""
        names = (*self._baseline, *self._visits)
        if set(names) != set(self.scales):
            raise ValueError("scales and variables differ")
        if bool(self._visits) != (self.marginals is not None):
            raise ValueError("visits and marginals differ")
        names_of_events = [v.name for v in self.variables if v.role == "event"]
        if sorted(names_of_events) != sorted(self.hazards) or len(names_of_events) != len(self.dependence.event):
            raise ValueError("events and hazards differ")
        one = History(
            self.variables, ("try",), {k: np.full(1, self.scales[k].low) for k in self._baseline}, np.zeros(1, np.int64),
            np.zeros(1),
            {k: np.full(1, self.scales[k].low) for k in self._visits}, time_unit=self.time_unit,
        )  # fmt: skip
        drawn = self.sample(one, np.array([self.reach / 2]), draws=2, seed=0)
        if not all(np.isfinite(a).all() for a in (*drawn.values.values(), *self.risk(one, np.array([self.reach / 2])).values())):
            raise ValueError("forecasts that are no numbers")

    def _times(self, seen: History, times: Array) -> Array:
        self.check(seen)
        t = np.atleast_1d(np.asarray(times, float))
        if t.ndim != 1 or not len(t) or not np.all(np.isfinite(t)) or np.any(np.diff(t) <= 0) or t[0] < 0:
            raise DataError("not times of a forecast", column="times", value=times, remedy="give rising times from 0")
        if len(seen.time) and t[0] < seen.time.max():
            late = seen.persons[int(seen.person[int(np.argmax(seen.time))])]
            raise DataError(
                f"time {t[0]:g} is before the visit of {late} at {seen.time.max():g}",
                column="times",
                remedy="cut with until(time)",
            )
        if t[-1] > self.reach:
            raise DomainError(f"time {t[-1]:g} is beyond the {self.reach:g} {self.time_unit} that the history reaches")
        return t

    def _origins(self, seen: History) -> features.Origins:
        end = np.searchsorted(seen.person, np.arange(len(seen)), side="right")
        some = np.bincount(seen.person, minlength=len(seen)) > 0
        visit = np.where(some, end - 1, -1)
        return features.origins(seen, self.scales, self._baseline, self._visits, np.arange(len(seen)), visit)

    def _marginal(self, static: Array, origin: Array, t: Array) -> Any:
        """Mixture (persons, T, J)."""
        assert self.marginals is not None
        n, k = len(static), len(t)
        clock = self.encoder.clock(np.maximum(t[None, :] - origin[:, None], 0.0), np.broadcast_to(t, (n, k))).reshape(n * k, -1)
        m = self.marginals.predict(np.repeat(static, k, 0), clock)
        return type(m)(*(a.reshape(n, k, *a.shape[1:]) for a in (m.weight, m.mean, m.sd)))

    def _known(self, seen: History, t: Array) -> dict[str, Array]:
        """(persons, T) values seen at the very times asked for, else NaN."""
        out = {k: np.full((len(seen), len(t)), np.nan) for k in self._visits}
        for c, time in enumerate(t):
            here = seen.time == time
            for k in self._visits:
                out[k][seen.person[here], c] = seen.values[k][here]
        return out

    def _free(self, seen: History, name: str, origin: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Time to which each person is known to be free of an event (or had it), and who had it."""
        if name not in seen.event_time:
            return origin, np.zeros(len(seen), bool)
        had = np.asarray(seen.event_seen[name], bool)
        at = np.asarray(seen.event_time[name], float)
        return np.where(had, at, np.fmax(at, origin)), had

    def _event(
        self, seen: History, name: str, hazard: events.Hazard, origin: Array, static: Array, rng: Each, draws: int
    ) -> tuple[Array, Array]:
        """Normal scores and times (draws, persons) of one event."""
        free, had = self._free(seen, name, origin)
        still = 1 - np.nan_to_num(hazard.risk(static, np.maximum(free - origin, 0.0)[:, None])[:, 0], nan=1 - 1e-12)
        survival = rng.uniform(draws) * still
        gap = hazard.times(static, survival)
        return events.censored_score(survival), np.where(had, free, np.maximum(origin + gap, free))


def _variable(v: Mapping[str, Any]) -> Variable:
    bounds = {"lower": read_bound(v["lower"], -np.inf), "upper": read_bound(v["upper"], np.inf)}
    return Variable(**{**v, "levels": tuple(float(x) for x in v["levels"]), **bounds})


def _refuse_empty(history: History) -> None:
    some = np.zeros(len(history), bool)
    for a in history.baseline.values():
        some |= ~np.isnan(a)
    for a in history.values.values():
        some |= np.bincount(history.person, ~np.isnan(a), minlength=len(history)) > 0
    if not some.all():
        raise DataError(
            "only missing values", column="persons", value=history.persons[int(np.argmin(some))], remedy="leave the person out"
        )


def _mean(scale: Scale, m: Any) -> Array:
    """(persons, T) mean of a mixture (persons, T, K) on the variable's own scale."""
    if scale.discrete:
        support = scale.support()
        low, high = scale.edges(support)
        chance = [
            m.cdf(np.full(m.mean.shape[:-1], b)) - m.cdf(np.full(m.mean.shape[:-1], a)) for a, b in zip(low, high, strict=True)
        ]
        p = np.stack(chance, -1)
        return np.asarray((p * support).sum(-1) / p.sum(-1))
    if scale.transform == "log":
        centre, spread = scale.center + scale.spread * m.mean, np.minimum(scale.spread * m.sd, 2.0)
        value = np.sum(m.weight * np.exp(np.minimum(centre + spread**2 / 2, 700.0)), -1)
    else:
        value = scale.center + scale.spread * np.sum(m.weight * m.mean, -1)
    return np.asarray(np.clip(value, scale.lower, scale.upper))


def _learned(history: History, scales: dict[str, Scale], seed: int, recipe: network.Recipe) -> dict[str, Any]:
    """The fields of a generator."""
    kept = {*history.baseline, *history.values, *history.event_time}
    variables = tuple(v for v in history.variables if v.name in kept)
    roles = [
        (v.name, "baseline" if v.name in history.baseline else "longitudinal" if v.name in history.values else "event")
        for v in variables
    ]
    variables = tuple(replace(v, role=r) for v, (_, r) in zip(variables, roles, strict=True))  # type: ignore[arg-type]
    baseline, visits = (tuple(k for k, r in roles if r == role) for role in ("baseline", "longitudinal"))
    fold = generator(seed, "neural", "folds").permutation(np.arange(len(history)) % FOLDS)
    o = features.origins(history, scales, baseline, visits, *features.training_origins(history))
    number, visit, weight = features.pairs(history, o)
    times = history.time[visit]
    encoder = features.Encoder.learn(o, times - o.time[number], times)
    static = encoder.static(o)
    core = len(baseline) + len(visits)
    made: marginal.Marginals | None = None
    scores = np.zeros((len(number), len(visits)))
    if visits:
        if not len(number):
            raise DataError("no person has a visit after baseline", remedy="give longitudinal data, or leave these variables out")
        values = np.column_stack([history.values[k] for k in visits])[visit]
        for j, k in enumerate(visits):
            if (~np.isnan(values[:, j])).sum() < FEWEST:
                raise DataError(
                    "hardly seen after baseline", column=k, remedy=f"give {FEWEST} later values, or make it a baseline one"
                )
        t = marginal.targets(tuple(scales[k] for k in visits), values)
        clock = encoder.clock(times - o.time[number], times)
        made, scores = marginal.fit(
            static[number], clock, core, tuple(scales[k] for k in visits), t, weight, fold[o.person[number]],
            seed=child_seed(seed, "neural", "values"), recipe=recipe,
        )  # fmt: skip
    longest = float(times.max()) if len(times) else 0.0
    joint = dependence.learn(scores, number, times, weight, max(longest, 1e-9))
    hazards, linked = {}, []
    for name in history.event_time:
        hazards[name], c = _hazard(history, name, o, static, fold, scores, (number, times, weight), seed, recipe)
        linked.append(c)
        longest = max(longest, float(history.event_time[name].max())) if not visits else longest
    return {
        "variables": variables, "time_unit": history.time_unit, "scales": scales, "encoder": encoder, "marginals": made,
        "hazards": hazards, "dependence": dependence.with_events(joint, linked), "reach": REACH * longest,
    }  # fmt: skip


def _hazard(
    history: History, name: str, o: features.Origins, static: Array, fold: NDArray[np.int64], scores: Array,
    pairs: tuple[NDArray[np.int64], Array, Array], seed: int, recipe: network.Recipe,
) -> tuple[events.Hazard, Array]:  # fmt: skip
    """The hazard of one event, and the correlation (J,) of its score with those of the values."""
    gap = np.asarray(history.event_time[name], float)[o.person] - o.time
    seen = np.asarray(history.event_seen[name], bool)[o.person]
    ok = np.isfinite(gap) & (gap > 0)
    others = np.bincount(o.person[ok], minlength=len(history))[o.person]
    first = np.r_[True, np.diff(o.person) != 0]
    weight = np.where(first, np.where(others > 1, 0.5, 1.0), 0.5 / np.maximum(others - 1, 1))
    hazard, survival = events.fit(
        name,
        static[ok],
        gap[ok],
        seen[ok],
        weight[ok],
        fold[o.person[ok]],
        seed=child_seed(seed, "neural", "events"),
        recipe=recipe,
    )
    number, times, pair_weight = pairs
    if not scores.shape[1]:
        return hazard, np.zeros(0)
    place = np.full(len(gap), -1)
    place[ok] = np.arange(int(ok.sum()))
    use = (place[number] >= 0) & (times < np.asarray(history.event_time[name], float)[o.person[number]])
    rows = place[number[use]]
    z_event = events.censored_score(survival)[rows]
    before = hazard.risk(static[number[use]], (times - o.time[number])[use][:, None])[:, 0]
    start = events.censored_score(1 - before)
    c = np.zeros(scores.shape[1])
    for j in range(len(c)):
        z = scores[use, j]
        here = ~np.isnan(z)
        c[j] = dependence.event_correlation(z[here], z_event[here], seen[ok][rows][here], start[here], pair_weight[use][here])
    return hazard, c

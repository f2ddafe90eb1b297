"""Reactive dosing over weeks: levels are measured, the twin assimilates them, the dose is chosen anew, and so on; over many
virtual patients whose true parameters and changing covariates are known, so that what was stated can be held against what came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance, data_hash
from gemello.base.random import generator
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import OTHER, Schedule
from gemello.twin.assess import Case, assessed, statistics
from gemello.twin.calibration import Bin, against
from gemello.twin.data import assimilate_many
from gemello.twin.decide import Decision, Rules, answer, optimise_many, question, with_draws
from gemello.twin.forecast import forecast_many, measure
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Grid, Regimen
from gemello.twin.twin import Twin, new_twins

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """How patients are dosed.

    visits: times at which the dose is chosen anew, the first one at the start of treatment. levels: how long before each visit
    but the first a level is measured; one at the visit itself (0) comes before its dose. goal, constraints: with windows counted
    from each visit; the regimen is taken to go on to their end, and covariates to stay. grid: doses that can be given; it starts
    at each visit. output: what is measured. drift, prior_weight, half_life: of assimilation (`Weighting`). reconsider: False
    keeps the first dose throughout, for comparison.
    """

    visits: Sequence[float]
    grid: Grid
    goal: Target | Sequence[Target]
    levels: Sequence[float] = (0.5,)
    constraints: Sequence[Constraint] = ()
    until: float | None = None
    output: str | None = None
    drift: float | None = None
    prior_weight: float = 1.0
    half_life: float | None = None
    reconsider: bool = True

    def __post_init__(self) -> None:
        v = np.asarray(self.visits, float)
        if not len(v) or not np.all(np.isfinite(v)) or v[0] < 0 or np.any(np.diff(v) <= 0):
            raise DataError(
                "visits that do not follow each other", column="visits", value=list(v)[:6], remedy="give rising times"
            )
        if self.end <= v[-1]:
            raise DataError("ends before the last visit", column="until", value=self.until, remedy=f"give a time after {v[-1]:g}")
        gaps = np.diff(v, prepend=0.0)
        if any(not x >= 0 for x in self.levels) or (len(v) > 1 and self.levels and max(self.levels) >= np.min(gaps[1:])):
            raise DataError(
                "levels outside the time between two visits", column="levels", value=list(self.levels),
                remedy="give times before a visit, shorter than that between visits",
            )  # fmt: skip

    @property
    def end(self) -> float:
        last = float(self.visits[-1])
        gap = last - float(self.visits[-2]) if len(self.visits) > 1 else 24.0
        return last + gap if self.until is None else self.until

    @property
    def goals(self) -> tuple[Target, ...]:
        return (self.goal,) if isinstance(self.goal, Target) else tuple(self.goal)

    def span(self, k: int) -> tuple[float, float]:
        """From visit k to the next."""
        return float(self.visits[k]), float(self.visits[k + 1]) if k + 1 < len(self.visits) else self.end

    def targets(self, k: int) -> tuple[tuple[Target, ...], tuple[Constraint, ...]]:
        """Goals and constraints with the windows of visit k."""
        at = float(self.visits[k])
        move = lambda t: t.during((t.span[0] + at, t.span[1] + at))  # noqa: E731
        return tuple(map(move, self.goals)), tuple(replace(c, target=move(c.target)) for c in self.constraints)


@dataclass(frozen=True, eq=False)
class Course:
    """What became of all virtual patients; arrays are (patients, visits).

    dose, interval: chosen. stated: probability that the goals will be met, by the twin. realised: whether the true course met
    them. values: the true first statistic. kept: whether the choice came from a twin without doubt (another keeps its last dose).
    time, truth: (times,), (patients, times) true course of `output`. covariates: as they were, by name.
    """

    policy: Policy
    output: str
    unit: str
    dose: Floats
    interval: Floats
    stated: Floats
    realised: NDArray[np.bool_]
    values: Floats
    kept: NDArray[np.bool_]
    time: Floats
    truth: Floats
    covariates: Mapping[str, Floats]
    twins: tuple[Twin, ...]
    provenance: Provenance
    decisions: tuple[tuple[Decision, ...], ...] = field(default=(), repr=False)

    def calibration(self, visit: int) -> Bin:
        """Stated against realised attainment at one visit, of the twins without doubt."""
        here = self.kept[:, visit]
        return against(self.stated[here, visit], self.realised[here, visit])

    def table(self) -> Any:
        """By visit (polars): attained share and its standard error, stated mean, median dose, interval and value, doubts."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        n = len(self.dose)
        rows = []
        for k, t in enumerate(self.policy.visits):
            share = float(np.mean(self.realised[:, k]))
            rows.append({
                "visit": k + 1, "time": float(t), "patients": n, "attained": share,
                "error": float(np.sqrt(share * (1 - share) / n)), "stated": float(np.nanmean(self.stated[:, k])),
                "median_dose": float(np.median(self.dose[:, k])),
                "median_interval": float(np.median(self.interval[:, k])), "median_value": float(np.median(self.values[:, k])),
                "doubts": int(np.sum(~self.kept[:, k])),
            })  # fmt: skip
        return pl.DataFrame(rows)

    def patients(self) -> Any:
        """One row for each patient and visit (polars)."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        n, k = self.dose.shape
        columns = {name: getattr(self, name).ravel() for name in ("dose", "interval", "stated", "realised", "values", "kept")}
        ids = [t.id for t in self.twins for _ in range(k)]
        more = {c: v.ravel() for c, v in self.covariates.items()}
        return pl.DataFrame({"id": ids, "time": np.tile(np.asarray(self.policy.visits, float), n), **columns, **more})

    def bands(self, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> tuple[Floats, Floats]:
        """Plot data: times (times,) and quantiles of the true course over the patients, (levels, times)."""
        return self.time, np.quantile(self.truth, levels, axis=0)


def reactive(
    model: Model,
    policy: Policy,
    patients: int,
    *,
    population: PopulationParameters | None = None,
    truth: PopulationParameters | None = None,
    covariates: Mapping[str, ArrayLike] | None = None,
    draws: int = 500,
    points: int = 121,
    seed: int = 0,
) -> Course:
    """Simulate `patients` under a policy.

    covariates: scalars, (patients,) or (patients, visits): values known at each visit and true until the next. population: what
    the twins believe; truth: what the patients are drawn from, default the same. draws: of each posterior. points: times of the
    true course. Raises what `assimilate` and `optimise` raise; a covariate outside the model's population is no obstacle here.
    """
    believed = (population or PopulationParameters.of(model)).check(model)
    real = (truth or believed).check(model)
    visits = len(policy.visits)
    known = {k: _by_visit(k, v, patients, visits) for k, v in (covariates or {}).items()}
    n = len(real.eta_names)
    etas = generator(seed, "etas").standard_normal((patients, n)) @ (np.linalg.cholesky(real.omega).T if n else np.zeros((0, 0)))
    name = policy.output or next(o.name for o in model.outputs if o.residual is not None)
    first = [{k: float(v[i, 0]) for k, v in known.items()} for i in range(patients)]
    twins = new_twins(model, believed, [str(i + 1) for i in range(patients)], first, draws=draws, seed=seed)
    shape = (patients, visits)
    dose, interval, stated, values = (np.full(shape, np.nan) for _ in range(4))
    realised, kept = np.zeros(shape, bool), np.zeros(shape, bool)
    given: list[list[Decision]] = []
    held: list[Regimen] = []
    for k in range(visits):
        start, end = policy.span(k)
        goals, limits = policy.targets(k)
        if k:
            twins = _measure(model, real, twins, etas, known, policy, name, k, draws, seed)
        decisions, held = _decide(twins, policy, goals, limits, start, held, k)
        given.append(decisions)
        plans = [_until(r, start, end) for r in held]
        for i, (d, r) in enumerate(zip(decisions, held, strict=True)):
            kept[i, k] = d.chosen is not None
            dose[i, k], interval[i, k] = r.dose, r.interval
            stated[i, k] = d.chosen.probability if d.chosen is not None else np.nan
        asked = [Case(with_draws(t, e[None]), p.schedule(), goals) for t, e, p in zip(_as(twins, real), etas, held, strict=True)]
        found = np.stack([v[:, 0] for v in statistics(asked)])
        values[:, k], realised[:, k] = found[:, 0], np.all([g.met(found[:, j]) for j, g in enumerate(goals)], axis=0)
        twins = tuple(_given(t, r) for t, r in zip(twins, plans, strict=True))
    time = np.linspace(0.0, policy.end, points)
    seen = [with_draws(t, e[None]) for t, e in zip(_as(twins, real), etas, strict=True)]
    course = forecast_many(seen, times=time, outputs=name, residual=False)
    stamp = Provenance.collect(
        model, parameters=believed, data=data_hash({**known, "visits": np.asarray(policy.visits)}), seed=seed
    )
    return Course(
        policy, name, model.outputs[model.output_index(name)].unit, dose, interval, stated, realised, values, kept, time,
        np.stack([f[name].prediction.draws[0] for f in course]), known, twins, stamp, tuple(map(tuple, given)),
    )  # fmt: skip


# ---- steps of a visit ----------------------------------------------------------------------------------------------
def _by_visit(name: str, given: ArrayLike, patients: int, visits: int) -> Floats:
    v = np.asarray(given, float)
    if v.shape not in ((), (patients,), (patients, visits)):
        raise DataError(
            "does not fit the patients and visits",
            column=name,
            value=v.shape,
            remedy=f"give one, {patients}, or {(patients, visits)}",
        )
    return np.broadcast_to(v if v.ndim == 2 else v[..., None] if v.ndim == 1 else v, (patients, visits)).copy()


def _as(twins: Sequence[Twin], real: PopulationParameters) -> list[Twin]:
    """The twins with the population that the truth comes from."""
    return [replace(t, parameters=real) for t in twins]


def _measure(
    model: Model, real: PopulationParameters, twins: Sequence[Twin], etas: Floats, known: Mapping[str, Floats], policy: Policy,
    name: str, k: int, draws: int, seed: int,
) -> tuple[Twin, ...]:  # fmt: skip
    """Twins that have assimilated the levels before visit k, and know the covariates of that visit."""
    at = float(policy.visits[k])
    times = np.unique([at - x for x in policy.levels])
    level = np.zeros((len(twins), 0))
    if len(times):
        seen = [with_draws(t, e[None]) for t, e in zip(_as(twins, real), etas, strict=True)]
        found = forecast_many(seen, times=times, outputs=name, residual=False)
        f = np.stack([x[name].prediction.draws[0] for x in found])
        level = measure(model, real, name, f, generator(seed, "level", k))
    new = []
    for i in range(len(twins)):
        before = {c: float(v[i, k - 1]) for c, v in known.items()}
        now = Schedule.of(at, evid=OTHER, columns={c: v[i, k] for c, v in known.items()})
        then = Schedule.of(at, evid=OTHER, columns=before)
        measured = Schedule.of(times, value=level[i], output=model.output_index(name), columns=before)
        new.append((measured if len(times) else Schedule()).merge(then).merge(now))
    how: dict[str, Any] = {"drift": policy.drift, "prior_weight": policy.prior_weight, "half_life": policy.half_life}
    return assimilate_many(twins, new, draws=draws, seed=seed, starts=1, **how)


def _given(twin: Twin, r: Regimen) -> Twin:
    """The twin whose record holds these doses, too."""
    s = r.schedule()
    return replace(twin, record=twin.record.add(s if len(twin.record) else twin.complete(s)))


def _decide(
    twins: Sequence[Twin], policy: Policy, goals: tuple[Target, ...], limits: tuple[Constraint, ...], start: float,
    held: list[Regimen], k: int,
) -> tuple[list[Decision], list[Regimen]]:  # fmt: skip
    """Decisions at visit k, and what is then given: the choice; or, where there is none, the last dose or the best candidate."""
    going_on = [_until(r, start, max(t.span[1] for t in goals)) for r in held]
    if k and not policy.reconsider:
        return _stay(twins, goals, limits, going_on), going_on
    grid = replace(policy.grid, start=start, until=None)
    found = optimise_many(twins, goals, grid, constraints=limits, least_probability=0.0, override_domain=True)
    out = []
    for i, d in enumerate(found):
        best = d.chosen or max(d.table, key=lambda a: a.probability, default=None)
        r = best.candidate.regimen if best is not None and (d.chosen is not None or not k) else None
        out.append(r if r is not None else going_on[i])
    return found, out


def _stay(
    twins: Sequence[Twin], goals: tuple[Target, ...], limits: tuple[Constraint, ...], held: Sequence[Regimen]
) -> list[Decision]:
    """The decision to go on as before, with what the twins now think of it."""
    rules = Rules(least_probability=0.0, override_domain=True)
    asked = [question(t, goals, [r], limits, rules) for t, r in zip(twins, held, strict=True)]
    values = statistics([c for q in asked for c in q.cases])
    out = []
    for q, v in zip(asked, values, strict=True):
        w = q.twin.posterior.weights
        table = assessed(q.twin.model, q.candidates, goals, (), v[None], w) if q.refused is None else ()
        out.append(answer(q, table))
    return out


def _until(r: Regimen, start: float, end: float) -> Regimen:
    """The regimen's maintenance doses from `start` on, before `end`."""
    number = max(1, int(np.ceil((end - start) / r.interval - 1e-9)))
    first: dict[str, Any] = {} if start == r.start else {"loading": None, "loading_duration": None}
    return replace(r, start=start, number=number, **first)

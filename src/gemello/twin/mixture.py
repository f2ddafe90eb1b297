"""Model averaging: one subject under several published models, each weighted by how well it explains the subject's own data.

Posterior model probability ∝ prior weight × p(data | model), the evidence of each twin's data (Hoeting, Madigan, Raftery &
Volinsky 1999, Stat Sci 14:382, equations 1-3). For vancomycin: Uster et al. 2021, Clin Pharmacol Ther 109:175, who weigh by AIC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, RefusalError
from gemello.base.provenance import Provenance, data_hash
from gemello.inference.scores import quantiles_with_error
from gemello.model.schedule import Schedule
from gemello.twin.assess import Assessed, assessed, statistics
from gemello.twin.data import New, TwinData
from gemello.twin.decide import Decision, Rules, answer, question
from gemello.twin.forecast import Bundle, Forecast, OutputForecast
from gemello.twin.forecast import forecast as forecast_one
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Choices
from gemello.twin.twin import Twin

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Mixture:
    """Twins of one subject under several models, and what each model weighs before the data (summing to 1)."""

    twins: tuple[Twin, ...]
    prior: tuple[float, ...]

    @property
    def id(self) -> str:
        return self.twins[0].id

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.model.name for t in self.twins)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Posterior probability of each model."""
        log = np.log(self.prior) + np.array([t.posterior.log_evidence for t in self.twins])
        p = np.exp(log - np.max(log))
        return tuple(float(v) for v in p / np.sum(p))

    def assimilate(self, data: New | Sequence[New], **options: Any) -> Mixture:
        """Every twin with new data: the same for all, or (a list) one for each model, whose covariates and units may differ."""
        each: Any = data if isinstance(data, list) else [data] * len(self.twins)
        return average([t.assimilate(d, **options) for t, d in zip(self.twins, each, strict=True)], self.prior)

    def forecast(self, schedule: Schedule | None = None, **options: Any) -> MixedForecast:
        """Forecast of the mixture, and of each model; options as in `gemello.twin.forecast.forecast_many`."""
        parts = tuple(forecast_one(t, schedule, **options) for t in self.twins)
        return mix(self, parts)

    def optimise(
        self,
        goal: Target | Sequence[Target],
        candidates: Choices,
        *,
        constraints: Sequence[Constraint] = (),
        raise_refusal: bool = False,
        **rules: Any,
    ) -> Decision:
        """The decision of the mixture; see `gemello.twin.decide.optimise`. A doubt about any model with weight counts for all."""
        decision = _optimise(self, (goal,) if isinstance(goal, Target) else tuple(goal), candidates, constraints, Rules(**rules))
        if decision.refused and raise_refusal:
            raise RefusalError(f"subject {self.id}: {decision.refused}")
        return decision


@dataclass(frozen=True, eq=False)
class MixedForecast:
    """Forecast of the mixture, those of the models, and the models' probabilities."""

    mixture: Forecast
    parts: tuple[Forecast, ...]
    probabilities: tuple[float, ...]

    def between(self, output: str) -> Floats:
        """(times,) share of the variance of the prediction that lies between the models (law of total variance)."""
        p = np.array(self.probabilities)
        draws = [f[output].prediction.draws for f in self.parts]
        mean = np.stack([f.weights @ d for f, d in zip(self.parts, draws, strict=True)])
        within = np.stack([f.weights @ (d - m) ** 2 for f, d, m in zip(self.parts, draws, mean, strict=True)])
        apart = p @ (mean - p @ mean) ** 2
        total = apart + p @ within
        return np.asarray(np.where(total > 0, apart / np.where(total > 0, total, 1.0), 0.0))


def average(twins: Sequence[Twin], weights: Sequence[float] | None = None) -> Mixture:
    """The mixture of these twins of one subject. weights: of the models before the data; default all alike.

    Each twin has its own model, covariates and parameters. Raises DataError where they are not about the same subject, values
    and units, so that evidences and forecasts could not be compared.
    """
    if not twins:
        raise DataError("no twins to average", column="twins", remedy="give at least one")
    prior = np.ones(len(twins)) if weights is None else np.asarray(weights, float)
    if prior.shape != (len(twins),) or not np.all(np.isfinite(prior) & (prior >= 0)) or not np.any(prior > 0):
        raise DataError(
            "impossible weights of models", column="weights", value=weights, remedy="give one for each, 0 or more, not all 0"
        )
    names = [t.model.name for t in twins]
    if len(set(names)) < len(names):
        raise DataError("a model that is given twice", column="twins", value=", ".join(names), remedy="give each model once")
    for t in twins[1:]:
        _comparable(twins[0], t)
    kept = [i for i in range(len(twins)) if prior[i] > 0]
    return Mixture(tuple(twins[i] for i in kept), tuple(float(v) for v in prior[kept] / np.sum(prior[kept])))


def _comparable(a: Twin, b: Twin) -> None:
    """Raise DataError unless two twins are about the same subject and measured values, in the same units."""
    who = f"models {a.model.name} and {b.model.name}"
    if a.id != b.id:
        raise DataError(f"{who}: of different subjects", column="id", value=b.id, remedy="average twins of one subject")
    pairs = {"time": (a.model.time_unit, b.model.time_unit)}
    units = [{o.name: o.unit for o in t.model.outputs} for t in (a, b)]
    shared = [n for n in units[0] if n in units[1]]
    pairs |= {n: (units[0][n], units[1][n]) for n in shared}
    pairs |= {f"port {k}": (p.unit, q.unit) for k, (p, q) in enumerate(zip(a.model.ports, b.model.ports, strict=False), 1)}
    for what, (one, other) in pairs.items():
        if one != other:
            raise DataError(f"{who}: {what} in {one} and in {other}", column=what, remedy="average models with the same units")
    seen = [
        sorted((float(s.time[i]), t.model.outputs[int(s.output[i])].name, float(s.value[i])) for i in np.flatnonzero(s.measured))
        for t in (a, b)
        for s in [t.record.schedule]
    ]
    if seen[0] != seen[1]:
        raise DataError(
            f"{who}: have seen different measurements, or call them by different outputs", column="data",
            value=f"{len(seen[0])} and {len(seen[1])}", remedy="let both assimilate the same values before they are averaged",
        )  # fmt: skip
    if not shared:
        raise DataError(f"{who}: no output in common", column="outputs", remedy="average models of the same thing")
    if a.posterior.weighting != b.posterior.weighting:
        raise DataError(f"{who}: weighted differently", column="weighting", remedy="assimilate with the same options")


def mix(mixture: Mixture, parts: Sequence[Forecast]) -> MixedForecast:
    """Draws of all models side by side, weighted by the models' probabilities."""
    p = mixture.probabilities
    first = parts[0]
    weights = np.concatenate([q * f.weights for q, f in zip(p, parts, strict=True)])

    def bundle(each: Sequence[Bundle | None]) -> Bundle | None:
        if any(b is None for b in each):
            return None
        draws = np.concatenate([b.draws for b in each if b is not None])
        return Bundle(draws, *quantiles_with_error(draws, first.levels, weights))

    outputs = {}
    for name, o in first.outputs.items():
        if all(name in f.outputs for f in parts):
            prediction = bundle([f[name].prediction for f in parts])
            assert prediction is not None
            measured = bundle([f[name].measurement for f in parts])
            outputs[name] = OutputForecast(name, o.unit, prediction, measured, o.observed)
    if not all(np.array_equal(f.time, first.time) for f in parts):
        raise DataError("forecasts at different times", column="times", remedy="give the times of the forecast")
    notes = tuple(f"{f.provenance.model}: {n}" for f in parts for n in f.notes)
    told = f"average of {len(parts)} models: " + ", ".join(f"{n} {v:.2f}" for n, v in zip(mixture.names, p, strict=True))
    whole = Forecast(
        first.id, first.time, first.time_unit, first.levels, weights, outputs, _stamp(mixture, first.provenance), (told, *notes)
    )
    return MixedForecast(whole, tuple(parts), p)


def _stamp(mixture: Mixture, first: Provenance) -> Provenance:
    """Provenance of all models together."""
    beliefs = [t.posterior.provenance for t in mixture.twins]
    return replace(
        first,
        model=" + ".join(mixture.names),
        model_version=" + ".join(b.model_version for b in beliefs),
        parameter_hash=data_hash([*(b.parameter_hash for b in beliefs), np.array(mixture.prior)]),
        data_hash=data_hash([t.record.hash for t in mixture.twins]),
    )


def _optimise(
    m: Mixture, goals: tuple[Target, ...], candidates: Choices, constraints: Sequence[Constraint], rules: Rules
) -> Decision:
    changed = rules.covariates or {}
    known = {c.name for t in m.twins for c in t.model.covariates}
    for name in changed.keys() - known:
        raise DataError("none of the models has such a covariate", column=name, value=changed[name], remedy="check its name")
    asked = [question(t, goals, candidates, constraints, replace(rules, covariates=_own(t, changed))) for t in m.twins]
    p = m.probabilities
    doubts = [f"{q.twin.model.name}: {q.refused}" for q, v in zip(asked, p, strict=True) if q.refused and v > LEAST]
    first = asked[0]
    outside = tuple(f"{q.twin.model.name}: {words}" for q in asked for words in q.outside)
    whole = replace(first, outside=outside, refused="; ".join(doubts) or None)
    table: tuple[Assessed, ...] = ()
    if whole.refused is None:
        values = [statistics(q.cases) for q in asked]
        weights = [v * q.twin.posterior.weights for v, q in zip(p, asked, strict=True)]
        ends = np.cumsum([0, *(len(w) for w in weights)])
        parts = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        together = np.concatenate([np.stack(v) for v in values], axis=2)
        table = assessed(
            first.twin.model,
            first.candidates,
            goals,
            constraints,
            together,
            np.concatenate(weights),
            steady=rules.steady_state,
            parts=parts,
        )
    decision = answer(replace(whole, rules=rules), table)
    apart = [n for n, t in zip(m.names, m.twins, strict=True) if changed and not _own(t, changed)]
    words = (f"{', '.join(apart)} without it, having no such covariate",) if apart else ()
    return replace(
        decision, provenance=_stamp(m, decision.provenance), overridden=bool(outside), assumed=(*decision.assumed, *words),
        models=tuple(zip(m.names, p, strict=True)),
    )  # fmt: skip


LEAST = 1e-3  # probability of a model below which a doubt about it does not matter


def _own(twin: TwinData, given: Mapping[str, float]) -> Mapping[str, float]:
    """Of changed covariates those that this model has."""
    return {n: v for n, v in given.items() if n in {c.name for c in twin.model.covariates}}

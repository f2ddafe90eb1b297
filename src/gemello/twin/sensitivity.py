"""What would change a decision: other covariates, another value of the last level; and when a further level would tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import DataError
from gemello.model.schedule import Schedule
from gemello.twin.assess import Case, statistics
from gemello.twin.data import TwinData
from gemello.twin.decide import Decision
from gemello.twin.forecast import forecast_many, log_error, noise_sd
from gemello.twin.goals import Target
from gemello.twin.mixture import Mixture, average
from gemello.twin.twin import Twin, new_twins

Floats = NDArray[np.float64]
RENAL = ("mL/min", "mL/min/(1.73*m**2)", "L/h", "dL/min")  # units of covariates that are clearances
NEAR = 0.02  # of the largest gain: earlier times within it are as good


def with_last_level(twin: Twin, by: float) -> Twin:
    """The twin as if its last level had been `by` times what it was. Raises DataError where there is none."""
    s = twin.record.schedule
    seen = np.flatnonzero(s.measured)
    if not len(seen):
        raise DataError(f"subject {twin.id}: no level to change", column="data", remedy="assimilate one first")
    value = s.value.copy()
    value[seen[-1]] *= by
    b = twin.posterior
    fresh = new_twins(twin.model, twin.parameters, [twin.id], [dict(twin.covariates)], draws=len(b.weights))[0]
    how = b.weighting
    seed = b.provenance.seed or 0
    options: dict[str, Any] = {"prior_weight": how.prior, "half_life": how.half_life}
    return fresh.assimilate(replace(s, value=value), draws=len(b.weights), seed=seed, **options)


def renal_changes(twin: TwinData, by: float) -> dict[str, float]:
    """Covariates that are clearances (of creatinine, as a rule), each `by` times its last value."""
    known = {**twin.covariates, **twin.posterior.covariates}
    return {c.name: by * known[c.name] for c in twin.model.covariates if c.unit in RENAL and known.get(c.name, 0.0) > 0}


def reconsider(
    subject: Twin | Mixture, goal: Target | Sequence[Target], candidates: Any, decision: Decision, **options: Any
) -> dict[str, Decision]:
    """The same decision as it would be with other information, by what is known; `decision` itself comes first.

    Renal function 30 % lower or higher from the first new dose on (where the model has such a covariate), the last level 20 %
    lower or higher (where there is one). options: those of `optimise`.
    """
    twins = subject.twins if isinstance(subject, Mixture) else (subject,)
    given = options.pop("covariates", None)
    options = options | {"override_domain": True, "override_doubt": True}  # the question is what if
    out = {"as known": decision}
    for words, by in (("30 % lower", 0.7), ("30 % higher", 1.3)):
        changes = {n: v for t in twins for n, v in renal_changes(t, by).items()}
        if changes and not given:
            names = " and ".join(f"{n} {v:.3g}" for n, v in changes.items())
            out[f"renal function {words} ({names})"] = subject.optimise(goal, candidates, **options, covariates=changes)
    seen = twins[0].record.schedule.measured
    for words, by in (
        (("20 % lower", 0.8), ("20 % higher", 1.2)) if seen.any() and twins[0].posterior.weighting.drift is None else ()
    ):
        value = float(twins[0].record.schedule.value[seen][-1]) * by
        others = [with_last_level(t, by) for t in twins]
        other = average(others, subject.prior) if isinstance(subject, Mixture) else others[0]
        out[f"last level {words} ({value:.3g})"] = other.optimise(goal, candidates, **options, covariates=given)
    return out


@dataclass(frozen=True, eq=False)
class Informative:
    """What a further level would tell of a target, by time (times,).

    gain: share of the target's variance that a level of `output` at that time is expected to remove (best linear prediction,
    with the measurement error). best: earliest time whose gain is within `NEAR` of the largest.
    """

    output: str
    time: Floats
    gain: Floats

    @property
    def best(self) -> float:
        return float(self.time[int(np.argmax(self.gain >= np.max(self.gain) - NEAR))])

    @property
    def most(self) -> float:
        return float(np.max(self.gain))


def next_level(twin: Twin, plan: Schedule, target: Target, times: ArrayLike, output: str | None = None) -> Informative:
    """When a level under `plan` would tell most of the target. times: that are possible; output: measured, default the first."""
    model = twin.model
    name = output or next((o.name for o in model.outputs if o.residual is not None), None)
    if name is None:
        raise DataError(f"{model.name} has no output that can be measured", column="output", remedy="give another model")
    w = twin.posterior.weights
    wanted = statistics([Case(twin, plan, (target,))])[0][0]
    f = forecast_many([twin], [plan], times=times, outputs=name, residual=False)[0]
    y = f[name].prediction.draws
    sd = noise_sd(model, twin.parameters, name, y)
    if log_error(model, name):
        sd = y * np.sqrt(np.expm1(sd**2))
    centred, aim = y - w @ y, wanted - w @ wanted
    spread = w @ centred**2 + w @ sd**2
    both = (w * aim) @ centred
    total = float(w @ aim**2)
    gain = both**2 / np.where(spread > 0, spread, 1.0) / total if total > 0 else np.zeros(len(f.time))
    return Informative(name, f.time, np.clip(gain, 0.0, 1.0))

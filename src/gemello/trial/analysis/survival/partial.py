"""The Cox partial likelihood: risk-set sums by cumulative sums, with Efron's or Breslow's handling of ties (Efron 1977).

Every event is one row. Of d events tied at one time, row l = 0 … d−1 has the risk set less l/d of the tied subjects (Efron), or
the whole risk set (Breslow). With S0, S1 the sums of w = exp(xβ) and w·x over a row's risk set, the log likelihood is
Σ xβ(events) − Σ log S0, its gradient Σ x(events) − Σ S1/S0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ConvergenceError, DataError, RefusalError

Array = NDArray[np.float64]
Ties = Literal["efron", "breslow"]
STEPS, TOLERANCE = 60, 1e-12
INFINITE = 12.0  # a log hazard ratio for one standard deviation of a covariate; exp(12) is 160,000


@dataclass(frozen=True)
class Stratum:
    """Risk sets of one stratum, before any β. rows: R events; n subjects; m distinct event times.

    who: (n,) subjects. times: (m,). row_time: (R,) number of the time of each row. part: (R,) share of the tied subjects that is
    taken off. event_time: (n,) number of the time of a subject's event, −1 without. until, since: (n,) numbers of event times not
    later than the end, and the entry, of each subject.
    """

    who: NDArray[np.int64]
    times: Array
    row_time: NDArray[np.int64]
    part: Array
    event_time: NDArray[np.int64]
    until: NDArray[np.int64]
    since: NDArray[np.int64]


@dataclass(frozen=True)
class RiskSets:
    """All strata; time, event: (n,)."""

    strata: tuple[Stratum, ...]
    time: Array
    event: Array


@dataclass(frozen=True)
class Rows:
    """A stratum's rows at one β. jump: (R,) 1/S0. mean: (R, p) S1/S0. w: (n,) exp(xβ)."""

    jump: Array
    mean: Array
    w: Array


def risk_sets(time: Array, event: Array, entry: Array, stratum: NDArray[np.int64], ties: Ties = "efron") -> RiskSets:
    """Prepare the risk sets: at risk at t are the subjects with entry < t ≤ time. Shapes (n,)."""
    if ties not in ("efron", "breslow"):
        raise DataError("unknown handling of ties", value=ties, remedy='"efron" or "breslow"')
    made = []
    for s in np.unique(stratum):
        who = np.flatnonzero(stratum == s)
        t, e = time[who], event[who] == 1
        at, count = np.unique(t[e], return_counts=True)
        row_time = np.repeat(np.arange(len(at)), count)
        order = np.concatenate([np.arange(c) / c for c in count]) if len(at) else np.empty(0)
        event_time = np.where(e, np.searchsorted(at, t), -1)
        made.append(
            Stratum(
                who,
                at,
                row_time,
                order if ties == "efron" else np.zeros(len(row_time)),
                event_time,
                np.searchsorted(at, t, side="right"),
                np.searchsorted(at, entry[who], side="right"),
            )
        )
    return RiskSets(tuple(made), time, event)


def at_risk(values: Array, s: Stratum) -> Array:
    """(m, …) sums over the risk set at each event time of values (n of the stratum, …)."""
    m = len(s.times)
    change = np.zeros((m + 1, *values.shape[1:]))
    np.add.at(change, s.until, values)
    np.add.at(change, s.since, -values)
    # a subject is in the risk sets since ≤ j < until: the sum from the end backwards of what ends, less what has not begun
    return change[::-1].cumsum(axis=0)[::-1][1:]


def tied(values: Array, s: Stratum) -> Array:
    """(m, …) sums over the subjects with an event at each time."""
    out = np.zeros((len(s.times), *values.shape[1:]))
    has = s.event_time >= 0
    np.add.at(out, s.event_time[has], values[has])
    return out


def rows(x: Array, eta: Array, s: Stratum) -> Rows:
    """S1/S0 and 1/S0 of each row. x: (n all, p). eta: (n all,)."""
    w = np.exp(eta[s.who])
    wx = w[:, None] * x[s.who]
    s0 = at_risk(w, s)[s.row_time] - s.part * tied(w, s)[s.row_time]
    s1 = at_risk(wx, s)[s.row_time] - s.part[:, None] * tied(wx, s)[s.row_time]
    return Rows(1 / s0, s1 / s0[:, None], w)


def exposure(weights: Array, s: Stratum) -> Array:
    """(n of the stratum, …) sum over a subject's rows at risk of a row's weight, less the share taken off at its own event.

    weights: (R, …). With weights 1/S0 it is the subject's cumulative baseline hazard over its time at risk.
    """
    m = len(s.times)
    by_time = np.zeros((m, *weights.shape[1:]))
    np.add.at(by_time, s.row_time, weights)
    own = np.zeros_like(by_time)
    np.add.at(own, s.row_time, weights * s.part.reshape(-1, *[1] * (weights.ndim - 1)))
    total = np.concatenate([np.zeros((1, *weights.shape[1:])), by_time.cumsum(axis=0)])
    out = total[s.until] - total[np.minimum(s.since, s.until)]
    has = s.event_time >= 0
    out[has] -= own[s.event_time[has]]
    return out


def evaluate(
    x: Array, beta: Array, sets: RiskSets, weight: Callable[[Stratum], Array] | None = None
) -> tuple[float, Array, Array]:
    """Log partial likelihood, gradient (p,) and information (p, p). weight: (R,) of each row, for weighted scores."""
    p = x.shape[1]
    eta = x @ beta
    eta = eta - eta.max()
    value, gradient, information = 0.0, np.zeros(p), np.zeros((p, p))
    for s in sets.strata:
        r = rows(x, eta, s)
        g = np.ones(len(r.jump)) if weight is None else weight(s)
        seen = s.event_time >= 0
        xs = x[s.who]
        # rows of one time share the weight, so a subject's own row may be any of them
        own = np.zeros(len(s.times))
        own[s.row_time] = g
        value += float((own[s.event_time[seen]] * eta[s.who][seen]).sum() + (g * np.log(r.jump)).sum())
        gradient += own[s.event_time[seen]] @ xs[seen] - g @ r.mean
        a = exposure(g * r.jump, s) * r.w
        information += (xs * a[:, None]).T @ xs - (r.mean * g[:, None]).T @ r.mean
    return value, gradient, information


def maximise(x: Array, sets: RiskSets, penalty: Array, names: tuple[str, ...]) -> tuple[Array, float, float]:
    """β (p,) by Newton–Raphson with step halving, the log likelihood there and at 0 (without the penalty ½ Σ penalty·β²).

    x is taken as scaled to standard deviation 1. Raises RefusalError for a monotone likelihood (a hazard ratio of 0 or infinity:
    the likelihood rises for ever along one direction), ConvergenceError where no maximum is found.
    """
    beta = np.zeros(x.shape[1])
    value, gradient, information = evaluate(x, beta, sets)
    start = value
    objective = value
    for _ in range(STEPS):
        slope = gradient - penalty * beta
        step = np.linalg.solve(information + np.diag(penalty + 1e-14), slope)
        gain = float(slope @ step)
        if gain < TOLERANCE and np.abs(step).max(initial=0.0) < 1e-7:
            _finite(beta, information, penalty, names)
            return beta + step, value, start
        for _halving in range(40):
            with np.errstate(all="ignore"):  # a step too far over- or underflows; then it is halved
                new = evaluate(x, beta + step, sets)
            reached = new[0] - 0.5 * float(penalty @ (beta + step) ** 2)
            if reached >= objective - 1e-10 * (1 + abs(objective)):
                break
            step = step / 2
        else:
            raise ConvergenceError("the Cox model did not converge: no step raises its likelihood; look at the covariates")
        beta, (value, gradient, information), objective = beta + step, new, reached
        _finite(beta, information, penalty, names)
    raise ConvergenceError("the Cox model did not converge; leave out covariates or add a ridge penalty")


def _finite(beta: Array, information: Array, penalty: Array, names: tuple[str, ...]) -> None:
    """RefusalError where β runs away, or where the likelihood is flat along one of its coordinates."""
    flat = np.diag(information) + penalty < 1e-9
    if not np.isfinite(beta).all() or (np.abs(beta) > INFINITE).any() or flat.any():
        worst = int(np.argmax(np.where(np.isfinite(beta), np.abs(beta), np.inf)))
        raise RefusalError(
            f"monotone likelihood: the hazard ratio of {names[worst]} is 0 or infinite; leave it out, join levels, "
            "add a ridge penalty, or test with logrank()"
        )

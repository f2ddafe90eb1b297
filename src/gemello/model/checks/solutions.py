"""Solutions under a made-up schedule: derivatives, methods, lanes, failures, repeatability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gemello.base.errors import SolverError
from gemello.engine.solve import LINEAR, solve
from gemello.model.checks.common import EXACT, absolute, adaptive_method, demand, relative, within
from gemello.model.checks.equations import everything
from gemello.model.checks.probe import LANES, Probe, compiled, solver
from gemello.model.individuals import individual, spread
from gemello.model.simulate import prepare


class _Fine(NamedTuple):
    """How finely solutions are compared: relative tolerance; absolute one, in parts of an amount of the state; relative step of
    fourth-order differences; error of a derivative that is allowed."""

    rtol: float
    atol: float
    step: float
    gradient: float


_TIGHT = _Fine(1e-10, 1e-12, 1e-3, 1e-5)
_FINE = {"rush_larsen": _Fine(1e-7, 1e-9, 1e-2, 1e-3)}  # a method of order 3


def _fine(method: str) -> _Fine:
    return _FINE.get(method, _TIGHT)


@dataclass(frozen=True)
class _Slopes:
    """Outputs, and derivatives by parameters and etas (lane i: by the i-th): forward mode and differences, (records, lanes)."""

    names: tuple[str, ...]
    outputs: tuple[Any, ...]
    exact: tuple[Any, ...]
    differences: tuple[Any, ...]


@lru_cache(maxsize=4)
def _slopes(x: Probe, method: str) -> _Slopes:
    """Lane i is moved along the i-th parameter alone, so that one derivative serves all of them."""
    m, base, fine = x.model, x.busy_values, _fine(method)
    theta, etas = m.parameters.theta_names, m.parameters.eta_names
    n = len(theta) + len(etas)
    values = {k: np.full(n, v) for k, v in base.items()}
    ready = prepare(
        m,
        x.busy_schedule,
        values=values,
        estimated=frozenset(x.port_parameters),
        method=method,
        rtol=fine.rtol,
        atol=absolute(x, fine.atol),
    )
    line = ready.timeline
    cov = m.covariate_type(*(jnp.asarray(float(c.reference)) for c in m.covariates))
    start = jnp.concatenate([jnp.asarray([base[k] for k in theta]), jnp.full(len(etas), 0.05)])[:, None] * jnp.ones(n)
    size = jnp.concatenate([jnp.asarray([abs(base[k]) or 1.0 for k in theta]), jnp.ones(len(etas))])
    along = jnp.diag(size)

    def outputs(v: Any) -> Any:
        p = spread(individual(m, m.theta_type(*v[: len(theta)]), tuple(v[len(theta) :]), cov), n)
        return solve(m, line.plan, line.slots, p, line.records).outputs

    program = compiled(lambda v: jax.jvp(outputs, (v,), (along,)))
    middle, exact = program(start)
    h = fine.step
    at = [program(start + k * h * along)[0] for k in (-2, -1, 1, 2)]
    fd = [(8 * (c - b) - (d - a)) / (12 * h) for a, b, c, d in zip(*at, strict=True)]
    keep = lambda group: tuple(np.asarray(v)[: len(x.busy_schedule)] for v in group)  # noqa: E731
    return _Slopes((*theta, *(f"eta of {k}" for k in etas)), keep(middle), keep(exact), keep(fd))


def _compare_slopes(x: Probe, method: str) -> str:
    found, worst, where = _slopes(x, method), 0.0, "all"
    for o, f, exact, fd in zip(x.model.outputs, found.outputs, found.exact, found.differences, strict=True):
        for i, name in enumerate(found.names):
            size = np.abs(fd[:, i]).max() + 0.1 * np.abs(f[:, i]).max()
            error = float(np.abs(exact[:, i] - fd[:, i]).max() / (size or 1.0))
            if not error <= worst:
                worst, where = error, f"{o.name} by {name}"
    return within(
        worst, _fine(method).gradient, f"{method}, {len(found.names)} derivatives: largest relative difference ({where})"
    )


def gradients(x: Probe) -> str:
    own = x.model.default_method()
    return _compare_slopes(x, adaptive_method(x) if own == "auto" else own)


def gradients_of_adaptive_solver(x: Probe) -> str:
    if not x.model.has("derivative") or x.model.default_method() not in LINEAR:
        return "does not apply: the default method is the only one"
    return _compare_slopes(x, adaptive_method(x))


def methods_agree(x: Probe) -> str:
    if not x.model.has("derivative") or x.model.default_method() not in LINEAR:
        return "does not apply: the default method is the only one"
    exact, adaptive = _slopes(x, x.model.default_method()).outputs, _slopes(x, adaptive_method(x)).outputs
    return within(
        relative(adaptive, exact), 1e-7, f"{x.model.default_method()} against an adaptive solver at {_TIGHT.rtol:.0e}: largest"
    )


def solvable(x: Probe) -> str:
    out = x.trajectories.check()
    for n, v in out.outputs.items():
        demand(np.isfinite(v).all(), f"output {n} is not finite")
        demand(np.ptp(v) > 0 or not x.model.ports, f"output {n} never changes, whatever is given; look at observe and the ports")
    return f"{LANES} subjects, {len(x.schedule)} records, {out.steps[0]} steps"


def one_lane_or_many(x: Probe) -> str:
    run, p = solver(x.ready), x.individuals(x.values, LANES)
    lanes = [run(jax.tree.map(lambda v, i=i: v[i : i + 1], p)).states for i in range(LANES)]
    alone = {n: np.concatenate([np.asarray(y[k]).T for y in lanes]) for k, n in enumerate(x.model.states)}
    return _same_within_tolerance(x, alone, x.trajectories.states, "alone against together")


def _same_within_tolerance(x: Probe, a: Mapping[str, Any], b: Mapping[str, Any], words: str) -> str:
    if x.model.default_method() in (*LINEAR, "discrete"):
        return within(relative(dict(a), dict(b)), EXACT, f"{words}: largest relative difference")
    rtol, atol = x.model.tolerances
    error = max(float(np.max(np.abs(a[n] - b[n]) / (atol + rtol * np.abs(b[n]).max(axis=1, keepdims=True)))) for n in b)
    return within(error, 10.0, f"{words}: largest, in tolerances")


def bad_lane(x: Probe) -> str:
    """A subject whose parameters are not numbers is reported with the time, and the others do not notice."""
    bad = {n: np.where(np.arange(LANES) == 2, np.nan, v) for n, v in x.values.items()}
    out = x.solved(bad)
    named = [w for w, _ in out.failures]
    demand(
        "3" in named,
        "subject 3 has NaN for parameters, but no failure is reported; an equation hides it (nan_to_num, where, max?)",
    )
    demand(named == ["3"], f"subject 3 has NaN for parameters, and subjects {', '.join(named)} fail; keep lanes apart")
    demand(all(math.isfinite(when) for _, when in out.failures), "a failure without a time")
    try:
        out.check()
    except SolverError as e:
        demand("subject 3" in str(e), f"the message does not name the subject: {e}")
    others = np.arange(LANES) != 2
    part = lambda states: {n: v[others] for n, v in states.items()}  # noqa: E731
    return _same_within_tolerance(x, part(out.states), part(x.trajectories.states), "beside a failed lane against without")


def same_bits_twice(x: Probe) -> str:
    f = everything(x)
    pairs = [(f(x.point), f(x.point)), (x.solved(x.values).states, x.trajectories.states)]
    for a, b in pairs:
        same = all(np.array_equal(v, w, equal_nan=True) for v, w in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
        demand(same, "the same call gives other numbers; equations must not draw random numbers or keep a memory")
    return "equations and solutions"

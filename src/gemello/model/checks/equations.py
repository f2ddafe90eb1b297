"""The equations by themselves: shapes, tracing, lanes, and one against the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemello.model.checks.common import EXACT, demand, relative, within
from gemello.model.checks.probe import LANES, Point, Probe, compiled


def _equations(x: Probe) -> dict[str, tuple[Callable[[Point], Any], Any]]:
    """Equations that the model supplies, as functions of a point, and the type of what they give."""
    m = x.model
    dt, zero = jnp.asarray(0.37), jnp.asarray(0.0)
    rates = m.state_type(*(zero + 0.1 * k for k in range(len(m.states))))
    found: dict[str, tuple[Callable[[Point], Any], Any]] = {
        "initial": (lambda a: m.initial(a.p), m.state_type),
        "observe": (lambda a: m.output_type(*m.observe(*a)), m.output_type),
    }
    if m.has("derivative"):
        found["derivative"] = (lambda a: m.derivative(*a), m.state_type)
    if m.has("propagator"):
        found["propagator"] = (lambda a: m.propagator(a.p)(dt, a.y, rates), m.state_type)
    if m.has("matrix"):
        found["matrix"] = (lambda a: m.matrix(a.p), tuple)
    if m.has("relaxation"):
        found["relaxation"] = (lambda a: m.relaxation(*a), m.state_type)
    if m.coupled:
        found["coupling"] = (lambda a: m.coupling(*a), tuple)
    if m.has("advance"):
        found["advance"] = (lambda a: m.advance(a.t, dt, a.y, a.p, a.u), m.state_type)
    if m.has("balance"):
        found["balance"] = (lambda a: tuple(m.balance(*a) or ()), tuple)
    return found


def everything(x: Probe) -> Callable[[Point], Any]:
    parts = {name: f for name, (f, _) in _equations(x).items()}
    return lambda a: {name: f(a) for name, f in parts.items()}


def lane(a: Point, i: int) -> Point:
    return jax.tree.map(lambda v: v[i], a)


def shapes(x: Probe) -> str:
    for name, (f, kind) in _equations(x).items():
        for lanes, at in (((), lane(x.rough_point, 0)), ((LANES,), x.rough_point)):
            out = jax.eval_shape(f, at)
            demand(
                isinstance(out, kind),
                f"{name} gives a {type(out).__name__}; give {kind.__name__}({', '.join(getattr(kind, '_fields', ()))})",
            )
            for leaf in jax.tree.leaves(out):
                shape = np.shape(leaf)
                demand(shape in ((), lanes), f"{name} gives shape {shape} for arguments of shape {lanes}; write it elementwise")
                kept = getattr(leaf, "dtype", jnp.float64) == jnp.float64
                demand(kept, f"{name} gives {getattr(leaf, 'dtype', '')} for float64; take out the cast")
    return "names, shapes and float64 kept by " + ", ".join(_equations(x))


def tracing(x: Probe) -> str:
    jax.eval_shape(everything(x), lane(x.rough_point, 0))
    f = compiled(everything(x))
    return within(relative(f(x.point), everything(x)(x.point)), EXACT, "compiled against plain: largest relative difference")


def elementwise(x: Probe) -> str:
    f = compiled(everything(x))
    before = f(x.point)
    other = jax.tree.map(lambda v: v.at[0].set(jnp.nan), x.point)
    wide = lambda tree: jax.tree.map(lambda v: np.broadcast_to(np.asarray(v), (LANES,)), tree)  # noqa: E731
    for name, after in f(other).items():
        same = all(
            np.array_equal(a[1:], b[1:])
            for a, b in zip(jax.tree.leaves(wide(after)), jax.tree.leaves(wide(before[name])), strict=True)
        )
        demand(same, f"{name}: one lane's arguments change another's result; use no sum, mean, max or index over lanes")
    alone = [everything(x)(lane(x.point, i)) for i in range(2)]
    for i, one in enumerate(alone):
        error = relative(one, jax.tree.map(lambda v, i=i: v[i], wide(before)))
        within(error, EXACT, "one lane alone against among others: largest relative difference")
    return f"{LANES - 1} lanes keep their bits when another becomes NaN"


def closed_form(x: Probe) -> str:
    """The derivative of the propagator by dt is `derivative` + rates, at any dt; it starts at y; two steps make one."""
    m, at = x.model, x.point
    if not (m.has("propagator") and m.has("derivative")):
        return "does not apply: no propagator beside a derivative"
    fed = {q.state for q in m.ports}
    rates = m.state_type(
        *(jnp.asarray(a if s in fed else 0.0) for s, a in zip(m.states, np.linspace(0.5, 1.5, len(m.states)), strict=True))
    )
    step, worst = compiled(lambda dt, y: m.propagator(at.p)(dt, y, rates)), 0.0
    worst = max(worst, relative(step(jnp.zeros(LANES), at.y), at.y))
    for dt in (0.1 * x.scales.fast, x.scales.fast, x.scales.slow):
        y, speed = jax.jvp(lambda d: step(d, at.y), (jnp.full(LANES, dt),), (jnp.ones(LANES),))
        slope = m.derivative(at.t, y, at.p, at.u)
        size = [np.abs(np.asarray(v)) + np.abs(np.asarray(k)) * dt for v, k in zip(y, slope, strict=True)]
        for v, k, r, s in zip(speed, slope, rates, size, strict=True):
            worst = max(worst, float(np.max(np.abs(np.asarray(v - k - r)) * dt / np.maximum(s, 1e-300))))
        worst = max(worst, relative(step(jnp.full(LANES, 0.6 * dt), step(jnp.full(LANES, 0.4 * dt), at.y)), y))
    return within(worst, 10 * EXACT, "against derivative, and one step against two: largest relative difference")


def coupling(x: Probe) -> str:
    m, at = x.model, x.point
    if not m.coupled:
        return "does not apply: no states that hold one another (`coupled`)"
    slope, matrices, errors = m.derivative(*at), m.coupling(*at), []
    demand(
        len(matrices) == len(m.coupled), f"coupling gives {len(matrices)} matrices for {len(m.coupled)} groups; give one for each"
    )
    for group, rows in zip(m.coupled, matrices, strict=True):
        flows = [[jnp.asarray(a) * getattr(at.y, n) for n, a in zip(group, row, strict=True)] for row in rows]
        size = sum(jnp.abs(v) for row in flows for v in row)  # what flows is far larger than what remains of it
        for n, row in zip(group, flows, strict=True):
            errors.append(np.abs(np.asarray((sum(row) - getattr(slope, n)) / size)))
    return within(float(np.max(errors)), EXACT, "M x against derivative, in parts of what flows: largest difference")


def matrix(x: Probe) -> str:
    m, at = x.model, x.point
    if not (m.has("matrix") and m.has("derivative")):
        return "does not apply: no matrix beside a derivative"
    rows = [sum(jnp.asarray(a) * v for a, v in zip(row, at.y, strict=True)) for row in m.matrix(at.p)]
    return within(relative(rows, list(m.derivative(*at))), EXACT, "A y against derivative: largest relative difference")

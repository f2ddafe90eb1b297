"""Declared conservation: as an identity of the equations, and over a schedule."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemello.model.checks.common import EXACT, absolute, adaptive_method, within
from gemello.model.checks.equations import lane
from gemello.model.checks.probe import LANES, Probe, solver
from gemello.model.contract import Model, Output, State
from gemello.model.simulate import prepare


def balance(x: Probe) -> str:
    m, at = x.model, x.point
    if not (m.has("balance") and m.has("derivative")):
        return "does not apply: no balance declared"
    slope = m.state_type(*(jnp.broadcast_to(jnp.asarray(v, float), (LANES,)) for v in m.derivative(*at)))
    stored = lambda t, y: jnp.asarray(m.balance(t, y, at.p, at.u).stored)  # type: ignore[union-attr]  # noqa: E731
    _, change = jax.jvp(stored, (at.t, at.y), (jnp.ones(LANES), slope))
    outflow = np.asarray(m.balance(*at).outflow)  # type: ignore[union-attr]
    size = np.abs(outflow) + sum(np.abs(np.asarray(v)) for v, i in zip(slope, _stored_by(x), strict=True) if i)
    worst = float(np.max(np.abs(np.asarray(change) + outflow) / np.maximum(size, 1e-300)))
    return within(worst, EXACT, "d(stored)/dt + outflow: largest relative to the flows")


def _stored_by(x: Probe) -> list[float]:
    """How much of each state counts as stored."""
    m, at = x.model, lane(x.point, 0)
    return [float(v) for v in jax.grad(lambda y: jnp.asarray(m.balance(at.t, y, at.p, at.u).stored))(at.y)]  # type: ignore[union-attr]


class _Account(Model):
    """A model with its outflow so far as one more state, and as outputs what is stored and what is gone."""

    GONE = "outflow_so_far"

    def __init__(self, inner: Model) -> None:
        self.inner = inner
        self.name, self.version, self.time_unit = f"{inner.name}, with its outflow", inner.version, inner.time_unit
        self.states = {**inner.states, self.GONE: "1"}
        self.outputs = (Output("stored", "1"), Output("gone", "1"))
        self.ports, self.covariates, self.parameters = inner.ports, inner.covariates, inner.parameters
        self.individuals, self.card = inner.individual_units(), inner.card

    def typical(self, theta: Any, cov: Any) -> Any:
        return self.inner.typical(theta, cov)

    def _own(self, y: State) -> State:
        return self.inner.state_type(*y[:-1])

    def initial(self, p: Any) -> State:
        return self.state_type(*self.inner.initial(p), p[0] * 0.0)

    def derivative(self, t: Any, y: State, p: Any, u: Any) -> State:
        own = self._own(y)
        return self.state_type(*self.inner.derivative(t, own, p, u), self.inner.balance(t, own, p, u).outflow)  # type: ignore[union-attr]

    def observe(self, t: Any, y: State, p: Any, u: Any) -> Any:
        return self.inner.balance(t, self._own(y), p, u).stored, y[-1]  # type: ignore[union-attr]


def balance_over_time(x: Probe) -> str:
    m = x.model
    if not (m.has("balance") and m.has("derivative")):
        return "does not apply: no balance declared"
    ready = prepare(_Account(m), x.schedule, method=adaptive_method(x), rtol=1e-9, atol=absolute(x, 1e-9))
    stored, gone = (np.asarray(v)[:, 0] for v in solver(ready)(jax.tree.map(lambda v: v[None], x.typical)).outputs)
    given = _delivered(x)[x.looks]
    change = (stored + gone - stored[0])[x.looks]
    size = max(float(np.abs(given).max()), float(np.abs(gone).max()), 1e-300)
    return within(float(np.abs(change - given).max()) / size, 1e-7, "stored + gone - dosed: largest, in parts of all")


def _delivered(x: Probe) -> Any:
    """(records,) what the dose ports have brought until each record of `schedule`, weighted as `balance` stores it."""
    s, p, weight = x.schedule, x.typical, dict(zip(x.model.states, _stored_by(x), strict=True))
    total = np.zeros(len(s))
    for k in np.flatnonzero(s.evid == 1):
        q = x.model.ports[s.port[k] - 1]
        if q.kind == "signal":
            continue
        amount = s.amount[k] * (float(getattr(p, q.bioavailability)) if q.bioavailability else 1.0)
        for j in range(s.additional[k] + 1):
            since = s.time - (s.time[k] + j * s.interval[k] + (float(getattr(p, q.lag)) if q.lag else 0.0))
            part = np.clip(since * s.rate[k] / amount, 0.0, 1.0) if s.rate[k] > 0 else since >= 0
            total += weight[q.state or ""] * amount * part
    return total

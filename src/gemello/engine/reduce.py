"""Accumulators that nobody asked for are not integrated: they cost stages, and a say in the size of the steps."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from gemello.engine.plan import Plan
from gemello.engine.solvers.dependence import dependence


class Reduced:
    """A system without the states that are not in `kept`; where an equation takes the state, they are 0."""

    def __init__(self, system: Any, kept: Sequence[int]) -> None:
        self.system, self.kept = system, tuple(kept)
        self.outputs, self.signal_type, self.coupled = system.outputs, system.signal_type, system.coupled
        names = system.state_type._fields
        make: Any = namedtuple  # noqa: PYI024  (names are data here)
        self.state_type = make("State", [names[i] for i in kept])

    def _whole(self, y: Any) -> Any:
        place = {i: k for k, i in enumerate(self.kept)}
        zero = jnp.zeros_like(y[0])
        return self.system.state_type(*(y[place[i]] if i in place else zero for i in range(len(self.system.state_type._fields))))

    def _part(self, y: Any) -> Any:
        return self.state_type(*(y[i] for i in self.kept))

    def initial(self, p: Any) -> Any:
        return self._part(self.system.initial(p))

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self._part(self.system.derivative(t, self._whole(y), p, u))

    def relaxation(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self._part(self.system.relaxation(t, self._whole(y), p, u))

    def coupling(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.system.coupling(t, self._whole(y), p, u)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.system.observe(t, self._whole(y), p, u)


def reduced(system: Any, plan: Plan, p: Any, outputs: Sequence[int], lanes: int) -> tuple[Any, Plan]:
    """The system and plan without accumulators on which none of `outputs`, and no other state, depends."""
    fed = {q.state for q in plan.ports}
    idle = [i for i in plan.accumulators if i not in fed]
    if not idle or len(idle) == len(system.state_type._fields):
        return system, plan
    one = jnp.ones(lanes)
    y, u = system.state_type(*(one for _ in system.state_type._fields)), system.signal_type(*(one for _ in range(plan.signals)))

    def seen(y: Any) -> Any:
        slopes = system.derivative(one, y, p, u)
        out = system.observe(one, y, p, u)
        return [
            jnp.asarray(v) + 0 * one for v in (*(out[k] for k in outputs), *(d for i, d in enumerate(slopes) if i not in idle))
        ]

    needed = frozenset[int]().union(
        *dependence(jax.make_jaxpr(seen)(y).jaxpr, [frozenset([i]) for i in range(len(y))], derivative=False)
    )
    kept = [i for i in range(len(y)) if i not in idle or i in needed]
    place = {i: k for k, i in enumerate(kept)}
    ports = tuple(q._replace(state=place.get(q.state, -1)) for q in plan.ports)
    return Reduced(system, kept), replace(
        plan, ports=ports, accumulators=tuple(place[i] for i in plan.accumulators if i in place)
    )

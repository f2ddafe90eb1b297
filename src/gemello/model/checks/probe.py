"""A problem made up for any model, on the model's own scales of time and amount: what `conformance` looks at.

Nothing here judges. All numbers come from the model's tables and a fixed seed, so that the same model is probed in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.random import generator
from gemello.engine.plan import Solved
from gemello.engine.solve import solve
from gemello.model.contract import Covariate, Model
from gemello.model.individuals import individual, spread
from gemello.model.parameters import Parameter
from gemello.model.schedule import Schedule
from gemello.model.simulate import Prepared, Trajectories, prepare, solve_prepared

SPAN = 3e4  # slowest over fastest time scale that one run can show
LANES = 5
RECORDS = 12


class Point(NamedTuple):
    """Arguments of the equations; every entry is (lanes,), or a scalar."""

    t: Any
    y: Any
    p: Any
    u: Any


@dataclass(frozen=True)
class Scales:
    """Shortest and longest time scale of the model (time units; within `SPAN`), from the eigenvalues of its Jacobian, and an
    amount for each dose port that moves an output by a few of its units."""

    fast: float
    slow: float
    amounts: tuple[float, ...]


def compiled(f: Callable[..., Any]) -> Any:
    """`f` as a program that is run a few times only: compiled three times faster, and run slower, than by plain `jax.jit`."""
    quick = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    return jax.jit(f, compiler_options=quick if jax.default_backend() == "cpu" else None)


def solver(ready: Prepared) -> Callable[[Any], Solved]:
    """Solution (records, lanes) of a prepared problem from individual parameters, outside the machinery of blocks."""
    line = ready.timeline
    run = compiled(lambda p: solve(ready.model, line.plan, line.slots, p, line.records, states=True))

    def trimmed(p: Any) -> Solved:
        out: Solved = run(p)
        depth = len(ready.subjects[0].schedule)
        return out._replace(outputs=tuple(v[:depth] for v in out.outputs), states=tuple(v[:depth] for v in out.states))

    return trimmed


class Probe:
    """Made-up parameters, covariates, states and schedules of one model. To be used inside `precision()`."""

    def __init__(self, model: Model) -> None:
        self.model = model

    # ---- parameters ----------------------------------------------------------------------------------------------------
    @cached_property
    def port_parameters(self) -> dict[str, tuple[str, int]]:
        """Names of F, lag, duration and rate parameters that the table holds: field of the port, index of the port."""
        found = {}
        for i, q in enumerate(self.model.ports):
            for field in ("bioavailability", "lag", "duration", "rate"):
                name = getattr(q, field)
                if name is not None and name in self.model.parameters:
                    found[name] = (field, i)
        return found

    @cached_property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """Population parameters, (lanes,) each, around the table's values; those of the ports as they are."""
        random = generator(1, "values")
        factors = {n: np.exp(random.uniform(-0.2, 0.2, LANES)) for n in self.model.parameters.theta_names}
        rows = [self.model.parameters[n] for n in self.model.parameters.theta_names]
        return {r.name: self._near(r, factors[r.name]) for r in rows}

    def _near(self, row: Parameter, factor: NDArray[np.float64]) -> NDArray[np.float64]:
        if row.name in self.port_parameters:
            return np.full(LANES, row.value)
        return np.clip(row.value * factor, row.lower, row.upper)

    @cached_property
    def busy_values(self) -> dict[str, float]:
        """Values inside their ranges at which every parameter of a port matters: F 0.8, a lag, a duration and a rate."""
        s = self.scales
        out = {r.name: _inside(r) for r in (self.model.parameters[n] for n in self.model.parameters.theta_names)}
        for name, (field, i) in self.port_parameters.items():
            rate = s.amounts[i] / (0.19 * s.slow)
            out[name] = {"bioavailability": 0.8, "lag": 0.07 * s.slow, "duration": 0.23 * s.slow, "rate": rate}[field]
            row = self.model.parameters[name]
            out[name] = float(np.clip(out[name], row.lower, row.upper))
        return out

    @cached_property
    def reference(self) -> dict[str, float]:
        """Covariates of the subject of reference."""
        return {c.name: c.reference for c in self.model.covariates}

    def theta(self, values: Mapping[str, Any]) -> Any:
        return self.model.theta_type(*(jnp.asarray(values[n], float) for n in self.model.parameters.theta_names))

    @cached_property
    def covariates(self) -> Any:
        """Covariates of `LANES` subjects of the population, (lanes,)."""
        random = generator(1, "covariates")
        return self.model.covariate_type(*(jnp.asarray(_drawn(c, random)) for c in self.model.covariates))

    @cached_property
    def p(self) -> Any:
        """Individual parameters of subjects that differ in parameters and covariates, (lanes,)."""
        eta = tuple(generator(1, "eta").uniform(-0.2, 0.2, (len(self.model.parameters.eta_names), LANES)))
        return spread(individual(self.model, self.theta(self.values), eta, self.covariates), LANES)

    def individuals(self, values: Mapping[str, Any], lanes: int) -> Any:
        """Individual parameters (lanes,) at these population parameters, for subjects of reference."""
        cov = self.model.covariate_type(*(jnp.asarray(float(c.reference)) for c in self.model.covariates))
        return spread(self.model.typical(self.theta(values), cov), lanes)

    @cached_property
    def typical(self) -> Any:
        """Individual parameters of the subject of reference, scalars."""
        p = self.individuals({n: self.model.parameters[n].value for n in self.model.parameters.theta_names}, 1)
        return p._make(v[0] for v in p)

    # ---- scales --------------------------------------------------------------------------------------------------------
    @cached_property
    def no_signal(self) -> Any:
        return self.model.signal_type(*(jnp.asarray(0.0) for _ in self.model.signal_type._fields))

    @cached_property
    def scales(self) -> Scales:
        m, p, u = self.model, self.typical, self.no_signal
        y = jnp.stack([jnp.asarray(v, float) for v in m.initial(p)])
        amounts = self._amounts(y + 1.0)
        for q, a in zip(m.ports, amounts, strict=True):
            if q.kind == "dose":
                y = y.at[list(m.states).index(q.state or "")].add(a)
        if not m.has("derivative"):
            return Scales(1.0, 10.0, amounts)
        slopes = jax.jacfwd(lambda v: _stack(m.derivative(jnp.asarray(0.0), m.state_type(*v), p, u), v[0]))(y)
        rates = np.abs(np.linalg.eigvals(np.asarray(slopes)))
        rates = rates[rates > rates.max() / SPAN] if rates.max() > 0 else np.ones(1)
        return Scales(float(1 / rates.max()), float(1 / rates.min()), amounts)

    def _amounts(self, y: Any) -> tuple[float, ...]:
        """Largest response of an output to a state in the port's unit, turned round."""
        m, p, u = self.model, self.typical, self.no_signal
        slopes = jax.jacfwd(lambda v: _stack(m.observe(jnp.asarray(0.0), m.state_type(*v), p, u), v[0]))(y)
        largest = dict(zip(m.states, np.abs(np.asarray(slopes)).max(axis=0), strict=True))
        out = []
        for q in m.ports:
            moved = [largest[s] for s, unit in m.states.items() if unit == q.unit and s not in m.accumulators]
            top = max(moved, default=0.0)
            out.append(3.0 / top if np.isfinite(top) and top > 0 else 1.0)
        return tuple(out)

    # ---- schedules -----------------------------------------------------------------------------------------------------
    @cached_property
    def schedule(self) -> Schedule:
        """Boluses, infusions and additional doses into every dose port, a level of every signal, and observations."""
        return self._schedule(modelled=False)

    @cached_property
    def busy_schedule(self) -> Schedule:
        """The same with infusions of modelled duration and rate, where ports have them."""
        return self._schedule(modelled=True)

    def _schedule(self, modelled: bool) -> Schedule:
        s, discrete = self.scales, not self.model.has("derivative")
        times = np.concatenate(
            [np.geomspace(0.313 * s.fast, 3.17 * s.slow, RECORDS - 4), s.slow * np.array([0.41, 0.93, 1.57, 2.21])]
        )
        out = Schedule.of(0.0, evid=2).observe(np.unique(times))
        for i, (q, a) in enumerate(zip(self.model.ports, s.amounts, strict=True)):
            shift = 0.037 * i * s.slow
            if q.kind == "signal":
                out = out.signal(0.2 * s.slow + shift, 1.0, port=i + 1).signal(0.9 * s.slow + shift, 0.0, port=i + 1)
                continue
            out = out.dose(shift, a, port=i + 1).dose(1.3 * s.slow + shift, 0.5 * a, port=i + 1, every=0.83 * s.slow, times=2)
            if not discrete:
                out = out.dose(0.7 * s.slow + shift, a, port=i + 1, duration=0.31 * s.slow)
            if modelled and q.duration in self.port_parameters:
                out = out.dose(1.1 * s.slow + shift, 0.7 * a, port=i + 1, rate=-2)
            if modelled and q.rate in self.port_parameters:
                out = out.dose(1.25 * s.slow + shift, 0.6 * a, port=i + 1, rate=-1)
        return out.covariates(**self.reference)

    @cached_property
    def looks(self) -> NDArray[np.bool_]:
        """(records,) which records of `schedule` are observations."""
        return np.asarray(self.schedule.evid == 0)

    # ---- what came of it -----------------------------------------------------------------------------------------------
    @cached_property
    def ready(self) -> Prepared:
        return prepare(self.model, self.schedule, values=self.values)

    def solved(self, values: Mapping[str, Any]) -> Trajectories:
        """Trajectories of all lanes under `schedule`, in one block."""
        return solve_prepared(self.ready, values, states=True, block=LANES)

    @cached_property
    def trajectories(self) -> Trajectories:
        return self.solved(self.values)

    @cached_property
    def rough_point(self) -> Point:
        """Arguments of the right shapes, for what asks for no more: it needs no solution."""
        one = jnp.ones(LANES)
        return Point(
            one,
            self.model.state_type(*(one for _ in self.model.states)),
            self.p,
            self.model.signal_type(*(one for _ in self.no_signal)),
        )

    @cached_property
    def point(self) -> Point:
        """States that the model visits, moved a little so that none is exactly zero, with other parameters and signals."""
        random = generator(1, "point")
        after = np.flatnonzero(self.looks)[np.linspace(1, self.looks.sum() - 1, LANES).astype(int)]
        visited = [v[np.arange(LANES), after] for v in self.trajectories.states.values()]
        y = [
            v * np.exp(random.uniform(-0.3, 0.3, LANES)) + random.uniform(0.01, 0.02, LANES) * (np.abs(v).max() or 1.0)
            for v in visited
        ]
        u = self.model.signal_type(*(jnp.asarray(random.uniform(0.5, 1.5, LANES)) for _ in self.model.signal_type._fields))
        t = jnp.asarray(self.schedule.time[after])
        return Point(t, self.model.state_type(*map(jnp.asarray, y)), self.p, u)


def _stack(values: Any, like: Any) -> Any:
    return jnp.stack([jnp.asarray(v, like.dtype) for v in values])


def _inside(row: Parameter) -> float:
    """The row's value, moved off the borders of its range, so that it can change either way."""
    value, width = row.value, row.upper - row.lower
    step = 0.1 * (width if np.isfinite(width) else max(abs(value), 1.0))
    if value - row.lower < 0.01 * step:
        return value + step
    return value - step if row.upper - value < 0.01 * step else value


def _drawn(c: Covariate, random: np.random.Generator) -> NDArray[np.float64]:
    if c.categorical:
        return np.resize(np.array(c.categorical, float), LANES)
    if not (np.isfinite(c.lower) and np.isfinite(c.upper)):
        return np.full(LANES, float(c.reference))
    return random.uniform(c.lower, c.upper, LANES)

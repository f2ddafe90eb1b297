"""What every model must hold to, as a list of small checks. The contract tests of gemello use it, and so may any author.

    for check in conformance(model):
        print(check)

Nothing here depends on what a model is about: parameters, states and schedules are made up by `probe` on the model's own scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import ConcretizationTypeError, TracerArrayConversionError

from gemello.base.errors import DataError, GemelloError, ModelError, SolverError
from gemello.base.random import generator
from gemello.base.units import check_unit
from gemello.engine.lanes import precision
from gemello.engine.solve import LINEAR, solve
from gemello.model.card import SECTIONS, Card
from gemello.model.contract import Model, Output, State
from gemello.model.individuals import individual, spread
from gemello.model.probe import LANES, Point, Probe, compiled, solver
from gemello.model.schedule import Schedule
from gemello.model.simulate import METHODS, prepare

EXACT = 1e-10  # agreement of two exact ways to the same number, relative to the largest
UNITS = 1e-9
GRADIENT = 1e-5  # of a fourth-order difference with relative step 1e-3
TIGHT = (1e-10, 1e-12)  # relative tolerance of the reference solution; absolute one, in parts of an amount of the state


@dataclass(frozen=True)
class Check:
    """Outcome of one check. detail: what was measured and what is allowed, what is wrong and the remedy, or why it does not apply."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}  {self.name}: {self.detail}"


class _Broken(Exception):
    """A check that fails; the message is its detail."""


_checks: dict[str, Callable[[Probe], str]] = {}


def _check(function: Callable[[Probe], str]) -> Callable[[Probe], str]:
    _checks[function.__name__.strip("_").replace("_", "-")] = function
    return function


def conformance(model: Model, only: Iterable[str] | None = None) -> Iterator[Check]:
    """All checks of `model`, one after another (`only`: these names). Never raises for what is wrong with the model."""
    for name in check_names() if only is None else only:
        if name not in _checks:
            raise ModelError(f"no check {name!r}; the checks are {', '.join(_checks)}")
        yield _run(name, model)


def check_names() -> tuple[str, ...]:
    """Names of the checks, in order."""
    return tuple(_checks)


@lru_cache(maxsize=2)
def _probe(model: Model) -> Probe:
    return Probe(model)


def _run(name: str, model: Model) -> Check:
    try:
        with precision():
            return Check(name, True, _checks[name](_probe(model)))
    except _Broken as e:
        return Check(name, False, str(e))
    except (ConcretizationTypeError, TracerArrayConversionError):
        return Check(name, False, "an equation looks at the value of an argument; write jnp.where instead of if, jnp instead of np and math")
    except Exception as e:  # a model's own code may raise anything
        return Check(name, False, f"{type(e).__name__}: {' '.join(str(e).split())}"[:400])


def _demand(fine: Any, detail: str) -> None:
    if not fine:
        raise _Broken(detail)


def _within(error: float, allowed: float, what: str = "largest relative difference") -> str:
    words = f"{what} {error:.1e}, {allowed:.0e} allowed"
    _demand(error <= allowed, words)  # false for NaN
    return words


def _relative(a: Any, b: Any) -> float:
    """Largest difference of two sets of arrays, each relative to the largest of its own values; infinite where one is not finite."""
    worst = 0.0
    if not jax.tree.leaves(b):
        raise ValueError("nothing to compare")
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, float), np.asarray(y, float)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return math.inf
        worst = max(worst, float(np.abs(x - y).max(initial=0.0) / (np.abs(y).max(initial=0.0) or 1.0)))
    return worst


# ---- what the model says about itself ----------------------------------------------------------------------------------
@_check
def _identity(x: Probe) -> str:
    m = x.model
    for field in ("name", "version", "time_unit"):
        _demand(isinstance(getattr(m, field, None), str) and getattr(m, field).strip(), f"no {field}; give one in words")
    check_unit(m.time_unit, "time_unit")
    _demand(m.states and m.outputs, "no states or no outputs; declare what the equations move and what can be measured")
    _demand(m.default_method() in METHODS, f"method {m.method!r}; use one of {', '.join(METHODS)}")
    return f"{m.name} {m.version}, time in {m.time_unit}, method {m.default_method()}"


@_check
def _card(x: Probe) -> str:
    card = getattr(x.model, "card", None)
    _demand(isinstance(card, Card), "no card; write a CARD.md and give card = Card.read(path)")
    missing = [s for s in SECTIONS if not card.sections.get(s, "").strip()]  # type: ignore[union-attr]
    _demand(not missing, f"no section {', '.join(missing)}; add the heading and its text")
    return card.title  # type: ignore[union-attr]


@_check
def _parameter_table(x: Probe) -> str:
    table = x.model.parameters
    for r in table:
        check_unit(r.unit, f"parameter {r.name}")
        _demand(math.isfinite(r.value) and r.lower <= r.value <= r.upper, f"{r.name}: value {r.value:g} outside [{r.lower:g}, {r.upper:g}]")
        _demand(r.source.strip(), f"{r.name}: no source; say where the value comes from")
        _demand(r.description.strip(), f"{r.name}: no description; say what it is")
        _demand(r.kind != "residual" or r.lower >= 0, f"{r.name}: a standard deviation below 0 is allowed; set lower to 0")
        low, high = {"lognormal": (0, math.inf), "logitnormal": (0, 1)}.get(r.distribution, (-math.inf, math.inf))
        _demand(low <= r.lower and r.upper <= high, f"{r.name}: {r.distribution}, but values outside [{low:g}, {high:g}] are allowed; narrow the range")
    if table.eta_names:
        smallest = float(np.linalg.eigvalsh(np.array(table.omega())).min())
        _demand(smallest > -1e-12, f"OMEGA is not positive semidefinite (eigenvalue {smallest:.2g}); look at the covariances")
    return f"{len(table.rows)} rows, {len(table.eta_names)} vary between subjects"


@_check
def _declarations(x: Probe) -> str:
    m, names = x.model, set(x.model.individual_units())
    for q in m.ports:
        _demand(q.kind in ("dose", "signal"), f"port {q.name}: kind {q.kind!r}; use dose or signal")
        _demand(q.kind == "signal" or q.state in m.states, f"port {q.name}: no state {q.state!r}; use one of {', '.join(m.states)}")
        for field in ("bioavailability", "lag", "duration", "rate"):
            n = getattr(q, field)
            _demand(n is None or n in names, f"port {q.name}: {field} {n!r} is no individual parameter; add it to the table or to individuals")
    used = [n for o in m.outputs if o.residual for n in (o.residual.additive, o.residual.proportional) if n]
    for n in used:
        _demand(n in m.parameters.residual_names, f"residual {n!r} is no row of kind residual; add it to the table")
    unused = set(m.parameters.residual_names) - set(used)
    _demand(not unused, f"residual rows without output: {', '.join(sorted(unused))}; name them in an Output or take them out")
    for n in m.parameters.eta_names:
        _demand(n in names, f"{n} varies between subjects but is no individual parameter; add it to individuals")
    for n in m.accumulators:
        _demand(n in m.states, f"accumulator {n!r} is no state")
    for c in m.covariates:
        inside = c.possible[0] <= c.lower <= c.reference <= c.upper <= c.possible[1]
        _demand(inside, f"covariate {c.name}: possible, lower, reference and upper are not in order")
        _demand(not c.categorical or c.reference in c.categorical, f"covariate {c.name}: reference {c.reference:g} is no category")
    for what, all_names in (("output", [o.name for o in m.outputs]), ("port", [q.name for q in m.ports]), ("covariate", [c.name for c in m.covariates])):
        _demand(len(set(all_names)) == len(all_names), f"an {what} name is given twice: {', '.join(all_names)}")
    p = x.model.typical(x.theta({n: m.parameters[n].value for n in m.parameters.theta_names}), x.covariates)
    _demand(getattr(p, "_fields", None) == m.individual_type._fields, f"typical gives {getattr(p, '_fields', type(p).__name__)}; declare these as individuals")
    return f"{len(m.states)} states, {len(m.outputs)} outputs, {len(m.ports)} ports, {len(m.covariates)} covariates"


# ---- units -------------------------------------------------------------------------------------------------------------
@_check
def _units(x: Probe) -> str:
    m = x.model
    named = [("time", m.time_unit), *m.states.items(), *m.individual_units().items()]
    named += [(i.name, i.unit) for group in (m.outputs, m.ports, m.covariates) for i in group]
    for name, unit in named:
        check_unit(unit, name)
    for q in m.ports:
        given = None if q.kind == "signal" else m.states[q.state or ""]
        _demand(given is None or _base(q.unit) == _base(given or ""), f"port {q.name} in {q.unit}, its state in {given}; give both the same unit")
        for field, unit in (("bioavailability", "1"), ("lag", m.time_unit), ("duration", m.time_unit), ("rate", f"({q.unit})/({m.time_unit})")):
            n = getattr(q, field)
            _demand(n is None or _base(m.individual_units()[n]) == _base(unit), f"{field} {n} of port {q.name} must be in {unit}")
    return f"{len(named)} units"


@_check
def _dimensions(x: Probe) -> str:
    """All base units are changed at once, as a change from gram to pound would: what the equations give must change with them."""
    reason = getattr(x.model, "unit_literals", "")
    if reason:
        return f"does not apply: {reason}"
    random = generator(1, "units")
    sizes = {d: float(random.uniform(0.2, 5.0)) for d in _dimensions_of(x.model)}
    _compare_units(x, lambda unit: _rescaled(unit, sizes), "the dimensions do not agree with the unit")
    _compare_units(x, lambda unit: _rescaled(unit, sizes) * _base(unit)[0], "the equation hides a conversion; make it a constant of the table, with its unit,")
    return f"derivative and outputs follow a change of {', '.join(sorted(sizes)) or 'no unit'}, {UNITS:.0e} allowed"


def _compare_units(x: Probe, scale: Callable[[str], float], words: str) -> None:
    m, at = x.model, x.point
    p_units, signals = m.individual_units(), {q.name: q.unit for q in m.ports if q.kind == "signal"}
    turn = lambda values, units: values._make(v * scale(units[n]) for n, v in zip(values._fields, values, strict=True))  # noqa: E731
    moved = Point(at.t * scale(m.time_unit), turn(at.y, m.states), turn(at.p, p_units), turn(at.u, signals))
    rates = {n: f"({u})/({m.time_unit})" for n, u in m.states.items()}
    outputs = {o.name: o.unit for o in m.outputs}
    wanted = [("derivative", lambda a: m.derivative(*a), rates)] if m.has("derivative") else []
    wanted += [("initial", lambda a: m.initial(a.p), dict(m.states)), ("observe", lambda a: m.observe(*a), outputs)]
    for equation, f, units in wanted:
        for (name, unit), before, after in zip(units.items(), f(at), f(moved), strict=True):
            expected = np.asarray(before) * scale(unit)
            error = _relative(np.asarray(after), expected) if np.any(expected) else float(np.abs(np.asarray(after)).max())
            _demand(error <= UNITS, f"{equation}, {name}: {words} {unit} (off by {error:.1e}, {UNITS:.0e} allowed)")


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415  (0.2 s: only when a unit is looked at)

    return pint.UnitRegistry()


@cache
def _base(unit: str) -> tuple[float, str]:
    """Factor to base units (m, kg, s, ...), and the base unit in words."""
    size, base = _registry().get_base_units(_registry().Unit("dimensionless" if unit in ("", "1") else unit))
    return float(size), str(base)


@cache
def _powers(unit: str) -> Mapping[str, float]:
    return dict(_registry().Unit("dimensionless" if unit in ("", "1") else unit).dimensionality)


def _rescaled(unit: str, sizes: Mapping[str, float]) -> float:
    return math.prod(sizes[d] ** n for d, n in _powers(unit).items())


def _dimensions_of(m: Model) -> list[str]:
    every = [m.time_unit, *m.states.values(), *m.individual_units().values(), *(o.unit for o in m.outputs), *(q.unit for q in m.ports)]
    return sorted({d for unit in every for d in _powers(unit)})


# ---- equations ---------------------------------------------------------------------------------------------------------
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
    if m.has("advance"):
        found["advance"] = (lambda a: m.advance(a.t, dt, a.y, a.p, a.u), m.state_type)
    if m.has("balance"):
        found["balance"] = (lambda a: tuple(m.balance(*a) or ()), tuple)
    return found


def _all(x: Probe) -> Callable[[Point], Any]:
    parts = {name: f for name, (f, _) in _equations(x).items()}
    return lambda a: {name: f(a) for name, f in parts.items()}


def _lane(a: Point, i: int) -> Point:
    return jax.tree.map(lambda v: v[i], a)


@_check
def _shapes(x: Probe) -> str:
    for name, (f, kind) in _equations(x).items():
        for lanes, at in (((), _lane(x.rough_point, 0)), ((LANES,), x.rough_point)):
            out = jax.eval_shape(f, at)
            _demand(isinstance(out, kind), f"{name} gives a {type(out).__name__}; give {kind.__name__}({', '.join(getattr(kind, '_fields', ()))})")
            for leaf in jax.tree.leaves(out):
                shape = np.shape(leaf)
                _demand(shape in ((), lanes), f"{name} gives shape {shape} for arguments of shape {lanes}; write it elementwise")
                kept = getattr(leaf, "dtype", jnp.float64) == jnp.float64
                _demand(kept, f"{name} gives {getattr(leaf, 'dtype', '')} for float64; take out the cast")
    return "names, shapes and float64 kept by " + ", ".join(_equations(x))


@_check
def _tracing(x: Probe) -> str:
    jax.eval_shape(_all(x), _lane(x.rough_point, 0))
    f = compiled(_all(x))
    return _within(_relative(f(x.point), _all(x)(x.point)), EXACT, "compiled against plain: largest relative difference")


@_check
def _elementwise(x: Probe) -> str:
    f = compiled(_all(x))
    before = f(x.point)
    other = jax.tree.map(lambda v: v.at[0].set(jnp.nan), x.point)
    wide = lambda tree: jax.tree.map(lambda v: np.broadcast_to(np.asarray(v), (LANES,)), tree)  # noqa: E731
    for name, after in f(other).items():
        same = all(np.array_equal(a[1:], b[1:]) for a, b in zip(jax.tree.leaves(wide(after)), jax.tree.leaves(wide(before[name])), strict=True))
        _demand(same, f"{name}: one lane's arguments change another's result; use no sum, mean, max or index over lanes")
    alone = [_all(x)(_lane(x.point, i)) for i in range(2)]
    for i, one in enumerate(alone):
        error = _relative(one, jax.tree.map(lambda v, i=i: v[i], wide(before)))
        _within(error, EXACT, "one lane alone against among others: largest relative difference")
    return f"{LANES - 1} lanes keep their bits when another becomes NaN"


@_check
def _closed_form(x: Probe) -> str:
    """The derivative of the propagator by dt is `derivative` + rates, at any dt; it starts at y; two steps make one."""
    m, at = x.model, x.point
    if not (m.has("propagator") and m.has("derivative")):
        return "does not apply: no propagator beside a derivative"
    fed = {q.state for q in m.ports}
    rates = m.state_type(*(jnp.asarray(a if s in fed else 0.0) for s, a in zip(m.states, np.linspace(0.5, 1.5, len(m.states)), strict=True)))
    step, worst = compiled(lambda dt, y: m.propagator(at.p)(dt, y, rates)), 0.0
    worst = max(worst, _relative(step(jnp.zeros(LANES), at.y), at.y))
    for dt in (0.1 * x.scales.fast, x.scales.fast, x.scales.slow):
        y, speed = jax.jvp(lambda d: step(d, at.y), (jnp.full(LANES, dt),), (jnp.ones(LANES),))
        slope = m.derivative(at.t, y, at.p, at.u)
        size = [np.abs(np.asarray(v)) + np.abs(np.asarray(k)) * dt for v, k in zip(y, slope, strict=True)]
        for v, k, r, s in zip(speed, slope, rates, size, strict=True):
            worst = max(worst, float(np.max(np.abs(np.asarray(v - k - r)) * dt / np.maximum(s, 1e-300))))
        worst = max(worst, _relative(step(jnp.full(LANES, 0.6 * dt), step(jnp.full(LANES, 0.4 * dt), at.y)), y))
    return _within(worst, 10 * EXACT, "against derivative, and one step against two: largest relative difference")


@_check
def _matrix(x: Probe) -> str:
    m, at = x.model, x.point
    if not (m.has("matrix") and m.has("derivative")):
        return "does not apply: no matrix beside a derivative"
    rows = [sum(jnp.asarray(a) * v for a, v in zip(row, at.y, strict=True)) for row in m.matrix(at.p)]
    return _within(_relative(rows, list(m.derivative(*at))), EXACT, "A y against derivative: largest relative difference")


# ---- conservation ------------------------------------------------------------------------------------------------------
@_check
def _balance(x: Probe) -> str:
    m, at = x.model, x.point
    if not (m.has("balance") and m.has("derivative")):
        return "does not apply: no balance declared"
    slope = m.state_type(*(jnp.broadcast_to(jnp.asarray(v, float), (LANES,)) for v in m.derivative(*at)))
    stored = lambda t, y: jnp.asarray(m.balance(t, y, at.p, at.u).stored)  # type: ignore[union-attr]  # noqa: E731
    _, change = jax.jvp(stored, (at.t, at.y), (jnp.ones(LANES), slope))
    outflow = np.asarray(m.balance(*at).outflow)  # type: ignore[union-attr]
    size = np.abs(outflow) + sum(np.abs(np.asarray(v)) for v, i in zip(slope, _stored_by(x), strict=True) if i)
    worst = float(np.max(np.abs(np.asarray(change) + outflow) / np.maximum(size, 1e-300)))
    return _within(worst, EXACT, "d(stored)/dt + outflow: largest relative to the flows")


def _stored_by(x: Probe) -> list[float]:
    """How much of each state counts as stored."""
    m, at = x.model, _lane(x.point, 0)
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


@_check
def _balance_over_time(x: Probe) -> str:
    m = x.model
    if not (m.has("balance") and m.has("derivative")):
        return "does not apply: no balance declared"
    ready = prepare(_Account(m), x.schedule, method=_adaptive(x), rtol=1e-9, atol=_atol(x, 1e-9))
    stored, gone = (np.asarray(v)[:, 0] for v in solver(ready)(jax.tree.map(lambda v: v[None], x.typical)).outputs)
    given = _delivered(x)[x.looks]
    change = (stored + gone - stored[0])[x.looks]
    size = max(float(np.abs(given).max()), float(np.abs(gone).max()), 1e-300)
    return _within(float(np.abs(change - given).max()) / size, 1e-7, "stored + gone - dosed: largest, in parts of all")


def _adaptive(x: Probe) -> str:
    """An adaptive solver for the model: its own, or the one for its stiffness (`auto` compiles both)."""
    own = x.model.default_method()
    return own if own in ("tsit5", "rodas5p") else "tsit5" if x.scales.slow < 1000 * x.scales.fast else "rodas5p"


def _atol(x: Probe, part: float) -> float:
    return part * min([1.0, *x.scales.amounts])


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


# ---- solutions ---------------------------------------------------------------------------------------------------------
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
    m, base = x.model, x.busy_values
    theta, etas = m.parameters.theta_names, m.parameters.eta_names
    n = len(theta) + len(etas)
    values = {k: np.full(n, v) for k, v in base.items()}
    ready = prepare(
        m, x.busy_schedule, values=values, estimated=frozenset(x.port_parameters), method=method, rtol=TIGHT[0], atol=_atol(x, TIGHT[1])
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
    h = 1e-3
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
    return _within(worst, GRADIENT, f"{method}, {len(found.names)} derivatives: largest relative difference ({where})")


@_check
def _gradients(x: Probe) -> str:
    own = x.model.default_method()
    return _compare_slopes(x, _adaptive(x) if own == "auto" else own)


@_check
def _gradients_of_adaptive_solver(x: Probe) -> str:
    if not x.model.has("derivative") or x.model.default_method() not in LINEAR:
        return "does not apply: the default method is the only one"
    return _compare_slopes(x, _adaptive(x))


@_check
def _methods_agree(x: Probe) -> str:
    if not x.model.has("derivative") or x.model.default_method() not in LINEAR:
        return "does not apply: the default method is the only one"
    exact, adaptive = _slopes(x, x.model.default_method()).outputs, _slopes(x, _adaptive(x)).outputs
    return _within(_relative(adaptive, exact), 1e-7, f"{x.model.default_method()} against an adaptive solver at {TIGHT[0]:.0e}: largest")


@_check
def _solvable(x: Probe) -> str:
    out = x.trajectories.check()
    for n, v in out.outputs.items():
        _demand(np.isfinite(v).all(), f"output {n} is not finite")
        _demand(np.ptp(v) > 0 or not x.model.ports, f"output {n} never changes, whatever is given; look at observe and the ports")
    return f"{LANES} subjects, {len(x.schedule)} records, {out.steps[0]} steps"


@_check
def _one_lane_or_many(x: Probe) -> str:
    run, p = solver(x.ready), x.individuals(x.values, LANES)
    lanes = [run(jax.tree.map(lambda v, i=i: v[i : i + 1], p)).states for i in range(LANES)]
    alone = {n: np.concatenate([np.asarray(y[k]).T for y in lanes]) for k, n in enumerate(x.model.states)}
    return _same_within_tolerance(x, alone, x.trajectories.states, "alone against together")


def _same_within_tolerance(x: Probe, a: Mapping[str, Any], b: Mapping[str, Any], words: str) -> str:
    if x.model.default_method() in (*LINEAR, "discrete"):
        return _within(_relative(dict(a), dict(b)), EXACT, f"{words}: largest relative difference")
    rtol, atol = x.model.tolerances
    error = max(float(np.max(np.abs(a[n] - b[n]) / (atol + rtol * np.abs(b[n]).max(axis=1, keepdims=True)))) for n in b)
    return _within(error, 10.0, f"{words}: largest, in tolerances")


@_check
def _bad_lane(x: Probe) -> str:
    """A subject whose parameters are not numbers is reported with the time, and the others do not notice."""
    bad = {n: np.where(np.arange(LANES) == 2, np.nan, v) for n, v in x.values.items()}
    out = x.solved(bad)
    named = [w for w, _ in out.failures]
    _demand("3" in named, "subject 3 has NaN for parameters, but no failure is reported; an equation hides it (nan_to_num, where, max?)")
    _demand(named == ["3"], f"subject 3 has NaN for parameters, and subjects {', '.join(named)} fail; keep lanes apart")
    _demand(all(math.isfinite(when) for _, when in out.failures), "a failure without a time")
    try:
        out.check()
    except SolverError as e:
        _demand("subject 3" in str(e), f"the message does not name the subject: {e}")
    others = np.arange(LANES) != 2
    part = lambda states: {n: v[others] for n, v in states.items()}  # noqa: E731
    return _same_within_tolerance(x, part(out.states), part(x.trajectories.states), "beside a failed lane against without")


@_check
def _same_bits_twice(x: Probe) -> str:
    f = _all(x)
    pairs = [(f(x.point), f(x.point)), (x.solved(x.values).states, x.trajectories.states)]
    for a, b in pairs:
        same = all(np.array_equal(v, w, equal_nan=True) for v, w in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
        _demand(same, "the same call gives other numbers; equations must not draw random numbers or keep a memory")
    return "equations and solutions"


# ---- refusals ----------------------------------------------------------------------------------------------------------
@_check
def _refuses_bad_parameters(x: Probe) -> str:
    wrong: list[tuple[str, float]] = [("no_such_parameter", 1.0)]
    for r in x.model.parameters:
        wrong += [(r.name, math.nan)]
        wrong += [(r.name, b + d) for b, d in ((r.lower, -1.0), (r.upper, 1.0)) if math.isfinite(b)]
    for name, value in wrong:
        _refused(lambda n=name, v=value: prepare(x.model, x.schedule, values={n: v}), ModelError, f"{name} = {value:g}")
    return f"{len(wrong)} of {len(wrong)} refused"


@_check
def _refuses_bad_covariates(x: Probe) -> str:
    wrong: list[tuple[Schedule, str]] = []
    for c in x.model.covariates:
        _demand(np.isfinite(c.possible).any() or c.categorical, f"covariate {c.name}: no value is impossible; give `possible`")
        bad = [math.nan, *(b + d for b, d in zip(c.possible, (-1.0, 1.0), strict=True) if math.isfinite(b))]
        bad += [c.categorical[0] + 0.5] if c.categorical else []
        wrong += [(x.schedule.covariates(**{c.name: v}), f"{c.name} = {v:g}") for v in bad]
        without = {k: v for k, v in x.schedule.columns.items() if k != c.name}
        wrong += [(replace(x.schedule, columns=without), f"a schedule without {c.name}")]
    for schedule, words in wrong:
        _refused(lambda s=schedule: prepare(x.model, s), DataError, words)
    return f"{len(wrong)} of {len(wrong)} refused" if wrong else "does not apply: no covariates"


def _refused(call: Callable[[], Any], kind: type[GemelloError], words: str) -> None:
    try:
        call()
    except kind:
        return
    raise _Broken(f"{words} is accepted; it should raise {kind.__name__}")

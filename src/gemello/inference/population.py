"""`fit`: population parameters, with uncertainty, from the data of many subjects (FO, FOCE, FOCEI and Laplace)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gemello.base.errors import ConvergenceError, DataError, ModelError, UnsupportedError
from gemello.base.provenance import Provenance
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.solve import LINEAR
from gemello.inference import fo, focei
from gemello.inference.laplace import modes
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.model.contract import Model
from gemello.model.schedule import Subject

METHODS = ("fo", "foce", "focei", "laplace")
DECREMENT = 1e-4  # converged: a full Newton step would lower the objective by less than this
CYCLES = 4  # quasi-Newton searches, each followed by Newton steps
FLAT = 1e-4  # curvature below which a direction is not known: a standard error above 140 on the log scale
BOUNDARY = 0.05  # curvature along log SD below which a variance is at its boundary, 0: a standard error above 6


@dataclass(frozen=True)
class Fit:
    """Population estimates. All dicts are by name; OMEGA is in the order of `etas`.

    objective: −2 log-likelihood without constants. se: standard errors of `estimates` (NaN where they could not be had),
    by `covariance_type` (sandwich R⁻¹SR⁻¹, as NONMEM's default, or R⁻¹). individual: etas of each subject, (subjects, etas).
    shrinkage: of each eta, 1 − SD(η̂)/ω. trace: objective at each iteration. occasion: variances between occasions;
    individual_occasion: what each occasion adds to the etas, (subjects, occasions, parameters). censored: number of values known
    only to lie below or above a limit, which are not among the `observations`.
    """

    model: str
    method: str
    objective: float
    theta: dict[str, float]
    omega: NDArray[np.float64]
    etas: tuple[str, ...]
    sigma: dict[str, float]
    names: tuple[str, ...]
    estimates: dict[str, float]
    se: dict[str, float]
    covariance: NDArray[np.float64]
    covariance_type: str
    ids: tuple[str, ...]
    individual: NDArray[np.float64]
    individual_objective: NDArray[np.float64]
    shrinkage: dict[str, float]
    converged: bool
    message: str
    iterations: int
    observations: int
    trace: tuple[float, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    occasion: dict[str, float] = field(default_factory=dict)
    individual_occasion: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0, 0)))
    censored: int = 0

    def check(self) -> Fit:
        """Raise ConvergenceError unless the fit converged."""
        if not self.converged:
            raise ConvergenceError(
                f"model {self.model}, {self.method}: did not converge ({self.message}); try other starts, or a simpler OMEGA"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        plain = lambda v: None if v is None or not np.isfinite(v) else float(v)  # noqa: E731
        return {
            "model": self.model,
            "method": self.method,
            "converged": self.converged,
            "message": self.message,
            "objective": plain(self.objective),
            "theta": {k: plain(v) for k, v in self.theta.items()},
            "omega": {"etas": list(self.etas), "matrix": [[plain(v) for v in row] for row in self.omega]},
            "sigma": {k: plain(v) for k, v in self.sigma.items()},
            "estimates": {k: {"estimate": plain(v), "se": plain(self.se[k])} for k, v in self.estimates.items()},
            "covariance_type": self.covariance_type,
            "shrinkage": {k: plain(v) for k, v in self.shrinkage.items()},
            "subjects": [
                {"id": i, "objective": plain(o), "etas": dict(zip(self.etas, map(plain, e), strict=True))}
                for i, o, e in zip(self.ids, self.individual_objective, self.individual, strict=True)
            ],
            "observations": self.observations,
            "censored": self.censored,
            "occasion": {k: plain(v) for k, v in self.occasion.items()},
            "iterations": self.iterations,
            "excluded": [{"id": i, "reason": r} for i, r in self.excluded],
            "notes": list(self.notes),
            "provenance": self.provenance,
        }


class _Objective:
    """Objective and gradient at x; remembers the etas, from which the next search starts, and the trace."""

    def __init__(self, data: Problem, plan_layout: Layout, method: str, report: Callable[[int, float], None] | None) -> None:
        plan = data.prepared.timeline.plan
        self.data, self.layout, self.report = data, plan_layout, report
        first = method == "fo"
        self.program = fo.program(data.model, plan, plan_layout) if first else focei.program(data.model, plan, plan_layout, method)
        self.etas = np.zeros((len(data.subjects), data.etas))
        self.best, self.calls = np.inf, 0
        self.trace: list[float] = []

    def parts(self, x: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
        """Objective (subjects,), gradient (subjects, x), etas (subjects, etas), what their search would still gain."""
        start = self.data.cut(self.etas.T)
        tree = self.data.blocks._replace(tree=(self.data.blocks.tree, start.tree))
        out = map_blocks(self.program, np.asarray(x, float), tree)
        value, gradient, etas, decrement = (self.data.in_subject_order(v) for v in out)
        return value, gradient, etas, decrement

    def __call__(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient, etas, _ = self.parts(x)
        total, slope = float(value.sum()), gradient.sum(axis=0)
        self.calls += 1
        if not np.isfinite(total) or not np.isfinite(slope).all():
            return 1e10, np.zeros_like(slope)
        if total < self.best:
            self.best, self.etas = total, np.where(np.isfinite(etas), etas, 0.0)
            self.trace.append(total)
            if self.report:
                self.report(len(self.trace), total)
        return total, slope

    def check_start(self, x: NDArray[np.float64]) -> None:
        """Raise DataError, naming a subject, where the objective cannot be computed at x."""
        value, gradient, _, _ = self.parts(x)
        bad = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1))
        if bad.any():
            who = self.data.subjects[int(np.argmax(bad))].id
            raise DataError(
                f"model {self.data.model.name}: no objective at the start values for {bad.sum()} of {len(bad)} subjects, "
                f"the first {who}",
                column="start",
                remedy="give start values with predictions nearer to the data (no proportional error is possible at 0)",
            )

    def hessian(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Hessian of the objective by central differences of the exact gradient."""
        step = 1e-4 if self.data.prepared.timeline.plan.method in LINEAR else 3e-3  # adaptive solvers: above their roughness
        columns = []
        for e in np.eye(len(x)) * step:
            columns.append((self.parts(x + e)[1].sum(axis=0) - self.parts(x - e)[1].sum(axis=0)) / (2 * step))
        h = np.array(columns)
        return (h + h.T) / 2


def usable(subjects: Sequence[Subject]) -> tuple[list[Subject], list[tuple[str, str]]]:
    """Subjects that a fit can use, and those left out with the reason."""
    kept, out = [], []
    for s in subjects:
        try:
            s.check()
        except DataError as e:
            out.append((s.id, str(e)))
            continue
        if s.schedule.measured.any():
            kept.append(s)
        else:
            out.append((s.id, "no measured value"))
    return kept, out


def fit(
    model: Model,
    subjects: Sequence[Subject],
    method: str = "focei",
    *,
    start: Mapping[str, float] | None = None,
    estimate: Sequence[str] | None = None,
    omega: str | Sequence[Sequence[str]] | None = None,
    bind: Mapping[str, str] | None = None,
    max_iterations: int = 200,
    solver: str | None = None,
    excluded: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    report: Callable[[int, float], None] | None = None,
) -> Fit:
    """Estimate population parameters.

    method: "fo", "foce", "focei" or "laplace". start: start values (and values of what is not estimated) that differ from the table's; those of
    OMEGA are named as in `Fit.names`, "OMEGA(CL,CL)", those between occasions "OCCASION(CL,CL)".
    estimate: names to estimate, by default those the table marks. omega: "diagonal", "full" or blocks of names; by default
    what the table's covariances say. excluded, notes: what a reader left out and said, kept in the result.
    report(iteration, objective) is called while it runs.

    Raises DataError when no subject is usable; a fit that does not converge says so in `converged` and `message`.
    """
    if method not in METHODS:
        raise UnsupportedError(f"method {method!r}: use {' or '.join(METHODS)}")
    kept, out = usable(subjects)
    out = [*excluded, *out]
    if not kept:
        raise DataError("no subject with a measured value", remedy="; ".join(f"{i}: {r}" for i, r in out[:3]) or "give data")
    values, first_omega, first_occasion = _start(model, start or {})
    shape = layout(model, values, estimate=estimate, omega=omega, log_diagonal=method != "fo")
    moving = frozenset(e.name for e in shape.thetas)
    with precision():
        data = problem(model, kept, values=values, bind=bind, estimated=moving, method=solver)
        if method == "fo" and any((s.schedule.censored[s.schedule.measured] != 0).any() for s in kept):
            raise UnsupportedError("method fo: values below a limit of quantification (CENS) need focei, laplace or saem")
        shape = replace(shape, occasions=data.prepared.occasions)
        target = _Objective(data, shape, method, report)
        full = {r.name: float(values.get(r.name, r.value)) for r in model.parameters}
        x0 = shape.start(full, full, first_omega, first_occasion)
        target.check_start(x0)
        x, hessian, decrement, iterations = _search(target, x0, max_iterations)
        found = _result(model, method, data, target, x, hessian, decrement, iterations, out)
    columns = ("time", "evid", "port", "amount", "rate", "interval", "additional", "steady_state", "value", "output")
    hashed = {c: np.concatenate([getattr(s.schedule, c) for s in kept]) for c in columns}
    stamp = Provenance.collect(model, data={"id": np.repeat([s.id for s in kept], [len(s.schedule) for s in kept]), **hashed})
    return replace(found, notes=tuple(notes), provenance=stamp.to_dict())


def _start(
    model: Model, given: Mapping[str, float]
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.float64]]:
    """Start values of parameters, OMEGA and the variances between occasions, from the table and from what was given."""
    etas, changing = model.parameters.eta_names, model.parameters.occasion_names
    occasion = np.array([model.parameters[n].occasion_variance for n in changing])
    omega = np.array(model.parameters.omega(), float).reshape(len(etas), len(etas))
    values = {}
    for name, v in given.items():
        pair = name.removeprefix("OMEGA(").removesuffix(")").split(",") if name.startswith("OMEGA(") else []
        if len(pair) == 2 and all(n in etas for n in pair):
            i, j = etas.index(pair[0]), etas.index(pair[1])
            omega[i, j] = omega[j, i] = v
        elif name in (named := [f"OCCASION({n},{n})" for n in changing]):
            if v <= 0:
                raise ModelError(f"start of {name}: {v:g}; give a variance above 0")
            occasion[named.index(name)] = v
        else:
            values[name] = float(v)
    if len(etas) and np.linalg.eigvalsh(omega).min() <= 0:
        raise ModelError(
            f"model {model.name}: the start of OMEGA is not positive definite; lower the covariances or raise the variances"
        )
    return values, omega, occasion


def _search(
    target: _Objective, x: NDArray[np.float64], max_iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, int]:
    """Quasi-Newton searches and Newton steps in turn: x, the Hessian there, what a Newton step would still gain, iterations."""
    done = 0
    for _ in range(CYCLES):
        x, iterations = _minimise(target, x, max_iterations - done)
        done += iterations
        x, hessian, gain = _polish(target, x)
        if gain < DECREMENT or done >= max_iterations:
            break
    return x, hessian, gain, done


def _minimise(target: _Objective, x0: NDArray[np.float64], max_iterations: int) -> tuple[NDArray[np.float64], int]:
    """Quasi-Newton search within ±15 of the start (log scale for most coordinates).

    The objective is scaled so that the first step, along the gradient, is no longer than 0.5.
    """
    size = np.abs(target(x0)[1]).max()
    scale = min(1.0, 0.5 / max(size, 1e-12))

    def scaled(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = target(x)
        return scale * value, scale * slope

    bounds = [(v - 15.0, v + 15.0) for v in x0]
    options = {"maxiter": max_iterations, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-4 * scale}
    out = minimize(scaled, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(out.x), int(out.nit)


def _polish(
    target: _Objective, x: NDArray[np.float64], rounds: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Newton steps to the optimum; returns x, the Hessian there and half the Newton decrement (what a step would still gain)."""
    hessian, gain = np.full((len(x), len(x)), np.nan), np.inf
    for _ in range(rounds):
        value, slope = target(x)
        hessian = target.hessian(x)
        if value >= 1e10 or not np.isfinite(hessian).all():
            return x, hessian, np.inf
        size, directions = np.linalg.eigh(hessian)
        along = directions.T @ slope
        safe = np.maximum(np.abs(size), 1e-8 * np.abs(size).max())
        gain = float(0.5 * np.sum(along**2 / safe))
        if gain < 1e-9:
            break
        step = directions @ (along / safe)
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))
        for _ in range(6):
            if target(x - step)[0] < value:
                x = x - step
                break
            step = step / 4
        else:
            break
    return x, hessian, gain


def _result(
    model: Model, method: str, data: Problem, target: _Objective, x: NDArray[np.float64], hessian: NDArray[np.float64],
    decrement: float, iterations: int, excluded: Sequence[tuple[str, str]],
) -> Fit:  # fmt: skip
    shape = target.layout
    value, gradient, etas, inner = target.parts(x)
    pop = jax.tree.map(np.asarray, shape.population(np.asarray(x)))
    natural = np.asarray(shape.natural(np.asarray(x)))
    slope = np.asarray(jax.jacfwd(shape.natural)(np.asarray(x)))
    edge, zero = _at_boundary(shape, x, hessian)
    unknown = _unknown(shape, hessian, edge)
    covariance, kind = (np.full_like(hessian, np.nan), "none") if unknown else _covariance(hessian, gradient, slope, edge, zero)
    if method == "fo" and np.linalg.eigvalsh(pop.omega).min() > 1e-10 * np.trace(pop.omega):
        etas = modes(data, pop).eta  # post hoc: FO itself has none
    n = len(shape.etas)
    omega, occasion = pop.omega[:n, :n], {m: float(pop.omega[n + j, n + j]) for j, m in enumerate(shape.changing)}
    own, changes = etas[:, :n], etas[:, n:].reshape(len(etas), -1, len(shape.changing))
    total = float(value.sum())
    lost = [s.id for s, d in zip(data.subjects, inner, strict=True) if not d < DECREMENT]
    wrong = [f"the objective could still fall by {decrement:.2g}"] if not decrement < DECREMENT else []
    wrong += [f"no mode of the etas was found for subject {', '.join(lost[:3])}"] if lost else []
    wrong += [unknown] if unknown else []
    converged = bool(np.isfinite(total) and not wrong)
    words = wrong or ["converged"]
    named = lambda mask: ", ".join(n for n, at in zip(shape.names, mask, strict=True) if at)  # noqa: E731
    words += [f"at the boundary, 0: {named(zero)}"] if zero.any() else []
    if (edge & ~zero).any():
        words.append(f"OMEGA is singular (what is left for {named(edge & ~zero)} is 0); a simpler OMEGA would do")
    sd = np.sqrt(np.maximum(np.diag(omega), 1e-300))
    shrink = 1.0 - np.std(own, axis=0) / sd if len(own) > 1 else np.full(len(sd), np.nan)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.diag(covariance))
    return Fit(
        model.name, method, total,
        {k: float(v) for k, v in pop.theta.items()}, omega, shape.etas, {k: float(v) for k, v in pop.sigma.items()},
        shape.names, dict(zip(shape.names, map(float, natural), strict=True)),
        dict(zip(shape.names, map(float, se), strict=True)),
        covariance, kind, tuple(s.id for s in data.subjects), own, value, dict(zip(shape.etas, map(float, shrink), strict=True)),
        converged, "; ".join(words), iterations, int(data.observations.sum()), tuple(target.trace), tuple(excluded),
        occasion=occasion, individual_occasion=changes, censored=_censored(data),
    )  # fmt: skip


def _censored(data: Problem) -> int:
    return sum(int((s.schedule.censored[s.schedule.measured] != 0).sum()) for s in data.subjects)


def _at_boundary(
    shape: Layout, x: NDArray[np.float64], hessian: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(x,) diagonal elements of OMEGA's factor that are 0 as far as the data can tell, and which of them are whole variances."""
    alone = {b[0] for b in shape.blocks if len(b) == 1}
    first = len(shape) - len(shape.elements) - len(shape.changing)
    edge, zero = np.zeros(len(shape), bool), np.zeros(len(shape), bool)
    for k, (i, j) in enumerate(shape.elements, start=first):
        if i == j and shape.log_diagonal:
            edge[k] = abs(hessian[k, k]) < BOUNDARY
        elif i == j:
            edge[k] = abs(x[k]) < 1e-3 and shape.etas[i] in alone  # a singular block is no edge in this coordinate
        zero[k] = edge[k] and shape.etas[i] in alone
    for k in range(len(shape) - len(shape.changing), len(shape)):
        edge[k] = zero[k] = abs(hessian[k, k]) < BOUNDARY if shape.log_diagonal else abs(x[k]) < 1e-3
    return edge, zero


def _unknown(shape: Layout, hessian: NDArray[np.float64], edge: NDArray[np.bool_]) -> str:
    """Which parameters the data do not tell apart, in words; empty where all are known."""
    if not np.isfinite(hessian).all():
        return "no curvature of the objective could be had"
    inside = hessian[np.ix_(~edge, ~edge)]
    size, directions = np.linalg.eigh(inside)
    if not len(size) or size[0] > max(FLAT, 1e-9 * size[-1]):
        return ""
    names = np.array(shape.names)[~edge][np.abs(directions[:, 0]) > 0.3]
    what = "these data do not tell" if size[0] > -1e-2 else "this is no minimum along"
    return f"{what} {', '.join(names)}" + (" apart" if len(names) > 1 and size[0] > -1e-2 else "")


def _covariance(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64], slope: NDArray[np.float64],
    edge: NDArray[np.bool_], zero: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], str]:  # fmt: skip
    """Covariance of the natural estimates, coordinates at an edge held there: R⁻¹SR⁻¹, or 2R⁻¹ with too few subjects for S.

    NaN for variances that are 0.
    """
    inside = ~edge
    inverse, scores, slope = np.linalg.inv(hessian[np.ix_(inside, inside)]), gradient[:, inside], slope[:, inside]
    sandwich = len(gradient) > len(hessian)
    covariance = slope @ (inverse @ (scores.T @ scores) @ inverse if sandwich else 2.0 * inverse) @ slope.T
    covariance[zero, :] = covariance[:, zero] = np.nan
    return covariance, "sandwich" if sandwich else "R"

"""`fit`: population parameters, with uncertainty, from the data of many subjects, by any of the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, ModelError, UnsupportedError
from gemello.base.provenance import Provenance
from gemello.engine.lanes import precision
from gemello.inference import importance, nuts, saem
from gemello.inference.laplace import modes
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.inference.result import Fit
from gemello.inference.search import DECREMENT, SEARCHED, Objective, Report, named, search
from gemello.inference.uncertainty import at_boundary, covariance, unknown
from gemello.model.contract import Model
from gemello.model.schedule import Subject

SAMPLED = ("saem", "imp")  # maximum likelihood by sampling
METHODS = (*SEARCHED, *SAMPLED, "bayes")
LEFT = 0.5  # by which the objective of a SAEM fit may still fall: a fraction of what a standard error means (1)
DRAWS = 1000  # of each subject, for the objective and the standard errors of sampled fits

Floats = NDArray[np.float64]


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
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    solver: str | None = None,
    tolerances: tuple[float | None, float | None] = (None, None),
    excluded: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    report: Report | None = None,
) -> Fit:
    """Estimate population parameters.

    method: "fo", "foce", "focei", "laplace"; "saem", "imp" (importance sampling), whose objective is the marginal likelihood by
    importance sampling; or "bayes" (NUTS), whose estimates are posterior means and whose objective is none. start: start values
    (and values of what is not estimated) that differ from the table's; those of OMEGA are named as in `Fit.names`,
    "OMEGA(CL,CL)", those between occasions "OCCASION(CL,CL)". estimate: names to estimate, by default those the table marks.
    omega: "diagonal", "full" or blocks of names; by default what the table's covariances say. seed: of the sampled methods.
    settings: of the method, as the keywords of `saem.run`, `importance.run` or `nuts.sample`. solver, tolerances (relative,
    absolute): by default the model's own. excluded, notes: what a reader left out and said, kept in the result.
    report(iteration, objective, estimates by name) is called while it runs.

    Raises DataError when no subject is usable; a fit that does not converge says so in `converged` and `message`.
    """
    if method not in METHODS:
        raise UnsupportedError(f"method {method!r}: use {', '.join(METHODS[:-1])} or {METHODS[-1]}")
    kept, out = usable(subjects)
    out = [*excluded, *out]
    if not kept:
        raise DataError("no subject with a measured value", remedy="; ".join(f"{i}: {r}" for i, r in out[:3]) or "give data")
    values, first_omega, first_occasion = _start(model, start or {})
    shape = layout(model, values, estimate=estimate, omega=omega, log_diagonal=method != "fo")
    moving = frozenset(e.name for e in shape.thetas)
    with precision():
        data = problem(
            model, kept, values=values, bind=bind, estimated=moving, method=solver, rtol=tolerances[0], atol=tolerances[1]
        )
        if method == "fo" and _censored(data):
            raise UnsupportedError("method fo: values below a limit of quantification (CENS) need focei, laplace or saem")
        shape = replace(shape, occasions=data.prepared.occasions)
        full = {r.name: float(values.get(r.name, r.value)) for r in model.parameters}
        x0 = shape.start(full, full, first_omega, first_occasion)
        if method in SEARCHED:
            found = _searched(data, shape, method, x0, max_iterations, report)
        elif method in SAMPLED:
            found = _sampled(data, shape, method, x0, seed, dict(settings or {}), report)
        else:
            found = _bayes(data, shape, x0, seed, dict(settings or {}), report)
    return replace(found, excluded=tuple(out), notes=tuple(notes), provenance=_stamp(model, kept, method, seed).to_dict())


def _stamp(model: Model, kept: Sequence[Subject], method: str, seed: int) -> Provenance:
    columns = ("time", "evid", "port", "amount", "rate", "interval", "additional", "steady_state", "value", "output", "censored")
    hashed = {c: np.concatenate([getattr(s.schedule, c) for s in kept]) for c in columns}
    hashed["id"] = np.repeat([s.id for s in kept], [len(s.schedule) for s in kept])
    return Provenance.collect(model, data=hashed, seed=None if method in SEARCHED else seed)


def _start(model: Model, given: Mapping[str, float]) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.float64]]:
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


# ---- methods -------------------------------------------------------------------------------------------------------
def _searched(data: Problem, shape: Layout, method: str, x0: Floats, max_iterations: int, report: Report | None) -> Fit:
    target = Objective(data, shape, method, report)
    target.check_start(x0)
    x, hessian, decrement, iterations = search(target, x0, max_iterations)
    value, gradient, etas, inner = target.parts(x)
    lost = [s.id for s, d in zip(data.subjects, inner, strict=True) if not d < DECREMENT]
    wrong = [f"the objective could still fall by {decrement:.2g}"] if not decrement < DECREMENT else []
    wrong += [f"no mode of the etas was found for subject {', '.join(lost[:3])}"] if lost else []
    if method == "fo":
        pop = shape.population(np.asarray(x))  # post hoc, since FO has no etas; those whose variance is 0 stay next to 0
        etas = modes(data, pop._replace(omega=pop.omega + 1e-8 * max(np.trace(pop.omega), 1e-8) * np.eye(data.etas))).eta
    return _fit(_Evidence(x, value, gradient, hessian, etas, wrong, iterations, tuple(target.trace)), data, shape, method)


def _sampled(
    data: Problem, shape: Layout, method: str, x0: Floats, seed: int, settings: dict[str, Any],
    report: Report | None,
) -> Fit:  # fmt: skip
    tell = (lambda i, v, x: report(i, v, named(shape, x))) if report else None
    run: Callable[..., Any] = saem.run if method == "saem" else importance.run
    found = run(data, shape, x0, seed=seed, report=tell, **settings)
    said, marginal = importance.at(data, shape, found.x, seed=seed, draws=DRAWS, start=found.mode)
    wrong = [] if found.converged else [found.message]
    total = said.gradient.sum(axis=0)
    gain = float(0.5 * total @ np.linalg.pinv(said.hessian) @ total)
    wrong += [f"the marginal objective could still fall by {gain:.2g}"] if method == "saem" and not gain < LEFT else []
    trace = tuple(map(float, found.objectives))
    basis = _Evidence(found.x, marginal.value, said.gradient, said.hessian, found.mode, wrong, found.iterations, trace)
    out = _fit(basis, data, shape, method)
    slope = np.asarray(jax.jacfwd(shape.natural)(np.asarray(found.x)))
    noise = np.sqrt(np.sum((slope * found.error) ** 2, axis=1))
    return replace(
        out, objective_error=marginal.total_error, monte_carlo=dict(zip(shape.names, map(float, noise), strict=True)),
        conditional=found.mean, conditional_sd=found.sd,
    )  # fmt: skip


def _bayes(data: Problem, shape: Layout, x0: Floats, seed: int, settings: dict[str, Any], report: Report | None) -> Fit:
    target = Objective(data, shape, "focei", None)
    target.check_start(x0)
    tell = (lambda i, v: report(i, v, {})) if report else None
    found = nuts.sample(data, shape, x0, seed=seed, etas=target.parts(x0)[2], report=tell, **settings)
    n = len(shape.etas)
    own = found.individual[:, :n]
    omega = np.asarray(found.omega)[:n, :n]
    shrink = 1.0 - np.std(own, axis=0) / np.sqrt(np.diag(omega))
    return Fit(
        data.model.name, "bayes", float("nan"), found.theta, omega, shape.etas, found.sigma, found.names,
        found.estimates, found.se, found.covariance, "posterior", found.ids, own, np.full(len(found.ids), np.nan),
        dict(zip(shape.etas, map(float, shrink), strict=True)), found.converged, found.message,
        found.warmup + found.draws.shape[1], int(data.observations.sum()), (),
        occasion={m: found.estimates[f"OCCASION({m},{m})"] for m in shape.changing},
        individual_occasion=found.individual[:, n:].reshape(len(own), shape.occasions, len(shape.changing)),
        censored=_censored(data), monte_carlo=found.mcse, posterior=found,
    )  # fmt: skip


# ---- result --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Evidence:
    """Where a method ended: x, objective (subjects,), its gradient (subjects, x) and Hessian (x, x), etas (subjects, etas), what
    is wrong in words, iterations, and the objective at each."""

    x: Floats
    value: Floats
    gradient: Floats
    hessian: Floats
    etas: Floats
    wrong: list[str]
    iterations: int
    trace: tuple[float, ...]


def _fit(e: _Evidence, data: Problem, shape: Layout, method: str) -> Fit:
    pop = jax.tree.map(np.asarray, shape.population(np.asarray(e.x)))
    natural = np.asarray(shape.natural(np.asarray(e.x)))
    slope = np.asarray(jax.jacfwd(shape.natural)(np.asarray(e.x)))
    edge, zero = at_boundary(shape, e.x, e.hessian)
    doubt = unknown(shape, e.hessian, edge)
    spread, kind = (np.full_like(e.hessian, np.nan), "none") if doubt else covariance(e.hessian, e.gradient, slope, edge, zero)
    wrong = [*e.wrong, *([doubt] if doubt else [])]
    total = float(e.value.sum())
    those = lambda mask: ", ".join(n for n, at in zip(shape.names, mask, strict=True) if at)  # noqa: E731
    words = wrong or ["converged"]
    words += [f"at the boundary, 0: {those(zero)}"] if zero.any() else []
    if (edge & ~zero).any():
        words.append(f"OMEGA is singular (what is left for {those(edge & ~zero)} is 0); a simpler OMEGA would do")
    n = len(shape.etas)
    omega, own = pop.omega[:n, :n], e.etas[:, :n]
    sd = np.sqrt(np.maximum(np.diag(omega), 1e-300))
    shrink = 1.0 - np.std(own, axis=0) / sd if len(own) > 1 else np.full(len(sd), np.nan)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.diag(spread))
    return Fit(
        data.model.name, method, total,
        {k: float(v) for k, v in pop.theta.items()}, omega, shape.etas, {k: float(v) for k, v in pop.sigma.items()},
        shape.names, dict(zip(shape.names, map(float, natural), strict=True)),
        dict(zip(shape.names, map(float, se), strict=True)),
        spread, kind, tuple(s.id for s in data.subjects), own, e.value, dict(zip(shape.etas, map(float, shrink), strict=True)),
        bool(np.isfinite(total) and not wrong), "; ".join(words), e.iterations, int(data.observations.sum()), e.trace,
        occasion={m: float(pop.omega[n + j, n + j]) for j, m in enumerate(shape.changing)},
        individual_occasion=e.etas[:, n:].reshape(len(own), shape.occasions, len(shape.changing)), censored=_censored(data),
    )  # fmt: skip


def _censored(data: Problem) -> int:
    """Number of values known only to lie below or above a limit."""
    return sum(int((s.schedule.censored[s.schedule.measured] != 0).sum()) for s in data.subjects)

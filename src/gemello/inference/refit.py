"""Fitting again: the objective of one model and one data set, compiled once, with other weights of subjects or parameters held.

A subject with weight w counts as w subjects, so a bootstrap sample is a vector of weights, and a model without an effect is one
whose coefficient is held at 0: neither needs a new program. The search is quasi-Newton (BFGS) in coordinates in which the
Hessian at the start is the identity, so that it begins with Newton's step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gemello.base.errors import DataError, UnsupportedError
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.solve import LINEAR
from gemello.inference.layout import Layout, layout
from gemello.inference.likelihood import Problem, problem
from gemello.inference.search import SEARCHED, program_of
from gemello.model.contract import Model
from gemello.model.schedule import Subject

Floats = NDArray[np.float64]
SOFTEST = 1.0  # curvature taken at least: no step in a direction of which the data say little is longer than its gradient
FARTHEST = 15.0  # no coordinate (most are logarithms) goes farther from the start
ENOUGH = 1e-3  # converged: a Newton step by the start's Hessian would lower the objective by less
LEAST_VARIANCE = 1e-6  # of a start: a variance of 0 has no logarithm


@dataclass(frozen=True, eq=False)
class Found:
    """Optimum. x: coordinates. objective: weighted sum. etas: (subjects, etas) there. gain: what a Newton step would still
    gain."""

    x: Floats
    objective: float
    etas: Floats
    gain: float
    evaluations: int

    @property
    def converged(self) -> bool:
        return bool(np.isfinite(self.objective) and self.gain < ENOUGH)


@dataclass(eq=False)
class Refit:
    """The objective of a data set. x0: coordinates of the start; etas: (subjects, etas) from which inner searches begin.

    `natural(x)` gives the estimated quantities in the order of `layout.names`.
    """

    data: Problem
    layout: Layout
    method: str
    x0: Floats
    etas: Floats
    program: Any = field(init=False)

    def __post_init__(self) -> None:
        model, plan = self.data.model, self.data.prepared.timeline.plan
        self.program = program_of(model, plan, self.layout, self.method)

    @property
    def names(self) -> tuple[str, ...]:
        return self.layout.names

    def natural(self, x: Floats) -> Floats:
        """Estimated quantities at x."""
        with precision():
            return np.asarray(self.layout.natural(np.asarray(x, float)))

    def parts(self, x: Floats, etas: Floats) -> tuple[Floats, Floats, Floats]:
        """Objective (subjects,), gradient (subjects, x) and etas (subjects, etas) at x."""
        with precision():
            start = self.data.cut(etas.T)
            tree = self.data.blocks._replace(tree=(self.data.blocks.tree, start.tree))
            out = map_blocks(self.program, np.asarray(x, float), tree)
        value, gradient, found, _ = (self.data.in_subject_order(v) for v in out)
        return value, gradient, found

    def hessian(self, x: Floats, etas: Floats, free: NDArray[np.bool_] | None = None) -> Floats:
        """Hessian of the unweighted objective by central differences of its gradient; 0 in coordinates that are not free."""
        step = 1e-4 if self.data.prepared.timeline.plan.method in LINEAR else 3e-3
        out = np.zeros((len(x), len(x)))
        for i in np.flatnonzero(np.ones(len(x), bool) if free is None else free):
            e = np.zeros(len(x))
            e[i] = step
            out[i] = (self.parts(x + e, etas)[1].sum(axis=0) - self.parts(x - e, etas)[1].sum(axis=0)) / (2 * step)
        return (out + out.T) / 2 if free is None else np.where(np.outer(free, free), (out + out.T) / 2, 0.0)

    def search(
        self, x: Floats, etas: Floats, hessian: Floats, *, weights: Floats | None = None, free: NDArray[np.bool_] | None = None,
        rounds: int = 60,
    ) -> Found:  # fmt: skip
        """Minimum from x over the free coordinates. hessian: near the optimum, by which the search is scaled. weights:
        (subjects,), 1 by default."""
        moving = np.ones(len(x), bool) if free is None else free
        w = np.ones(len(etas)) if weights is None else np.asarray(weights, float)
        scale = _scale(hessian[np.ix_(moving, moving)])
        best: dict[str, Any] = {
            "value": np.inf,
            "x": x.copy(),
            "etas": etas,
            "slope": np.full(scale.shape[1], np.inf),
            "calls": 0,
        }

        def objective(z: Floats) -> tuple[float, Floats]:
            here = x.copy()
            here[moving] += scale @ z
            if np.abs(here - x).max(initial=0.0) > FARTHEST:
                return 1e10, np.zeros_like(z)
            value, gradient, found = self.parts(here, best["etas"])
            best["calls"] += 1
            with np.errstate(invalid="ignore"):
                used = w > 0
                total, slope = float(w[used] @ value[used]), scale.T @ (w[used] @ gradient[used])[moving]
            if not np.isfinite(total) or not np.isfinite(slope).all():
                return 1e10, np.zeros_like(z)
            if total < best["value"]:
                best.update(value=total, x=here, etas=np.where(np.isfinite(found), found, 0.0), slope=slope)
            return total, slope

        if scale.size:
            minimize(objective, np.zeros(scale.shape[1]), jac=True, method="BFGS", options={"gtol": 5e-3, "maxiter": rounds})
        else:
            objective(np.zeros(0))
        gain = 0.5 * float(best["slope"] @ best["slope"])
        return Found(best["x"], float(best["value"]), best["etas"], gain, best["calls"])


def _scale(hessian: Floats) -> Floats:
    """S with S' H S about the identity, directions of little or negative curvature held short."""
    if not hessian.size:
        return hessian
    size, directions = np.linalg.eigh(np.where(np.isfinite(hessian), hessian, 0.0))
    return np.asarray(directions / np.sqrt(np.maximum(np.abs(size), SOFTEST)))


def refit(
    model: Model,
    subjects: Sequence[Subject],
    start: Any,
    *,
    method: str | None = None,
    bind: Mapping[str, str] | None = None,
    solver: str | None = None,
    also: Sequence[str] = (),
) -> Refit:
    """The objective of `subjects` from the estimates of a fit.

    start: a `Fit`, whose estimated quantities are estimated again. method: fo, foce, focei or laplace, by default the fit's,
    focei for a fit by another. also: further parameters of `model` to estimate (coefficients of effects). Raises DataError,
    UnsupportedError.
    """
    chosen = method or (start.method if start.method in SEARCHED else "focei")
    if chosen not in SEARCHED:
        raise UnsupportedError(f"method {chosen!r}: refits are by {', '.join(SEARCHED)}")
    kept = [s for s in subjects if s.id in set(start.ids)]
    if len(kept) != len(start.ids):
        raise DataError("not the subjects of the fit", column="subjects", remedy="give the subjects that were fitted")
    values = {**start.theta, **start.sigma, **{n: model.parameters[n].value for n in also if n not in start.theta}}
    values = {n: v for n, v in values.items() if n not in (bind or {})}
    estimate = [n for n in start.names if n in model.parameters] + [n for n in also if n not in start.names]
    shape = layout(model, values, estimate=estimate, omega=_blocks(start.names, start.etas), log_diagonal=chosen != "fo")
    with precision():
        moving = frozenset(e.name for e in shape.thetas)
        data = problem(model, kept, values=values, bind=bind, estimated=moving, method=solver)
        shape = replace(shape, occasions=data.prepared.occasions)
        omega = np.array(start.omega, float)
        diagonal = np.diag_indices(len(omega))
        omega[diagonal] = np.maximum(omega[diagonal], LEAST_VARIANCE)
        full = {r.name: float(values.get(r.name, r.value)) for r in model.parameters}
        changing = np.array([max(float(v), LEAST_VARIANCE) for v in getattr(start, "occasion", {}).values()])
        x0 = shape.start(full, full, omega, changing)
    etas = np.zeros((len(kept), data.etas))
    found = np.asarray(start.individual, float)
    if np.isfinite(found).all() and chosen != "fo":
        place = {i: k for k, i in enumerate(start.ids)}
        etas[:, : found.shape[1]] = found[[place[s.id] for s in kept]]
    return Refit(data, shape, chosen, x0, etas)


def _blocks(names: Sequence[str], etas: Sequence[str]) -> list[list[str]]:
    """Blocks of OMEGA that these names of estimates show."""
    groups = {n: {n} for n in etas}
    for name in names:
        if name.startswith("OMEGA("):
            a, b = name.removeprefix("OMEGA(").removesuffix(")").split(",")
            joined = groups[a] | groups[b]
            for n in joined:
                groups[n] = joined
    return [list(b) for b in dict.fromkeys(tuple(n for n in etas if n in groups[k]) for k in etas)]


Progress = Callable[[int, int], None]

"""The search of FO, FOCE, FOCEI and Laplace: the objective and its exact gradient, quasi-Newton and Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gemello.base.errors import DataError
from gemello.engine.lanes import map_blocks
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR
from gemello.inference import fo, focei
from gemello.inference.layout import Layout
from gemello.inference.likelihood import Problem
from gemello.model.contract import Model

SEARCHED = ("fo", "foce", "focei", "laplace")  # methods with an exact gradient of their objective
DECREMENT = 1e-4  # converged: a full Newton step would lower the objective by less than this
NEAR = 0.02  # a step so short in all coordinates (2 % of most parameters) does not change the Hessian much
CYCLES = 4  # quasi-Newton searches, each followed by Newton steps


Report = Callable[[int, float, dict[str, float]], None]  # iteration, objective, estimates by name


def named(layout: Layout, x: NDArray[np.float64]) -> dict[str, float]:
    """Natural estimates at x by name."""
    return dict(zip(layout.names, map(float, np.asarray(layout.natural(np.asarray(x, float)))), strict=True))


def program_of(model: Model, plan: Plan, layout: Layout, method: str) -> Any:
    """Program for `map_blocks` of a method in SEARCHED: objective, its gradient, etas and their decrement."""
    return fo.program(model, plan, layout) if method == "fo" else focei.program(model, plan, layout, method)


class Objective:
    """Objective and gradient at x; remembers the etas, from which the next search starts, and the trace."""

    def __init__(self, data: Problem, plan_layout: Layout, method: str, report: Report | None) -> None:
        plan = data.prepared.timeline.plan
        self.data, self.layout, self.report = data, plan_layout, report
        self.program = program_of(data.model, plan, plan_layout, method)
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
                self.report(len(self.trace), total, named(self.layout, x))
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


def search(
    target: Objective, x: NDArray[np.float64], max_iterations: int
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


def _minimise(target: Objective, x0: NDArray[np.float64], max_iterations: int) -> tuple[NDArray[np.float64], int]:
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


def _polish(target: Objective, x: NDArray[np.float64], rounds: int = 8) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Newton steps to the optimum; returns x, the Hessian there and half the Newton decrement (what a step would still gain).

    The Hessian, which costs two gradients for each coordinate, is kept as long as steps are shorter than `NEAR`.
    """
    hessian, gain, fresh = np.full((len(x), len(x)), np.nan), np.inf, False
    for _ in range(rounds):
        value, slope = target(x)
        if not fresh:
            hessian, fresh = target.hessian(x), True
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
                x, fresh = x - step, bool(np.abs(step).max() < NEAR)
                break
            step = step / 4
        else:
            break
    return x, hessian, gain

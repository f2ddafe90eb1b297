"""The mode of each subject's etas and the normal approximation there (MAP and Laplace), lanes in lockstep."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.engine.lanes import map_blocks, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR
from gemello.engine.solvers.lu import factor, solve
from gemello.inference.likelihood import Block, Population, Prior, Problem, curvature, joint_gradient, joint_objective, prior
from gemello.model.contract import Model

MAX_ITERATIONS = 200
MOST_DAMPING = 1e12  # beyond it no step helps
LONGEST = 5.0  # no step is longer, in standard deviations of the prior
DECREMENT = 1e-16  # stop when a full step promises a lower objective by less than this
ADAPTIVE_DECREMENT = 1e-10  # the same for adaptive solvers, whose objective is rough at the level of their tolerance


class Search(NamedTuple):
    """State of the search, entries over lanes: etas, objective, damping, promised decrease, whether 0 was tried, done; and the
    iteration."""

    eta: Any
    objective: Any
    gradient: Any
    hessian: Any
    damping: Any
    decrement: Any
    tried: Any
    done: Any
    iteration: Any


def solve_symmetric(h: Any, g: Any) -> tuple[Any, Any]:
    """x (etas, lanes) of H x = g and ln|H| (lanes,), for H (etas, etas, lanes)."""
    n = g.shape[0]
    if n == 0:
        return g, jnp.zeros(g.shape[1:])
    f = factor([[h[i, j] for j in range(n)] for i in range(n)])
    return jnp.stack(solve(f, list(g))), -sum(jnp.log(jnp.abs(r)) for r in f.reciprocal)


def log_determinant(h: Any, checked: bool = False) -> Any:
    """ln|H| (lanes,) of H (etas, etas, lanes). checked: NaN where H is not positive definite."""
    n = h.shape[0]
    pivots = factor([[h[i, j] for j in range(n)] for i in range(n)]).reciprocal if n else []
    total = -sum((jnp.log(jnp.abs(r)) for r in pivots), jnp.zeros(h.shape[2:]))
    return jnp.where(jnp.all(jnp.stack(pivots) > 0, axis=0), total, jnp.nan) if checked and n else total


def find_mode(block: Block, pop: Population, w: Prior, start: Any) -> Search:
    """Minimise the joint objective over etas from `start` (etas, lanes): Fisher scoring with Levenberg's damping.

    All lanes step together; a lane that is done stays where it is. Far from the data a prediction may be next to nothing, and
    Fisher's information says little of the objective there: steps are limited, and a lane that gets stuck looks at 0 once.
    """

    def look(eta: Any) -> tuple[Any, Any, Any]:
        g, slope = block.gradient_parts(pop, eta)
        value = joint_objective(block, g, eta, w)
        return value, joint_gradient(block, g, slope, eta, w), curvature(block, slope, g, w)

    def promise(gradient: Any, hessian: Any) -> Any:
        return jnp.sum(gradient * solve_symmetric(hessian, gradient)[0], axis=0)

    n, lanes = start.shape
    diagonal = jnp.eye(n, dtype=start.dtype)[:, :, None]
    none = jnp.full(lanes, jnp.inf, start.dtype)  # the first turn looks at the start itself, and takes it
    first = Search(
        start, none, jnp.zeros_like(start), jnp.broadcast_to(diagonal, (n, n, lanes)), jnp.full(lanes, 1e-3, start.dtype), none,
        jnp.zeros(lanes, bool), jnp.zeros(lanes, bool), jnp.asarray(0),
    )  # fmt: skip
    least = DECREMENT if block.plan.method in LINEAR else ADAPTIVE_DECREMENT

    def body(s: Search) -> Search:
        damped = s.hessian * (1.0 + s.damping * diagonal)
        step, _ = solve_symmetric(damped, s.gradient)
        length = jnp.sqrt(jnp.einsum("ib,ij,jb->b", step, w.precision, step))
        step = step * jnp.minimum(1.0, LONGEST / jnp.maximum(length, 1e-300))
        lost = ~jnp.isfinite(s.objective) & (s.iteration > 0)  # not even the start could be computed
        stuck = ((s.damping > MOST_DAMPING) | lost) & ~s.tried & ~s.done
        trial = jnp.where(s.done, s.eta, jnp.where(stuck, 0.0, s.eta - step))
        value, gradient, hessian = look(trial)
        better = (value <= s.objective + 1e-13 * jnp.abs(s.objective)) & jnp.isfinite(value) & ~s.done
        take = lambda a, b: jnp.where(better, a, b)  # noqa: E731
        gradient, hessian = take(gradient, s.gradient), take(hessian, s.hessian)
        decrement = promise(gradient, hessian)
        damping = jnp.clip(take(jnp.where(stuck, 1e-3, s.damping * 0.1), s.damping * 8.0), 1e-14, 10.0 * MOST_DAMPING)
        tried, objective = s.tried | stuck, take(value, s.objective)
        done = s.done | (better & (decrement < least)) | (tried & ((damping > MOST_DAMPING) | ~jnp.isfinite(objective)))
        return Search(take(trial, s.eta), objective, gradient, hessian, damping, decrement, tried, done, s.iteration + 1)

    return jax.lax.while_loop(lambda s: ~jnp.all(s.done) & (s.iteration < MAX_ITERATIONS), body, first)


class Modes(NamedTuple):
    """Results by subject. eta: (subjects, etas). objective: joint, (subjects,). laplace: joint + ln|H|, the subject's
    FOCEI contribution. covariance: (subjects, etas, etas), inverse of H. decrement: what a further step would promise.
    misfit: Σ (y − f)²/v (of measured values) + η'W⁻¹η, by which the data contradict the population: χ² with as
    many degrees of freedom as values for a linear model with normal errors (the squared Mahalanobis distance of the data under
    the prior)."""

    eta: NDArray[np.float64]
    objective: NDArray[np.float64]
    laplace: NDArray[np.float64]
    covariance: NDArray[np.float64]
    decrement: NDArray[np.float64]
    misfit: NDArray[np.float64]


@lru_cache(maxsize=64)
def _program(model: Model, plan: Plan) -> Any:
    def run(pop: Population, blocks: Any) -> Any:
        data, start = blocks
        b = Block(model, plan, data)
        s = find_mode(b, pop, prior(pop.omega), start)
        n = start.shape[0]
        columns = [
            solve_symmetric(s.hessian, jnp.broadcast_to(e[:, None], s.gradient.shape))[0] for e in jnp.eye(n, dtype=start.dtype)
        ]
        _, logdet = solve_symmetric(s.hessian, s.gradient)
        inverse = jnp.moveaxis(jnp.stack(columns), -1, 0) if n else jnp.zeros((s.eta.shape[1], 0, 0))
        g = b.predict(pop, s.eta)
        misfit = b.misfit(g) + jnp.einsum("ib,ij,jb->b", s.eta, prior(pop.omega).precision, s.eta)
        return s.eta.T, s.objective, s.objective + logdet, inverse, s.decrement, misfit

    return run


def modes(problem: Problem, pop: Population, start: NDArray[np.float64] | None = None) -> Modes:
    """Mode, Laplace covariance and objective of every subject at these population parameters.

    start: (subjects, etas), 0 by default. The covariance is that of the first-order approximation with interaction.
    """
    with precision():
        eta = np.zeros((len(problem.subjects), problem.etas)) if start is None else np.asarray(start, float)
        cut = problem.cut(eta.T)
        tree = problem.blocks._replace(tree=(problem.blocks.tree, cut.tree))
        out = map_blocks(_program(problem.model, problem.prepared.timeline.plan), pop, tree)
        return Modes(*(problem.in_subject_order(v) for v in out))

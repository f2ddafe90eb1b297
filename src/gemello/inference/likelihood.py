"""What data say about one subject's etas: predictions, their derivatives and the joint objective, for one block of lanes.

All objectives are −2 log-likelihoods without the constant n·ln 2π, as NONMEM prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.engine.lanes import Cut, cut, default_block, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR, solve
from gemello.model.contract import Model
from gemello.model.individuals import individual, residual_sd, spread
from gemello.model.schedule import Subject
from gemello.model.simulate import Prepared, prepare


class Population(NamedTuple):
    """Population parameters inside a program: theta and sigma by name (dicts of scalars), OMEGA (etas, etas)."""

    theta: dict[str, Any]
    omega: Any
    sigma: dict[str, Any]


class Prediction(NamedTuple):
    """Prediction and residual variance at every record, (records, lanes)."""

    f: Any
    v: Any


@dataclass(frozen=True)
class Problem:
    """Data of all subjects, ready for inference. `blocks` holds them cut into blocks in the lane order of `prepared`."""

    prepared: Prepared
    blocks: Cut
    observations: NDArray[np.int64]  # (subjects,) number of measured values

    @property
    def model(self) -> Model:
        return self.prepared.model

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return self.prepared.subjects

    def in_subject_order(self, v: Any) -> NDArray[Any]:
        """(lanes, ...) to (subjects, ...)."""
        return np.asarray(v)[np.argsort(self.prepared.timeline.order, kind="stable")]

    def cut(self, v: Any) -> Cut:
        """Leaves (..., subjects) cut as the data are."""
        order = self.prepared.timeline.order
        return cut(jax.tree.map(lambda a: np.asarray(a)[..., order], v), len(order), self.blocks.block)


def problem(
    model: Model,
    subjects: Sequence[Subject],
    *,
    values: Mapping[str, Any] | None = None,
    bind: Mapping[str, str] | None = None,
    estimated: frozenset[str] = frozenset(),
    method: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    block: int | None = None,
) -> Problem:
    """Data and schedules of `subjects` for `model` (arguments as in `simulate.prepare`)."""
    ready = prepare(model, subjects, values=values, bind=bind, estimated=estimated, method=method, rtol=rtol, atol=atol)
    timeline = ready.timeline
    if timeline.shared:  # one table per lane: values differ, and inference is not where memory is short
        wide = lambda v: np.broadcast_to(v, (v.shape[0], ready.lanes))  # noqa: E731
        slots, records = jax.tree.map(wide, timeline.slots), wide(timeline.records)
    else:
        slots, records = timeline.slots, timeline.records
    depth, lanes = records.shape
    y, output, seen = np.zeros((depth, lanes)), np.zeros((depth, lanes), np.int32), np.zeros((depth, lanes), bool)
    for lane, i in enumerate(timeline.order):
        s = ready.subjects[i].schedule
        _check_outputs(model, ready.subjects[i])
        n, here = len(s), s.measured
        y[:n, lane], output[:n, lane], seen[:n, lane] = np.where(here, s.value, 0.0), s.output, here
    size = block or default_block(lanes, timeline.plan.method not in LINEAR)
    tree = {"slots": slots, "records": records, "cov": ready.cov, "bound": ready.bound, "y": y, "output": output, "seen": seen}
    tree["lane"] = np.zeros(lanes)
    seen_in_order = seen.sum(axis=0)[np.argsort(timeline.order, kind="stable")]
    with precision():  # else the devices would hold float32
        return Problem(ready, cut(tree, lanes, size), seen_in_order)


def _check_outputs(model: Model, subject: Subject) -> None:
    s = subject.schedule
    for k in np.unique(s.output[s.measured]):
        if 0 <= k < len(model.outputs) and getattr(model.outputs[k].residual, "form", None) == "lognormal":
            raise UnsupportedError(
                f"model {model.name}, output {model.outputs[k].name}: log-normal errors are not fitted; use a proportional error"
            )
        if not 0 <= k < len(model.outputs) or model.outputs[k].residual is None:
            i = int(np.argmax(s.measured & (s.output == k)))
            known = ", ".join(o.name for o in model.outputs if o.residual)
            raise DataError(
                f"subject {subject.id}: {model.name} has no observable output of that number", row=int(s.row[i]) or None,
                column="DVID", value=int(k), remedy=f"observe one of: {known or 'none'}",
            )  # fmt: skip


class Block:
    """Functions of one block's data; made anew inside each program, so it holds traced arrays."""

    def __init__(self, model: Model, plan: Plan, data: Any) -> None:
        self.model, self.plan, self.data = model, plan, data
        self.lanes = data["lane"].shape[-1]

    def predict(self, pop: Population, eta: Any) -> Prediction:
        """Predictions at etas (etas, lanes)."""
        d, m = self.data, self.model
        theta = m.theta_type(*(d["bound"].get(n, pop.theta[n]) for n in m.parameters.theta_names))
        p = spread(individual(m, theta, tuple(eta), d["cov"]), self.lanes)
        observable = tuple(k for k, o in enumerate(m.outputs) if o.residual is not None)
        out = solve(m, self.plan, d["slots"], p, d["records"], outputs=observable).outputs
        f: Any = None
        v: Any = None
        for k, here in zip(observable, out, strict=True):
            var = residual_sd(m, k, here, pop.sigma) ** 2
            f = here if f is None else jnp.where(d["output"] == k, here, f)
            v = var if v is None else jnp.where(d["output"] == k, var, v)
        # a value of 0 where the prediction is 0 and the error purely proportional says nothing: there f = y and v = 1, which
        # adds nothing to any sum. Any other value there is impossible: its objective is no number, and no search goes there.
        known = d["seen"] & ~((v <= 0) & (d["y"] == 0))
        return Prediction(jnp.where(known, f, d["y"]), jnp.where(known, v, 1.0))

    def residual(self, g: Prediction) -> Any:
        """(records, lanes) y − f, 0 where nothing was measured."""
        return self.data["y"] - g.f

    def gradient_parts(self, pop: Population, eta: Any) -> tuple[Prediction, Prediction]:
        """Prediction, and its derivatives by eta, (etas, records, lanes)."""
        n = eta.shape[0]
        units = jnp.broadcast_to(jnp.eye(n, dtype=eta.dtype)[:, :, None], (n, n, self.lanes))
        push = lambda e: jax.jvp(lambda h: self.predict(pop, h), (eta,), (e,))  # noqa: E731
        value, slope = jax.vmap(push, out_axes=(None, 0))(units)
        return value, slope

    def data_objective(self, g: Prediction) -> Any:
        """(lanes,) Σ (y − f)²/v + ln v."""
        return jnp.sum(self.residual(g) ** 2 / g.v + jnp.log(g.v), axis=0)


class Prior(NamedTuple):
    """OMEGA factored once: precision (etas, etas) and ln|OMEGA|."""

    precision: Any
    logdet: Any


def prior(omega: Any) -> Prior:
    """Precision and log-determinant of OMEGA (etas, etas)."""
    root = jnp.linalg.cholesky(omega)
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(omega.shape[0], dtype=omega.dtype), lower=True)
    return Prior(inverse.T @ inverse, 2.0 * jnp.sum(jnp.log(jnp.diagonal(root))))


def curvature(slope: Prediction, g: Prediction, w: Prior) -> Any:
    """H = J'R⁻¹J + ½(R'/R)'(R'/R) + W⁻¹, (etas, etas, lanes): the interaction Hessian of NONMEM's FOCEI."""
    scaled, relative = slope.f / jnp.sqrt(g.v), slope.v / g.v
    h = jnp.einsum("irb,jrb->ijb", scaled, scaled) + 0.5 * jnp.einsum("irb,jrb->ijb", relative, relative)
    return h + w.precision[:, :, None]


def joint_objective(block: Block, g: Prediction, eta: Any, w: Prior) -> Any:
    """(lanes,) data objective + η'W⁻¹η + ln|W|: twice the negative log joint density, without constants."""
    return block.data_objective(g) + jnp.einsum("ib,ij,jb->b", eta, w.precision, eta) + w.logdet


def joint_gradient(block: Block, g: Prediction, slope: Prediction, eta: Any, w: Prior) -> Any:
    """(etas, lanes) half the gradient of `joint_objective` by eta."""
    r = block.residual(g)
    pull = jnp.sum(-r / g.v * slope.f + 0.5 * (1.0 - r**2 / g.v) / g.v * slope.v, axis=1)
    return pull + jnp.einsum("ij,jb->ib", w.precision, eta)


@lru_cache(maxsize=64)
def log_likelihood_program(model: Model, plan: Plan) -> Any:
    """Program for `map_blocks`: joint objective (lanes,) at given etas; shared is a Population, the block (data, eta)."""

    def run(pop: Population, blocks: Any) -> Any:
        data, eta = blocks
        b = Block(model, plan, data)
        return joint_objective(b, b.predict(pop, eta), eta, prior(pop.omega))

    return run

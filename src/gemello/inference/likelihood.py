"""What data say about one subject's etas: predictions, their derivatives and the joint objective, for one block of lanes.

All objectives are −2 log-likelihoods without the constant n·ln 2π (n: measured values), as NONMEM prints them. A value that is
only known to lie below (or above) a limit adds −2 ln of the probability of that (M3: Beal 2001, J Pharmacokinet Pharmacodyn
28:481). Where the error is log-normal, the density is that of the value itself, so that it can be compared with other errors:
an objective of logarithms lacks the 2 Σ ln y.

The etas of a subject are those between subjects, then, where parameters vary between occasions, those of each occasion in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.engine.lanes import Cut, cut, default_block, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR, solve
from gemello.model.contract import Model
from gemello.model.individuals import individual, kappas, residual_sd, spread
from gemello.model.schedule import OCCASION, Subject
from gemello.model.simulate import Prepared, prepare


class Population(NamedTuple):
    """Population parameters inside a program: theta and sigma by name (dicts of scalars), OMEGA (etas, etas) of all etas."""

    theta: dict[str, Any]
    omega: Any
    sigma: dict[str, Any]


class Prediction(NamedTuple):
    """Prediction and residual variance at every record, (records, lanes); of ln f where the error is log-normal."""

    f: Any
    v: Any


@dataclass(frozen=True)
class Problem:
    """Data of all subjects, ready for inference. `blocks` holds them cut into blocks in the lane order of `prepared`."""

    prepared: Prepared
    blocks: Cut
    observations: NDArray[np.int64]  # (subjects,) number of measured values, censored ones apart
    informed: NDArray[np.bool_]  # (subjects,) whether there is any value, censored or not

    @property
    def model(self) -> Model:
        return self.prepared.model

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return self.prepared.subjects

    @property
    def etas(self) -> int:
        """Number of etas of a subject, those of its occasions included."""
        table = self.model.parameters
        return len(table.eta_names) + self.prepared.occasions * len(table.occasion_names)

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
    if model.parameters.occasion_names and ready.occasion is None:
        names = ", ".join(model.parameters.occasion_names)
        who = next(s.id for s in ready.subjects if OCCASION not in s.schedule.columns)
        raise DataError(
            f"subject {who}: {names} of {model.name} vary between occasions, and nothing says which is which", column=OCCASION,
            remedy="add the column, counting the occasions in every record (all 1 where there is one)",
        )  # fmt: skip
    measured = _measured(model, ready, records.shape)
    size = block or default_block(records.shape[1], timeline.plan.method not in LINEAR)
    tree = {"slots": slots, "records": records, "cov": ready.cov, "bound": ready.bound, "lane": np.zeros(records.shape[1])}
    if ready.occasion is not None:
        tree["occasion"] = ready.occasion
    exact = measured["seen"] & (measured["censored"] == 0) if "censored" in measured else measured["seen"]
    seen_in_order = exact.sum(axis=0)
    with precision():  # else the devices would hold float32
        blocks = cut({**tree, **measured}, records.shape[1], size)
        back = np.argsort(timeline.order, kind="stable")
        informed = np.asarray(measured["seen"].any(axis=0))
        return Problem(ready, blocks, seen_in_order[back], informed[back])


def _measured(model: Model, ready: Prepared, shape: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Values, outputs and whether there is one, (records, lanes) each; censoring and logarithms only where there are any."""
    y, output, seen = np.zeros(shape), np.zeros(shape, np.int32), np.zeros(shape, bool)
    censored = np.zeros(shape, np.int32)
    for lane, i in enumerate(ready.timeline.order):
        s = ready.subjects[i].schedule
        _check_outputs(model, ready.subjects[i])
        n, here = len(s), s.measured
        y[:n, lane], output[:n, lane], seen[:n, lane] = np.where(here, s.value, 0.0), s.output, here
        censored[:n, lane] = np.where(here, s.censored, 0)
    out: dict[str, NDArray[Any]] = {"y": y, "output": output, "seen": seen}
    return out | ({"censored": censored} if censored.any() else {})


def _check_outputs(model: Model, subject: Subject) -> None:
    s = subject.schedule
    for k in np.unique(s.output[s.measured]):
        if 0 <= k < len(model.outputs) and getattr(model.outputs[k].residual, "form", None) == "lognormal":
            low = s.measured & (s.output == k) & (s.value <= 0)
            if low.any():
                i = int(np.argmax(low))
                raise DataError(
                    f"subject {subject.id}: a value whose error is log-normal must be above 0", row=int(s.row[i]) or None,
                    column="DV", value=s.value[i], remedy="mark it as below its limit (CENS 1, DV the limit)",
                )  # fmt: skip
        if not 0 <= k < len(model.outputs) or model.outputs[k].residual is None:
            i = int(np.argmax(s.measured & (s.output == k)))
            known = ", ".join(o.name for o in model.outputs if o.residual)
            raise DataError(
                f"subject {subject.id}: {model.name} has no observable output of that number", row=int(s.row[i]) or None,
                column="DVID", value=int(k), remedy=f"observe one of: {known or 'none'}",
            )  # fmt: skip


class Block:
    """Functions of one block's data; made anew inside each program, so it holds traced arrays."""

    interaction: bool = True  # False: the residual variance is that at etas 0 (NONMEM's FOCE without INTERACTION)

    def __init__(self, model: Model, plan: Plan, data: Any, interaction: bool = True) -> None:
        self.model, self.plan, self.data, self.interaction = model, plan, data, interaction
        self.lanes = data["lane"].shape[-1]
        logs = [k for k, o in enumerate(model.outputs) if o.residual is not None and o.residual.form == "lognormal"]
        self.y = data["y"]
        self.offset: Any = 0.0  # 2 Σ ln y of the values whose error is log-normal, (lanes,)
        if logs:
            log = data["seen"] & jnp.isin(data["output"], jnp.array(logs))
            y = jnp.log(jnp.where(log, data["y"], 1.0))
            self.y = jnp.where(log, y, data["y"])
            exact = log & (data["censored"] == 0) if "censored" in data else log
            self.offset = 2.0 * jnp.sum(jnp.where(exact, y, 0.0), axis=0)

    def predict(self, pop: Population, eta: Any) -> Prediction:
        """Predictions at etas (etas, lanes)."""
        g = self._predict(pop, eta)
        return g if self.interaction else g._replace(v=self._predict(pop, jnp.zeros_like(eta)).v)

    def _predict(self, pop: Population, eta: Any) -> Prediction:
        d, m = self.data, self.model
        theta = m.theta_type(*(d["bound"].get(n, pop.theta[n]) for n in m.parameters.theta_names))
        n, changing = len(m.parameters.eta_names), len(m.parameters.occasion_names)
        kappa = kappas(eta, d["occasion"], n, changing) if changing else ()
        p = spread(individual(m, theta, tuple(eta[:n]), d["cov"], kappa), self.lanes)
        observable = tuple(k for k, o in enumerate(m.outputs) if o.residual is not None)
        out = solve(m, self.plan, d["slots"], p, d["records"], outputs=observable).outputs
        f: Any = None
        v: Any = None
        for k, here in zip(observable, out, strict=True):
            var = residual_sd(m, k, here, pop.sigma, p) ** 2
            if getattr(m.outputs[k].residual, "form", None) == "lognormal":
                here = jnp.log(jnp.where(d["seen"] & (d["output"] == k), here, 1.0))  # noqa: PLW2901
            f = here if f is None else jnp.where(d["output"] == k, here, f)
            v = var if v is None else jnp.where(d["output"] == k, var, v)
        # a value of 0 where the prediction is 0 and the error purely proportional says nothing: there f = y and v = 1, which
        # adds nothing to any sum. Any other value there is impossible: its objective is no number, and no search goes there.
        v = v / d["weight"] if "weight" in d else v  # a value that counts for less is one with a larger variance
        known = d["seen"] & ~((v <= 0) & (self.y == 0))
        return Prediction(jnp.where(known, f, self.y), jnp.where(known, v, 1.0))

    def residual(self, g: Prediction) -> Any:
        """(records, lanes) y − f, 0 where nothing was measured."""
        return self.y - g.f

    def gradient_parts(self, pop: Population, eta: Any) -> tuple[Prediction, Prediction]:
        """Prediction, and its derivatives by eta, (etas, records, lanes)."""
        n = eta.shape[0]
        units = jnp.broadcast_to(jnp.eye(n, dtype=eta.dtype)[:, :, None], (n, n, self.lanes))
        push = lambda e: jax.jvp(lambda h: self.predict(pop, h), (eta,), (e,))  # noqa: E731
        value, slope = jax.vmap(push, out_axes=(None, 0))(units)
        return value, slope

    def data_objective(self, g: Prediction) -> Any:
        """(lanes,) Σ (y − f)²/v + ln v; −2 ln Φ(± (y − f)/√v) where a value is censored."""
        each = self.residual(g) ** 2 / g.v + jnp.log(g.v)
        if "censored" in self.data:
            each = jnp.where(self.censored, -2.0 * log_ndtr(self.limit(g)), each)
        return jnp.sum(each, axis=0) + self.offset

    @property
    def censored(self) -> Any:
        """(records, lanes) whether the value is a limit only."""
        return self.data["censored"] != 0

    def limit(self, g: Prediction) -> Any:
        """(records, lanes) by how many standard deviations a limit is above (below, for one from above) the prediction."""
        return jnp.where(self.censored, self.data["censored"] * self.residual(g) / jnp.sqrt(g.v), 0.0)

    def misfit(self, g: Prediction) -> Any:
        """(lanes,) Σ (y − f)²/v of the values that are not censored."""
        each = self.residual(g) ** 2 / g.v
        return jnp.sum(jnp.where(self.censored, 0.0, each) if "censored" in self.data else each, axis=0)


class Prior(NamedTuple):
    """OMEGA factored once: precision (etas, etas) and ln|OMEGA|."""

    precision: Any
    logdet: Any


def prior(omega: Any) -> Prior:
    """Precision and log-determinant of OMEGA (etas, etas)."""
    root = jnp.linalg.cholesky(omega)
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(omega.shape[0], dtype=omega.dtype), lower=True)
    return Prior(inverse.T @ inverse, 2.0 * jnp.sum(jnp.log(jnp.diagonal(root))))


def curvature(block: Block, slope: Prediction, g: Prediction, w: Prior) -> Any:
    """H = J'R⁻¹J + ½(R'/R)'(R'/R) + W⁻¹, (etas, etas, lanes): the interaction Hessian of NONMEM's FOCEI.

    A censored value adds λ(λ + z) ∇z ∇z' with z its limit in standard deviations and λ = φ(z)/Φ(z): the second derivative of
    −ln Φ, without that of z.
    """
    scaled, relative = slope.f / jnp.sqrt(g.v), slope.v / g.v
    if "censored" in block.data:
        c, z = block.censored, block.limit(g)
        hazard = _hazard(z)
        moved = (block.data["censored"] * scaled + 0.5 * z * relative) * jnp.sqrt(jnp.maximum(hazard * (hazard + z), 0.0))
        scaled, relative = jnp.where(c, moved, scaled), jnp.where(c, 0.0, relative)
    h = jnp.einsum("irb,jrb->ijb", scaled, scaled) + 0.5 * jnp.einsum("irb,jrb->ijb", relative, relative)
    return h + w.precision[:, :, None]


def _hazard(z: Any) -> Any:
    """φ(z)/Φ(z)."""
    return jnp.exp(-0.5 * z**2 - 0.5 * jnp.log(2.0 * jnp.pi) - log_ndtr(z))


def joint_objective(block: Block, g: Prediction, eta: Any, w: Prior) -> Any:
    """(lanes,) data objective + η'W⁻¹η + ln|W|: twice the negative log joint density, without constants."""
    return block.data_objective(g) + jnp.einsum("ib,ij,jb->b", eta, w.precision, eta) + w.logdet


def joint_gradient(block: Block, g: Prediction, slope: Prediction, eta: Any, w: Prior) -> Any:
    """(etas, lanes) half the gradient of `joint_objective` by eta."""
    r = block.residual(g)
    each = -r / g.v * slope.f + 0.5 * (1.0 - r**2 / g.v) / g.v * slope.v
    if "censored" in block.data:
        z = block.limit(g)
        by = _hazard(z) * (block.data["censored"] * slope.f / jnp.sqrt(g.v) + 0.5 * z * slope.v / g.v)
        each = jnp.where(block.censored, by, each)
    pull = jnp.sum(each, axis=1)
    return pull + jnp.einsum("ij,jb->ib", w.precision, eta)


@lru_cache(maxsize=64)
def log_likelihood_program(model: Model, plan: Plan) -> Any:
    """Program for `map_blocks`: joint objective (lanes,) at given etas; shared is a Population, the block (data, eta)."""

    def run(pop: Population, blocks: Any) -> Any:
        data, eta = blocks
        b = Block(model, plan, data)
        return joint_objective(b, b.predict(pop, eta), eta, prior(pop.omega))

    return run

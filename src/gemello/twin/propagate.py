"""Draws of individual parameters through schedules: many draws of many subjects, all lanes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import SolverError
from gemello.base.random import generator
from gemello.engine.lanes import cut, default_block, map_blocks, precision
from gemello.engine.plan import Plan
from gemello.engine.solve import LINEAR, solve
from gemello.inference.ensemble import pad_draws, side_by_side
from gemello.model.contract import Model
from gemello.model.individuals import individual, kappas, spread
from gemello.model.population import PopulationParameters
from gemello.model.schedule import OCCASION, Subject
from gemello.model.simulate import Prepared, prepare

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Propagated:
    """Noise-free outputs by name, (subjects, draws, records), and failed (subjects, draws): draws that could not be solved."""

    outputs: dict[str, Floats]
    failed: NDArray[np.bool_]


@lru_cache(maxsize=64)
def _program(model: Model, plan: Plan, wanted: tuple[int, ...], chunk: int) -> Any:
    """Outputs (lanes, outputs, draws, records) at etas (draws, etas, lanes), and failures (lanes, draws)."""

    def run(theta: Any, blocks: Any) -> Any:
        data, etas = blocks
        n, lanes = etas.shape[1:]
        wide = lambda v: v if lanes == 1 else jnp.tile(v, (1,) * (v.ndim - 1) + (chunk,))  # noqa: E731
        slots, records, cov, occasion = (jax.tree.map(wide, data[k]) for k in ("slots", "records", "cov", "occasion"))
        between, changing = len(model.parameters.eta_names), len(model.parameters.occasion_names)

        def some(e: Any) -> Any:
            eta = jnp.moveaxis(e, 1, 0).reshape(n, chunk * lanes)
            kappa = kappas(eta, occasion, between, changing) if changing else ()
            p = spread(individual(model, theta, tuple(eta[:between]), cov, kappa), chunk * lanes)
            out = solve(model, plan, slots, p, records, outputs=wanted)
            values = jnp.stack(out.outputs)
            return values.reshape(len(wanted), -1, chunk, lanes), out.failed.reshape(chunk, lanes)

        values, failed = jax.lax.map(some, etas.reshape(-1, chunk, n, lanes))
        values = jnp.transpose(values, (4, 1, 0, 3, 2))  # (chunks, outputs, records, chunk, lanes) ->
        return values.reshape(lanes, len(wanted), -1, values.shape[-1]), failed.reshape(-1, lanes).T

    return run


def propagate(
    model: Model,
    parameters: PopulationParameters,
    subjects: Sequence[Subject],
    etas: Floats,
    outputs: Sequence[str],
    *,
    method: str | None = None,
) -> Propagated:
    """Outputs of every subject at its own records, for every draw of its etas.

    etas: (subjects, draws, etas), or (draws, etas) for the same draws in all. Records beyond a subject's last are repeated
    or meaningless; the caller knows how many there are. Occasions that no draw has seen (all, where the schedule does not count
    them: it is then one) are drawn from the population. Raises DataError, ModelError, UnsupportedError.
    """
    subjects = [_with_occasion(model, s) for s in subjects]
    ready = prepare(model, subjects, values=parameters.theta, method=method)
    wanted = tuple(model.output_index(n) for n in outputs)
    e = _with_new_occasions(ready, parameters, np.broadcast_to(etas, (len(subjects), *etas.shape[-2:])))
    draws, depth = e.shape[1], max(len(s.schedule) for s in subjects)
    plan = ready.timeline.plan
    lanes = ready.lanes
    block = default_block(lanes, plan.method not in LINEAR)
    chunk = side_by_side(block, draws, plan)
    order = ready.timeline.order
    with precision():
        theta = model.theta_type(*(np.float64(parameters.theta[n]) for n in model.parameters.theta_names))
        tree = (_tables(ready), np.moveaxis(pad_draws(e[order], chunk), 0, -1))
        values, failed = map_blocks(_program(model, plan, wanted, chunk), theta, cut(tree, lanes, block))
        back = np.argsort(order, kind="stable")
        host, lost = np.asarray(values)[back][:, :, :draws, :depth], np.asarray(failed)[back][:, :draws]
    return Propagated({n: host[:, k] for k, n in enumerate(outputs)}, lost)


def _tables(ready: Prepared) -> Mapping[str, Any]:
    t, lanes = ready.timeline, ready.lanes

    def wide(v: Any) -> Any:
        return np.broadcast_to(v, (v.shape[0], lanes))

    occasion = np.zeros((1, lanes), np.int32) if ready.occasion is None else ready.occasion
    return {"slots": jax.tree.map(wide, t.slots), "records": wide(t.records), "cov": ready.cov, "occasion": occasion}


def _with_occasion(model: Model, s: Subject) -> Subject:
    if not model.parameters.occasion_names or OCCASION in s.schedule.columns:
        return s
    return Subject(s.id, s.schedule.covariates(**{OCCASION: 1.0}))


def _with_new_occasions(ready: Prepared, parameters: PopulationParameters, etas: Floats) -> Floats:
    """(subjects, draws, etas) with what the occasions beyond those of the draws add, drawn from the population by the ID."""
    more = len(parameters.eta_names) + ready.occasions * len(parameters.occasion) - etas.shape[-1]
    if more <= 0:
        return etas
    sd = np.sqrt(np.tile(list(parameters.occasion.values()), ready.occasions)[-more:])
    drawn = [generator(0, "new occasions", i).standard_normal((etas.shape[1], more)) * sd for i in ready.ids]
    return np.concatenate([etas, np.stack(drawn)], axis=-1)


def settle(model: Model, subjects: Sequence[Subject], etas: Floats, weights: Floats, found: Propagated) -> Propagated:
    """Values without weight replaced by those of the heaviest draw, so that no failed one spoils a sum.

    Raises SolverError where a draw that has weight could not be solved.
    """
    weights = np.broadcast_to(weights, found.failed.shape)
    bad = found.failed & (weights > 0)
    if bad.any():
        lane = int(np.argmax(bad.any(axis=1)))
        share = float(np.sum(weights[lane][bad[lane]]))
        raise SolverError(
            f"model {model.name}, subject {subjects[lane].id}: the equations could not be solved for {int(bad[lane].sum())} "
            f"draws, {share:.2g} of the weight; look at the schedule, or loosen the model's tolerance"
        )
    if not found.failed.any():
        return found
    best = np.argmax(weights, axis=1)

    def fill(v: Floats) -> Floats:
        return np.where(found.failed[:, :, None], v[np.arange(len(v)), best][:, None, :], v)

    return Propagated({n: fill(v) for n, v in found.outputs.items()}, np.zeros_like(found.failed))

"""The objective of each subject at given population parameters, nothing estimated (NONMEM's MAXEVAL=0)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import UnsupportedError
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.plan import Plan
from gemello.inference import fo, focei
from gemello.inference.laplace import find_mode
from gemello.inference.likelihood import Block, Population, Problem, prior
from gemello.model.contract import Model


@lru_cache(maxsize=64)
def _program(model: Model, plan: Plan, method: str) -> Any:
    def run(pop: Population, data: Any) -> Any:
        block = Block(model, plan, data, interaction=method != "foce")
        if method == "fo":
            return fo.first_order(block, pop, jnp.linalg.cholesky(pop.omega))
        found = find_mode(block, pop, prior(pop.omega), jnp.zeros((len(pop.omega), block.lanes)))
        return focei.conditional(block, pop, found.eta, method)[0]

    return run


def objective(problem: Problem, pop: Population, method: str = "focei") -> NDArray[np.float64]:
    """(subjects,) −2 log-likelihood without constants by "fo", "foce", "focei" or "laplace"; its sum is the fit's objective."""
    if method not in ("fo", "foce", "focei", "laplace"):
        raise UnsupportedError(f"method {method!r}: the objective is evaluated by fo, foce, focei or laplace")
    with precision():
        out = map_blocks(_program(problem.model, problem.prepared.timeline.plan, method), pop, problem.blocks)
        return np.asarray(problem.in_subject_order(out), float)

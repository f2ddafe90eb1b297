"""Virtual individuals and measurements: etas from OMEGA, residual errors from the model's residual parameters."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ModelError
from gemello.base.random import SEED_LIMIT, check_seed, generator
from gemello.model.contract import Model
from gemello.model.individuals import measurement, occasion_array
from gemello.model.schedule import Subject


def seed_of(given: int | None) -> int:
    """The seed to use: the one given, checked, or a fresh one."""
    return secrets.randbelow(SEED_LIMIT) if given is None else check_seed(given)


def draw_etas(model: Model, subjects: Sequence[Subject], seed: int) -> NDArray[np.float64]:
    """(subjects, etas) from N(0, OMEGA) of the parameter table, and what each occasion adds. A subject's draws depend on its ID
    and the seed, not on who else is there. Raises ModelError where nothing varies."""
    names, changing = model.parameters.eta_names, model.parameters.occasion_names
    omega = np.array(model.parameters.omega(), float).reshape(len(names), len(names))
    if not names and not changing:
        raise ModelError(
            f"model {model.name}: nothing in its parameter table varies between subjects; simulate it without --population"
        )
    values, vectors = np.linalg.eigh(omega)
    if len(values) and values[0] < -1e-10 * max(values[-1], 1e-300):
        raise ModelError(
            f"model {model.name}: OMEGA is no covariance matrix (it has the eigenvalue {values[0]:g}); correct its covariances"
        )
    draws = np.array([generator(seed, "etas", s.id).standard_normal(len(names)) for s in subjects])
    etas = draws @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    occasions = occasion_array(model, subjects)[1]
    sd = np.tile([np.sqrt(model.parameters[n].occasion_variance) for n in changing], occasions)
    extra = [generator(seed, "occasions", s.id).standard_normal(len(sd)) * sd for s in subjects]
    return np.concatenate([etas, np.array(extra).reshape(len(subjects), -1)], axis=1)


def draw_measurements(
    model: Model, subjects: Sequence[Subject], outputs: Mapping[str, NDArray[np.float64]], values: Mapping[str, float], seed: int
) -> NDArray[np.float64]:
    """(subjects, records) prediction plus residual error of the output that each observation record looks at, NaN elsewhere.

    The error may take a prediction below zero, as additive errors do; nothing is cut off.
    """
    table = model.parameters.with_values(values)
    sigma = {n: table[n].value for n in table.residual_names}
    shape = next(iter(outputs.values())).shape
    noise = np.array([generator(seed, "residuals", s.id).standard_normal(shape[1]) for s in subjects])
    which = np.full(shape, -1)
    for i, s in enumerate(subjects):
        which[i, : len(s.schedule)] = np.where(s.schedule.evid == 0, s.schedule.output, -1)
    out = np.full(shape, np.nan)
    for k, o in enumerate(model.outputs):
        chosen = which == k
        if not chosen.any():
            continue
        f: Any = outputs[o.name][chosen]
        out[chosen] = measurement(model, k, f, sigma, noise[chosen])
    return out

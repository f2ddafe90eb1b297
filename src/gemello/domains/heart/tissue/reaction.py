"""One step of all cells: exponential for states that relax, explicit for the rest (Rush & Larsen, IEEE Trans Biomed Eng 1978)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.domains.heart.cells.cell import CellModel


def phi1(z: Any) -> Any:
    """(exp(z) − 1)/z, by its series below |z| = 0.05, where it is exact to 2e-12."""
    near = jnp.abs(z) < 0.05
    series = 1.0 + z * (1 / 2 + z * (1 / 6 + z * (1 / 24 + z * (1 / 120 + z * (1 / 720)))))
    return jnp.where(near, series, (jnp.exp(z) - 1.0) / jnp.where(near, -1.0, z))


def advance(cell: CellModel, y: Any, p: Any, stimulus: Any, h: Any) -> Any:
    """State after h ms: y + h φ1(h λ) y', with λ the relaxation rate of each state (0: forward Euler)."""
    rates = cell.rates(0.0, y, p, stimulus)

    def one(value: Any, slope: Any, relaxation: Any) -> Any:
        if isinstance(relaxation, float) and relaxation == 0.0:
            return value + h * slope
        return value + h * phi1(h * relaxation) * slope

    return type(y)(*(one(*v) for v in zip(y, rates.derivative, rates.relaxation, strict=True)))

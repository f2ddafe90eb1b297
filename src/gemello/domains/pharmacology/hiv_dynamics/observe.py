"""What is measured: viral load on the log scale, and CD4 cells."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("log10_rna", "1", Residual(additive="log10_rna_additive")),
    Output("cd4", "1/uL", Residual(additive="cd4_additive", proportional="cd4_proportional")),
    Output("rna", "1/mL"),
)


def observe(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any, Any]:
    """Decadic logarithm of the viral load over 1 copy/mL, CD4 cells (1/uL), and viral load (copies/mL)."""
    rna = p.RNA * (y.virus + y.noninfectious)
    return jnp.log10(jnp.maximum(rna / p.COPY, 1e-30)), (y.target + y.infected) / p.UL_PER_ML, rna

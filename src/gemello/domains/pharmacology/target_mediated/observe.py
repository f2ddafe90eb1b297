"""What is measured under target-mediated disposition: free drug; target, complex and total drug are predicted."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("free", "nmol/L", Residual(additive="free_additive", proportional="free_proportional")),
    Output("free_target", "nmol/L"),
    Output("bound", "nmol/L"),
    Output("total", "nmol/L"),
)


def observe(y: State, p: Any) -> tuple[Any, Any, Any, Any]:
    """Concentrations (nmol/L) of free drug, free target, complex, and total drug (free and bound)."""
    free, bound = y.drug / p.V, y.complex / p.V
    return free, y.target / p.V, bound, free + bound

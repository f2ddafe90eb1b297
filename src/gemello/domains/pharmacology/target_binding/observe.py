"""What is measured under target-mediated disposition: free drug; target, complex and total drug are predicted."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.target_binding.equations import bound_by
from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("free", "nmol/L", Residual(additive="free_additive", proportional="free_proportional")),
    Output("free_target", "nmol/L"),
    Output("bound", "nmol/L"),
    Output("total", "nmol/L"),
)


def full(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any, Any, Any]:
    """Concentrations (nmol/L) of free drug, free target, complex, and total drug (free and bound)."""
    c, complexed = y.drug / p.V1, y.complex / p.V1
    return c, y.target / p.V1, complexed, c + complexed


def quasi_steady_state(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any, Any, Any]:
    """The same from total drug and total target."""
    c, complexed = bound_by(y, p)
    return c, y.target / p.V1 - complexed, complexed, y.drug / p.V1

"""What is measured: plasma concentration and response."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("cp", "mg/L", Residual(additive="cp_additive", proportional="cp_proportional")),
    Output("response", "1", Residual(additive="response_additive", proportional="response_proportional")),
)


def observe(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any]:
    """Plasma concentration cp (mg/L) and response."""
    return y.central / p.V, y.response

"""What is measured: concentrations of drug and metabolite."""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("cp", "umol/L", Residual(additive="cp_additive", proportional="cp_proportional")),
    Output("cm", "umol/L", Residual(additive="cm_additive", proportional="cm_proportional")),
)


def observe(y: State, p: Any) -> tuple[Any, Any]:
    """Concentrations of the drug cp and of the metabolite cm (umol/L)."""
    return y.parent / p.V1, y.metabolite / p.VM

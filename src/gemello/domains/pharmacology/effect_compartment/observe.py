"""What is measured: plasma concentration and effect; the effect-site concentration is predicted."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.effect_compartment.equations import effect
from gemello.model.contract import Output, Residual, State

OUTPUTS = (
    Output("cp", "mg/L", Residual(additive="cp_additive", proportional="cp_proportional")),
    Output("effect", "1", Residual(additive="effect_additive", proportional="effect_proportional")),
    Output("ce", "mg/L"),
)


def observe(y: State, p: Any) -> tuple[Any, Any, Any]:
    """Plasma concentration cp (mg/L), effect, and effect-site concentration ce (mg/L)."""
    return y.central / p.V, effect(y, p), y.site

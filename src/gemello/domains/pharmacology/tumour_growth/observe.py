"""What is measured: the tumour, and in xenografts the drug's plasma concentration."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.tumour_growth.equations import volume
from gemello.model.contract import Output, Residual, State

_TUMOUR = Residual(additive="tumour_additive", proportional="tumour_proportional")
SIMEONI = (
    Output("tumour", "cm**3", _TUMOUR),
    Output("cp", "mg/L", Residual(additive="cp_additive", proportional="cp_proportional")),
)
CLARET = (Output("tumour", "mm", _TUMOUR),)


def simeoni(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any]:
    """Tumour volume (cm^3; 1 g is taken as 1 cm^3) and plasma concentration cp (mg/L)."""
    return volume(y), y.central / p.V


def claret(t: Any, y: State, p: Any, u: Any) -> tuple[Any]:
    """Tumour size, sum of the longest diameters (mm)."""
    return (y.size,)

"""What is measured of warfarin: plasma concentration and prothrombin complex activity; the area under the former is predicted."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology import linear_pk
from gemello.model.contract import Output, Residual, State

_CONCENTRATION = Residual(additive="cp_additive", proportional="cp_proportional", form="combined1")
OUTPUTS = linear_pk.outputs(_CONCENTRATION)
BOTH = (OUTPUTS[0], Output("pca", "percent", Residual(additive="pca_additive", proportional="pca_proportional")))


def observe(t: Any, y: State, p: Any, u: Any) -> tuple[Any, Any]:
    """Plasma concentration cp (mg/L) and prothrombin complex activity pca (percent of normal)."""
    return y.central / p.V, y.pca

"""What is measured under saturable elimination: plasma concentration, and the area under it, which is predicted."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology import linear_pk
from gemello.domains.pharmacology.michaelis_menten.equations import volume
from gemello.model.contract import Residual, State

OUTPUTS = linear_pk.outputs(Residual(additive="cp_additive", proportional="cp_proportional"))


def observe(y: State, p: Any) -> tuple[Any, Any]:
    """Plasma concentration cp (mg/L) and auc (mg*h/L)."""
    return y.central / volume(p), y.auc

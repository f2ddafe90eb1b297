"""What is measured: the concentration in venous plasma; predicted besides: its area, and concentrations in tissues."""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.physiology.equations import plasma
from gemello.model.contract import Output, Residual, State

TISSUES = ("adipose", "brain", "liver", "muscle")
OUTPUTS = (
    Output("cp", "mg/L", Residual(additive="cp_additive", proportional="cp_proportional")),
    Output("auc", "mg*h/L"),
    *(Output(f"c_{n}", "mg/L") for n in TISSUES),
)
LOGNORMAL = (Output("cp", "mg/L", Residual(additive="cp_log", form="lognormal")), *OUTPUTS[1:])


def observe(y: State, p: Any) -> tuple[Any, ...]:
    """cp (venous plasma, mg/L), auc (mg*h/L) and concentrations in `TISSUES` (mg/L of tissue)."""
    return plasma(y, p), y.auc, *(getattr(y, n) / getattr(p, f"V_{n.upper()}") for n in TISSUES)

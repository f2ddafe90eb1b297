"""Target-mediated drug disposition, full binding model without a tissue compartment.

The general model of Mager & Jusko, J Pharmacokinet Pharmacodyn 28:507-532, 2001, with the tissue exchange left out and written
in amounts (nmol in the volume V) so that doses enter as they are given: with C = A/V their kon C R becomes kon A R/V.
"""

from __future__ import annotations

from typing import Any

from gemello.model.contract import Balance, State


def binding(y: State, p: Any) -> Any:
    """Net rate of binding, nmol/day."""
    return p.KON * y.drug * y.target / p.V - p.KOFF * y.complex


def derivative(y: State, p: Any) -> State:
    """Free drug, free target and complex, nmol/day."""
    bound = binding(y, p)
    return type(y)(
        -p.KEL * y.drug - bound,
        p.KSYN * p.V - p.KDEG * y.target - bound,
        bound - p.KINT * y.complex,
    )


def baseline(p: Any) -> tuple[Any, Any, Any]:
    """Amounts before any drug, nmol: the target at ksyn/kdeg."""
    nothing = p.V * 0.0
    return nothing, p.KSYN / p.KDEG * p.V, nothing


def balance(y: State, p: Any) -> Balance:
    """Drug, free and bound, is stored (nmol); elimination and internalisation are its ways out (nmol/day)."""
    return Balance(y.drug + y.complex, p.KEL * y.drug + p.KINT * y.complex)

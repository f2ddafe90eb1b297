"""Target-mediated drug disposition with a peripheral compartment and first-order absorption.

tmdd_full: Mager & Jusko, J Pharmacokinet Pharmacodyn 28:507-532, 2001, in amounts (nmol) of the central volume V1.
tmdd_qss: Gibiansky et al., J Pharmacokinet Pharmacodyn 35:573-591, 2008: binding in quasi-steady state, with
KSS = (KOFF + KINT)/KON, so that free drug C follows from total drug and total target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from gemello.model.contract import Balance, State


def full(t: Any, y: State, p: Any, u: Any) -> State:
    """Depot, free drug, peripheral drug, free target and complex, nmol/day."""
    absorbed, c = p.KA * y.depot, y.drug / p.V1
    exchange = p.Q * (c - y.peripheral / p.V2)
    bound = p.KON * c * y.target - p.KOFF * y.complex
    return type(y)(
        -absorbed,
        absorbed - p.CL * c - exchange - bound,
        exchange,
        p.KSYN * p.V1 - p.KDEG * y.target - bound,
        bound - p.KINT * y.complex,
    )


def full_balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """Drug, free and bound, is stored (nmol); elimination and internalisation are its ways out (nmol/day)."""
    return Balance(y.depot + y.drug + y.peripheral + y.complex, p.CL * (y.drug / p.V1) + p.KINT * y.complex)


def free(total: Any, target: Any, kss: Any) -> Any:
    """Free drug (nmol/L): the positive root of C² − (Ctot − Rtot − KSS) C − KSS Ctot = 0 (Gibiansky 2008, eq. 11).

    Written without the difference of two nearly equal numbers that the usual form has where the target is in excess.
    """
    b = total - target - kss
    root = jnp.sqrt(b**2 + 4.0 * kss * total)
    excess = b > 0.0
    return jnp.where(excess, 0.5 * (b + root), 2.0 * kss * total / jnp.where(excess, 1.0, root - b))


def bound_by(y: State, p: Any) -> tuple[Any, Any]:
    """Concentrations of free drug and of complex, Rtot C/(KSS + C), nmol/L."""
    target = y.target / p.V1
    c = free(y.drug / p.V1, target, p.KSS)
    return c, target * c / (p.KSS + c)


def quasi_steady_state(t: Any, y: State, p: Any, u: Any) -> State:
    """Depot, total drug, peripheral drug and total target, nmol/day (Gibiansky 2008, eq. 8-10)."""
    absorbed = p.KA * y.depot
    c, complexed = bound_by(y, p)
    exchange = p.Q * (c - y.peripheral / p.V2)
    return type(y)(
        -absorbed,
        absorbed - p.CL * c - exchange - p.KINT * complexed * p.V1,
        exchange,
        p.KSYN * p.V1 - p.KDEG * y.target - (p.KINT - p.KDEG) * complexed * p.V1,
    )


def quasi_balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """Drug, free and bound, is stored (nmol); elimination and internalisation are its ways out (nmol/day)."""
    c, complexed = bound_by(y, p)
    return Balance(y.depot + y.drug + y.peripheral, p.CL * c + p.KINT * complexed * p.V1)


def baseline(p: Any) -> Mapping[str, Any]:
    """Target without drug, KSYN/KDEG (nmol in V1)."""
    return {"target": p.KSYN / p.KDEG * p.V1}

"""Indirect pharmacodynamic responses: Dayneka, Garg & Jusko, J Pharmacokinet Biopharm 21:457-478, 1993, models I to IV.

The response R is produced at KIN and lost at KOUT·R; the drug, at concentration C, inhibits by I = IMAX C/(IC50 + C) or
stimulates by S = SMAX C/(SC50 + C) one of the two (the paper has IMAX = 1). `turnover` has a sigmoid change of production,
and the response without drug, E0, in place of KIN = KOUT·E0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gemello.domains.pharmacology.pharmacodynamics import emax, oral, sigmoid_emax
from gemello.model.contract import State

Slope = Callable[[Any, Any, Any], Any]  # (response, concentration, p) -> its time derivative, 1/h


def inhibited_production(r: Any, c: Any, p: Any) -> Any:
    """Model I: dR/dt = KIN (1 − I) − KOUT R."""
    return p.KIN * (1.0 - p.IMAX * emax(c, p.IC50)) - p.KOUT * r


def inhibited_loss(r: Any, c: Any, p: Any) -> Any:
    """Model II: dR/dt = KIN − KOUT (1 − I) R."""
    return p.KIN - p.KOUT * (1.0 - p.IMAX * emax(c, p.IC50)) * r


def stimulated_production(r: Any, c: Any, p: Any) -> Any:
    """Model III: dR/dt = KIN (1 + S) − KOUT R."""
    return p.KIN * (1.0 + p.SMAX * emax(c, p.SC50)) - p.KOUT * r


def stimulated_loss(r: Any, c: Any, p: Any) -> Any:
    """Model IV: dR/dt = KIN − KOUT (1 + S) R."""
    return p.KIN - p.KOUT * (1.0 + p.SMAX * emax(c, p.SC50)) * r


def turnover(r: Any, c: Any, p: Any) -> Any:
    """dR/dt = KOUT (E0 (1 + EMAX C^γ/(EC50^γ + C^γ)) − R)."""
    return p.KOUT * (p.E0 * (1.0 + p.EMAX * sigmoid_emax(c, p.EC50, p.GAMMA)) - r)


def derivative(slope: Slope) -> Callable[[Any, State, Any, Any], State]:
    """Depot and central amount (mg/h) and the response (1/h)."""
    return lambda t, y, p, u: type(y)(*oral(y, p), slope(y.response, y.central / p.V, p))


def at_rest(p: Any) -> Mapping[str, Any]:
    """The response without drug, KIN/KOUT."""
    return {"response": p.KIN / p.KOUT}


def at_baseline(p: Any) -> Mapping[str, Any]:
    """The response without drug, E0."""
    return {"response": p.E0}

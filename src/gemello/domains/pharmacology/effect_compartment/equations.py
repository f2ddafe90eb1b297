"""Effect compartment (link) model: Sheiner et al., Clin Pharmacol Ther 25:358-371, 1979, eq. 1-6, and the Hill equation.

The effect site is so small that what enters it is not missed in plasma; its concentration Ce follows the plasma's with KE0.
"""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.pharmacodynamics import oral, sigmoid_emax
from gemello.model.contract import State


def derivative(y: State, p: Any) -> State:
    """Depot and central amount (mg/h), effect-site concentration (mg/L/h): dCe/dt = KE0 (C − Ce)."""
    return type(y)(*oral(y, p), p.KE0 * (y.central / p.V - y.site))


def matrix(p: Any) -> tuple[tuple[Any, ...], ...]:
    """System matrix of `derivative`."""
    return (-p.KA, 0.0, 0.0), (p.KA, -p.CL / p.V, 0.0), (0.0, p.KE0 / p.V, -p.KE0)


def effect(y: State, p: Any) -> Any:
    """E0 + EMAX Ce^γ/(EC50^γ + Ce^γ)."""
    return p.E0 + p.EMAX * sigmoid_emax(y.site, p.EC50, p.GAMMA)

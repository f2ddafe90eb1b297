"""Tumour growth inhibition.

tumour_simeoni: Simeoni et al., Cancer Res 64:1094-1101, 2004, eq. 1-4: growth first exponential (LAMBDA0) and then linear
(LAMBDA1), which PSI = 20 makes a sharp turn; cells that the drug hits die through three stages of damage at rate K1.
tumour_claret: Claret et al., J Clin Oncol 27:4103-4108, 2009: growth at KL, kill by the exposure, waning as exp(−LAMBDA t).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from gemello.domains.pharmacology.pharmacodynamics import oral
from gemello.model.contract import Balance, State

CELLS = ("cycling", "damaged1", "damaged2", "damaged3")


def volume(y: State) -> Any:
    """The whole tumour, cm^3: cycling and damaged cells."""
    return y.cycling + y.damaged1 + y.damaged2 + y.damaged3


def simeoni(t: Any, y: State, p: Any, u: Any) -> State:
    """Depot and central amount (mg/day), cycling and damaged cells (cm^3/day)."""
    turn = (1.0 + (p.LAMBDA0 / p.LAMBDA1 * volume(y)) ** p.PSI) ** (1.0 / p.PSI)
    hit = p.K2 * (y.central / p.V) * y.cycling
    return type(y)(
        *oral(y, p),
        p.LAMBDA0 * y.cycling / turn - hit,
        hit - p.K1 * y.damaged1,
        p.K1 * (y.damaged1 - y.damaged2),
        p.K1 * (y.damaged2 - y.damaged3),
    )


def inoculum(p: Any) -> Mapping[str, Any]:
    """The tumour at time 0, all of it cycling (cm^3)."""
    return {"cycling": p.W0}


def kill(t: Any, p: Any, u: Any) -> Any:
    """Rate of kill, 1/week: KD exp(−LAMBDA t) × exposure; t since the start of treatment."""
    return p.KD * jnp.exp(-p.LAMBDA * t) * u.exposure


def claret(t: Any, y: State, p: Any, u: Any) -> State:
    """Tumour size, mm/week."""
    return type(y)((p.KL - kill(t, p, u)) * y.size)


def first_size(p: Any) -> Mapping[str, Any]:
    """The tumour at time 0 (mm)."""
    return {"size": p.Y0}


def claret_balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """The size is stored (mm); kill less growth is its way out (mm/week)."""
    return Balance(y.size, (kill(t, p, u) - p.KL) * y.size)

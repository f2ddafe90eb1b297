"""HIV dynamics limited by target cells: Perelson & Nelson, SIAM Rev 41:3-44, 1999, with both kinds of inhibitor.

Target cells T, productively infected cells I, infectious virus V and virus made non-infectious by a protease inhibitor W:

    dT/dt = LAMBDA − D T − (1 − a E_RT) K V T          dV/dt = (1 − a E_PI) N DELTA I − C V
    dI/dt = (1 − a E_RT) K V T − DELTA I               dW/dt = a E_PI N DELTA I − C W

a is the level of the port `treatment`: 0 untreated, 1 on treatment, between them partly taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from gemello.model.contract import Balance, State


def infection(y: State, p: Any, u: Any) -> Any:
    """Cells infected, 1/mL/day."""
    return (1.0 - u.treatment * p.E_RT) * p.K * y.virus * y.target


def derivative(t: Any, y: State, p: Any, u: Any) -> State:
    """Cells and virions, 1/mL/day."""
    infected, made, spoilt = infection(y, p, u), p.N * p.DELTA * y.infected, u.treatment * p.E_PI
    return type(y)(
        p.LAMBDA - p.D * y.target - infected,
        infected - p.DELTA * y.infected,
        (1.0 - spoilt) * made - p.C * y.virus,
        spoilt * made - p.C * y.noninfectious,
    )


def reproduction(p: Any) -> Any:
    """Basic reproductive number without treatment, R0 = LAMBDA K N/(D C)."""
    return p.LAMBDA * p.K * p.N / (p.D * p.C)


def set_point(p: Any) -> Mapping[str, Any]:
    """Untreated steady state (1/mL): T = C/(K N) where R0 > 1; no infection where it is not."""
    chronic = reproduction(p) > 1.0
    target = jnp.where(chronic, p.C / (p.K * p.N), p.LAMBDA / p.D)
    infected = jnp.where(chronic, (p.LAMBDA - p.D * target) / p.DELTA, 0.0)
    return {"target": target, "infected": infected, "virus": p.N * p.DELTA / p.C * infected}


def balance(t: Any, y: State, p: Any, u: Any) -> Balance:
    """Cells are stored (1/mL); death less production is their way out (1/mL/day)."""
    return Balance(y.target + y.infected, p.D * y.target + p.DELTA * y.infected - p.LAMBDA)

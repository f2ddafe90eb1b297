"""Warfarin: one compartment with first-order absorption after a lag, by body weight; its effect on prothrombin complex activity.

PCA, the activity of the clotting factors that need vitamin K, is made at a constant rate, which the drug inhibits, and lost in
proportion to itself: O'Reilly & Aggeler, Circulation 38:169-177, 1968, and Dayneka, Garg & Jusko 1993, model I.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemello.domains.pharmacology.closed_form import Constants
from gemello.domains.pharmacology.pharmacodynamics import emax, oral
from gemello.model.contract import State


def typical(theta: Any, cov: Any) -> dict[str, Any]:
    """CL (L/h) = CL·(WT/70)^0.75 and V (L) = V·(WT/70)^1; WT in kg."""
    size = cov.WT / 70.0
    return {"CL": theta.CL * size**theta.CL_WT, "V": theta.V * size**theta.V_WT}


def constants(p: Any) -> Constants:
    """One compartment with a depot; the lag belongs to the depot's port."""
    return Constants(p.CL, p.V, absorption=p.KA)


def derivative(t: Any, y: State, p: Any, u: Any) -> State:
    """Depot and central amount (mg/h); dPCA/dt = KOUT (E0 (1 − EMAX C/(EC50 + C)) − PCA), percent/h."""
    made = p.E0 * (1.0 - p.EMAX * emax(y.central / p.V, p.EC50))
    return type(y)(*oral(y, p), p.KOUT * (made - y.pca))


def before(p: Any) -> Mapping[str, Any]:
    """PCA without drug (percent)."""
    return {"pca": p.E0}

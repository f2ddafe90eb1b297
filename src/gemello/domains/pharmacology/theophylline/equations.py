"""Theophylline, one compartment with first-order absorption, in two parametrisations.

theoph_oral: KA, CL, V, log-normal. theoph_fo: KA = th1 + eta1, KE = th2 + eta2, CL = th3·WT + eta3, the form of the theophylline
example in the NONMEM Users Guide (Beal & Sheiner), made for the first-order (FO) method; the volume is CL/KE.
"""

from __future__ import annotations

from typing import Any

from gemello.domains.pharmacology.closed_form import Constants


def oral(p: Any) -> Constants:
    """One compartment with a depot."""
    return Constants(p.CL, p.V, absorption=p.KA)


def typical_first_order(theta: Any, cov: Any) -> dict[str, Any]:
    """CL (L/h) is proportional to body weight (kg)."""
    return {"CL": theta.CL * cov.WT}


def first_order(p: Any) -> Constants:
    """One compartment with a depot; V = CL/KE."""
    return Constants(p.CL, p.CL / p.KE, absorption=p.KA)

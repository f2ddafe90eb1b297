"""Phenobarbital in neonates (Grasela & Donn 1985; covariate model of the Pharmpy example): CL and V scale with body weight."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.domains.pharmacology.closed_form import Constants


def typical(theta: Any, cov: Any) -> dict[str, Any]:
    """CL (L/h) = th1·WGT and V (L) = th2·WGT·(1 + th3·[APGR < 5]); WGT in kg."""
    return {
        "CL": theta.CL * cov.WGT,
        "V": theta.V * cov.WGT * jnp.where(cov.APGR < 5, 1.0 + theta.V_APGR, 1.0),
    }


def constants(p: Any) -> Constants:
    """One compartment."""
    return Constants(p.CL, p.V)

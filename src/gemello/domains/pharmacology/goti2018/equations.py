"""Vancomycin after Goti et al. 2018 (Ther Drug Monit 40:212-221), Table 2: covariates on CL and the central volume."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from gemello.domains.pharmacology.closed_form import Constants


def typical(theta: Any, cov: Any) -> dict[str, Any]:
    """CL (L/h) = CL·(CLCREAT/120)^0.8·0.7^DIAL and V1 (L) = V1·(WT/70)·0.5^DIAL; CLCREAT in mL/min, WT in kg, DIAL 0 or 1."""
    dialysed = cov.DIAL > 0.5
    return {
        "CL": theta.CL * (cov.CLCREAT / 120.0) ** theta.CL_CLCREAT * jnp.where(dialysed, theta.CL_DIAL, 1.0),
        "V1": theta.V1 * (cov.WT / 70.0) * jnp.where(dialysed, theta.V1_DIAL, 1.0),
    }


def constants(p: Any) -> Constants:
    """Two compartments."""
    return Constants(p.CL, p.V1, ((p.Q, p.V2),))

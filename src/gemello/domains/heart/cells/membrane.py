"""What all cells share: gates, Nernst potentials and the Goldman-Hodgkin-Katz flux, elementwise and safe at 0 mV.

A gate is given as a pair (derivative, relaxation) in 1/ms, the two things that `Rates` says of each state.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

Pair = tuple[Any, Any]  # derivative, relaxation (1/ms, at most 0)


def gate(inf: Any, tau: Any, x: Any) -> Pair:
    """Gate x that relaxes to `inf` with the time constant `tau` (ms): dx/dt = (inf − x)/tau (Hodgkin & Huxley 1952)."""
    return relax(inf, 1.0 / tau, x)


def relax(inf: Any, rate: Any, x: Any) -> Pair:
    """Gate x that relaxes to `inf` at `rate` = 1/tau (1/ms): saves the division where tau is published as 1/(a + b)."""
    return (inf - x) * rate, -rate


def efold(v: Any, half: Any, slope: Any) -> Any:
    """exp((v − half)/slope), with v, half and slope in mV; a product with 1/slope, since a division costs as much as the rest."""
    return jnp.exp((v - half) * (1.0 / slope))


def sigmoid(e: Any) -> Any:
    """1/(1 + e), where e = exp((v − half)/slope): falls with v for slope > 0."""
    return 1.0 / (1.0 + e)


def nernst(rtzf: Any, outside: Any, inside: Any) -> Any:
    """Nernst potential (mV): rtzf ln(outside/inside), rtzf = RT/(zF) in mV, concentrations in mM."""
    return rtzf * jnp.log(outside / inside)


def bernoulli(x: Any, e: Any) -> Any:
    """x/(e − 1) with e = exp(x), also where x is near 0: there by its series x/(exp(x) − 1) = 1 − x/2 + x²/12 − x⁴/720 + …

    The series is exact to 1e-16 below |x| = 0.05; above it, e − 1 has lost at most a digit and a half (which matters in float32).
    """
    near = jnp.abs(x) < 0.05
    xx = x * x
    series = 1.0 - 0.5 * x + xx * (1.0 / 12.0 - xx * (1.0 / 720.0 - xx * (1.0 / 30240.0)))
    return jnp.where(near, series, x / jnp.where(near, 1.0, e - 1.0))


def ghk(x: Any, e: Any, inside: Any, outside: Any) -> Any:
    """Goldman-Hodgkin-Katz flux x (inside e − outside)/(e − 1), with x = zVF/RT, e = exp(x); in the unit of the concentrations.

    The current is P z F times it, for a permeability P (Hodgkin & Katz 1949); outward positive.
    """
    return bernoulli(x, e) * (inside * e - outside)


def ghk_slope(e: Any, inside: Any, outside: Any) -> Any:
    """Estimate of d ghk/dx, positive: the slope of x/(e − 1) is −1/(1 + e) within 0.1, and exactly so at 0 and far from it."""
    return (outside + inside * e) / (1.0 + e)

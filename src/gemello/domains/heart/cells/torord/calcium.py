"""Calcium of ToR-ORd: CaMKII, release, uptake and buffers (O'Hara 2011; release and uptake as in Tomek 2019)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import Pair, relax


def camk(y: Any, p: Any) -> tuple[Any, Pair]:
    """Fraction of the targets that CaMKII has phosphorylated, and trapped kinase CaMKt with its relaxation (Hund & Rudy 2004)."""
    reach = p.CaMKo * y.cass / (y.cass + p.KmCaM)
    bound = reach * (1.0 - y.CaMKt)
    active = bound + y.CaMKt
    slope = 0.05 * (bound * (1.0 - reach) - reach * active) - 0.00068
    return active / (active + p.KmCaMK), (0.05 * bound * active - 0.00068 * y.CaMKt, jnp.minimum(slope, 0.0))


class Release(NamedTuple):
    """Flux from the junctional reticulum, mM/ms of its volume, and its two gates."""

    flux: Any
    gates: dict[str, Pair]


def release(y: Any, p: Any, ical_ss: Any, phi: Any) -> Release:
    """Release through ryanodine receptors, driven by the calcium current at the subspace (Tomek 2019: half release at 1.7 mM)."""
    ratio = 1.7 / y.cajsr
    ratio = ratio * ratio
    ratio = ratio * ratio
    driven = -ical_ss / (1.0 + ratio * ratio)
    bt, btp = 4.75, 1.25 * 4.75  # ms
    open_jsr = 1.0 + 0.0123 / y.cajsr
    tau, tau_p = jnp.maximum(bt / open_jsr, 0.001), jnp.maximum(btp / open_jsr, 0.001)
    gates = {
        "Jrel_np": relax(0.5 * bt * p.Jrel_gain * driven, 1.0 / tau, y.Jrel_np),
        "Jrel_p": relax(0.5 * btp * p.Jrel_gain * driven, 1.0 / tau_p, y.Jrel_p),
    }
    return Release(p.Jrel * (y.Jrel_np + phi * (y.Jrel_p - y.Jrel_np)), gates)


def uptake(y: Any, p: Any, phi: Any) -> Any:
    """Net uptake into the network reticulum, leak off, mM/ms of its volume."""
    plain = 0.005425 * y.cai / (y.cai + 0.00092)
    phosphorylated = 2.75 * 0.005425 * y.cai / (y.cai + 0.00092 - 0.00017)
    return p.Jup * (plain + phi * (phosphorylated - plain)) - (0.0048825 / 15.0) * y.cansr


class Buffers(NamedTuple):
    """Fraction of a change of total calcium that stays free, in each compartment; and how it grows with that calcium (1/mM)."""

    i: Any
    ss: Any
    jsr: Any
    growth_ss: Any
    growth_jsr: Any


def buffers(y: Any, p: Any) -> Buffers:
    """Rapid buffers: calmodulin and troponin; sarcolemmal and reticular sites; calsequestrin (O'Hara 2011)."""

    def held(total: Any, half: Any, c: Any) -> tuple[Any, Any]:
        free = 1.0 / (half + c)
        return total * half * free * free, free

    (slow, f_slow), (fast, f_fast) = held(p.BSRmax, p.KmBSR, y.cass), held(p.BSLmax, p.KmBSL, y.cass)
    ss = 1.0 / (1.0 + slow + fast)
    cytosol = held(p.cmdnmax, p.kmcmdn, y.cai)[0] + held(p.trpnmax, p.kmtrpn, y.cai)[0]
    stored, f_stored = held(p.csqnmax, p.kmcsqn, y.cajsr)
    jsr = 1.0 / (1.0 + stored)
    growth_ss = 2.0 * ss * ss * (slow * f_slow + fast * f_fast)
    return Buffers(1.0 / (1.0 + cytosol), ss, jsr, growth_ss, 2.0 * jsr * jsr * stored * f_stored)

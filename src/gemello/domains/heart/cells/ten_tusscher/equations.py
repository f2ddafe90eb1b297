"""Ten Tusscher & Panfilov, Am J Physiol Heart Circ Physiol 291:H1088-H1100, 2006: equations, one function per group of currents.

The gates of INa, IKr, IKs, Ito and the exchangers are those of ten Tusscher, Noble, Noble & Panfilov, Am J Physiol Heart Circ
Physiol 286:H1573-H1589, 2004, as the paper of 2006 changed them. Potentials in mV, time in ms, concentrations in mM, currents in
uA/uF. Many gates share an exponential of the potential: exp(V/20) gives those of V/10 and V/5, exp(V/14) that of V/7.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import Pair, bernoulli, efold, gate, nernst, relax, sigmoid


class Currents(NamedTuple):
    """Membrane currents, uA/uF, outward positive."""

    INa: Any
    ICaL: Any
    Ito: Any
    IKr: Any
    IKs: Any
    IK1: Any
    INaCa: Any
    INaK: Any
    IpCa: Any
    IpK: Any
    IbNa: Any
    IbCa: Any


class Shared(NamedTuple):
    """Exponentials of the potential that several gates and currents use."""

    e5: Any
    e6: Any
    e7: Any
    e10: Any
    e14: Any
    e20: Any
    vfrt: Any
    down: Any  # exp(−VF/RT)


def shared(v: Any, p: Any) -> Shared:
    """exp(V/5) … exp(V/20) and exp(−VF/RT)."""
    e20, e14, vfrt = jnp.exp(v * (1.0 / 20.0)), jnp.exp(v * (1.0 / 14.0)), v * (p.F / (p.R * p.T))
    e10 = e20 * e20
    return Shared(e10 * e10, jnp.exp(v * (1.0 / 6.0)), e14 * e14, e10, e14, e20, vfrt, jnp.exp(-vfrt))


def _from(half: float, slope: float) -> float:
    """exp(−half/slope): what turns exp(V/slope) into exp((V − half)/slope)."""
    return math.exp(-half / slope)


def sodium_gates(y: Any, x: Shared) -> tuple[Pair, Pair, Pair]:
    """m, h, j of INa (2004, "Fast Na+ current"). h and j change their rates at −40 mV."""
    v = y.V
    m_inf = sigmoid(efold(v, -56.86, -9.03))
    tau_m = (0.1 * sigmoid(_from(-35.0, 5.0) * x.e5) + 0.1 * sigmoid(efold(v, 50.0, 200.0))) * sigmoid(_from(60.0, 5.0) / x.e5)
    h_inf = sigmoid(efold(v, -71.55, 7.43))
    low = v < -40.0
    h_low = 0.057 * efold(v, -80.0, -6.8) + 2.7 * jnp.exp(0.079 * v) + 3.1e5 * jnp.exp(0.3485 * v)
    h_high = 0.77 / 0.13 * sigmoid(efold(v, -10.66, -11.1))
    rise = (-2.5428e4 * jnp.exp(0.2444 * v) - 6.948e-6 * jnp.exp(-0.04391 * v)) * (v + 37.78)
    j_low = rise * sigmoid(jnp.exp(0.311 * (v + 79.23))) + 0.02424 * jnp.exp(-0.01052 * v) * sigmoid(
        jnp.exp(-0.1378 * (v + 40.14))
    )
    j_high = 0.6 * jnp.exp(0.057 * v) * sigmoid(_from(32.0, 10.0) / x.e10)
    h, j = jnp.where(low, h_low, h_high), jnp.where(low, j_low, j_high)
    return gate(m_inf * m_inf, tau_m, y.m), relax(h_inf * h_inf, h, y.h), relax(h_inf * h_inf, j, y.j)


def calcium_gates(y: Any, x: Shared) -> tuple[Pair, Pair, Pair, Pair]:
    """d, f, f2, fCass of ICaL (2006, "L-type Ca2+ current")."""
    v = y.V
    tau_d = (1.4 * sigmoid(efold(v, -35.0, -13.0)) + 0.25) * (1.4 * sigmoid(_from(-5.0, 5.0) * x.e5)) + sigmoid(
        _from(-50.0, 20.0) / x.e20
    )
    fast, late = sigmoid(_from(-30.0, 10.0) * x.e10), 1.0 / x.e10
    away = (v + 27.0) * (v + 27.0)
    tau_f = 1102.5 * jnp.exp(away * (-1.0 / 225.0)) + 200.0 * sigmoid(_from(-13.0, 10.0) * late) + 180.0 * fast + 20.0
    tau_f2 = 562.0 * jnp.exp(away * (-1.0 / 240.0)) + 31.0 * sigmoid(_from(-25.0, 10.0) * late) + 80.0 * fast
    bound = y.CaSS * (1.0 / 0.05)
    free = 1.0 / (1.0 + bound * bound)
    return (
        gate(sigmoid(efold(v, -8.0, -7.5)), tau_d, y.d),
        gate(sigmoid(_from(-20.0, 7.0) * x.e7), tau_f, y.f),
        gate(0.67 * sigmoid(_from(-35.0, 7.0) * x.e7) + 0.33, tau_f2, y.f2),
        gate(0.6 * free + 0.4, 80.0 * free + 2.0, y.fCass),
    )


def transient_gates(y: Any, p: Any, x: Shared) -> tuple[Pair, Pair]:
    """r, s of Ito (2004, "Transient outward current"). s differs between layers, by parameters."""
    v = y.V
    away, centre = v + 40.0, v - p.sTauCentre
    tau_r = 9.5 * jnp.exp(away * away * (-1.0 / 1800.0)) + 0.8
    tau_s = p.sTauPeak * jnp.exp(-centre * centre / p.sTauWidth) + p.sTauLow * sigmoid(_from(20.0, 5.0) * x.e5) + p.sTauBase
    s_inf = sigmoid(x.e5 * jnp.exp(-0.2 * p.sHalf))
    return gate(sigmoid(_from(-20.0, 6.0) / x.e6), tau_r, y.r), gate(s_inf, tau_s, y.s)


def rectifier_gates(y: Any, x: Shared) -> tuple[Pair, Pair, Pair]:
    """xr1, xr2 of IKr and xs of IKs (2004, "Rapid" and "Slow delayed rectifier current"; 2006 for xs)."""
    v = y.V
    tau_xr1 = 2700.0 * sigmoid(_from(45.0, 10.0) / x.e10) * sigmoid(efold(v, -30.0, 11.5))
    tau_xr2 = 3.36 * sigmoid(_from(60.0, 20.0) / x.e20) * sigmoid(_from(60.0, 20.0) * x.e20)
    tau_xs = 1400.0 / jnp.sqrt(1.0 + _from(-5.0, 6.0) / x.e6) * sigmoid(efold(v, 35.0, 15.0)) + 80.0
    return (
        gate(sigmoid(_from(26.0, 7.0) / x.e7), tau_xr1, y.xr1),
        gate(sigmoid(efold(v, -88.0, 24.0)), tau_xr2, y.xr2),
        gate(sigmoid(_from(5.0, 14.0) / x.e14), tau_xs, y.xs),
    )


def potassium_currents(y: Any, p: Any, x: Shared) -> tuple[Any, Any, Any, Any, Any]:
    """Ito, IKr, IKs, IK1, IpK (2004, sections of the same names)."""
    v, rtf, square = y.V, p.R * p.T / p.F, jnp.sqrt(p.Ko * (1.0 / 5.4))
    u = v - nernst(rtf, p.Ko, y.Ki)
    e_ks = nernst(rtf, p.Ko + p.pKNa * p.Nao, y.Ki + p.pKNa * y.Nai)
    e10 = jnp.exp(0.1 * u)
    opening = 0.1 / (1.0 + jnp.exp(0.06 * (u - 200.0)))
    e2 = e10 * e10
    closing = (3.0 * jnp.exp(0.0002 * (u + 100.0)) + math.exp(-1.0) * e10) / (1.0 + 1.0 / (e2 * e2 * e10))
    return (
        p.Gto * y.r * y.s * u,
        p.GKr * square * y.xr1 * y.xr2 * u,
        p.GKs * y.xs * y.xs * (v - e_ks),
        p.GK1 * square * opening / (opening + closing) * u,
        p.GpK * u * sigmoid(efold(v, 25.0, -5.98)),
    )


def calcium_current(y: Any, p: Any, x: Shared) -> Any:
    """ICaL (2006, "L-type Ca2+ current"), finite at 15 mV, where the published form is 0/0."""
    rtf = p.R * p.T / p.F
    twice = 2.0 * (y.V - 15.0) / rtf
    e = jnp.exp(-30.0 / rtf) / (x.down * x.down)
    return p.GCaL * y.d * y.f * y.f2 * y.fCass * 2.0 * p.F * bernoulli(twice, e) * (0.25 * y.CaSS * e - p.Cao)


def exchangers(y: Any, p: Any, x: Shared) -> tuple[Any, Any, Any]:
    """INaCa, INaK, IpCa (2004, sections of the same names)."""
    forward = jnp.exp(p.gamma * x.vfrt)
    reverse = forward * x.down
    charge = forward * y.Nai * y.Nai * y.Nai * p.Cao - reverse * p.Nao**3 * y.Cai * p.alpha
    exchange = p.kNaCa * charge / ((p.KmNai**3 + p.Nao**3) * (p.KmCa + p.Cao) * (1.0 + p.ksat * reverse))
    pump = p.PNaK * p.Ko / (p.Ko + p.KmK) * y.Nai
    pump = pump / ((y.Nai + p.KmNa) * (1.0 + 0.1245 * jnp.exp(-0.1 * x.vfrt) + 0.0353 * x.down))
    return exchange, pump, p.GpCa * y.Cai / (p.KpCa + y.Cai)


def currents(y: Any, p: Any, x: Shared) -> Currents:
    """All currents at state y."""
    rtf = p.R * p.T / p.F
    to_sodium, to_calcium = y.V - nernst(rtf, p.Nao, y.Nai), y.V - nernst(0.5 * rtf, p.Cao, y.Cai)
    ito, ikr, iks, ik1, ipk = potassium_currents(y, p, x)
    inaca, inak, ipca = exchangers(y, p, x)
    return Currents(
        INa=p.GNa * y.m * y.m * y.m * y.h * y.j * to_sodium,
        ICaL=calcium_current(y, p, x),
        Ito=ito,
        IKr=ikr,
        IKs=iks,
        IK1=ik1,
        INaCa=inaca,
        INaK=inak,
        IpCa=ipca,
        IpK=ipk,
        IbNa=p.GbNa * to_sodium,
        IbCa=p.GbCa * to_calcium,
    )


class Calcium(NamedTuple):
    """Pairs (derivative, relaxation) of the calcium subsystem."""

    Cai: Pair
    CaSR: Pair
    CaSS: Pair
    Rprime: Pair


def calcium(y: Any, p: Any, i: Currents) -> Calcium:
    """Release, uptake, leak, transfer and buffers (2006, "Calcium dynamics"), each buffer at its rapid equilibrium."""
    ratio = p.EC / y.CaSR
    load = p.maxSR - (p.maxSR - p.minSR) / (1.0 + ratio * ratio)
    opened = p.k1prime / load * y.CaSS * y.CaSS
    channel = opened * y.Rprime / (p.k3 + opened)
    release = p.Vrel * channel * (y.CaSR - y.CaSS)
    leak = p.Vleak * (y.CaSR - y.Cai)
    uptake = p.Vmaxup * y.Cai * y.Cai / (y.Cai * y.Cai + p.Kup * p.Kup)
    transfer = p.Vxfer * (y.CaSS - y.Cai)
    free_i, free_sr, free_ss = (
        _free(y.Cai, p.Bufc, p.Kbufc),
        _free(y.CaSR, p.Bufsr, p.Kbufsr),
        _free(y.CaSS, p.Bufss, p.Kbufss),
    )
    per_charge = p.Cm / (2.0 * p.F)
    into_i = (leak - uptake) * (p.Vsr / p.Vc) + transfer - (i.IbCa + i.IpCa - 2.0 * i.INaCa) * (per_charge / p.Vc)
    into_ss = release * (p.Vsr / p.Vss) - transfer * (p.Vc / p.Vss) - i.ICaL * (per_charge / p.Vss)
    # of the subspace's diagonal only what empties it: its buffers and the gain of the release are left out
    empties = -free_ss * (p.Vxfer * p.Vc + p.Vrel * channel * p.Vsr) / p.Vss
    closing = p.k2prime * load * y.CaSS
    return Calcium(
        (free_i * into_i, 0.0),
        (free_sr * (uptake - release - leak), 0.0),
        (free_ss * into_ss, empties),
        (p.k4 * (1.0 - y.Rprime) - closing * y.Rprime, -(closing + p.k4)),
    )


def _free(c: Any, total: Any, k: Any) -> Any:
    """Part of the calcium that stays free: 1/(1 + B K/(c + K)²), in one division."""
    s = (c + k) * (c + k)
    return s / (s + total * k)


def rates(y: Any, p: Any, stimulus: Any) -> tuple[Any, Any, Currents]:
    """Derivatives, relaxation rates (1/ms) and currents (uA/uF); the stimulus carries potassium."""
    x = shared(y.V, p)
    i = currents(y, p, x)
    per_volume = p.Cm / (p.Vc * p.F)
    d, f, f2, fcass = calcium_gates(y, x)
    m, h, j = sodium_gates(y, x)
    r, s = transient_gates(y, p, x)
    xr1, xr2, xs = rectifier_gates(y, x)
    ca = calcium(y, p, i)
    pairs = {
        "V": (-(sum(i) + stimulus), 0.0),
        "m": m, "h": h, "j": j, "d": d, "f": f, "f2": f2, "fCass": fcass, "r": r, "s": s, "xr1": xr1, "xr2": xr2, "xs": xs,
        "Cai": ca.Cai, "CaSR": ca.CaSR, "CaSS": ca.CaSS, "Rprime": ca.Rprime,
        "Nai": (-(i.INa + i.IbNa + 3.0 * i.INaK + 3.0 * i.INaCa) * per_volume, 0.0),
        "Ki": (-(i.IK1 + i.Ito + i.IKr + i.IKs + i.IpK + stimulus - 2.0 * i.INaK) * per_volume, 0.0),
    }  # fmt: skip
    state = type(y)
    return state(**{n: q[0] for n, q in pairs.items()}), state(**{n: q[1] for n, q in pairs.items()}), i

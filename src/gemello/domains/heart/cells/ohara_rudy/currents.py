"""Gated membrane currents of O'Hara, Virág, Varró & Rudy, PLoS Comput Biol 7:e1002061, 2011, in the order of its Text S1.

Each function takes the state y, the individual parameters p and what depends on the potential alone (`Voltage`), and gives a
`Part`. Rates published as 1/(a + b) are used as a + b, and exponentials that are powers of one another are taken once: exp is
most of the cost of a cell.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import Pair, bernoulli, efold, ghk_slope, relax, sigmoid

_K_CAMK = 0.15  # mM: half the effect of active CaMKII (section CaMKII phosphorylation)


class Voltage(NamedTuple):
    """What depends on the potential alone, and the reversal potentials (mV).

    x = VF/RT; e3, e = exp(x/3), exp(x); r and c = exp(−v/60), exp(v/60); c75, c100 = exp(v/75), exp(−v/100).
    """

    v: Any
    x: Any
    e3: Any
    e: Any
    c: Any
    r: Any
    c75: Any
    r100: Any
    ENa: Any
    EK: Any
    EKs: Any


class Part(NamedTuple):
    """A current (uA/uF), its conductance at this state (mS/uF, at least 0), its gates by name; M where these are a chain."""

    current: Any
    conductance: Any
    gates: dict[str, Pair]
    coupled: tuple[tuple[tuple[Any, ...], ...], ...] = ()


def voltage(y: Any, p: Any) -> Voltage:
    """Shared exponentials and reversal potentials (section Reversal Potentials; PNaK = 0.01833)."""
    x = y.v * p.frt
    e3 = jnp.exp(x * (1.0 / 3.0))
    base = jnp.exp(y.v * (1.0 / 300.0))
    base2 = base * base
    base3 = base2 * base
    c, r100 = base3 * base2, 1.0 / base3
    return Voltage(
        y.v,
        x,
        e3,
        e3 * e3 * e3,
        c,
        1.0 / c,
        base2 * base2,
        r100,
        p.rtf * jnp.log(p.nao / y.nai),
        p.rtf * jnp.log(p.ko / y.ki),
        p.rtf * jnp.log((p.ko + 0.01833 * p.nao) / (y.ki + 0.01833 * y.nai)),
    )


def phosphorylated(camka: Any) -> Any:
    """Fraction of channels that CaMKII has phosphorylated, 1/(1 + KmCaMK/CaMKa); the same for every target."""
    return camka / (camka + _K_CAMK)


def fast_sodium(y: Any, p: Any, u: Voltage, phi: Any) -> tuple[Part, Any]:
    """INa, and 1/tau of m, which INaL shares (section INa)."""
    v = u.v
    m_rate = 6.765 * efold(v, -11.64, 34.77) + 8.552 * efold(v, -77.42, -5.955)
    e = efold(v, -82.9, 6.086)
    h_inf, hp_inf = sigmoid(e), sigmoid(e * math.exp(6.2 / 6.086))
    fast = 1.432e-5 * efold(v, -1.196, -6.285) + 6.149 * efold(v, -0.5096, 20.27)
    slow = 0.009794 * efold(v, -17.95, -28.05) + 0.3343 * efold(v, -5.73, 56.66)
    j = 0.02136 * efold(v, -100.6, -8.281) + 0.3052 * efold(v, -0.9941, 38.45)
    j_rate = j / (1.0 + 2.038 * j)
    h, hp = 0.99 * y.hf + 0.01 * y.hs, 0.99 * y.hf + 0.01 * y.hsp
    conductance = p.GNa * y.m * y.m * y.m * ((1.0 - phi) * h * y.j + phi * hp * y.jp)
    gates = {
        "m": relax(sigmoid(efold(v, -39.57, -9.871)), m_rate, y.m),
        "hf": relax(h_inf, fast, y.hf),
        "hs": relax(h_inf, slow, y.hs),
        "j": relax(h_inf, j_rate, y.j),
        "hsp": relax(hp_inf, slow * (1.0 / 3.0), y.hsp),
        "jp": relax(h_inf, j_rate * (1.0 / 1.46), y.jp),
    }
    return Part(conductance * (v - u.ENa), conductance, gates), m_rate


def late_sodium(y: Any, p: Any, u: Voltage, phi: Any, m_rate: Any) -> Part:
    """INaL (section INa: late component)."""
    e = efold(u.v, -87.61, 7.488)
    conductance = p.GNaL * y.mL * ((1.0 - phi) * y.hL + phi * y.hLp)
    gates = {
        "mL": relax(sigmoid(efold(u.v, -42.85, -5.264)), m_rate, y.mL),
        "hL": relax(sigmoid(e), 1.0 / 200.0, y.hL),
        "hLp": relax(sigmoid(e * math.exp(6.2 / 7.488)), 1.0 / 600.0, y.hLp),
    }
    return Part(conductance * (u.v - u.ENa), conductance, gates)


def transient_outward(y: Any, p: Any, u: Voltage, phi: Any) -> Part:
    """Ito; `slowing` (epi: 0.95) is the fraction taken off the time constants of inactivation at rest (section Ito)."""
    v = u.v
    e = efold(v, 14.34, -14.82)
    f = efold(v, -100.0, 29.3814)
    f1, fk = 1.0 + f, f + math.exp(118.4099 / 29.3814)
    a_rate = (f * f1 * (1.0 / 1.2089) + 3.5 * fk) / (1.0515 * f1 * fk)
    c3 = u.c * u.c * u.c
    c6 = c3 * c3
    rest = 1.0 + c6 * c6 * math.exp(14.0)
    fast = 0.3933 * math.exp(-1.0) * u.r100 + 0.08004 * efold(v, -50.0, 16.59)
    slow = 0.001416 * efold(v, -96.52, -59.05) + 1.78e-8 * efold(v, -114.1, 8.079)
    shorter = rest / (rest - p.slowing)
    fast_rate, slow_rate = shorter * fast / (1.0 + 4.562 * fast), shorter * slow / (1.0 + 23.62 * slow)
    develop = efold(v, 167.4, 15.89) + jnp.exp(
        jnp.minimum((v - 12.23) * (-1.0 / 0.2154), 70.0)
    )  # beyond, 1e-4/develop is nothing
    recover = c3 * math.exp(3.5)
    longer = develop * (1.0 + recover) / ((1.354 * develop + 1e-4) * (0.5 + recover))
    inf, share = sigmoid(efold(v, -43.94, 5.711)), sigmoid(efold(v, 213.6, 151.2))
    i, ip = y.iS + share * (y.iF - y.iS), y.iSp + share * (y.iFp - y.iSp)
    conductance = p.Gto * ((1.0 - phi) * y.a * i + phi * y.ap * ip)
    gates = {
        "a": relax(sigmoid(e), a_rate, y.a),
        "iF": relax(inf, fast_rate, y.iF),
        "iS": relax(inf, slow_rate, y.iS),
        "ap": relax(sigmoid(e * math.exp(10.0 / 14.82)), a_rate, y.ap),
        "iFp": relax(inf, fast_rate * longer, y.iFp),
        "iSp": relax(inf, slow_rate * longer, y.iSp),
    }
    return Part(conductance * (v - u.EK), conductance, gates)


class CalciumChannel(NamedTuple):
    """ICaL, ICaNa and ICaK (uA/uF), their slope conductances (mS/uF), and the gates by name."""

    calcium: Any
    sodium: Any
    potassium: Any
    slopes: tuple[Any, Any, Any]
    gates: dict[str, Pair]


def calcium_channel(y: Any, p: Any, u: Voltage, phi: Any) -> CalciumChannel:
    """ICaL, ICaNa, ICaK: one channel, three ions (section ICaL). PCap = 1.1 PCa, PCaNa = 0.00125 PCa, PCaK = 3.574e-4 PCa."""
    c3 = u.c * u.c * u.c
    share = sigmoid(c3 * c3 * math.exp(-1.0))
    af, as_ = 0.3 + 0.6 * share, 0.7 - 0.6 * share
    f, fp = 0.6 * y.ff + 0.4 * y.fs, 0.6 * y.ffp + 0.4 * y.fs
    slow = as_ * y.fcas
    fca, fcap = af * y.fcaf + slow, af * y.fcafp + slow
    free, bound = 1.0 - y.nca, y.jca * y.nca
    opened = p.PCa * y.d * ((1.0 - phi) * (f * free + fca * bound) + 1.1 * phi * (fp * free + fcap * bound))
    unit = p.F * opened  # permeability x Faraday: uA/uF per mM
    b, e2 = bernoulli(u.x, u.e), u.e * u.e
    kss, nass, nao, ko, cao = 0.75 * y.kss, 0.75 * y.nass, 0.75 * p.nao, 0.75 * p.ko, 0.341 * p.cao
    calcium = 4.0 * unit * b / (u.e + 1.0) * (y.cass * e2 - cao)
    sodium, potassium = 0.00125 * unit * b, 0.0003574 * unit * b
    slopes = (
        4.0 * unit * p.frt * ghk_slope(e2, y.cass, cao),
        0.00125 * unit * p.frt * ghk_slope(u.e, nass, nao),
        0.0003574 * unit * p.frt * ghk_slope(u.e, kss, ko),
    )
    gates = _calcium_gates(y, u)
    return CalciumChannel(calcium, sodium * (nass * u.e - nao), potassium * (kss * u.e - ko), slopes, gates)


def _calcium_gates(y: Any, u: Voltage) -> dict[str, Pair]:
    """Gates of ICaL; n of calmodulin answers to the subspace calcium (k2n = 1000/ms, Kmn = 0.002 mM)."""
    v, c, r = u.v, u.c, u.r
    c2, r2 = c * c, r * r
    c3, r3 = c2 * c, r2 * r
    c5, r5, c6, r6 = c3 * c2, r3 * r2, c3 * c3, r3 * r3
    r15 = r5 * r5 * r5
    inf = sigmoid(efold(v, -19.58, 3.696))
    d = math.exp(-0.3) * r3 + efold(v, -14.0, 1.0 / 0.09)
    ff = 0.0045 * (math.exp(-2.0) * r6 + math.exp(2.0) * c6)
    fs = 3.5e-5 * (math.exp(-1.25) * r15 + math.exp(5.0 / 6.0) * c5 * c5)
    seventh = jnp.exp(v * (1.0 / 7.0))
    fcaf = 0.04 * (math.exp(4.0 / 7.0) / seventh + math.exp(-4.0 / 7.0) * seventh)
    fcas = 1.2e-4 * (r15 * r5 + seventh)
    ff_rate, fcaf_rate = ff / (1.0 + 7.0 * ff), fcaf / (1.0 + 7.0 * fcaf)
    away = (y.cass + 0.002) / y.cass
    away = away * away
    return {
        "d": relax(sigmoid(efold(v, -3.94, -4.23)), d / (1.0 + 0.6 * d), y.d),
        "ff": relax(inf, ff_rate, y.ff),
        "fs": relax(inf, fs / (1.0 + 1000.0 * fs), y.fs),
        "fcaf": relax(inf, fcaf_rate, y.fcaf),
        "fcas": relax(inf, fcas / (1.0 + 100.0 * fcas), y.fcas),
        "jca": relax(inf, 1.0 / 75.0, y.jca),
        "ffp": relax(inf, ff_rate * 0.4, y.ffp),
        "fcafp": relax(inf, fcaf_rate * 0.4, y.fcafp),
        "nca": (1000.0 * y.jca / (1000.0 + y.jca * away * away) - y.nca * y.jca, -y.jca),
    }


def rapid_rectifier(y: Any, p: Any, u: Voltage) -> Part:
    """IKr of 2011, two gates and an instantaneous rectification (section IKr)."""
    v = u.v
    inf = sigmoid(efold(v, -8.337, -6.789))
    fast = 0.3652 * efold(v, 31.66, 3.869) + 4.123e-5 * efold(v, 47.78, -20.38)
    slow = 0.06629 * efold(v, 34.7, 7.355) + 1.128e-5 * efold(v, 29.74, -25.94)
    share = sigmoid(efold(v, -54.81, 38.21))
    rectified = (1.0 + u.c75 * math.exp(55.0 / 75.0)) * (1.0 + u.c * u.c * math.exp(-1.0 / 3.0))
    conductance = p.GKr * p.ko_kr * (y.xrs + share * (y.xrf - y.xrs)) / rectified
    gates = {
        "xrf": relax(inf, fast / (1.0 + 12.98 * fast), y.xrf),
        "xrs": relax(inf, slow / (1.0 + 1.865 * slow), y.xrs),
    }
    return Part(conductance * (v - u.EK), conductance, gates)


def slow_rectifier(y: Any, p: Any, u: Voltage) -> Part:
    """IKs, more of it with calcium (section IKs)."""
    v = u.v
    inf = sigmoid(efold(v, -11.6, -8.932))
    one = 2.326e-4 * efold(v, -48.28, 17.8) + 0.001292 * efold(v, -210.0, -230.0)
    two = 0.01 * math.exp(-2.5) * u.c * u.c * u.c + 0.0193 * efold(v, -66.54, -31.0)
    by_calcium = 1.0 + 0.6 * sigmoid(jnp.exp(1.4 * jnp.log(3.8e-5 / y.cai)))
    conductance = p.GKs * by_calcium * y.xs1 * y.xs2
    gates = {"xs1": relax(inf, one / (1.0 + 817.3 * one), y.xs1), "xs2": relax(inf, two, y.xs2)}
    return Part(conductance * (v - u.EKs), conductance, gates)


def inward_rectifier(y: Any, p: Any, u: Voltage) -> Part:
    """IK1 (section IK1)."""
    v = u.v
    inf = sigmoid(jnp.exp(-(v + 2.5538 * p.ko + 144.59) * p.k1_slope))
    rate = (efold(v, -127.2, -20.36) + efold(v, -236.8, 69.33)) * (1.0 / 122.2)
    conductance = p.GK1 * p.ko_k1 * y.xk1 * sigmoid(jnp.exp((v + 105.8 - 2.6 * p.ko) * (1.0 / 9.493)))
    return Part(conductance * (v - u.EK), conductance, {"xk1": relax(inf, rate, y.xk1)})


def background_potassium(p: Any, u: Voltage) -> Part:
    """IKb (section Background Currents)."""
    conductance = p.GKb * sigmoid(efold(u.v, 14.48, -18.34))
    return Part(conductance * (u.v - u.EK), conductance, {})


def background_sodium(y: Any, p: Any, u: Voltage) -> Any:
    """INab, uA/uF (section Background Currents)."""
    return p.PNab * p.F * bernoulli(u.x, u.e) * (y.nai * u.e - p.nao)


def background_calcium(y: Any, p: Any, u: Voltage) -> Any:
    """ICab, uA/uF (section Background Currents)."""
    return 4.0 * p.PCab * p.F * bernoulli(u.x, u.e) / (u.e + 1.0) * (y.cai * u.e * u.e - 0.341 * p.cao)


def calcium_pump(y: Any, p: Any) -> Any:
    """IpCa, uA/uF; half its maximum at 0.0005 mM (section Background Currents)."""
    return p.GpCa * y.cai / (0.0005 + y.cai)

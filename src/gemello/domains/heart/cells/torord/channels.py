"""Ion channels of ToR-ORd. Each function gives the current, its slope against v and the gates it moves.

y state, p parameters, w shared exponentials (`physics.powers`), drive = v − E (mV), phi fraction phosphorylated by CaMKII.
"""

from __future__ import annotations

from math import exp
from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import Pair, gate, ghk_slope, relax, sigmoid
from gemello.domains.heart.cells.torord.physics import MARKOV, RTF, F, Powers, T

Matrix = tuple[tuple[Any, ...], ...]


class Channel(NamedTuple):
    """Current (uA/uF), its slope against v with the gates held (mS/uF) and the gates' derivatives and relaxations."""

    current: Any
    slope: Any
    gates: dict[str, Pair]


def ohmic(conductance: Any, drive: Any, gates: dict[str, Pair] | None = None) -> Channel:
    return Channel(conductance * drive, conductance, gates or {})


def sodium_activation(v: Any) -> Any:
    """Time constant (ms) of m and mL (Tomek 2019, INa after Grandi 2010)."""
    a, b = (v + 45.79) * (1.0 / 15.54), (v - 4.823) * (1.0 / 51.12)
    return 0.1292 * jnp.exp(-a * a) + 0.06487 * jnp.exp(-b * b)


def sodium_inactivation(v: Any) -> tuple[Any, Any]:
    """Rates 1/tau (1/ms) of h and j: sums of the opening and closing rates of ten Tusscher 2006, which change form at −40 mV."""
    high = v >= -40.0
    one = jnp.exp(jnp.where(high, -(v + 10.66) * (1.0 / 11.1), 0.079 * v))
    two = jnp.exp(jnp.where(high, 0.057 * v, -0.01052 * v))
    three = jnp.exp(jnp.where(high, -0.1 * (v + 32.0), -0.1378 * (v + 40.14)))
    h_low = 0.057 * jnp.exp(-(v + 80.0) * (1.0 / 6.8)) + 2.7 * one + 3.1e5 * jnp.exp(0.3485 * v)
    h = jnp.where(high, (0.77 / 0.13) / (1.0 + one), h_low)
    growing, falling = 25428.0 * jnp.exp(0.2444 * v), 6.948e-6 * jnp.exp(-0.04391 * v)
    j_opening = -(growing + falling) * (v + 37.78) / (1.0 + jnp.exp(0.311 * (v + 79.23)))
    j = jnp.where(high, 0.0, j_opening) + jnp.where(high, 0.6, 0.02424) * two / (1.0 + three)
    return h, j


def sodium(y: Any, p: Any, tau: Any, drive: Any, phi: Any) -> Channel:
    """Fast sodium current (Tomek 2019). tau of m, ms."""
    v = y.v
    m_inf = sigmoid(jnp.exp(-(v + 56.86) * (1.0 / 9.03)))
    e = jnp.exp((v + 71.55) * (1.0 / 7.43))
    inf, inf_p = sigmoid(e), sigmoid(e * exp(6.0 / 7.43))
    inf, inf_p = inf * inf, inf_p * inf_p
    rate_h, rate_j = sodium_inactivation(v)
    gates = {
        "m": gate(m_inf * m_inf, tau, y.m),
        "h": relax(inf, rate_h, y.h),
        "j": relax(inf, rate_j, y.j),
        "hp": relax(inf_p, rate_h, y.hp),
        "jp": relax(inf, rate_j * (1.0 / 1.46), y.jp),
    }
    return ohmic(p.GNa * y.m * y.m * y.m * ((1.0 - phi) * y.h * y.j + phi * y.hp * y.jp), drive, gates)


def late_sodium(y: Any, p: Any, tau: Any, drive: Any, phi: Any) -> Channel:
    """Late sodium current (O'Hara 2011; activation as in Tomek 2019). tau of mL, ms."""
    e = jnp.exp((y.v + 87.61) * (1.0 / 7.488))
    gates = {
        "mL": gate(sigmoid(jnp.exp(-(y.v + 42.85) * (1.0 / 5.264))), tau, y.mL),
        "hL": relax(sigmoid(e), 1.0 / 200.0, y.hL),
        "hLp": relax(sigmoid(e * exp(6.2 / 7.488)), 1.0 / 600.0, y.hLp),
    }
    return ohmic(p.GNaL * y.mL * ((1.0 - phi) * y.hL + phi * y.hLp), drive, gates)


def transient_outward(y: Any, p: Any, w: Powers, drive: Any, phi: Any) -> Channel:
    """Transient outward potassium current (O'Hara 2011)."""
    v = y.v
    e = jnp.exp(-(v - 14.34) * (1.0 / 14.82))
    e29 = jnp.exp(v * (1.0 / 29.3814))
    rate_a = e29 / (1.2089 * 1.0515 * (e29 + exp(18.4099 / 29.3814))) + (3.5 / 1.0515) / (1.0 + exp(100.0 / 29.3814) * e29)
    inf = sigmoid(jnp.exp((v + 43.94) * (1.0 / 5.711)))
    slowing = 1.0 - p.slowing / (1.0 + exp(14.0) * w.e5)
    fast = 4.562 + 1.0 / (0.3933 * exp(-1.0) / w.e100 + 0.08004 * jnp.exp((v + 50.0) * (1.0 / 16.59)))
    slow = 23.62 + 1.0 / (0.001416 * jnp.exp(-(v + 96.52) * (1.0 / 59.05)) + 1.78e-8 * jnp.exp((v + 114.1) * (1.0 / 8.079)))
    rate_f, rate_s = 1.0 / (fast * slowing), 1.0 / (slow * slowing)
    steep = jnp.exp(jnp.minimum(-(v - 12.23) * (1.0 / 0.2154), 80.0))  # would overflow in float32; 1e-4/exp(80) is nothing
    develop = 1.354 + 1e-4 / (jnp.exp((v - 167.4) * (1.0 / 15.89)) + steep)
    recover = 1.0 - 0.5 / (1.0 + exp(3.5) * w.e20)
    slower = 1.0 / (develop * recover)
    gates = {
        "a": relax(sigmoid(e), rate_a, y.a),
        "iF": relax(inf, rate_f, y.iF),
        "iS": relax(inf, rate_s, y.iS),
        "ap": relax(sigmoid(e * exp(10.0 / 14.82)), rate_a, y.ap),
        "iFp": relax(inf, rate_f * slower, y.iFp),
        "iSp": relax(inf, rate_s * slower, y.iSp),
    }
    share = sigmoid(jnp.exp((v - 213.6) * (1.0 / 151.2)))
    i, ip = y.iS + share * (y.iF - y.iS), y.iSp + share * (y.iFp - y.iSp)
    return ohmic(p.Gto * ((1.0 - phi) * y.a * i + phi * y.ap * ip), drive, gates)


# ---- L-type calcium channel ---------------------------------------------------------------------------------------------
class Calcium(NamedTuple):
    """What the L-type channel carries (uA/uF) next to the subspace (ss) and to the bulk of the cytosol (i); slopes against v
    (mS/uF) and, at the subspace, against its calcium (uA/uF per mM); gates."""

    ca_ss: Any
    ca_i: Any
    na_ss: Any
    na_i: Any
    k_ss: Any
    k_i: Any
    slope: Any
    slope_cass: Any
    gates: dict[str, Pair]


def activity(y: Any, p: Any) -> tuple[Any, Any, Any]:
    """Activity coefficients of monovalent ions in subspace, cytosol and outside (Davies equation; Tomek 2019).

    Those of calcium are their fourth powers.
    """
    davies = 1.82e6 * (74.0 * T) ** -1.5

    def coefficient(sodium: Any, potassium: Any, chloride: Any, calcium: Any) -> Any:
        strength = 0.0005 * (sodium + potassium + chloride + 4.0 * calcium)
        root = jnp.sqrt(strength)
        return jnp.exp(-davies * (root / (1.0 + root) - 0.3 * strength))

    return (
        coefficient(y.nass, y.kss, y.clss, y.cass),
        coefficient(y.nai, y.ki, y.cli, y.cai),
        coefficient(p.nao, p.ko, p.clo, p.cao),
    )


def calcium_gates(y: Any, w: Powers) -> dict[str, Pair]:
    """Voltage gates of the L-type channel and the calmodulin modes of its two places (Tomek 2019; O'Hara 2011)."""
    v = y.v
    d_inf = jnp.where(v >= 31.4978, 1.0, 1.0763 * jnp.exp(-1.007 * jnp.exp(-0.0829 * v)))
    tau_d = 0.6 + 1.0 / (exp(-0.3) / w.e20 + exp(1.26) * w.e11)
    f_inf = sigmoid(jnp.exp((v + 19.58) * (1.0 / 3.696)))
    ef, ec = exp(2.0) * w.e10, exp(-4.0 / 7.0) * w.e7
    rate_ff = 1.0 / (7.0 + ef / (0.0045 * (1.0 + ef * ef)))
    rate_fc = 1.0 / (7.0 + ec / (0.04 * (1.0 + ec * ec)))
    tau_fs = 1000.0 + 1.0 / (3.5e-5 * (exp(-1.25) / w.e4 + exp(5.0 / 6.0) * w.e6))
    tau_fcs = 100.0 + 1.0 / (1.2e-4 * (1.0 / w.e3 + w.e7))

    def bound(n: Any, c: Any) -> Pair:
        q = 1.0 + 0.002 / c
        q = q * q
        return 500.0 * y.jca / (500.0 + y.jca * q * q) - y.jca * n, -y.jca

    return {
        "d": gate(d_inf, tau_d, y.d),
        "ff": relax(f_inf, rate_ff, y.ff),
        "fs": gate(f_inf, tau_fs, y.fs),
        "fcaf": relax(f_inf, rate_fc, y.fcaf),
        "fcas": gate(f_inf, tau_fcs, y.fcas),
        "jca": relax(sigmoid(jnp.exp((v + 18.08) * (1.0 / 2.7916))), 1.0 / 72.5, y.jca),
        "ffp": relax(f_inf, rate_ff * 0.4, y.ffp),
        "fcafp": relax(f_inf, rate_fc * 0.4, y.fcafp),
        "nca_ss": bound(y.nca_ss, y.cass),
        "nca_i": bound(y.nca_i, y.cai),
    }


def calcium(y: Any, p: Any, w: Powers, gammas: tuple[Any, Any, Any], phi: Any) -> Calcium:
    """L-type calcium current, 80 % of it at the subspace, with permeabilities of Na+ and K+ 0.00125 and 0.0003574 of Ca2+'s."""
    fast = 0.3 + 0.6 / (1.0 + exp(-1.0) * w.e10)
    fca, fcap = y.fcas + fast * (y.fcaf - y.fcas), y.fcas + fast * (y.fcafp - y.fcas)
    f, fp = 0.6 * y.ff + 0.4 * y.fs, 0.6 * y.ffp + 0.4 * y.fs
    plain, phosphorylated = p.PCa * F * (1.0 - phi) * y.d, 1.1 * p.PCa * F * phi * y.d
    free, bound = plain * f + phosphorylated * fp, y.jca * (plain * fca + phosphorylated * fcap)
    open_ss = p.ICaL_ss * (free + y.nca_ss * (bound - free))
    open_i = (1.0 - p.ICaL_ss) * (free + y.nca_i * (bound - free))
    na, k = 0.00125, 0.0003574
    out1, out2 = gammas[2], _fourth(gammas[2]) * p.cao

    def place(opened: Any, gamma: Any, ca: Any, sodium: Any, potassium: Any) -> tuple[Any, Any, Any, Any, Any]:
        ca2, single = 2.0 * opened, opened * w.flux1
        gamma4 = _fourth(gamma)
        fluxes = (
            ca2 * w.flux2 * (gamma4 * ca * w.two - out2),
            na * single * (gamma * sodium * w.one - out1 * p.nao),
            k * single * (gamma * potassium * w.one - out1 * p.ko),
        )
        mono = ghk_slope(w.one, gamma * (na * sodium + k * potassium), out1 * (na * p.nao + k * p.ko))
        slope = (2.0 * ca2 * ghk_slope(w.two, gamma4 * ca, out2) + opened * mono) * (1.0 / RTF)
        return (*fluxes, slope, ca2 * w.flux2 * gamma4 * w.two)

    ss, i = place(open_ss, gammas[0], y.cass, y.nass, y.kss), place(open_i, gammas[1], y.cai, y.nai, y.ki)
    return Calcium(ss[0], i[0], ss[1], i[1], ss[2], i[2], ss[3] + i[3], ss[4], calcium_gates(y, w))


def _fourth(x: Any) -> Any:
    x = x * x
    return x * x


# ---- potassium ----------------------------------------------------------------------------------------------------------
def rapid_rectifier(y: Any, p: Any, w: Powers, drive: Any) -> tuple[Channel, Matrix]:
    """Rapid delayed rectifier: five-state Markov chain of Lu 2001 with the rates of Tomek 2019; and its matrix."""
    x = w.x
    a, b = 0.1161 * jnp.exp(0.299 * x), 0.2442 * jnp.exp(-1.604 * x)
    a1, b1 = 0.154375 + 0.0 * x, 0.1911 + 0.0 * x  # one for each lane
    a2, b2 = 0.0578 * jnp.exp(0.971 * x), 0.349e-3 * jnp.exp(-1.062 * x)
    ai, bi = 0.2533 * jnp.exp(0.5953 * x), 0.06525 * jnp.exp(-0.8209 * x)
    c_i = 0.52e-4 * jnp.exp(1.525 * x)  # C1 to I; back by microscopic reversibility
    i_c = b2 * bi * c_i / (a2 * ai)
    rows = (
        (-a, b, 0.0, 0.0, 0.0),
        (a, -(b + a1), b1, 0.0, 0.0),
        (0.0, a1, -(b1 + a2 + c_i), b2, i_c),
        (0.0, 0.0, a2, -(b2 + ai), bi),
        (0.0, 0.0, c_i, ai, -(bi + i_c)),
    )  # of x' = M x, in the order of MARKOV
    held = [getattr(y, n) for n in MARKOV]

    def change(row: tuple[Any, ...]) -> Any:
        return sum(m * v for m, v in zip(row, held, strict=True) if not (isinstance(m, float) and m == 0.0))

    gates = {n: (change(row), row[i]) for i, (n, row) in enumerate(zip(MARKOV, rows, strict=True))}
    return ohmic(p.GKr * jnp.sqrt(p.ko * 0.2) * y.O, drive, gates), rows


def slow_rectifier(y: Any, p: Any, w: Powers, drive: Any) -> Channel:
    """Slow delayed rectifier (O'Hara 2011). drive: v minus its own reversal potential, which counts sodium too."""
    v = y.v
    inf = sigmoid(jnp.exp(-(v + 11.6) * (1.0 / 8.932)))
    faster = 0.0002326 * jnp.exp((v + 48.28) * (1.0 / 17.8)) + 0.001292 * jnp.exp(-(v + 210.0) * (1.0 / 230.0))
    rate2 = 0.01 * exp(-2.5) * w.e20 + 0.0193 * jnp.exp(-(v + 66.54) * (1.0 / 31.0))
    gates = {"xs1": gate(inf, 817.3 + 1.0 / faster, y.xs1), "xs2": relax(inf, rate2, y.xs2)}
    by_calcium = 1.0 + 0.6 / (1.0 + jnp.exp(1.4 * jnp.log(3.8e-5 / y.cai)))
    return ohmic(p.GKs * by_calcium * y.xs1 * y.xs2, drive, gates)


def inward_rectifier(p: Any, drive: Any) -> Channel:
    """Inward rectifier (Tomek 2019, after Carro 2011). drive: v − EK. Its slope is below 0 where it closes with v."""
    ea, eb = jnp.exp(0.1217 * (drive - 49.934)), jnp.exp(-0.1629 * (drive + 14.207))
    r1, r2 = 15.72 * jnp.exp(0.0674 * (drive - 3.257)), jnp.exp(0.0618 * (drive - 594.31))
    ha, hb = 1.0 / (1.0 + ea), 1.0 / (1.0 + eb)
    a, b = 4.094 * ha, (r1 + r2) * hb
    share = 1.0 / (a + b)
    g = p.GK1 * jnp.sqrt(p.ko * 0.2) * a * share
    # closing/(a + b) = −d ln(a/(a + b))/dv
    closing = 0.1217 * b * ea * ha + (0.0674 * r1 + 0.0618 * r2) * hb + 0.1629 * b * eb * hb
    return Channel(g * drive, g * (1.0 - drive * closing * share), {})


def background_potassium(v: Any, p: Any, drive: Any) -> Channel:
    """Background potassium current (O'Hara 2011, rescaled in Tomek 2019)."""
    share = sigmoid(jnp.exp(-(v - 10.8968) * (1.0 / 23.9871)))
    g = p.GKb * share
    return Channel(g * drive, g * (1.0 + drive * (1.0 - share) * (1.0 / 23.9871)), {})


# ---- chloride and other background currents -------------------------------------------------------------------------------
def calcium_activated_chloride(y: Any, p: Any, drive: Any) -> Channel:
    """Calcium-activated chloride current (Grandi 2010), wholly at the subspace (Tomek 2020). drive: v − ECl of the subspace."""
    return ohmic(p.GClCa * y.cass / (y.cass + 0.1), drive)


def background_sodium(y: Any, p: Any, w: Powers) -> Channel:
    """Background sodium current (O'Hara 2011)."""
    scale = p.PNab * F
    slope = scale * ghk_slope(w.one, y.nai, p.nao) * (1.0 / RTF)
    return Channel(scale * w.flux1 * (y.nai * w.one - p.nao), slope, {})


def background_calcium(y: Any, p: Any, w: Powers, inside: Any, outside: Any) -> Channel:
    """Background calcium current (O'Hara 2011; activity coefficients of monovalent ions inside and outside: Tomek 2019)."""
    scale, ca, cao = 2.0 * p.PCab * F, _fourth(inside) * y.cai, _fourth(outside) * p.cao
    return Channel(scale * w.flux2 * (ca * w.two - cao), 2.0 * scale * ghk_slope(w.two, ca, cao) * (1.0 / RTF), {})

"""O'Hara, Virág, Varró & Rudy, PLoS Comput Biol 7:e1002061, 2011: an undiseased human ventricular cell, endo, epi or mid.

Currents are in `currents`, transport of ions in `transport`; here they meet. The CiPA version (Dutta 2017) differs in IKr alone,
which is therefore an argument. Units: mV, ms, mM, uA/uF.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.cell import Rates
from gemello.domains.heart.cells.membrane import Pair
from gemello.domains.heart.cells.ohara_rudy import currents as c
from gemello.domains.heart.cells.ohara_rudy import transport

CONCENTRATIONS = ("nai", "nass", "ki", "kss", "cai", "cass", "cansr", "cajsr")
GATES = (
    *("m", "hf", "hs", "j", "hsp", "jp", "mL", "hL", "hLp", "a", "iF", "iS", "ap", "iFp", "iSp"),
    *("d", "ff", "fs", "fcaf", "fcas", "jca", "nca", "ffp", "fcafp", "xs1", "xs2", "xk1"),
)
STATES: Mapping[str, str] = {
    "v": "mV",
    **dict.fromkeys(CONCENTRATIONS, "mM"),
    **dict.fromkeys(GATES, "1"),
    **{"Jrelnp": "mM/ms", "Jrelp": "mM/ms", "CaMKt": "1"},
}

DERIVED: Mapping[str, str] = {
    "frt": "1/mV",
    "rtf": "mV",
    "to_myo": "mM*uF/ms/uA",
    "to_ss": "mM*uF/ms/uA",
    "ss_myo": "1",
    "nsr_myo": "1",
    "jsr_ss": "1",
    "jsr_nsr": "1",
    "ko_kr": "1",
    "ko_k1": "1",
    "k1_slope": "1/mV",
}
RAW = frozenset(("R", "T", "L", "rad", "vmyo", "vnsr", "vjsr", "vss"))  # rows of the table that act through DERIVED alone


class Currents(NamedTuple):
    """Membrane currents, uA/uF, outward positive."""

    INa: Any
    INaL: Any
    Ito: Any
    ICaL: Any
    ICaNa: Any
    ICaK: Any
    IKr: Any
    IKs: Any
    IK1: Any
    INaCa_i: Any
    INaCa_ss: Any
    INaK: Any
    INab: Any
    ICab: Any
    IKb: Any
    IpCa: Any


def derived(theta: Any) -> dict[str, Any]:
    """What follows from parameters alone (`DERIVED`), taken once and not at every step.

    Cell geometry (section Cell Geometry, pi = 3.14 as published): a cylinder of length L and radius rad (cm), its capacitive area
    twice the geometric one, at 1 uF/cm². `to_myo`, `to_ss`: mM/ms in myoplasm and subspace for a current of 1 uA/uF of charge 1.
    """
    volume = 3.14e3 * theta.rad * theta.rad * theta.L  # uL
    capacitance = 4.0 * 3.14 * theta.rad * (theta.rad + theta.L)  # uF
    rtf = theta.R * theta.T / theta.F
    return {
        "frt": 1.0 / rtf,
        "rtf": rtf,
        "to_myo": capacitance / (theta.F * theta.vmyo * volume),
        "to_ss": capacitance / (theta.F * theta.vss * volume),
        "ss_myo": theta.vss / theta.vmyo,
        "nsr_myo": theta.vnsr / theta.vmyo,
        "jsr_ss": theta.vjsr / theta.vss,
        "jsr_nsr": theta.vjsr / theta.vnsr,
        "ko_kr": jnp.sqrt(theta.ko / 5.4),
        "ko_k1": jnp.sqrt(theta.ko),
        "k1_slope": 1.0 / (1.5692 * theta.ko + 3.8115),
    }


def rates(y: Any, p: Any, stimulus: Any, rapid: Callable[[Any, Any, c.Voltage], c.Part] = c.rapid_rectifier) -> Rates:
    """Derivatives, relaxation and currents at state y; `rapid` is the model of IKr. The stimulus is carried by K+."""
    u = c.voltage(y, p)
    active, camk = transport.kinase(y)
    phi = c.phosphorylated(active)
    ina, m_rate = c.fast_sodium(y, p, u, phi)
    inal, ito = c.late_sodium(y, p, u, phi, m_rate), c.transient_outward(y, p, u, phi)
    ical, ikr = c.calcium_channel(y, p, u, phi), rapid(y, p, u)
    iks, ik1, ikb = c.slow_rectifier(y, p, u), c.inward_rectifier(y, p, u), c.background_potassium(p, u)
    outside = transport.exchanger_outside(p, u)
    inaca_i, inaca_ss = transport.exchanger(y.nai, y.cai, outside), transport.exchanger(y.nass, y.cass, outside)
    currents = Currents(
        INa=ina.current,
        INaL=inal.current,
        Ito=ito.current,
        ICaL=ical.calcium,
        ICaNa=ical.sodium,
        ICaK=ical.potassium,
        IKr=ikr.current,
        IKs=iks.current,
        IK1=ik1.current,
        INaCa_i=0.8 * p.Gncx * inaca_i[0],
        INaCa_ss=0.2 * p.Gncx * inaca_ss[0],
        INaK=transport.pump(y, p, u),
        INab=c.background_sodium(y, p, u),
        ICab=c.background_calcium(y, p, u),
        IKb=ikb.current,
        IpCa=c.calcium_pump(y, p),
    )
    parts = (ina, inal, ito, ikr, iks, ik1, ikb)
    held = -(sum(q.conductance for q in parts) + sum(ical.slopes))
    pairs: dict[str, Pair] = {"v": (-(sum(currents) + stimulus), held), "CaMKt": camk}
    for q in (*parts, ical):
        pairs |= q.gates
    pairs |= transport.release_gates(y, p, ical.calcium)
    pairs |= concentrations(y, p, currents, transport.fluxes(y, p, phi), ical.slopes, stimulus)
    derivative, relaxation = (type(y)(**{n: pairs[n][k] for n in y._fields}) for k in (0, 1))
    like = y.v * 0.0  # a constant is one for each lane; the number 0.0 stays: an explicit step will do
    relaxation = relaxation._make(q + like if isinstance(q, float) and q else q for q in relaxation)
    return Rates(derivative, relaxation, currents, ikr.coupled)


def concentrations(y: Any, p: Any, i: Currents, f: transport.Fluxes, slopes: Any, stimulus: Any) -> dict[str, Pair]:
    """Ions of the four compartments (section Concentrations and Buffers)."""
    sodium, potassium = (y.nass - y.nai) * 0.5, (y.kss - y.ki) * 0.5  # diffusion, 2 ms
    outward_k = i.Ito + i.IKr + i.IKs + i.IK1 + i.IKb + stimulus - 2.0 * i.INaK
    myo = transport.buffered(y.cai, (p.cmdnmax, 0.00238), (p.trpnmax, 0.0005))
    ss = transport.buffered(y.cass, (p.BSRmax, 0.00087), (p.BSLmax, 0.0087))
    jsr = transport.buffered(y.cajsr, (p.csqnmax, 0.8))
    into_myo = 0.5 * p.to_myo * (2.0 * i.INaCa_i - i.IpCa - i.ICab) - f.uptake * p.nsr_myo + f.diffusion * p.ss_myo
    into_ss = 0.5 * p.to_ss * (2.0 * i.INaCa_ss - i.ICaL) + f.release * p.jsr_ss - f.diffusion
    into_jsr = f.transfer - f.release
    return {
        "nai": (-p.to_myo * (i.INa + i.INaL + 3.0 * (i.INaCa_i + i.INaK) + i.INab) + sodium * p.ss_myo, 0.0),
        "nass": (-p.to_ss * (i.ICaNa + 3.0 * i.INaCa_ss) - sodium, -0.5),
        "ki": (-p.to_myo * outward_k + potassium * p.ss_myo, 0.0),
        "kss": (-p.to_ss * i.ICaK - potassium, -0.5),
        "cai": (myo.free * into_myo, 0.0),
        "cass": (ss.free * into_ss, jnp.minimum(ss.free * (ss.steepness * into_ss - 5.0), 0.0)),
        "cansr": (f.uptake - f.transfer * p.jsr_nsr, 0.0),
        "cajsr": (jsr.free * into_jsr, jnp.minimum(jsr.free * (jsr.steepness * into_jsr - 0.01), 0.0)),
    }

"""ToR-ORd of a human ventricular myocyte (Tomek 2019, eLife 8:e48890), dynamic chloride (Tomek 2020, bioRxiv 2020.06.01.127043).

Time in ms, potential in mV, concentrations in mM, currents in uA/uF (outward positive). Channels are in `channels`, exchanger and
pump in `transport`, CaMKII, reticulum and buffers in `calcium`; here they come together. All is elementwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.cell import Rates
from gemello.domains.heart.cells.membrane import Pair, nernst
from gemello.domains.heart.cells.torord import calcium, channels, transport
from gemello.domains.heart.cells.torord.physics import RTF, F, Powers, State, powers


class Currents(NamedTuple):
    """Membrane currents, uA/uF. ICaL: calcium through the L-type channel; ICaNa, ICaK: sodium and potassium through it."""

    INa: Any
    INaL: Any
    Ito: Any
    ICaL: Any
    ICaNa: Any
    ICaK: Any
    IKr: Any
    IKs: Any
    IK1: Any
    INaCa: Any
    INaK: Any
    INab: Any
    IKb: Any
    IpCa: Any
    ICab: Any
    IClCa: Any
    IClb: Any


class Channels(NamedTuple):
    """All that carries current, with what depends on where it flows."""

    na: channels.Channel
    nal: channels.Channel
    to: channels.Channel
    cal: channels.Calcium
    kr: channels.Channel
    ks: channels.Channel
    k1: channels.Channel
    kb: channels.Channel
    nab: channels.Channel
    cab: channels.Channel
    clca: channels.Channel
    clb: channels.Channel


def open_channels(y: Any, p: Any, w: Powers, phi: Any) -> tuple[Channels, channels.Matrix]:
    """Every channel at state y, and the matrix of IKr; phi is the fraction that CaMKII has phosphorylated."""
    v, gammas, tau = y.v, channels.activity(y, p), channels.sodium_activation(y.v)
    na, k = v - nernst(RTF, p.nao, y.nai), v - nernst(RTF, p.ko, y.ki)
    ks = v - nernst(RTF, p.ko + 0.01833 * p.nao, y.ki + 0.01833 * y.nai)
    cl_ss, cl = v - nernst(RTF, y.clss, p.clo), v - nernst(RTF, y.cli, p.clo)
    rapid, matrix = channels.rapid_rectifier(y, p, w, k)
    opened = Channels(
        channels.sodium(y, p, tau, na, phi),
        channels.late_sodium(y, p, tau, na, phi),
        channels.transient_outward(y, p, w, k, phi),
        channels.calcium(y, p, w, gammas, phi),
        rapid,
        channels.slow_rectifier(y, p, w, ks),
        channels.inward_rectifier(p, k),
        channels.background_potassium(v, p, k),
        channels.background_sodium(y, p, w),
        channels.background_calcium(y, p, w, gammas[1], gammas[2]),
        channels.calcium_activated_chloride(y, p, cl_ss),
        channels.ohmic(p.GClb, cl),
    )
    return opened, matrix


def rates(y: Any, p: Any, stimulus: Any) -> Rates:
    """Derivatives, relaxations and currents at state y, parameters p and stimulus (uA/uF, carried by potassium)."""
    w = powers(y.v)
    phi, trapped = calcium.camk(y, p)
    c, matrix = open_channels(y, p, w, phi)
    exchanger = transport.carrier(w, p)
    ncx_ss = p.Gncx * p.INaCa_ss * transport.exchange(exchanger, y.nass, y.cass)
    ncx_i = p.Gncx * (1.0 - p.INaCa_ss) * transport.exchange(exchanger, y.nai, y.cai)
    pump, extrusion = transport.pump(y, p, w), p.GpCa * y.cai / (0.0005 + y.cai)
    currents = Currents(
        c.na.current, c.nal.current, c.to.current, c.cal.ca_ss + c.cal.ca_i, c.cal.na_ss + c.cal.na_i, c.cal.k_ss + c.cal.k_i,
        c.kr.current, c.ks.current, c.k1.current, ncx_ss + ncx_i, pump, c.nab.current, c.kb.current, extrusion,
        c.cab.current, c.clca.current, c.clb.current,
    )  # fmt: skip
    moved = _concentrations(y, p, c, currents, (ncx_ss, ncx_i), calcium.release(y, p, c.cal.ca_ss, phi), phi, stimulus)
    moved["v"] = (-(sum(currents) + stimulus), jnp.minimum(-sum(x.slope for x in c), 0.0))
    moved["CaMKt"] = trapped
    for channel in c:
        moved |= channel.gates
    like = y.v * 0.0  # one rate for each lane; the number 0.0 stays, since an explicit step will do
    held = {n: m[1] + like if isinstance(m[1], float) and m[1] else m[1] for n, m in moved.items()}
    return Rates(State(**{n: m[0] for n, m in moved.items()}), State(**held), currents, (matrix,))


def _concentrations(
    y: Any, p: Any, c: Channels, i: Currents, ncx: tuple[Any, Any], rel: calcium.Release, phi: Any, stimulus: Any
) -> dict[str, Pair]:
    """Ions in cytosol (i), subspace (ss), network and junctional reticulum (nsr, jsr), by what flows (O'Hara 2011)."""
    cell = 3140.0 * p.rad * p.rad * p.L  # uL, with π = 3.14 as the authors have it
    surface = 2.0 * 6.28 * p.rad * (p.rad + p.L) / F  # capacitive area, uF, over F
    myo, ss = surface / (0.68 * cell), surface / (0.02 * cell)
    jsr_ss, jsr_nsr, nsr_myo, ss_myo = 0.0048 / 0.02, 0.0048 / 0.0552, 0.0552 / 0.68, 0.02 / 0.68
    na, k, cl, ca = (
        (y.nass - y.nai) / p.tau_Na,
        (y.kss - y.ki) / p.tau_K,
        (y.clss - y.cli) / p.tau_Cl,
        (y.cass - y.cai) / p.tau_Ca,
    )
    b, up, refill = calcium.buffers(y, p), calcium.uptake(y, p, phi), (y.cansr - y.cajsr) * (1.0 / 60.0)
    ncx_ss, ncx_i = ncx
    filling = refill - rel.flux
    into_ss = -0.5 * (c.cal.ca_ss - 2.0 * ncx_ss) * ss + rel.flux * jsr_ss - ca
    slope_ss = -0.5 * c.cal.slope_cass * ss - 1.0 / p.tau_Ca
    sodium = i.INa + i.INaL + 3.0 * (ncx_i + i.INaK) + c.cal.na_i + i.INab
    potassium = i.Ito + i.IKr + i.IKs + i.IK1 + i.IKb + stimulus - 2.0 * i.INaK + c.cal.k_i
    return {
        "nai": (-sodium * myo + na * ss_myo, 0.0),
        "nass": (-(c.cal.na_ss + 3.0 * ncx_ss) * ss - na, -1.0 / p.tau_Na),
        "ki": (-potassium * myo + k * ss_myo, 0.0),
        "kss": (-c.cal.k_ss * ss - k, -1.0 / p.tau_K),
        "cai": (b.i * (-0.5 * (c.cal.ca_i + i.IpCa + i.ICab - 2.0 * ncx_i) * myo - up * nsr_myo + ca * ss_myo), 0.0),
        "cass": (b.ss * into_ss, jnp.minimum(b.ss * slope_ss + b.growth_ss * into_ss, 0.0)),
        "cansr": (up - refill * jsr_nsr, 0.0),
        "cajsr": (b.jsr * filling, jnp.minimum(b.growth_jsr * filling - b.jsr * (1.0 / 60.0), 0.0)),
        "cli": (i.IClb * myo + cl * ss_myo, 0.0),
        "clss": (i.IClCa * ss - cl, -1.0 / p.tau_Cl),
        **rel.gates,
    }

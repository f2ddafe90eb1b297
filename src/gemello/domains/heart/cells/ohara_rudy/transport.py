"""Exchanger, pump, calcium release and uptake, buffers and concentrations of O'Hara et al. 2011 (Text S1), in its order."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.membrane import Pair
from gemello.domains.heart.cells.ohara_rudy.currents import Voltage

# Na+/Ca2+ exchanger, section INaCa (mM and 1/ms)
_KNA1, _KNA2, _KNA3, _ASYMMETRY = 15.0, 5.0, 88.12, 12.5
_WNA, _WCA, _WNACA = 6e4, 6e4, 5e3
_KCAON, _KCAOFF = 1.5e6, 5e3
_QNA, _QCA = 0.5224, 0.1670
_KM_CA_ACT = 150e-6

# Na+/K+ pump, section INaK (mM and 1/ms), as its authors ran it: H is 1e-7 beside concentrations in mM
_K1P, _K1M, _K2P, _K2M = 949.5, 182.4, 687.2, 39.4
_K3P, _K3M, _K4P, _K4M = 1899.0, 79300.0, 639.0, 40.0
_KNAI0, _KNAO0, _DELTA = 9.073, 27.78, -0.1550
_KKI, _KKO = 0.5, 0.3582
_MGADP, _MGATP, _KMGATP = 0.05, 9.8, 1.698e-7
_H, _EP, _KHP, _KNAP, _KXKUR = 1e-7, 4.2, 1.698e-7, 224.0, 292.0


class Outside(NamedTuple):
    """Rates (1/ms) of the exchanger that depend on the potential and the outside alone; hna = exp(qNa x), 1/hca = exp(−qCa x)."""

    hna: Any
    ica: Any
    k1: Any
    k3pp: Any
    k3: Any
    k8: Any


def exchanger_outside(p: Any, u: Voltage) -> Outside:
    """What both exchangers, of the cytosol and of the subspace, share (section INaCa)."""
    hna = jnp.exp(_QNA * u.x)
    nao = p.nao * (1.0 / _KNA3)
    h9 = 1.0 / (hna + nao * (hna + 1.0))  # h9/hna of the paper
    h8 = nao * h9
    quotient = p.nao * (1.0 / _KNA1)
    h10 = 1.0 / (_ASYMMETRY + 1.0 + quotient * (1.0 + p.nao * (1.0 / _KNA2)))
    k3pp = h8 * _WNACA
    return Outside(
        hna,
        jnp.exp(-_QCA * u.x),
        h10 * p.cao * _KCAON,
        k3pp,
        h9 * hna * _WCA + k3pp,
        h8 * quotient * p.nao * (1.0 / _KNA2) * h10 * _WNA,
    )


def exchanger(na: Any, ca: Any, o: Outside) -> tuple[Any, Any]:
    """INaCa per Gncx for sodium and calcium (mM) at its inner side, and the share of calcium's affinity (section INaCa)."""
    n3, n1 = na * (1.0 / _KNA3), na * (1.0 / _KNA1)
    n12 = n1 * na * (1.0 / _KNA2)
    h1, h4 = 1.0 + n3 * (1.0 + o.hna), 1.0 + n1 + n12
    both = 1.0 / (h1 * h4)
    h3, h6 = both * h4, both * h1
    h2, h5 = n3 * o.hna * h3, n12 * h6
    k4pp = h2 * _WNACA
    k4 = h3 * o.ica * _WCA + k4pp
    k6 = h6 * ca * _KCAON
    k7 = h5 * h2 * _WNA
    k23, k67, k45, k18 = _KCAOFF + o.k3, k7 + k6, k4 + _KCAOFF, o.k1 + o.k8
    x1 = _KCAOFF * (k4 * k67 + k7 * k23)
    x2 = o.k1 * k7 * k45 + k4 * k6 * k18
    x3 = o.k1 * o.k3 * k67 + o.k8 * k6 * k23
    x4 = _KCAOFF * (o.k8 * k45 + o.k3 * k18)
    sodium = 3.0 * (x4 * k7 - x1 * o.k8) + x3 * k4pp - x2 * o.k3pp
    calcium = x2 * _KCAOFF - x1 * o.k1
    square = ca * ca
    total = (x1 + x2 + x3 + x4) * (square + _KM_CA_ACT * _KM_CA_ACT)
    return square * (sodium + 2.0 * calcium) / total, k6


def pump(y: Any, p: Any, u: Voltage) -> Any:
    """INaK, uA/uF (section INaK)."""
    g = jnp.exp(-_DELTA / 3.0 * u.x)
    na, k = y.nai * g * (1.0 / _KNAI0), y.ki * (1.0 / _KKI)
    na1, k1 = 1.0 + na, 1.0 + k
    inside = 1.0 / (na1 * na1 * na1 + k1 * k1 - 1.0)
    a1, b4 = _K1P * na * na * na * inside, _K4M * k * k * inside
    knao = _KNAO0 * u.e3 * g
    ko = p.ko * (1.0 / _KKO)
    ko1, nao1, knao3 = 1.0 + ko, knao + p.nao, knao * knao * knao
    outside = 1.0 / (nao1 * nao1 * nao1 + (ko1 * ko1 - 1.0) * knao3)
    b2, a3 = _K2M * p.nao * p.nao * p.nao * outside, _K3P * ko * ko * knao3 * outside
    atp = _MGATP / _KMGATP
    a2, a4, b1 = _K2P, _K4P * atp / (1.0 + atp), _K1M * _MGADP
    b3 = _K3M * _H * _EP / (1.0 + atp) / (1.0 + _H / _KHP + y.nai * (1.0 / _KNAP) + y.ki * (1.0 / _KXKUR))
    x1 = a4 * a1 * a2 + b2 * b4 * b3 + a2 * b4 * b3 + b3 * a1 * a2
    x2 = b2 * b1 * b4 + a1 * a2 * a3 + a3 * b1 * b4 + a2 * a3 * b4
    x3 = a2 * a3 * a4 + b3 * b2 * b1 + b2 * b1 * a4 + a3 * a4 * b1
    x4 = b4 * b3 * b2 + a3 * a4 * a1 + b2 * a4 * a1 + b3 * b2 * a1
    return p.Pnak * (3.0 * (x1 * a3 - x2 * b3) + 2.0 * (x4 * b1 - x3 * a1)) / (x1 + x2 + x3 + x4)


class Fluxes(NamedTuple):
    """Fluxes of calcium (mM/ms): diffusion out of the subspace, release, uptake, from network to junction; active CaMKII (mM)."""

    diffusion: Any
    release: Any
    uptake: Any
    transfer: Any


def kinase(y: Any) -> tuple[Any, Pair]:
    """Active CaMKII (mM) and the rates of its trapped part (section CaMK): aCaMK 0.05, bCaMK 6.8e-4, CaMKo 0.05, KmCaM 0.0015."""
    share = 0.05 * y.cass / (y.cass + 0.0015)
    bound = share * (1.0 - y.CaMKt)
    active = bound + y.CaMKt
    return active, (0.05 * bound * active - 6.8e-4 * y.CaMKt, -6.8e-4 - 0.05 * share * active)


def fluxes(y: Any, p: Any, phi: Any) -> Fluxes:
    """Fluxes of calcium (sections Diffusion Fluxes, SR Calcium Release Flux via RyR, via SERCA, Translocation)."""
    plain, quick = 1.0 / (y.cai + 0.00092), 1.0 / (y.cai + 0.00092 - 0.00017)
    pumped = p.Jup * 0.004375 * y.cai * ((1.0 - phi) * plain + 2.75 * phi * quick)
    return Fluxes(
        diffusion=(y.cass - y.cai) * (1.0 / 0.2),
        release=(1.0 - phi) * y.Jrelnp + phi * y.Jrelp,
        uptake=pumped - (0.0039375 / 15.0) * y.cansr,
        transfer=(y.cansr - y.cajsr) * (1.0 / 100.0),
    )


def release_gates(y: Any, p: Any, calcium_current: Any) -> dict[str, Pair]:
    """Ryanodine receptors, driven by ICaL (section SR Calcium Release Flux; bt = 4.75 ms)."""
    c2 = y.cajsr * y.cajsr
    c8 = c2 * c2 * c2 * c2
    inf = -0.5 * 4.75 * p.Jrel * calcium_current * c8 / (c8 + 1.5**8)
    rate = (y.cajsr + 0.0123) / (4.75 * y.cajsr)
    plain, quick = jnp.minimum(rate, 1000.0), jnp.minimum(rate * (1.0 / 1.25), 1000.0)
    return {
        "Jrelnp": ((inf - y.Jrelnp) * plain, -plain),
        "Jrelp": ((1.25 * inf - y.Jrelp) * quick, -quick),
    }


class Buffer(NamedTuple):
    """Share of calcium that stays free, and the derivative of its logarithm by the free calcium (1/mM)."""

    free: Any
    steepness: Any


def buffered(ca: Any, *pairs: tuple[Any, float]) -> Buffer:
    """Rapid buffers of (capacity, half) in mM (section Concentrations and Buffers)."""
    bound, slope = 0.0, 0.0
    for capacity, half in pairs:
        near = 1.0 / (half + ca)
        one = capacity * half * near * near
        bound, slope = bound + one, slope + one * near
    free = 1.0 / (1.0 + bound)
    return Buffer(free, 2.0 * slope * free)

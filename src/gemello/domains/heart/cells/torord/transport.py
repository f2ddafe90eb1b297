"""Sodium-calcium exchange and the sodium-potassium pump of ToR-ORd: O'Hara 2011 (Text S1), scaled in Tomek 2019."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gemello.domains.heart.cells.torord.physics import Powers


class Carrier(NamedTuple):
    """Rates of the exchanger that sodium and calcium inside do not change."""

    hna: Any
    k1: Any
    k3: Any
    k3pp: Any
    k4_per_h3: Any
    k8: Any


KNA1, KNA2, KNA3 = 15.0, 5.0, 88.12  # mM
WNA, WCA, WNACA = 6e4, 6e4, 5e3  # 1/s
KON, KOFF = 1.5e6, 5e3  # 1/(mM s), 1/s


def carrier(w: Powers, p: Any) -> Carrier:
    """What the potential and the outside do to the exchanger (O'Hara 2011)."""
    hna, hca = jnp.exp(0.5224 * w.x), jnp.exp(0.167 * w.x)
    scaled = p.nao * (1.0 / KNA3)
    h9 = 1.0 / (1.0 + scaled + scaled / hna)
    h8 = scaled / hna * h9
    h12 = 1.0 / (12.5 + 1.0 + p.nao * (1.0 / KNA1) * (1.0 + p.nao * (1.0 / KNA2)))
    h11 = p.nao * p.nao * (1.0 / (KNA1 * KNA2)) * h12
    k3pp = h8 * WNACA
    return Carrier(hna, h12 * p.cao * KON, h9 * WCA + k3pp, k3pp, WCA / hca, h8 * h11 * WNA)


def exchange(c: Carrier, sodium: Any, calcium: Any) -> Any:
    """Current of the exchanger per unit of its scale, with sodium and calcium (mM) at its inner side."""
    h3 = 1.0 / (1.0 + sodium * (1.0 / KNA3) * (1.0 + c.hna))
    h2 = sodium * (1.0 / KNA3) * c.hna * h3
    h6 = 1.0 / (1.0 + sodium * (1.0 / KNA1) * (1.0 + sodium * (1.0 / KNA2)))
    h5 = sodium * sodium * (1.0 / (KNA1 * KNA2)) * h6
    k1, k2, k3, k5, k8 = c.k1, KOFF, c.k3, KOFF, c.k8
    k4pp = h2 * WNACA
    k4 = h3 * c.k4_per_h3 + k4pp
    k6, k7 = h6 * calcium * KON, h5 * h2 * WNA
    x1 = k2 * k4 * (k7 + k6) + k5 * k7 * (k2 + k3)
    x2 = k1 * k7 * (k4 + k5) + k4 * k6 * (k1 + k8)
    x3 = k1 * k3 * (k7 + k6) + k8 * k6 * (k2 + k3)
    x4 = k2 * k8 * (k4 + k5) + k3 * k5 * (k1 + k8)
    j_sodium = 3.0 * (x4 * k7 - x1 * k8) + x3 * k4pp - x2 * c.k3pp
    j_calcium = x2 * k2 - x1 * k1
    allosteric = calcium * calcium / (calcium * calcium + 1.5e-4 * 1.5e-4)
    return allosteric * (j_sodium + 2.0 * j_calcium) / (x1 + x2 + x3 + x4)


def pump(y: Any, p: Any, w: Powers) -> Any:
    """Sodium-potassium pump current (uA/uF), in the form that the authors distribute.

    H is the number 1e-7 beside its constant in the same unit, and x1 holds the product b2·b3·b4. Others correct both.
    """
    bent = jnp.exp((-0.155 / 3.0) * w.x)
    nai, nao = y.nai / (9.073 * bent), p.nao * bent / (27.78 * w.third)
    ki, ko = y.ki * (1.0 / 0.5), p.ko * (1.0 / 0.3582)
    nai3, nao3 = nai * nai * nai, nao * nao * nao
    ki2, ko2 = ki * ki, ko * ko
    inside = 1.0 / (_cube(1.0 + nai) + (1.0 + ki) * (1.0 + ki) - 1.0)
    outside = 1.0 / (_cube(1.0 + nao) + (1.0 + ko) * (1.0 + ko) - 1.0)
    atp = 9.8 / 1.698e-7
    free_phosphate = 4.2 / (1.0 + 1e-7 / 1.698e-7 + y.nai * (1.0 / 224.0) + y.ki * (1.0 / 292.0))
    a1, b1 = 949.5 * nai3 * inside, 182.4 * 0.05
    a2, b2 = 687.2, 39.4 * nao3 * outside
    a3, b3 = 1899.0 * ko2 * outside, (79300.0 * 1e-7 / (1.0 + atp)) * free_phosphate
    a4, b4 = 639.0 * atp / (1.0 + atp), 40.0 * ki2 * inside
    x1 = a4 * a1 * a2 + b2 * b4 * b3 + a2 * b4 * b3 + b3 * a1 * a2
    x2 = b2 * b1 * b4 + a1 * a2 * a3 + a3 * b1 * b4 + a2 * a3 * b4
    x3 = a2 * a3 * a4 + b3 * b2 * b1 + b2 * b1 * a4 + a3 * a4 * b1
    x4 = b4 * b3 * b2 + a3 * a4 * a1 + b2 * a4 * a1 + b3 * b2 * a1
    turnover = 3.0 * (x1 * a3 - x2 * b3) + 2.0 * (x4 * b1 - x3 * a1)
    return p.Pnak * turnover / (x1 + x2 + x3 + x4)


def _cube(x: Any) -> Any:
    return x * x * x

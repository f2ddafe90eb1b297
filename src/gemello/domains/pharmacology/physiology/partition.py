"""Tissue-to-plasma partition coefficients Kp from physico-chemistry. Elementwise; to be called with float64.

pKa: of one acidic and of one basic group; `NO_ACID` and `NO_BASE` stand for a molecule without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

NO_ACID, NO_BASE = 99.0, -99.0
PLASMA_PH, CELL_PH, ERYTHROCYTE_PH = 7.4, 7.0, 7.22
Composition = Mapping[str, Mapping[str, float]]


def oil_water(log_p: Any) -> Any:
    """Vegetable oil:water partition coefficient from log octanol:water (Leo, Hansch & Elkins 1971, as both papers use it)."""
    return 10.0 ** (1.115 * log_p - 1.35)


def ionised(ph: float, pka_acid: Any, pka_base: Any) -> Any:
    """Ionised over un-ionised concentration at this pH (Henderson-Hasselbalch; acid and base groups add up)."""
    return 10.0 ** (ph - pka_acid) + 10.0 ** (pka_base - ph)


def poulin_theil(log_p: Any, pka_acid: Any, pka_base: Any, fu: Any, tissues: Composition) -> dict[str, Any]:
    """Kp of each tissue but plasma (Poulin & Theil, J Pharm Sci 91:129-156, 2002).

    log_p: log10 octanol:water; fu: unbound fraction in plasma; tissues: water, neutral lipid and phospholipid as parts of volume.
    Adipose: oil:water coefficient of the un-ionised share at pH 7.4, no binding. Others: octanol:water, binding half of plasma's.
    """
    octanol = 10.0**log_p
    oil = oil_water(log_p) / (1.0 + ionised(PLASMA_PH, pka_acid, pka_base))
    bound = fu * (1.0 + 0.5 * (1.0 - fu) / fu)  # fu in plasma over fu in tissue

    def held(p: Any, c: Mapping[str, float]) -> Any:
        return p * (c["neutral_lipid"] + 0.3 * c["phospholipid"]) + c["water"] + 0.7 * c["phospholipid"]

    out = {}
    for name, c in tissues.items():
        p, binding = (oil, fu) if name == "adipose" else (octanol, bound)
        if name != "plasma":
            out[name] = held(p, c) / held(p, tissues["plasma"]) * binding
    return out


def rodgers_rowland(
    log_p: Any, pka_acid: Any, pka_base: Any, fu: Any, blood_to_plasma: Any, hematocrit: Any, tissues: Composition
) -> dict[str, Any]:
    """Kp of each tissue (Rodgers, Leahy & Rowland, J Pharm Sci 94:1259-1276, 2005, for bases with pKa >= 7; Rodgers & Rowland,
    J Pharm Sci 95:1238-1257, 2006, for acids, weaker bases and neutral molecules).

    The stronger bases (and ampholytes) bind to acidic phospholipids, with a constant from the blood cells (B:P, hematocrit);
    others to albumin, neutral molecules to lipoproteins, with a constant from plasma binding. A negative constant becomes 0.
    """
    octanol, oil = 10.0**log_p, oil_water(log_p)
    strong = pka_base >= 7.0
    neutral = (pka_acid > 0.5 * NO_ACID) & (pka_base < 0.5 * NO_BASE)
    cell, plasma, erythrocyte = (ionised(ph, pka_acid, pka_base) for ph in (CELL_PH, PLASMA_PH, ERYTHROCYTE_PH))

    def lipids(p: Any, c: Mapping[str, float]) -> Any:
        return (p * c["neutral_lipid"] + (0.3 * p + 0.7) * c["phospholipid"]) / (1.0 + plasma)

    cells, blood = tissues["erythrocyte"], tissues["plasma"]
    cells_to_unbound = (hematocrit - 1.0 + blood_to_plasma) / (hematocrit * fu)
    water = (1.0 + erythrocyte) / (1.0 + plasma) * cells["intracellular_water"]
    charged = jnp.where(strong, erythrocyte, 1.0)  # keeps the unused branch finite
    per_phospholipid = (cells_to_unbound - water - lipids(octanol, cells)) / (charged * cells["acidic_phospholipid_mg_per_g"])
    per_phospholipid = jnp.maximum(per_phospholipid, 0.0) * cell
    per_protein = jnp.maximum(1.0 / fu - 1.0 - lipids(octanol, blood), 0.0)

    out = {}
    for name, c in tissues.items():
        if name in ("plasma", "erythrocyte"):
            continue
        protein = jnp.where(neutral, c["lipoprotein_ratio"], c["albumin_ratio"])
        binding = jnp.where(strong, per_phospholipid * c["acidic_phospholipid_mg_per_g"], per_protein * protein)
        free = c["extracellular_water"] + (1.0 + cell) / (1.0 + plasma) * c["intracellular_water"]
        out[name] = fu * (free + lipids(oil if name == "adipose" else octanol, c) + binding)
    return out

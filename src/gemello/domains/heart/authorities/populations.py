"""Populations of ToR-ORd: against the 58 human action potentials, under dofetilide, and women against men.

Abnormality under a pure hERG blocker must be absent without it and rise with its dose (Passini et al. 2017, Front Physiol 8:668).
Women's QTc is longer than men's by 10 to 20 ms (Rautaharju et al. 1992, Can J Cardiol 8:690). The ratios of mRNA that the cells
get are not fitted to that, so sign and order of size are checked: above 1 ms, below 40.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check
from gemello.domains.heart.cells.torord.model import endo
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.populations import measured, weights
from gemello.domains.heart.populations.calibrate import WEIGHTED, calibrate
from gemello.domains.heart.populations.population import Population, weighted_mean
from gemello.domains.heart.populations.response import respond
from gemello.domains.heart.populations.sexes import of_sex

CELLS, SEED = 192, 1
DOSES = (1.0, 10.0, 100.0)  # x Cmax
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
NEAR = 15.0  # ms: twice the standard error of the outer deciles of 58 values of this spread is 24


def checks(folder: Path) -> Iterator[Check]:
    """folder: the heart's reference data. Some CPU minutes."""
    data = measured.read(folder)
    pooled = calibrate(endo, data, cells=CELLS, seed=SEED)
    yield from distribution(pooled, data)
    women, men = (of_sex(pooled, endo, sex) for sex in ("female", "male"))
    longer, _ = weighted_mean(women.markers["apd90"] - men.markers["apd90"], pooled.weights)
    yield check("women's mean APD90 less men's, same hearts, ms", longer, 20.5, 19.5, "sign and order of size of QTc")
    yield from dofetilide(women, men, folder)


def distribution(p: Population, data: measured.Measured) -> Iterator[Check]:
    """Quantiles and Kolmogorov-Smirnov distance of what was weighted."""
    source = f"58 action potentials at 1 Hz (Szeged); {p.cells} of {p.sampled} accepted, effective {p.effective:.0f}, seed {SEED}"
    for m in WEIGHTED:
        distance, limit = weights.kolmogorov(p.markers[m], p.weights, data.markers[m])
        yield check(f"population: KS distance of {m} from the data", distance, 0.0, limit, f"{source}; false alarm 1 in 20")
    for q, ours in zip(QUANTILES, p.quantile("apd90_from_peak", QUANTILES), strict=True):
        theirs = float(np.quantile(data.markers["apd90_from_peak"], q))
        yield check(f"population: {100 * q:.0f} % quantile of APD90, ms", float(ours), theirs, NEAR, source)


def dofetilide(women: Population, men: Population, folder: Path) -> Iterator[Check]:
    """Static block by dofetilide."""
    drug = Vintage.read(folder, "lab2020", samples=False)["dofetilide"]
    found = {p.sex: respond(p, drug, endo, multiples=DOSES, herg="static") for p in (women, men)}
    for sex, r in found.items():
        shares = [d.share for d in r.doses]
        source = f"Passini 2017; shares at 0, {', '.join(f'{m:g}' for m in DOSES)} Cmax: {', '.join(f'{s:.3f}' for s in shares)}"
        yield check(f"dofetilide, {sex}: share abnormal without drug", shares[0], 0.0, 0.02, source)
        falls = float(max(0.0, -np.min(np.diff(shares))))
        yield check(f"dofetilide, {sex}: greatest fall of the share from dose to dose", falls, 0.0, 0.0, source)
        changes = [d.change for d in r.doses[:3]]
        yield check(
            f"dofetilide, {sex}: mean ΔAPD90 rises to 10 Cmax (1: yes)", float(np.all(np.diff(changes) > 0)), 1.0, 0.0, source
        )
    more = found["female"].doses[-1].share - found["male"].doses[-1].share
    yield check("dofetilide, 100 Cmax: women's share less men's, at least 0", min(0.0, more), 0.0, 0.0, "Yang & Clancy 2012")

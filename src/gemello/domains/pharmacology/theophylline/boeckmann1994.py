"""The 12 patients of Upton's theophylline study, as published by Boeckmann, Sheiner & Beal (1994).

Boeckmann AJ, Sheiner LB, Beal SL. NONMEM Users Guide, Part V: Introductory Guide. University of California, San Francisco,
1994. Each patient took one oral dose at time 0 and was sampled 11 times in about 25 h, the first time just before the dose.
The table gives the dose per body weight; a schedule gives the amount.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from gemello.model.schedule import Schedule, Subject

CITATION = "Boeckmann AJ, Sheiner LB, Beal SL. NONMEM Users Guide, Part V. University of California, San Francisco, 1994"
TABLE = Path(__file__).with_name("boeckmann1994.csv")


def table() -> dict[str, np.ndarray]:
    """Columns of the published table: patient (text), weight_kg, dose_mg_per_kg, time_h, concentration_mg_per_L."""
    with TABLE.open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {n: np.array([r[n] for r in rows], str if n == "patient" else float) for n in rows[0]}


def subjects() -> list[Subject]:
    """The 12 patients: dose into port 1 (mg) at time 0, concentrations (mg/L) as output 0, body weight (kg) as WT."""
    t = table()
    out = []
    for who in dict.fromkeys(t["patient"].tolist()):
        here = t["patient"] == who
        weight = float(t["weight_kg"][here][0])
        amount = float(np.round(t["dose_mg_per_kg"][here][0] * weight, 9))
        s = Schedule().dose(0.0, amount).observe(t["time_h"][here], t["concentration_mg_per_L"][here])
        out.append(Subject(who, s.covariates(WT=weight)))
    return out

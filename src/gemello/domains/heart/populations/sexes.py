"""Women's and men's cells: published ratios of conductances (sexes.csv), on either side of a pooled population.

Yang & Clancy 2012 (Front Physiol 3:360) scale each current by its subunits' expression in women and in men, endocardial and
epicardial, and so lengthen women's action potential. The measured action potentials pool both sexes, hence women get the square
root of the ratio and men its inverse: together they stay where the data are. Calmodulin, no conductance, is left.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gemello.base.errors import DataError
from gemello.base.reference import rows
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.pacing import pace
from gemello.domains.heart.populations.calibrate import BEATS, Pacer, markers_of
from gemello.domains.heart.populations.population import Population

SEXES = ("female", "male")
_TABLE = Path(__file__).parent / "sexes.csv"


def ratios(model: CellModel) -> dict[str, float]:
    """Women's value over men's, by parameter of `model`: epicardial where its name ends in epi, else endocardial."""
    layer = "epi" if model.name.endswith("epi") else "endo"
    return {
        model.conductances[r["what"]]: float(r["female"]) / float(r["male"])
        for r in rows(_TABLE)
        if r["layer"] == layer and r["what"] in model.conductances
    }


def of_sex(
    population: Population,
    model: CellModel,
    sex: str,
    *,
    pacer: Pacer = pace,
) -> Population:
    """The same hearts as those of women or men, paced anew; weights are kept. Raises DataError."""
    if sex not in SEXES:
        raise DataError("not a sex of the table", column="sex", value=sex, remedy=f"use {' or '.join(SEXES)}")
    if population.sex != "pooled":
        raise DataError("has a sex already", source="population", value=population.sex, remedy="start from the pooled one")
    population.of(model)
    power = 0.5 if sex == "female" else -0.5
    values = dict(population.parameters)
    for name, ratio in ratios(model).items():
        before = values[name] if name in values else np.full(population.cells, float(model.parameters[name].value))
        values[name] = before * ratio**power
    paced = pacer(model, values, cycle_length=population.cycle_length, beats=BEATS, state=population.start(model))
    state = {n: np.asarray(v, float) for n, v in paced.state._asdict().items()}
    return replace(population, parameters=values, markers=markers_of(paced), state=state, sex=sex)

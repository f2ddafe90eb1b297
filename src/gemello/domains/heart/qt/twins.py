"""The model that a study asks for, with starting values read from its analysis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from gemello.domains.heart.qt.e14 import Analysis
from gemello.domains.heart.qt.model import ConcentrationQT
from gemello.model.parameters import ParameterTable


def model_for(analysis: Analysis) -> tuple[ConcentrationQT, str]:
    """The model to fit to this study, and why, in words.

    An effect site where the loop of effect and concentration says that the effect lags; an Emax where a term in C² is
    negative and significant and there is no lag; else the effect is linear in the concentration in plasma. The error grows
    with QTcF where the size of the mixed model's residuals does (Spearman's rank correlation, p < 0.01).
    """
    study, lagging = analysis.study, analysis.hysteresis.seen
    bent = not lagging and analysis.linearity.p < 0.05 and analysis.linearity.value < 0 < analysis.slope.low
    why = (
        "an effect site, since the effect lags behind the concentration" if lagging
        else "an Emax, since the relation is bent" if bent
        else "an effect linear in the concentration in plasma"
    )  # fmt: skip
    name = f"qt_{'emax' if bent else 'linear'}{'_site' if lagging else ''}"
    out = ConcentrationQT(name, "emax" if bent else "linear", site=lagging, unit=study.unit, days=study.crossover)
    out.parameters = _started(out.parameters, analysis)
    return out, why


def _started(table: ParameterTable, analysis: Analysis) -> ParameterTable:
    """Starting values: slope and variances of the linear mixed model; an Emax that has this slope at small concentrations."""
    study, slope, d = analysis.study, analysis.slope.value, analysis.model.random
    largest = float(study.conc.max())
    steep = max(slope, 1.0 / largest)
    own = [float(study.baseline[study.subject == s].mean()) for s in np.unique(study.subject)]
    ranks = spearmanr(np.abs(study.change - analysis.model.fitted), study.baseline + analysis.model.fitted)
    grows = bool(ranks.statistic > 0 and ranks.pvalue < 0.01)
    values = {
        "qtcf_growth": 0.15 if grows else 0.0,
        "BASE": float(np.clip(np.mean(study.qtcf[~study.active]), 310.0, 490.0)),
        "SLOPE": slope,
        "EMAX": 3.0 * steep * largest,
        "EC50": 2.5 * largest,
    }
    variances = {"BASE": max(float(np.var(own)), 25.0), "SLOPE": max(float(d[1, 1]), (0.1 * steep) ** 2)}
    rows = tuple(
        replace(
            r, value=values.get(r.name, r.value), variance=variances.get(r.name, r.variance),
            estimate=r.estimate or (grows and r.name == "qtcf_growth"),
            source="start: linear mixed model of the study" if r.name in values else r.source,
        )
        for r in table.rows
    )  # fmt: skip
    return replace(table, rows=rows)

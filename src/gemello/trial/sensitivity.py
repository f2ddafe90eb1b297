"""Sensitivity analyses that a protocol names: the same question under another assumption or another standard error.

| name | what changes |
|---|---|
| HC0 … HC4, model, influence, vcovG | standard errors of a cross-sectional analysis |
| us, csh, toeph, ar1h … | covariance of a mixed model |
| robust | standard errors of a Cox model (Lin & Wei 1989) |
| heterogeneous | slopes of the covariates in every arm (ANHECOVA) |
| unadjusted | no covariate and no score |
| without score | the covariates alone |
| a summary | another population-level summary of the same kind of endpoint (supplementary: another question) |
| mar, j2r, cr, cir, lmcf | missing outcomes filled by their conditional mean under this assumption, jackknife errors |
| tipping | how much worse the active arm's missing outcomes must be than MAR before significance is lost |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from gemello.base.errors import DataError, GemelloError
from gemello.trial.analysis.compare import Row
from gemello.trial.analysis.mmrm.covariance import NAMES as STRUCTURES
from gemello.trial.analysis.result import Estimate
from gemello.trial.missing.imputation import conditional_mean, impute
from gemello.trial.missing.tipping import tipping_point
from gemello.trial.missing.visits import Visits, visits
from gemello.trial.prepare import ARM
from gemello.trial.primary import SCORE, VISIT, estimates, summary, with_visits
from gemello.trial.protocol import SUMMARIES, Estimand, Protocol

ERRORS = ("HC0", "HC1", "HC2", "HC3", "HC4", "model", "influence", "influence by arm", "vcovG")
FILLED = ("mar", "j2r", "cr", "cir", "lmcf")
REFERENCE = ("j2r", "cr", "cir", "lmcf")  # they describe outcomes off treatment
OTHER = ("robust", "heterogeneous", "unadjusted", "without score")
KNOWN = (*ERRORS, *STRUCTURES, *OTHER, *FILLED, "tipping", *(s for of in SUMMARIES.values() for s in of))
FITS: Mapping[str, tuple[str, ...]] = {  # names that say nothing new of other kinds of endpoints
    "heterogeneous": ("continuous", "binary", "count"), "robust": ("time-to-event",),
    **dict.fromkeys((*FILLED, "tipping"), ("continuous", "repeated")), **dict.fromkeys(STRUCTURES, ("repeated",)),
    **dict.fromkeys(ERRORS, ("continuous", "binary", "count", "ordinal")),
}  # fmt: skip
DRAWS = 100
_SUMMARIES = tuple(s for of in SUMMARIES.values() for s in of)


@dataclass(frozen=True)
class Sensitivity:
    """One analysis for one contrast. estimate: None where it could not be made, or where only words come of it."""

    name: str
    estimate: Estimate | None
    words: str

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return {"name": self.name, "words": self.words, "estimate": self.estimate.as_dict() if self.estimate else None}


def run(protocol: Protocol, table: pl.DataFrame, everyone: pl.DataFrame, primary: Sequence[Row]) -> tuple[Sensitivity, ...]:
    """All that the protocol names. table: rows of the primary analysis; everyone: with missing outcomes, too. primary: its rows,
    whose adjustment is kept. Raises DataError for a name that is none; one that cannot be made says why."""
    out: list[Sensitivity] = []
    terms = primary[0].terms
    check(protocol)
    kind = protocol.endpoint.kind
    for name in protocol.sensitivity:
        if kind not in FITS.get(name, (kind,)):
            out.append(Sensitivity(name, None, f"is for {', '.join(FITS[name])} endpoints; this one is {kind}"))
        elif name == "robust" and summary(protocol) != "hazard ratio":
            out.append(Sensitivity(name, None, f"is for the hazard ratio; this analysis is of the {summary(protocol)}"))
        elif name in ERRORS or name in STRUCTURES or name == "robust":
            out += _refitted(protocol, table, name, terms, name)
        elif name in ("unadjusted", "without score"):
            kept = [t for t in terms if t != SCORE] if name == "without score" else []
            out += _refitted(protocol, table, name, kept, None)
        elif name in SUMMARIES[kind]:
            out += _supplementary(protocol, table, name, terms)
        elif name == "heterogeneous":
            p = replace(protocol, analysis=replace(protocol.analysis, heterogeneous=True, covariance=""))
            out += _refitted(p, table, name, terms, None)
        else:
            out += _filled(protocol, everyone, name, terms)
    return tuple(out)


def check(protocol: Protocol) -> None:
    """DataError for a sensitivity analysis that is none."""
    for name in protocol.sensitivity:
        if name not in KNOWN or (name in _SUMMARIES and name not in SUMMARIES[protocol.endpoint.kind]):
            fitting = [k for k in KNOWN if protocol.endpoint.kind in FITS.get(k, (protocol.endpoint.kind,))]
            fitting = [k for k in fitting if k not in _SUMMARIES or k in SUMMARIES[protocol.endpoint.kind]]
            remedy = f"one of {', '.join(fitting)}"
            raise DataError("unknown sensitivity analysis", source=protocol.source, value=name, remedy=remedy)


def _supplementary(protocol: Protocol, table: pl.DataFrame, name: str, terms: Sequence[str]) -> list[Sensitivity]:
    """The same data and adjustment, another population-level summary."""
    plan = protocol.estimand or Estimand("", "", "", name)
    other = replace(protocol, estimand=replace(plan, summary=name), analysis=replace(protocol.analysis, covariance=""))
    return [replace(s, words=f"supplementary, another summary: {s.words}") for s in _refitted(other, table, name, terms, None)]


def _refitted(
    protocol: Protocol, table: pl.DataFrame, name: str, terms: Sequence[str], covariance: str | None
) -> list[Sensitivity]:
    try:
        found = estimates(protocol, table, [t for t in terms if t != SCORE], SCORE in terms, covariance)
    except GemelloError as e:
        return [Sensitivity(name, None, f"could not be made: {e}")]
    return [Sensitivity(name, e, e.method) for e in found]


def _filled(protocol: Protocol, everyone: pl.DataFrame, name: str, terms: Sequence[str]) -> list[Sensitivity]:
    hypothetical = any(e.strategy == "hypothetical" for e in (protocol.estimand.events if protocol.estimand else ()))
    other = name in REFERENCE and hypothetical
    said = "supplementary: outcomes off treatment, not the hypothetical question; " if other else ""
    try:
        data = as_visits(protocol, everyone, terms)
        if not data.missing.any():
            return [Sensitivity(name, None, "no outcome is missing: nothing to fill")]
        at = protocol.endpoint.at or data.visits[-1]
        if name == "tipping":
            return _tipped(protocol, data, at)
        found = conditional_mean(data, strategies=name.upper(), visit=at, level=protocol.analysis.level)  # type: ignore[arg-type]
    except GemelloError as e:
        return [Sensitivity(name, None, f"could not be made: {e}")]
    by_arm = dict(zip(data.arms[1:], found, strict=True))  # the arms of `data` are in the order of their names
    control = protocol.arms.label(protocol.arms.control)
    return [
        Sensitivity(name, replace(by_arm[a], label=f"{protocol.arms.label(a)} against {control}"), f"{said}{by_arm[a].method}")
        for a in protocol.arms.active
    ]


def _tipped(protocol: Protocol, data: Visits, at: str) -> list[Sensitivity]:
    k = data.visits.index(at)
    sd = float(np.nanstd(data.y[:, k]))
    imputed = impute(data, DRAWS, seed=protocol.seed)
    out = []
    for arm in protocol.arms.active:
        start = imputed.analyse(visit=at)[data.arms[1:].index(arm)]
        towards = -np.sign(start.estimate)
        label = f"{protocol.arms.label(arm)} against {protocol.arms.label(protocol.arms.control)}"
        try:
            grid = list(towards * sd * np.linspace(0, 5, 21))
            found = tipping_point(imputed, arm, grid, visit=at, alpha=1 - protocol.analysis.level)
            words = f"{label}: {found.words}" + (f" ({found.in_sd:.2g} SD of the outcome)" if found.in_sd is not None else "")
        except DataError:
            words = f"{label}: p = {start.p:.2g} without a shift: there is no conclusion that could tip"
        words += f"; {DRAWS} imputations under MAR, shifts of the active arm's missing outcomes to 5 SD"
        out.append(Sensitivity("tipping", None, words))
    return out


def as_visits(protocol: Protocol, table: pl.DataFrame, terms: Sequence[str]) -> Visits:
    """Outcomes as a matrix, with the covariates of the primary analysis; an endpoint measured once is one visit."""
    e = protocol.endpoint
    if e.kind == "repeated":
        table, order = with_visits(table, e.visit, e.times)
    else:
        table, order = table.with_columns(pl.lit("endpoint").alias(VISIT)), ("endpoint",)
    kept = [t for t in terms if t != SCORE or e.kind != "repeated"]  # a time-matched score is no baseline covariate
    return visits(
        table, subject=protocol.subject, visit=VISIT, outcome=e.outcome, arm=ARM, control=protocol.arms.control,
        covariates=" + ".join(kept) or "1", order=order,
    )  # fmt: skip

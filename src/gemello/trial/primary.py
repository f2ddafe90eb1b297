"""The analysis that a protocol asks for, by kind of endpoint: one estimate for every active arm against control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from gemello.base.errors import DataError
from gemello.formats.yamlfile import name_of
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.arms import quoted
from gemello.trial.analysis.formula import Formula
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.mmrm import mmrm
from gemello.trial.analysis.ordinal import ordinal
from gemello.trial.analysis.result import Estimate
from gemello.trial.analysis.survival.analyse import analyse as survival
from gemello.trial.prepare import ARM, visit_order
from gemello.trial.protocol import SUMMARIES, Protocol

SCORE = "prognostic_score"  # column of the score in the table that is analysed
VISIT = "visit_name"  # visits as text, in order
_MARGINAL = {
    "risk difference": "difference", "risk ratio": "log ratio", "odds ratio": "log odds ratio",
    "rate difference": "difference", "rate ratio": "log ratio",
}  # fmt: skip
_ORDINAL = {"win odds": "log win odds", "common odds ratio": "conditional log odds ratio"}
_SURVIVAL = {"hazard ratio": "cox", "log-rank": "adjusted-logrank", "rmst difference": "rmst"}


def summary(protocol: Protocol) -> str:
    """The population-level summary: the estimand's, or the first of this kind of endpoint."""
    return protocol.estimand.summary if protocol.estimand else SUMMARIES[protocol.endpoint.kind][0]


def estimates(
    protocol: Protocol, table: pl.DataFrame, covariates: Sequence[str] = (), score: bool = False, covariance: str | None = None
) -> tuple[Estimate, ...]:
    """One estimate for each active arm. covariates: terms beside the arm. score: whether the score enters. covariance:
    in place of the protocol's."""
    kind = protocol.endpoint.kind
    run = {"continuous": _continuous, "time-to-event": _survival, "ordinal": _ordinal, "repeated": _repeated}.get(kind, _marginal)
    kept = covariance if covariance is not None else protocol.analysis.covariance or None
    found = run(protocol, table, tuple(covariates), SCORE if score else None, kept)
    used = (*covariates, *([SCORE] if score else []))
    level = protocol.analysis.level
    return tuple(replace(e, label=_label(protocol, k), level=level, method=_method(e, used)) for k, e in enumerate(found))


def _method(e: Estimate, used: Sequence[str]) -> str:
    """What ran, with what it is adjusted for where the analysis does not say it itself."""
    said = e.method if "adjusted" in e.method or not used else f"{e.method}, adjusted for {', '.join(used)}"
    return said.replace(SCORE, "the prognostic score")


def _label(protocol: Protocol, k: int) -> str:
    a = protocol.arms
    return f"{a.label(a.active[k])} against {a.label(a.control)}"


def _common(protocol: Protocol) -> dict[str, object]:
    r = protocol.randomisation
    return {
        "outcome": protocol.endpoint.outcome, "arm": ARM, "control": protocol.arms.control, "strata": r.strata,
        "randomisation": r.scheme, "heterogeneous": protocol.analysis.heterogeneous, "level": protocol.analysis.level,
    }  # fmt: skip


def _continuous(p: Protocol, t: pl.DataFrame, x: tuple[str, ...], score: str | None, cov: str | None) -> Sequence[Estimate]:
    margins = ancova(t, covariates=x, score=score, covariance=cov, **_common(p))  # type: ignore[arg-type]
    return [margins.contrast(a) for a in p.arms.active]


def _marginal(p: Protocol, t: pl.DataFrame, x: tuple[str, ...], score: str | None, cov: str | None) -> Sequence[Estimate]:
    family = "binomial" if p.endpoint.kind == "binary" else "negative-binomial"
    exposure = p.endpoint.exposure or None
    common = _common(p) | {"family": family, "exposure": exposure}
    margins = g_computation(t, covariates=x, score=score, covariance=cov, **common)  # type: ignore[arg-type]
    return [margins.contrast(a, measure=_MARGINAL[summary(p)]) for a in p.arms.active]


def _ordinal(p: Protocol, t: pl.DataFrame, x: tuple[str, ...], score: str | None, cov: str | None) -> Sequence[Estimate]:
    common = {k: v for k, v in _common(p).items() if k != "heterogeneous"}
    found = ordinal(t, covariates=x, score=score, covariance=cov, **common)  # type: ignore[arg-type]
    measure = _ORDINAL.get(summary(p), summary(p))
    return [found.contrast(a, measure=measure) for a in p.arms.active]


def _survival(p: Protocol, t: pl.DataFrame, x: tuple[str, ...], score: str | None, cov: str | None) -> Sequence[Estimate]:
    out: list[Estimate] = []
    method = _SURVIVAL[summary(p)]
    if method == "adjusted-logrank" and not x and not score:
        method = "logrank"
    for a in p.arms.active:
        two = t.filter(pl.col(ARM).is_in([p.arms.control, a]))
        out += list(
            survival(
                two, time=p.endpoint.outcome, event=p.endpoint.event, arm=ARM, control=p.arms.control, covariates=x,
                strata=p.randomisation.strata, score=score, method=method, tau=p.endpoint.tau, robust=cov == "robust",  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return out


def _repeated(p: Protocol, t: pl.DataFrame, x: tuple[str, ...], score: str | None, cov: str | None) -> Sequence[Estimate]:
    e = p.endpoint
    t, visits = with_visits(t, e.visit, e.times)
    if e.at not in visits:
        raise DataError("no such visit in the data", column=e.visit, value=e.at, remedy=f"one of {', '.join(visits)}")
    terms = [f"{ARM}*{VISIT}"]
    terms += [f"{quoted(c, t)}*{VISIT}" if c == e.baseline else quoted(c, t) for c in x]
    terms += [f"{score}*{VISIT}"] if score else []
    fit = mmrm(
        f"{quoted(e.outcome, t)} ~ {' + '.join(terms)}", t, subject=p.subject, visit=VISIT, visits=visits,
        covariance=cov or "us", df=p.analysis.df or "kenward-roger",  # type: ignore[arg-type]
        levels={ARM: (p.arms.control, *p.arms.active), VISIT: visits},
    )  # fmt: skip
    out = [fit.difference(a, p.arms.control, e.at, arm_column=ARM) for a in p.arms.active]
    named = [n for n in p.randomisation.strata if n not in Formula.parse(" + ".join(terms)).columns]
    words = f"{', '.join(named)} stratified the randomisation but {'are' if len(named) > 1 else 'is'} not in the model"
    return [replace(d, extra={**d.extra, "warnings": (*d.extra.get("warnings", ()), words)}) for d in out] if named else out


def with_visits(
    table: pl.DataFrame, visit: str, times: Mapping[str, float] | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with visits as text in `visit_name`, and their order (`prepare.visit_order`)."""
    values = table[visit].to_list()
    return table.with_columns(pl.Series(VISIT, [name_of(v) for v in values], dtype=pl.String)), visit_order(values, times or {})

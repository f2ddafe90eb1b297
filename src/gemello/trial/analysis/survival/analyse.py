"""A trial with a time to event, analysed: one estimate for each arm against the control, with words for what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate
from gemello.trial.analysis.survival.adjusted import AdjustedLogRank, adjusted_logrank, centred
from gemello.trial.analysis.survival.concordance import concordance
from gemello.trial.analysis.survival.cox import Cox
from gemello.trial.analysis.survival.cox import fit as fit_cox
from gemello.trial.analysis.survival.data import SurvivalData, prepare, require_events, words
from gemello.trial.analysis.survival.logrank import of_data
from gemello.trial.analysis.survival.partial import Ties
from gemello.trial.analysis.survival.proportional import proportional_hazards
from gemello.trial.analysis.survival.rmst import common_tau, restricted_means

Array = NDArray[np.float64]
Method = Literal["cox", "logrank", "adjusted-logrank", "rmst"]
METHODS: tuple[str, ...] = get_args(Method)
NOT_COLLAPSIBLE = (
    "hazard ratios are not collapsible: a conditional one is further from 1 than the marginal one of the same trial, so they are "
    "different estimands and their standard errors cannot be compared"
)


@dataclass(frozen=True)
class SideBySide:
    """One comparison analysed without and with adjustment, on the same subjects.

    estimates: "unadjusted", "covariates", "score", "covariates and score" (those that were asked for). gain: (SE unadjusted
    / SE)², the sample size that the adjustment is worth, for methods whose estimand it leaves alone; empty for Cox. note: words.
    """

    label: str
    estimates: Mapping[str, Estimate]
    gain: Mapping[str, float]
    note: str


def analyse(
    table: pl.DataFrame, *, time: str, event: str, arm: str, control: object = None, covariates: Sequence[str] = (),
    strata: Sequence[str] = (), score: str | None = None, method: Method = "cox", randomised_by: Sequence[str] = (),
    entry: str | None = None, ties: Ties = "efron", robust: bool = False, ridge: float = 0.0, tau: float | None = None,
    level: float = 0.95,
) -> tuple[Estimate, ...]:  # fmt: skip
    """Compare each arm with the control.

    time, event (0/1), arm: columns. control: its value (without: the first). covariates: columns, or terms of a formula such as
    log(bili). score: column of a prognostic score, a covariate like the others here. strata: columns of a stratified analysis.
    randomised_by: the columns by which randomisation was stratified: "adjusted-logrank" and "rmst" then adjust for them, the
    others say where they are left out. method:

    - "cox": log hazard ratio by partial likelihood; with covariates it is conditional on them. entry, ties, robust, ridge apply.
    - "logrank": the (stratified) log-rank test, with the log hazard ratio that solves its score; no covariates.
    - "adjusted-logrank": the same with covariates, still the marginal hazard ratio (Ye, Shao & Yi 2024).
    - "rmst": difference of restricted means to tau (without: the end of the shorter follow-up), adjusted like a mean.

    `extra` has "estimand" (words), "events" by arm, "dropped" (rows with missing values), "warnings"; for the log-rank methods
    "test_z" and "test_p" of the score test, which may differ a little from the Wald p of the estimate.
    Raises DataError as `prepare` and for an arm without events, RefusalError for an infinite hazard ratio.
    """
    if method not in METHODS:
        raise DataError("unknown method", column="method", value=method, remedy=f"one of {', '.join(METHODS)}")
    if not 0 < level < 1:
        raise DataError("no confidence level", column="level", value=level, remedy="give a number between 0 and 1, such as 0.95")
    if method == "logrank" and (covariates or score):
        raise DataError("the log-rank test takes no covariates", column="method", value=method, remedy="use adjusted-logrank")
    d = prepare(
        table, time=time, event=event, arm=arm, control=control, covariates=covariates, strata=strata, score=score, entry=entry
    )
    left_out = [c for c in randomised_by if c not in strata]
    warnings: tuple[str, ...] = ()
    if left_out and method in ("adjusted-logrank", "rmst"):
        d = _with_levels(d, table, randomised_by)
    elif set(left_out) - set(covariates):
        names = ", ".join(c for c in left_out if c not in covariates)
        warnings = (f"randomisation was stratified by {names}, which the analysis leaves out: p values are conservative",)
    if method == "cox":
        found = _cox(d, arm, ties, robust, ridge)
    elif method == "rmst":
        found = _rmst(_with_strata(d), tau)
    else:
        found = _logrank(d, arm, method)
    if method == "rmst" and any(n == 0 for n in _events(d).values()):
        warnings = (*warnings, "an arm has no event: its restricted mean is tau and its standard error 0, which is too small")
    words_ = [f"{k} of {len(table)} rows have missing values and are left out" for k in (d.dropped,) if k]
    return tuple(
        replace(e, level=level, extra={**e.extra, "dropped": d.dropped, "warnings": (*warnings, *words_)}) for e in found
    )


def side_by_side(
    table: pl.DataFrame,
    *,
    covariates: Sequence[str] = (),
    score: str | None = None,
    method: Method = "adjusted-logrank",
    **options: Any,
) -> tuple[SideBySide, ...]:
    """For each arm against the control: unadjusted, covariate-adjusted and score-adjusted, on the subjects complete for all.

    options: as `analyse`. method "logrank" is read as "adjusted-logrank", whose unadjusted row it is.
    """
    if method == "logrank":
        method = "adjusted-logrank"
    asked: dict[str, tuple[Sequence[str], str | None]] = {"unadjusted": ((), None)}
    if covariates:
        asked["covariates"] = (covariates, None)
    if score:
        asked["score"] = ((), score)
    if covariates and score:
        asked["covariates and score"] = (covariates, score)
    keys = ("time", "event", "arm", "control", "strata", "entry")
    full = prepare(table, covariates=covariates, score=score, **{k: options[k] for k in keys if k in options})
    rows = table[full.kept]
    if method == "rmst" and options.get("tau") is None:
        options = {**options, "tau": common_tau(full)}
    runs = {name: analyse(rows, covariates=c, score=s, method=method, **options) for name, (c, s) in asked.items()}
    out = []
    for i, first in enumerate(runs["unadjusted"]):
        here = {name: r[i] for name, r in runs.items()}
        gain = {} if method == "cox" else {n: (first.se / e.se) ** 2 for n, e in here.items() if n != "unadjusted"}
        note = (
            NOT_COLLAPSIBLE
            if method == "cox"
            else "the estimand is the same in every row: covariates and score add precision only"
        )
        out.append(SideBySide(first.label, here, gain, note))
    return tuple(out)


def _cox(d: SurvivalData, arm: str, ties: Ties, robust: bool, ridge: float) -> list[Estimate]:
    require_events(d, arm)
    k = len(d.arms) - 1
    x = np.column_stack([np.eye(k + 1)[d.arm][:, 1:], d.x])
    names = (*(f"{arm}{a}" for a in d.arms[1:]), *d.names)
    m = fit_cox(
        x, names, d.time, d.event, entry=d.entry, stratum=d.stratum, strata=d.strata, ties=ties, ridge=ridge, robust=robust
    )
    test = proportional_hazards(m)
    c = concordance(d.time, d.event, m.linear_predictor()).c if len(d.strata) == 1 and not np.isfinite(d.entry).any() else None
    extra = {
        "estimand": _conditional(d), "events": _events(d), "log_likelihood": m.log_likelihood, "concordance": c,
        "proportional_hazards_p": {n: test.p[n] for n in names}, "proportional_hazards_overall_p": test.overall[2],
    }  # fmt: skip
    return [
        replace(m.of(n, f"{a} − {d.arms[0]}"), extra={**extra, "coefficients": _table(m)})
        for n, a in zip(names, d.arms[1:], strict=False)
    ]


def _table(m: Cox) -> dict[str, tuple[float, float]]:
    return {n: (float(v), float(s)) for n, v, s in zip(m.names, m.values, m.se, strict=True)}


def _conditional(d: SurvivalData) -> str:
    given = [*d.names, *(["stratum"] if len(d.strata) > 1 else [])]
    if not given:
        return "marginal hazard ratio: of the whole population under the active arm against the whole population under control"
    return f"conditional hazard ratio: between subjects alike in {', '.join(given)}; {NOT_COLLAPSIBLE}"


def _logrank(d: SurvivalData, arm: str, method: str) -> list[Estimate]:
    require_events(d, arm)
    within = " within strata" if len(d.strata) > 1 else ""
    named = f", adjusted for {', '.join(d.names)}" if d.names else ""
    kind = "covariate-adjusted log-rank (Ye, Shao & Yi 2024)" if method == "adjusted-logrank" else "log-rank"
    out = []
    for i, a in enumerate(d.arms[1:], 1):
        pair = d.pair(i)
        r = adjusted_logrank(pair)
        extra: dict[str, Any] = {
            "estimand": (
                f"marginal hazard ratio{within}: covariates add precision and do not change what is estimated"
                if d.names
                else f"marginal hazard ratio{within}"
            ),
            "events": _events(pair), "test_z": r.z, "test_p": r.p, **_scores(r),
        }  # fmt: skip
        if method == "logrank":
            t = of_data(pair)
            extra |= {"chisq": t.chisq, "observed": t.observed.tolist(), "expected": t.expected.tolist()}
        label = f"{a} − {d.arms[0]}"
        text = f"{'stratified ' if within else ''}{kind}, log hazard ratio at the zero of the score{named}"
        out.append(Estimate(label, "log hazard ratio", r.log_hazard_ratio, r.se, text, r.n, scale="log", extra=extra))
    return out


def _scores(r: AdjustedLogRank) -> dict[str, float]:
    return {"test_score": r.at_null.u, "test_variance": r.at_null.variance, "estimate_variance": r.at_root.variance}


def _rmst(d: SurvivalData, tau: float | None) -> list[Estimate]:
    end = common_tau(d) if tau is None else tau
    out = []
    for i, a in enumerate(d.arms[1:], 1):
        pair = d.pair(i)
        r = restricted_means(pair, end)
        named = f", adjusted for {', '.join(d.names)} (a slope for each arm)" if d.names else ""
        extra = {
            "estimand": f"marginal difference of mean time free of the event, to {end:g}",
            "tau": float(end), "events": _events(pair),
            "means": {d.arms[0]: r.mean[0], a: r.mean[1]}, "mean_se": {d.arms[0]: r.se[0], a: r.se[1]},
        }  # fmt: skip
        text = f"restricted mean survival time to {end:g}, Kaplan–Meier with Greenwood's variance{named}"
        measure = "difference of restricted mean survival time"
        out.append(Estimate(f"{a} − {d.arms[0]}", measure, r.difference, r.difference_se, text, len(pair), extra=extra))
    return out


def _events(d: SurvivalData) -> dict[str, int]:
    return {a: int(d.event[d.arm == i].sum()) for i, a in enumerate(d.arms)}


def _with_levels(d: SurvivalData, table: pl.DataFrame, columns: Sequence[str]) -> SurvivalData:
    """Indicators of every joint level of some columns, as covariates (Ye, Shao & Yi 2024: what makes the test valid, and its size
    exact, under stratified randomisation)."""
    label = words(table, columns)
    if any(label[i] is None for i in d.kept):
        raise DataError(f"missing values in {', '.join(columns)}", remedy="every randomised subject has a stratum")
    here = np.array([str(label[i]) for i in d.kept])
    return _indicators(d, here, ":".join(columns))


def _with_strata(d: SurvivalData) -> SurvivalData:
    return _indicators(replace(d, stratum=np.zeros_like(d.stratum), strata=("all",)), np.array(d.strata)[d.stratum], "stratum ")


def _indicators(d: SurvivalData, values: NDArray[Any], name: str) -> SurvivalData:
    levels = sorted(set(values.tolist()))[1:]
    z = np.stack([(values == v).astype(float) for v in levels], axis=1) if levels else np.empty((len(d), 0))
    # a covariate that was named already says the same
    x, names = d.x, list(d.names)
    for v, column in zip(levels, z.T, strict=True):
        grown = np.column_stack([x, column])
        within = centred(grown, d.stratum)
        size = np.sqrt((within**2).sum(axis=0))
        if (size > 1e-9).all() and np.linalg.matrix_rank(within / size) == grown.shape[1]:
            x = grown
            names.append(f"{name}{v}")
    return replace(d, x=x, names=tuple(names))

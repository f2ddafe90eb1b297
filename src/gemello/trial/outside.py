"""What a protocol's history says as an external control arm, and as a covariate of the randomised comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from gemello.base.errors import GemelloError, UnsupportedError
from gemello.trial.analysis.arms import quoted
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.balance import balance
from gemello.trial.external.comparison import Comparison, comparison, propensity
from gemello.trial.external.likeforlike import LikeForLike, like_for_like
from gemello.trial.external.sensitivity import e_value_of, tipping_point
from gemello.trial.external.weight import Weights, entropy_balance, inverse_probability
from gemello.trial.prepare import ARM, demand, filtered, load
from gemello.trial.protocol import Protocol

FAMILIES = {"continuous": "normal", "binary": "binary", "time-to-event": "weibull"}


@dataclass(frozen=True, eq=False)
class External:
    """found: every use of history, for one active arm. balance: table of standardised differences, before and after weighting.
    ess: effective number of external controls by weighting. bias: sentences on what could overturn the external arm's answer
    (tipping point, E-value). log: which history was read."""

    arm: str
    found: LikeForLike
    balance: pl.DataFrame
    ess: Mapping[str, float]
    bias: tuple[str, ...]
    log: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return {
            "arm": self.arm, "uses": self.found.table().to_dicts(), "correlation": self.found.correlation,
            "imbalance": self.found.imbalance, "worst_covariate": self.found.worst_covariate,
            "balance": self.balance.to_dicts(), "effective_sample_size": dict(self.ess), "bias": list(self.bias),
            "log": list(self.log),
        }  # fmt: skip


def compare(protocol: Protocol, table: pl.DataFrame) -> External:
    """The first active arm with the external file of the protocol. Raises UnsupportedError for counts, ordinal and repeated
    endpoints, DataError for columns that history lacks."""
    plan, e = protocol.external, protocol.endpoint
    assert plan is not None
    if e.kind not in FAMILIES:
        raise UnsupportedError(f"external controls of a {e.kind} endpoint: use a continuous, binary or time-to-event one")
    history, _ = load(plan.file)
    log = [f"{plan.file.name}: {len(history)} rows"]
    history, more = filtered(history, plan.where, protocol.source)
    demand(history, [e.outcome, e.event], protocol.source)
    arm = protocol.arms.active[0]
    formula = f"{quoted(e.outcome, table)} ~ {' + '.join(quoted(c, table) for c in plan.covariates)}"
    found = like_for_like(
        table, history, formula, ARM, control=protocol.arms.control, treated=arm, family=FAMILIES[e.kind],  # type: ignore[arg-type]
        event=e.event or None, level=protocol.analysis.level,
    )  # fmt: skip
    tables, ess = _balance(protocol, table, history, formula, arm)
    sd = float(table[e.outcome].cast(pl.Float64).std() or 0.0)  # type: ignore[arg-type]
    bias = tuple(w for r in found.of("external arm") if r.estimate is not None for w in _bias(r.method, r.estimate, e.kind, sd))
    return External(arm, found, tables, ess, bias, tuple(log + more))


def _bias(method: str, e: Estimate, kind: str, sd: float) -> Iterator[str]:
    """How large an error of the external controls would overturn what they say."""
    if e.p >= 1 - e.level:
        return
    reach = 5 * (sd if kind == "continuous" else 1.0)
    moved = lambda b: replace(e, estimate=e.estimate - b)  # noqa: E731
    found = tipping_point(moved, (-reach, reach), alpha=1 - e.level, outcome_sd=sd if kind == "continuous" else None)
    yield f"{method}: {found.words}."
    if kind == "binary":  # an E-value needs a ratio of risks
        return
    value = e_value_of(e, outcome_sd=sd if kind == "continuous" else None)
    yield f"{method}: E-value {value.point:.2f}, of the confidence limit {value.limit:.2f}."


def _balance(
    protocol: Protocol, table: pl.DataFrame, history: pl.DataFrame, formula: str, arm: str
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Columns covariate, before, entropy, overlap: standardised differences of treated participants against history."""
    shared = [c for c in table.columns if c in history.columns]
    treated = table.filter(pl.col(ARM) == arm).select(shared).with_columns(pl.lit(1).alias("treated"))
    both = pl.concat([treated, history.select(shared).with_columns(pl.lit(0).alias("treated"))], how="vertical_relaxed")
    kind = "binary" if protocol.endpoint.kind == "binary" else "continuous"
    groups = comparison(both, formula, "treated", kind=kind)  # type: ignore[arg-type]
    out, ess = balance(groups).table.select("covariate", pl.col("smd").alias("before")), {}
    for name, weigh in (("entropy", entropy_balance), ("overlap", _overlap)):
        try:
            after = balance(groups, weigh(groups).values)
        except GemelloError:  # a method that refuses leaves its column out; like_for_like says why
            continue
        out = out.join(after.table.select("covariate", pl.col("smd_weighted").alias(name)), on="covariate", how="left")
        ess[name] = after.ess[1]
    return out, ess


def _overlap(groups: Comparison) -> Weights:
    return inverse_probability(groups, propensity(groups), "overlap")

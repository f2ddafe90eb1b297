"""What a protocol's history says as an external control arm, and as a covariate of the randomised comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from gemello.base.errors import GemelloError, UnsupportedError
from gemello.trial.analysis.arms import quoted
from gemello.trial.external.balance import balance
from gemello.trial.external.comparison import Comparison, comparison, propensity
from gemello.trial.external.likeforlike import LikeForLike, like_for_like
from gemello.trial.external.weight import Weights, entropy_balance, inverse_probability
from gemello.trial.prepare import ARM, demand, filtered, load
from gemello.trial.protocol import Protocol

FAMILIES = {"continuous": "normal", "binary": "binary", "time-to-event": "weibull"}


@dataclass(frozen=True, eq=False)
class External:
    """found: every use of history, for one active arm. balance: table of standardised differences, before and after weighting.
    log: which history was read."""

    arm: str
    found: LikeForLike
    balance: pl.DataFrame
    log: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return {
            "arm": self.arm, "uses": self.found.table().to_dicts(), "correlation": self.found.correlation,
            "imbalance": self.found.imbalance, "worst_covariate": self.found.worst_covariate,
            "balance": self.balance.to_dicts(), "log": list(self.log),
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
    return External(arm, found, _balance(protocol, table, history, formula, arm), tuple(log + more))


def _balance(protocol: Protocol, table: pl.DataFrame, history: pl.DataFrame, formula: str, arm: str) -> pl.DataFrame:
    """Columns covariate, before, entropy, overlap: standardised differences, treated participants against history."""
    shared = [c for c in table.columns if c in history.columns]
    treated = table.filter(pl.col(ARM) == arm).select(shared).with_columns(pl.lit(1).alias("treated"))
    both = pl.concat([treated, history.select(shared).with_columns(pl.lit(0).alias("treated"))], how="vertical_relaxed")
    kind = "binary" if protocol.endpoint.kind == "binary" else "continuous"
    groups = comparison(both, formula, "treated", kind=kind)  # type: ignore[arg-type]
    out = balance(groups).table.select("covariate", pl.col("smd").alias("before"))
    for name, weigh in (("entropy", entropy_balance), ("overlap", _overlap)):
        try:
            after = balance(groups, weigh(groups).values).table.select("covariate", pl.col("smd").alias(name))
            out = out.join(after, on="covariate", how="left")
        except GemelloError:  # a method that refuses leaves its column out; like_for_like says why
            continue
    return out


def _overlap(groups: Comparison) -> Weights:
    return inverse_probability(groups, propensity(groups), "overlap")

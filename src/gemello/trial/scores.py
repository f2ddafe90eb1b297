"""The prognostic score of a trial: from a locked generator or a column, judged before it is used.

The gates see baseline values (drift) and the outcomes of all arms together, blinded to the arm (calibration): what decides
whether the score enters knows nothing of the treatment's effect, so the type I error of the comparison stays what it is. How the
score does in the control arm is reported, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError, GemelloError
from gemello.model import registry
from gemello.trial.prepare import ARM
from gemello.trial.primary import SCORE
from gemello.trial.protocol import Protocol, Score, name_of

Array = NDArray[np.float64]
UNBALANCED = 1e-4  # p of a baseline score that differs between randomised arms: by chance in one trial of ten thousand


@dataclass(frozen=True)
class Scored:
    """table: the trial's with the column `prognostic_score`. used: whether it passed. reasons: why not. figures: of the gates.
    model: what the locked generator says of itself, in words. held_out: its scores at training. control: calibration in the
    control arm (descriptive; None for a time to event). score, outcome, arm: (subjects,) for pictures."""

    table: pl.DataFrame
    used: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: Mapping[str, Any]
    model: Mapping[str, str]
    held_out: Mapping[str, Any]
    control: Mapping[str, Any] | None
    score: Array
    outcome: Array
    arm: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON."""
        return {
            "used": self.used, "reasons": list(self.reasons), "warnings": list(self.warnings), "model": dict(self.model),
            "gate": dict(self.figures), "calibration_in_control_arm": dict(self.control) if self.control else None,
        }  # fmt: skip


def attach(protocol: Protocol, table: pl.DataFrame) -> Scored:
    """Score every participant and judge the score.

    A score that fails is refused (`used` False, with reasons). Raises RefusalError for a generator that is not the one that the
    protocol refers to, and for a score made of anything seen after randomisation; DataError for columns that are not there.
    """
    assert protocol.score is not None
    one = table.unique(protocol.subject, keep="first", maintain_order=True)
    if protocol.score.generator is not None:
        values, gate, model, held_out = _generated(protocol, protocol.score, table, one)
    else:
        values, gate, model, held_out = _given(protocol.score, table)
    table = table.with_columns(pl.Series(SCORE, values, dtype=pl.Float64))
    one = _at_the_endpoint(protocol, table)
    score, outcome = (one[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for c in (SCORE, protocol.endpoint.outcome))
    reasons = list(gate.reasons) if gate is not None else []
    warnings = list(gate.warnings) if gate is not None else ["the score came as a column: drift cannot be judged"]
    figures = dict(gate.figures) if gate is not None else {}
    if (found := _unbalanced(score, one[ARM].to_list(), protocol)) is not None:
        reasons.append(found)
    control = None
    if protocol.endpoint.kind in ("continuous", "repeated", "binary", "count", "ordinal"):
        more, notes, pooled, control = _calibrated(protocol, score, outcome, one[ARM].to_list())
        reasons, warnings = reasons + more, warnings + notes
        figures["calibration"] = pooled
    return Scored(
        table, not reasons, tuple(reasons), tuple(warnings), figures, model, held_out, control, score, outcome,
        tuple(one[ARM].to_list()),
    )  # fmt: skip


def limits(score: Score) -> Any:
    """The gates' thresholds, those of the protocol in place of the defaults. Raises DataError for a name that is none."""
    gates = registry.domain("progression", "gates")
    known = {f.name for f in fields(gates.Thresholds)}
    for name in score.limits:
        if name not in known or name == "slope":
            raise DataError(
                "not a limit of a gate", column="score limits", value=name, remedy=f"one of {', '.join(sorted(known))}"
            )
    return gates.Thresholds(**score.limits)


# ---- where scores come from ----------------------------------------------------------------------------------------------
def _generated(
    protocol: Protocol, score: Score, table: pl.DataFrame, one: pl.DataFrame
) -> tuple[list[float | None], Any, dict[str, str], Mapping[str, Any]]:
    lock, gates = registry.domain("progression", "lock"), registry.domain("progression", "gates")
    drift = registry.domain("progression", "drift")
    locked = lock.read(score.generator, score.sha256)
    renamed = _renamed(one, score.columns)
    at = _times(protocol, score)
    by_time = {t: locked.score(_inputs(renamed, locked), score.variable, t) for t in dict.fromkeys(at.values())}
    place = {p: i for i, p in enumerate(one[protocol.subject].to_list())}
    rows = [place[p] for p in table[protocol.subject].to_list()]
    if protocol.endpoint.kind == "repeated":
        visits = [name_of(v) for v in table[protocol.endpoint.visit].to_list()]
        values = [float(by_time[at[v]][i]) for v, i in zip(visits, rows, strict=True)]
    else:
        values = [float(by_time[at[""]][i]) for i in rows]
    found = drift.drift(locked.validity, locked.history_of(_inputs(renamed, locked)))
    gate = gates.judge(found, thresholds=limits(score))
    said = {k: str(v) for k, v in locked.provenance.items() if isinstance(v, str | int | float)}
    model = {"kind": locked.kind, "SHA-256": locked.hash, **said}
    return list(values), gate, model, dict(locked.provenance.get("scores", {}))


def _renamed(table: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """The table with the generator's names for the trial's columns. columns: generator's name -> trial's column."""
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise DataError(
                "no such column in the data", column="score columns", value=theirs, remedy=f"it feeds {ours}; mend it"
            )
    return table.with_columns([pl.col(theirs).alias(ours) for ours, theirs in columns.items()])


def _inputs(table: pl.DataFrame, locked: Any) -> pl.DataFrame:
    """Only the columns that the generator knows: a trial's file holds much that no forecast may see."""
    names = {v.name for v in locked.generator.variables}
    bases = {n.split("=")[0] for n in names}
    return table.select([c for c in table.columns if c in names or c in bases])


def _times(protocol: Protocol, score: Score) -> dict[str, float]:
    """Time of the forecast by visit ("" where there is one endpoint)."""
    if protocol.endpoint.kind == "repeated":
        if not protocol.endpoint.times:
            remedy = "write endpoint: times: {Week 8: 56, …} in the generator's unit"
            raise DataError("a time-matched score needs the visits' times", source=protocol.source, remedy=remedy)
        return dict(protocol.endpoint.times)
    assert score.time is not None
    return {"": score.time}


def _given(score: Score, table: pl.DataFrame) -> tuple[list[float | None], None, dict[str, str], Mapping[str, Any]]:
    if score.column not in table.columns:
        raise DataError("no such column in the data", column="score column", value=score.column, remedy="give a column of scores")
    values = table[score.column].cast(pl.Float64, strict=False)
    return values.to_list(), None, {"column": score.column, "source": score.source}, {}


# ---- judging -------------------------------------------------------------------------------------------------------------
def _at_the_endpoint(protocol: Protocol, table: pl.DataFrame) -> pl.DataFrame:
    """A row a subject, at the visit of the primary comparison."""
    if protocol.endpoint.kind != "repeated":
        return table
    here = [name_of(v) == protocol.endpoint.at for v in table[protocol.endpoint.visit].to_list()]
    return table.filter(pl.Series(here, dtype=pl.Boolean))


def _unbalanced(score: Array, arm: list[str], protocol: Protocol) -> str | None:
    """A score made before randomisation differs between arms by chance only."""
    groups = [score[(np.array(arm) == a) & np.isfinite(score)] for a in (protocol.arms.control, *protocol.arms.active)]
    if min(len(g) for g in groups) < 3 or not any(np.ptp(g) > 0 for g in groups):
        return None
    p = float(stats.kruskal(*groups).pvalue)
    if p >= UNBALANCED:
        return None
    return (
        f"the score differs between the randomised arms (p {p:.1g}), as nothing known before randomisation does: it was made of "
        "data seen after it, or the allocation is not what the protocol says"
    )


def _calibrated(
    protocol: Protocol, score: Array, outcome: Array, arm: list[str]
) -> tuple[list[str], list[str], Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Reasons and warnings of the blinded calibration; its figures, and those of the control arm."""
    assert protocol.score is not None
    gates = registry.domain("progression", "gates")
    if not np.isfinite(score).all():
        return [f"{int((~np.isfinite(score)).sum())} participants have no score"], [], None, None
    try:
        pooled = gates.calibrate(score, outcome, pooled=True)
        here = np.array(arm) == protocol.arms.control
        control = gates.calibrate(score[here], outcome[here]).as_dict()
    except GemelloError as e:
        return [f"calibration could not be judged: {e}"], [], None, None
    gate = gates.judge(None, pooled, thresholds=limits(protocol.score))
    return list(gate.reasons), list(gate.warnings), pooled.as_dict(), control

"""The prognostic score of a trial: from a locked generator or a column, judged before it is used.

The gates see baseline values (drift) and the outcomes of all arms together, blinded to the arm (correlation): under the null
hypothesis what decides whether the score enters knows nothing of the comparison, so its type I error stays what it is. The slope
of the outcome on the score is told but closes nothing: an effect that is not the same for all (a ratio of risks, an interaction)
moves the pooled slope of a score that is perfect on control. How the score does in the control arm is reported, and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError, GemelloError, RefusalError
from gemello.formats.yamlfile import name_of
from gemello.model import registry
from gemello.trial.analysis.survival.concordance import concordance
from gemello.trial.prepare import ARM
from gemello.trial.primary import SCORE
from gemello.trial.protocol import Protocol, Score

Array = NDArray[np.float64]
DRAWS = 1000  # futures, of the risk of an event
TOO_GOOD = 0.97  # correlation with the outcome that no forecast from baseline has
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
    make = _given if protocol.score.generator is None else _generated
    made = make(protocol, protocol.score, table, one)
    table = table.with_columns(pl.Series(SCORE, made.values, dtype=pl.Float64))
    at_end = _at_the_endpoint(protocol, table)
    score, outcome = (at_end[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for c in (SCORE, protocol.endpoint.outcome))
    reasons = list(made.gate.reasons) if made.gate is not None else []
    warnings = list(made.gate.warnings) if made.gate is not None else ["the score came as a column: drift cannot be judged"]
    figures = dict(made.gate.figures) if made.gate is not None else {}
    lacking = table.filter(~pl.col(SCORE).is_finite().fill_null(False))[protocol.subject].n_unique()
    if made.refused:
        reasons.append(f"the generator makes no such forecast: {made.refused}")
    elif lacking:
        reasons.append(f"{lacking} participants have no score: it must be known for everybody at randomisation")
    reasons += [made.learnt] if made.learnt else []
    reasons += _unbalanced(protocol, score, at_end[ARM].to_list(), one, made.columns)
    control = None
    if not lacking:
        judge = _discriminates if protocol.endpoint.kind == "time-to-event" else _calibrated
        more, notes, found, control = judge(protocol, score, outcome, at_end)
        reasons, warnings, figures = reasons + more, warnings + notes, figures | found
    return Scored(
        table, not reasons, tuple(reasons), tuple(warnings), figures, made.model, made.held_out, control, score, outcome,
        tuple(at_end[ARM].to_list()),
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
    slope = {} if score.same_scale else {"slope": (float("-inf"), float("inf"))}
    return gates.Thresholds(**score.limits, **slope)


# ---- where scores come from ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Made:
    """values: of each row. gate: of the drift. model: what the generator says of itself. held_out: its scores. columns: of the
    trial, that the score was made of. refused: why the generator makes no forecast, empty where it does. learnt: of
    participants that the generator learned from; empty where there are none."""

    values: list[float | None]
    gate: Any
    model: Mapping[str, str]
    held_out: Mapping[str, Any]
    columns: tuple[str, ...]
    refused: str = ""
    learnt: str = ""


def _generated(protocol: Protocol, score: Score, table: pl.DataFrame, one: pl.DataFrame) -> _Made:
    lock, gates = registry.domain("progression", "lock"), registry.domain("progression", "gates")
    drift = registry.domain("progression", "drift")
    locked = lock.read(score.generator, score.sha256)
    inputs, read = _inputs(one, locked, score.columns)
    _known_before(protocol, table, (*read, *([score.change_from] if score.change_from else [])))
    at = _times(protocol, score)
    refused = ""
    try:
        by_time = {t: _forecast(locked, inputs, score.variable, t) for t in dict.fromkeys(at.values())}
    except RefusalError as e:  # such as a time beyond the history's: a score that fails, as others do
        by_time, refused = {t: np.full(len(one), np.nan) for t in at.values()}, str(e)
    place = {p: i for i, p in enumerate(one[protocol.subject].to_list())}
    rows = [place[p] for p in table[protocol.subject].to_list()]
    repeated = protocol.endpoint.kind == "repeated"
    visits = [name_of(v) for v in table[protocol.endpoint.visit].to_list()] if repeated else [""] * len(rows)
    if (unknown := next((v for v in visits if v not in at), None)) is not None:
        remedy = f"add {unknown} to endpoint: times:"
        raise DataError(
            "a visit without a time", source=protocol.source, column=protocol.endpoint.visit, value=unknown, remedy=remedy
        )
    values = np.array([by_time[at[v]][i] for v, i in zip(visits, rows, strict=True)])
    if score.change_from:
        values = values - table[score.change_from].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    gate = gates.judge(drift.drift(locked.validity, locked.history_of(inputs)), thresholds=limits(score))
    said = {k: str(v) for k, v in locked.provenance.items() if isinstance(v, str | int | float) and v != ""}
    model = {"kind": locked.kind, "SHA-256": locked.hash, **said}
    held_out = dict(locked.provenance.get("scores", {}))
    learnt = registry.domain("progression", "overlap").overlap(locked.persons, locked.history_of(inputs)).reason
    return _Made([None if np.isnan(v) else float(v) for v in values], gate, model, held_out, read, refused, learnt)


def _forecast(locked: Any, inputs: pl.DataFrame, variable: str, at: float) -> Array:
    """(persons,) score. An event's is the forecast share of futures in which it has happened by then."""
    if variable not in {v.name for v in locked.generator.variables if v.role == "event"}:
        return np.asarray(locked.score(inputs, variable, at))
    seen = locked.history_of(inputs)
    seed = int(locked.hash[:8], 16)  # the score belongs to the locked file, not to the trial
    futures = locked.generator.sample(seen, np.array([at]), draws=DRAWS, seed=seed)
    return np.asarray((futures.event_time[variable] <= at).mean(axis=0), float)


def _inputs(one: pl.DataFrame, locked: Any, columns: Mapping[str, str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """A row a participant with the generator's variables, and the trial's columns that they are made of.

    columns: generator's name (of words, without the level) -> trial's column. A trial's file holds much that no forecast may
    see: nothing else is handed on. Raises DataError."""
    made: dict[str, pl.Series] = {}
    read: list[str] = []
    known = {v.name for v in locked.generator.variables if v.role != "event"}
    bases = known | {n.split("=")[0] for n in known}
    for ours, theirs in columns.items():
        if ours not in bases:
            remedy = f"the generator knows {', '.join(sorted(bases))}"
            raise DataError("not a variable of the generator", column="score columns", value=ours, remedy=remedy)
        if theirs not in one.columns:
            remedy = f"it feeds {ours}; mend it"
            raise DataError("no such column in the data", column="score columns", value=theirs, remedy=remedy)
    for name in sorted(known):
        base, _, level = name.partition("=")
        source = columns.get(name, columns.get(base, name if name in one.columns else base))
        if source not in one.columns:
            remedy = f"write score: columns: {{{base}: the column that has it}}"
            raise DataError(f"the generator reads {base}, which the data lack", column="score columns", remedy=remedy)
        column = one[source]
        if level and source != name:
            said = [None if v is None or v == "" else float(str(v) == level) for v in column.to_list()]
            column = pl.Series(name, said, dtype=pl.Float64)
        made[name] = column.alias(name)
        read.append(source)
    return pl.DataFrame(made), tuple(dict.fromkeys(read))


def _known_before(protocol: Protocol, table: pl.DataFrame, columns: Sequence[str]) -> None:
    """RefusalError for a column that was seen after randomisation: outcome, event, or one that changes within a subject."""
    after = late(protocol)
    for name in columns:
        if name in after:
            raise RefusalError(
                f"column {name} is {after[name]}, seen after randomisation: a prognostic score may not be made of it; give the "
                "value at baseline (score: columns: {variable: baseline column})"
            )
        if name in table.columns and varies(table, protocol.subject, name):
            raise RefusalError(
                f"column {name} changes within a subject, so it was seen after randomisation: a prognostic score may not be made "
                "of it; give the value at baseline"
            )


def late(protocol: Protocol) -> dict[str, str]:
    """Columns of the trial that are seen after randomisation, by what the protocol says, and what they are."""
    e = protocol.endpoint
    said = {e.outcome: "the outcome", e.event: "the event", e.visit: "the visit", e.exposure: "the exposure"}
    said = dict.fromkeys(protocol.after, "of the protocol's list after_randomisation") | said
    for x in protocol.estimand.events if protocol.estimand else ():
        if x.strategy != "principal stratum":
            said |= {x.column: f"the intercurrent event {x.name}", x.time: f"the time of the intercurrent event {x.name}"}
    return {k: v for k, v in said.items() if k}


def varies(table: pl.DataFrame, subject: str, column: str) -> bool:
    """Whether a column changes within a subject (missing values aside)."""
    return bool((table.group_by(subject).agg(pl.col(column).drop_nulls().n_unique())[column] > 1).any())


def _times(protocol: Protocol, score: Score) -> dict[str, float]:
    """Time of the forecast by visit ("" where there is one endpoint)."""
    if protocol.endpoint.kind == "repeated":
        return dict(protocol.endpoint.times)
    assert score.time is not None
    return {"": score.time}


def _given(protocol: Protocol, score: Score, table: pl.DataFrame, one: pl.DataFrame) -> _Made:
    name = score.column
    if name not in table.columns:
        raise DataError("no such column in the data", column="score column", value=name, remedy="give a column of scores")
    if not table.schema[name].is_numeric():
        raise DataError(
            "a score must be a number", column=name, value=table[name][0], remedy="give the forecast outcome on control"
        )
    if name in (after := late(protocol)):
        raise RefusalError(f"column {name} is {after[name]}, seen after randomisation: it is no prognostic score")
    values = table[name].cast(pl.Float64).fill_nan(None).to_list()
    return _Made(values, None, {"column": name, "source": score.source}, {}, (name,))


# ---- judging -------------------------------------------------------------------------------------------------------------
def _at_the_endpoint(protocol: Protocol, table: pl.DataFrame) -> pl.DataFrame:
    """A row a subject, at the visit of the primary comparison."""
    if protocol.endpoint.kind != "repeated":
        return table
    here = [name_of(v) == protocol.endpoint.at for v in table[protocol.endpoint.visit].to_list()]
    return table.filter(pl.Series(here, dtype=pl.Boolean))


def _unbalanced(protocol: Protocol, score: Array, arm: list[str], one: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """What was known before randomisation differs between arms by chance only: the score, and every column that feeds it."""
    judged: list[tuple[str, Array, list[str]]] = [("the score", score, arm)]
    for c in columns:
        if one.schema[c].is_numeric() and protocol.score is not None and c != protocol.score.column:
            judged.append((f"column {c}", one[c].cast(pl.Float64).fill_null(float("nan")).to_numpy(), one[ARM].to_list()))
    out = []
    for what, values, arms in judged:
        groups = [values[(np.array(arms) == a) & np.isfinite(values)] for a in (protocol.arms.control, *protocol.arms.active)]
        if min(len(g) for g in groups) < 3 or np.ptp(np.concatenate(groups)) == 0:
            continue
        p = float(stats.kruskal(*groups).pvalue)
        if p < UNBALANCED / len(judged):
            out.append(
                f"{what} differs between the randomised arms (p {p:.1g}), as nothing known before randomisation does: it was "
                "made of data seen after it, or the allocation is not what the protocol says"
            )
    return out


Judged = tuple[list[str], list[str], dict[str, Any], Mapping[str, Any] | None]


def _calibrated(protocol: Protocol, score: Array, outcome: Array, rows: pl.DataFrame) -> Judged:
    """Reasons and warnings of the blinded calibration; its figures, and those of the control arm."""
    assert protocol.score is not None
    gates = registry.domain("progression", "gates")
    if protocol.endpoint.exposure:  # a forecast for one unit of exposure, held against counts over a person's own
        score = score * rows[protocol.endpoint.exposure].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    try:
        pooled = gates.calibrate(score, outcome, pooled=True)
    except GemelloError as e:
        return [f"calibration could not be judged: {e}"], [], {}, None
    try:
        here = np.array(rows[ARM].to_list()) == protocol.arms.control
        control = gates.calibrate(score[here], outcome[here]).as_dict()
    except GemelloError:  # too few: it is shown, and decides nothing
        control = None
    chosen = limits(protocol.score)
    found = [w for w in gates.judge(None, pooled, thresholds=chosen).reasons if "slope" in w]
    gate = gates.judge(None, pooled, thresholds=replace(chosen, slope=(float("-inf"), float("inf"))))
    reasons, notes = list(gate.reasons), [*found, *gate.warnings] if protocol.score.same_scale else []
    if abs(pooled.correlation.rho) > TOO_GOOD:
        reasons.append(
            f"correlation with the outcome {pooled.correlation.rho:.3f}, as no forecast has from baseline: it was made of data "
            "seen after randomisation"
        )
    return reasons, notes, {"calibration": pooled.as_dict()}, control


def _discriminates(protocol: Protocol, score: Array, time: Array, rows: pl.DataFrame) -> Judged:
    """Whether the score tells early events from late ones, in either direction, all arms together: Harrell's C."""
    event = rows[protocol.endpoint.event].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    use = np.isfinite(score) & np.isfinite(time) & np.isfinite(event)
    try:
        found = concordance(time[use], event[use], score[use])
    except DataError as e:
        return [f"discrimination could not be judged: {e}"], [], {}, None
    figures = {"concordance": {"c": found.c, "se": found.se, "pairs": found.pairs, "n": int(use.sum())}}
    if abs(found.c - 0.5) > stats.norm.ppf(0.95) * found.se:
        return [], [], figures, None
    words = f"discrimination: concordance {found.c:.3f} (SE {found.se:.3f}) of score and time to event, all arms together"
    return [f"{words}, is not away from 0.5"], [], figures, None

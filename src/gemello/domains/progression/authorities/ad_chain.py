"""The AD chain: learn on 369 historical controls, forecast the placebo arm of the CDISC pilot, and let the gates say what it is
worth.

Only the baseline ADAS-Cog 11 and sex are on both sides; the history is of 12 weeks, the pilot's visits are at 8, 16 and 24. The
history improves where the pilot's placebo arm worsens. What a trial would use is the forecast *change*: the analysis has the
baseline already. Figures: SOURCES.md of the reference data, "AD chain" (credsubs 2020; CDISC pilot 01).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check, rows
from gemello.domains.progression.drift import Drift, drift
from gemello.domains.progression.gates import Calibration, Gate, calibrate, judge, subgroup_errors
from gemello.domains.progression.neural import Neural
from gemello.domains.progression.validity import Validity
from gemello.model.generator import Array, Generator, History, Variable

SOURCE = "SOURCES.md, AD chain"
WEEKS = (8, 16, 24)
FORECAST = 12.0  # week to which the history reaches
VARIABLES = (
    Variable("adas", "continuous", "longitudinal", "1", lower=0.0, upper=70.0),
    Variable("female", "binary", "baseline"),
)


@dataclass(frozen=True)
class Chain:
    """What came of it: the drift at baseline, and by week the calibration of the forecast change and the gate's verdict."""

    history: History
    placebo: History
    change: Mapping[int, Array]
    score: Array
    drift: Drift
    calibration: Mapping[int, Calibration]
    gate: Mapping[int, Gate]


def learn_history(folder: Path) -> History:
    """credsubs_alzheimers: 369 patients on placebo or standard of care, ADAS-Cog 11 at weeks 0 and 12."""
    table = rows(folder / "credsubs_alzheimers.csv")
    start = np.array([float(r["Severity"]) for r in table])
    end = start - np.array([float(r["Improvement"]) for r in table])
    n = len(table)
    return History(
        VARIABLES, tuple(f"history {i + 1}" for i in range(n)), {"female": np.array([float(r["Sex"] == "F") for r in table])},
        np.repeat(np.arange(n), 2), np.tile([0.0, FORECAST], n), {"adas": np.column_stack([start, end]).ravel()},
        time_unit="week",
    )  # fmt: skip


def pilot_placebo(folder: Path) -> tuple[History, dict[int, Array]]:
    """Placebo arm of the pilot, the 79 of the efficacy analysis: baseline, and change by week (last observation carried
    forward)."""
    table = [
        r for r in rows(folder / "cdiscpilot_adas_total.csv")
        if r["PARAMCD"] == "ACTOT" and r["TRTPN"] == "0" and r["ITTFL"] == r["EFFFL"] == r["ANL01FL"] == "Y"
    ]  # fmt: skip
    by_week = {w: {r["USUBJID"]: r for r in table if r["AVISIT"] == f"Week {w}"} for w in WEEKS}
    persons = tuple(sorted(by_week[24]))
    last = [by_week[24][p] for p in persons]
    history = History(
        VARIABLES, persons, {"female": np.array([float(r["SEX"] == "F") for r in last])}, np.arange(len(persons)),
        np.zeros(len(persons)),
        {"adas": np.array([float(r["BASE"]) for r in last])}, time_unit="week",
    )  # fmt: skip
    change = {
        w: np.array([float(v[p]["CHG"]) if p in v and v[p]["CHG"] else np.nan for p in persons]) for w, v in by_week.items()
    }
    return history, change


def chain(folder: Path, generator: Generator | None = None, seed: int = 1) -> Chain:
    """Train (or take a trained generator), forecast, judge."""
    history = learn_history(folder)
    trained = Neural.train(history, seed=seed) if generator is None else generator
    placebo, change = pilot_placebo(folder)
    base = placebo.at_zero("adas")
    score = trained.expected(placebo, np.array([FORECAST]))["adas"][:, 0] - base
    moved = drift(Validity.of(history), placebo)
    calibration = {w: calibrate(score, y) for w, y in change.items()}
    sex = {"sex": np.where(placebo.baseline["female"] == 1, "F", "M")}
    gate = {w: judge(moved, c, subgroup_errors(score, change[w], sex)) for w, c in calibration.items()}
    return Chain(history, placebo, change, score, moved, calibration, gate)


def checks(folder: Path) -> Iterator[Check]:
    """Facts of both populations, then what the gates say of the score."""
    made = chain(folder)
    h = made.history
    start = h.at_zero("adas")
    improvement = start - h.values["adas"][h.time == FORECAST]
    yield check("AD chain: historical controls", len(h), 369, 0, SOURCE)
    yield check("AD chain: baseline ADAS-Cog 11 of the history, mean", start.mean(), 27.2, 0.05, SOURCE)
    yield check("AD chain: improvement at week 12 in the history, mean", improvement.mean(), 1.94, 0.005, SOURCE)
    yield check("AD chain: improvement at week 12 in the history, SD", improvement.std(ddof=1), 5.04, 0.005, SOURCE)
    r = np.corrcoef(start, improvement)[0, 1]
    yield check("AD chain: baseline and improvement in the history, r", r, 0.108, 0.0005, SOURCE)
    yield check("AD chain: pilot placebo arm", len(made.placebo), 79, 0, SOURCE)
    for week, mean, sd in ((8, 0.85, 4.8), (16, 1.96, 5.9), (24, 2.54, 5.8)):
        y = made.change[week]
        yield check(f"AD chain: change at week {week} on placebo, mean", float(np.nanmean(y)), mean, 0.005, SOURCE)
        yield check(f"AD chain: change at week {week} on placebo, SD", float(np.nanstd(y, ddof=1)), sd, 0.05, SOURCE)
    r = np.corrcoef(made.placebo.at_zero("adas"), made.change[24])[0, 1]
    yield check("AD chain: baseline and change at week 24 on placebo, r", r, 0.057, 0.0005, SOURCE)
    for week, gate in made.gate.items():
        c = made.calibration[week]
        rho = c.correlation
        words = f"correlation {rho.rho:.3f} ({rho.lower:.3f} to {rho.upper:.3f}), mean error {c.error:.2f}"
        words += f", drift AUC {made.drift.auc:.2f}: {'used' if gate.passed else 'refused: ' + '; '.join(gate.reasons)}"
        yield check(f"AD chain: score refused at week {week} (1: refused)", float(not gate.passed), 1, 0, words)
        yield check(f"AD chain: correlation of score and change at week {week}, near none", c.correlation.rho, 0.0, 0.25, SOURCE)

"""The demo: controls of an earlier study, a generator learned from them and locked, a trial analysed by its protocol.

`gemello demo trial`. Everything is simulated here; no data come with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from gemello.base.random import generator
from gemello.model import registry

NAME = "gemello-trial-dossier.html"
PERSONS, ARM, EFFECT = 240, 90, -2.0  # of the history; of each arm; points at week 52
WEEKS = (13, 26, 39, 52)

PROTOCOL = """\
schema: gemello-trial-analysis/1
title: A simulated trial of a drug that slows decline
data: {{file: trial.csv, subject: id}}
arms: {{column: arm, control: placebo, active: [drug], labels: {{placebo: placebo, drug: drug}}}}
randomisation: {{scheme: permuted-block, strata: [carrier]}}
endpoint:
  kind: repeated
  outcome: severity
  label: severity score
  unit: points
  better: lower
  visit: visit
  at: week 52
  baseline: severity0
  times: {{week 13: 13, week 26: 26, week 39: 39, week 52: 52}}
estimand:
  treatment: drug against placebo, as if nobody had taken rescue medication
  population: all who were randomised
  variable: severity score at week 52
  summary: mean difference
  events:
    rescue medication: {{strategy: hypothetical, column: rescue, time: rescue_week}}
    stopping the drug: {{strategy: treatment policy}}
analysis: {{covariates: [carrier], covariance: us, df: kenward-roger}}
score:
  generator: generator.json
  sha256: {sha256}
  variable: severity
  columns: {{severity: severity0}}
sensitivity: [toeph, without score, unadjusted, mar, tipping]
planned: {{difference: 2, sd: 6.5}}
credibility:
  question: Does the drug slow decline over a year?
  context_of_use: The forecast on control of each participant is a covariate of the primary analysis, beside the usual ones.
  model_influence: "Low: the comparison is randomised, and unadjusted and covariate-adjusted estimates stand beside it."
  decision_consequence: A useless score costs precision; it cannot bias the comparison.
seed: {seed}
"""


def run(
    output: Path | None = None, seed: int = 20, progress: Callable[[str], None] | None = None
) -> tuple[Path, tuple[str, ...]]:
    """Simulate, train, lock, analyse, write the dossier. Returns its path and the result in a few lines."""
    say = progress or (lambda _: None)
    from gemello.trial import dossier, figures  # noqa: PLC0415  (seconds: after the first word)
    from gemello.trial import protocol as protocols  # noqa: PLC0415
    from gemello.trial.analyse import analyse  # noqa: PLC0415

    path = Path(NAME) if output is None else Path(output)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"Learning from {PERSONS} earlier controls")
        digest = _locked(people(PERSONS, seed, "history"), folder / "generator.json", seed)
        trial(seed).write_csv(folder / "trial.csv")
        file = folder / "trial.yaml"
        file.write_text(PROTOCOL.format(sha256=digest, seed=seed), encoding="utf-8")
        found = analyse(protocols.read(file), progress=say)
        say(f"Writing {path.name}")
        dossier.write(found, path=path)
    rows = [
        f"{r.adjustment}: {figures.told(r.estimate)}, SE {r.estimate.se:.3f}, {figures.p_words(r.estimate.p)}"
        for r in found.comparison.rows
    ]
    return path, (
        f"{2 * ARM} simulated participants, the drug's true effect at week 52 is {EFFECT:g} points",
        f"generator locked: SHA-256 {digest}",
        *rows,
        *found.words,
    )


def people(count: int, seed: int, name: str) -> pl.DataFrame:
    """One row a person and visit on control: id, age, carrier, marker, week, severity. Declines differ, and partly follow what is
    known at baseline. simulated."""
    rng = generator(seed, "trial demo", name)
    age, carrier, marker = rng.normal(72, 7, count), rng.random(count) < 0.4, rng.normal(size=count)
    level = 22 + 0.1 * (age - 72) + rng.normal(0, 5, count)
    pace = 4 + 1.5 * carrier + 2.0 * marker + rng.normal(0, 2, count)  # points a year
    week = np.array([0, *WEEKS], float)
    severity = level[:, None] + pace[:, None] * week / 52 + rng.normal(0, 1.8, (count, len(week)))
    stays = rng.exponential(300, count)[:, None] > week  # some are lost to follow-up
    stays[:, 0] = True
    i, k = np.nonzero(stays)
    return pl.DataFrame({
        "id": i + 1, "age": age[i].round(1), "carrier": carrier[i].astype(int), "marker": marker[i].round(3), "week": week[k],
        "severity": severity[i, k].round(2),
    })  # fmt: skip


def trial(seed: int) -> pl.DataFrame:
    """The trial's table: one row a participant and visit after baseline, with arm, baseline value and rescue medication."""
    rng = generator(seed, "trial demo", "randomisation")
    rows = people(2 * ARM, seed, "trial")
    first = rows.filter(pl.col("week") == 0).sort("carrier")
    blocks = np.concatenate([rng.permutation(["placebo", "placebo", "drug", "drug"]) for _ in range(ARM // 2 + 2)])
    rescue = np.where(rng.random(len(first)) < 0.12, rng.integers(20, 50, len(first)), 0)
    assigned = first.select("id", pl.col("severity").alias("severity0")).with_columns(
        pl.Series("arm", blocks[: len(first)]), pl.Series("rescue", (rescue > 0).astype(int)),
        pl.Series("rescue_week", np.where(rescue > 0, rescue, np.nan)).fill_nan(None),
    )  # fmt: skip
    effect = pl.when(pl.col("arm") == "drug").then(EFFECT * pl.col("week") / 52).otherwise(0.0)
    return (
        rows.filter(pl.col("week") > 0)
        .join(assigned, on="id")
        .with_columns((pl.col("severity") + effect).round(2), pl.format("week {}", pl.col("week").cast(pl.Int64)).alias("visit"))
        .drop("week")
        .sort("id", "visit")
    )


def _locked(history: pl.DataFrame, file: Path, seed: int) -> str:
    """Train the simple generator on controls and lock it; returns its hash."""
    tables, select, lock = (registry.domain("progression", part) for part in ("history", "select", "lock"))
    learnt = tables.from_long(
        history, person="id", time="week", longitudinal=["severity"], baseline=["age", "carrier", "marker"], time_unit="week",
        units={"severity": "points"},
    )  # fmt: skip
    found = select.train(learnt, seed=seed, tried=("mixed",))
    return str(lock.write(found.generator, file, history=learnt, seed=seed, scores=found.report.as_dict(), notes=found.reason))

"""The demo: a history of a slow disease, simulated; generators learn it, one is chosen and locked, and forecasts new persons."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.random import generator
from gemello.domains.progression import lock, select
from gemello.model.generator import History, Trajectories, Variable
from gemello.report import render
from gemello.report.chart import BLACK, BLUE, VERMILLION, Band, Chart, Line, Mark, Points, Rule
from gemello.report.pictures import Pictures
from gemello.report.tables import Table
from gemello.report.words import number, percent

NAME = "gemello-progression-report.html"
LEARNT, NEW, SEEN, DRAWS = 160, 40, 1.0, 400
YEARS = np.arange(0.0, 4.01, 0.5)
SCORE = Variable("score", "continuous", "longitudinal", "points", lower=0.0, upper=70.0)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Found:
    """What the demo shows."""

    trained: select.Trained
    seen: History
    whole: History
    futures: Trajectories
    hash: str


def run(
    output: Path | None = None, seed: int = 20, progress: Callable[[str], None] | None = None
) -> tuple[Path, tuple[str, ...]]:
    """Simulate, learn, choose, lock, forecast; write the report. Returns its path and the result in a few lines."""
    say = progress or (lambda _: None)
    say(f"Simulating {LEARNT + NEW} persons")
    everyone = simulated(LEARNT + NEW, seed)
    history, new = everyone.take(np.arange(LEARNT)), everyone.take(np.arange(LEARNT, LEARNT + NEW))
    say(f"Learning from {LEARNT} persons")
    trained = select.train(history, seed=seed, tried=("mixed", "latent_time"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "generator.json"
        scores = trained.report.as_dict() if trained.report else {}
        digest = lock.write(trained.generator, file, history=history, seed=seed, scores=scores, notes=trained.reason)
        locked = lock.read(file, digest)
    say(f"Forecasting {NEW} new persons")
    seen = new.until(SEEN)
    found = _Found(trained, seen, new, locked.generator.sample(seen, YEARS[YEARS > SEEN], draws=DRAWS, seed=seed), digest)
    path = Path(NAME) if output is None else Path(output)
    say(f"Writing {path.name}")
    _write(found, path)
    inside, forecasts = coverage(found.futures, new)
    s = trained.reports[trained.kind].variables["score"]
    return path, (
        f"{LEARNT} simulated persons learnt from, {NEW} new ones forecast from their first year",
        trained.reason,
        f"held out: RMSE {number(s.rmse, 3)} points (last value carried forward: {number(s.locf, 3)}), 90 % intervals cover "
        f"{percent(s.coverage, 1)}",
        f"new persons: {inside} of {forecasts} later visits in the 90 % interval",
        f"locked: sha256 {digest[:16]}…",
    )


def simulated(persons: int, seed: int) -> History:
    """Persons on one logistic course to 70 points, each with an onset and a pace; a tenth of visits missing, some leave early."""
    random = generator(seed, "demo of progression")
    onset = random.normal(2.5, 2.0, persons)
    pace = np.exp(random.normal(np.log(0.8), 0.3, persons))
    age = 70.0 - 3.0 * onset + random.normal(0, 5, persons)
    leaves = random.exponential(12.0, persons)
    who, at, value = [], [], []
    for i in range(persons):
        mean = 70.0 / (1.0 + np.exp(-pace[i] * (YEARS - onset[i])))
        kept = (random.uniform(size=len(YEARS)) > 0.1) & (leaves[i] > YEARS)
        kept[0] = True
        who.append(np.full(kept.sum(), i))
        at.append(YEARS[kept])
        value.append(np.clip(mean[kept] + random.normal(0, 2.5, kept.sum()), 0, 70))
    variables = (SCORE, Variable("age", "continuous", "baseline", "year"))
    names = tuple(f"P{i + 1:03d}" for i in range(persons))
    return History(
        variables,
        names,
        {"age": age},
        np.concatenate(who),
        np.concatenate(at),
        {"score": np.concatenate(value)},
        time_unit="year",
    )


def coverage(futures: Trajectories, whole: History) -> tuple[int, int]:
    """How many later visits lie in the 90 % interval, of how many."""
    low, high = futures.quantiles("score", (0.05, 0.95))
    inside = total = 0
    for person, time, value in zip(whole.person, whole.time, whole.values["score"], strict=True):
        k = np.flatnonzero(np.isclose(futures.times, time))
        if len(k):
            inside += int(low[person, k[0]] <= value <= high[person, k[0]])
            total += 1
    return inside, total


# ---- the report ----------------------------------------------------------------------------------------------------------
def _write(found: _Found, path: Path) -> None:
    pictures = Pictures(interactive=False)
    later = np.bincount(found.whole.person[found.whole.time > SEEN], minlength=len(found.whole))
    s = found.trained.reports[found.trained.kind].variables["score"]
    pit = Chart(
        "probability integral transform", "share of held-out visits",
        [Line((np.arange(10) + 0.5) / 10, np.array(s.pit), "observed", BLUE), Rule(0.1, "y", "calibrated")],
        "Ten shares of the probability integral transform; all are 0.1 where forecasts are calibrated.", y_range=(0.0, 0.2),
    )  # fmt: skip
    words = {
        "title": "A slow disease, learnt and forecast",
        "counts": f"{LEARNT} simulated persons learnt from; {NEW} new ones, each seen for {SEEN:g} year; score of 0 to 70 points",
        "verdict": (
            f"RMSE {number(s.rmse, 3)} points (last value carried forward: {number(s.locf, 3)}), CRPS {number(s.crps, 3)}, "
            f"90 % intervals cover {percent(s.coverage, 1)}."
        ),
        "reason": found.trained.reason,
        "scores": _scores(found.trained),
        "persons": pictures.grid([_person(found, int(i)) for i in np.flatnonzero(later >= 5)[:6]], "Six of the new persons"),
        "pit": pictures.draw(pit, "Calibration of forecasts of persons held out"),
        "lock": Table("The file of the generator", ("what", "value"), (("kind", found.trained.kind), ("SHA-256", found.hash))),
    }  # fmt: skip
    render.write("demo.html", words, path, package="gemello.domains.progression")


def _scores(trained: select.Trained) -> Table:
    rows = tuple(
        (kind, number(r.crps, 4), number(v.rmse, 4), number(v.crps, 4), percent(v.coverage, 1), number(v.slope, 3))
        for kind, r in trained.reports.items()
        for v in [r.variables["score"]]
    )
    columns = ("generator", "CRPS in SD", "RMSE (points)", "CRPS (points)", "90 % coverage", "calibration slope")
    return Table("Scores in persons held out", columns, rows, frozenset(range(1, 6)))


def _person(found: _Found, i: int) -> Chart:
    f = found.futures
    low, q1, middle, q3, high = (q[i] for q in f.quantiles("score", (0.05, 0.25, 0.5, 0.75, 0.95)))
    seen, whole = found.seen.person == i, found.whole.person == i
    later = whole & (found.whole.time > SEEN)
    marks: list[Mark] = [
        Band(f.times, low, high, "90 %", BLUE, 0.15), Band(f.times, q1, q3, "50 %", BLUE, 0.25), Line(f.times, middle, "", BLUE),
        Points(found.seen.time[seen], found.seen.values["score"][seen], "seen", BLACK),
        Points(found.whole.time[later], found.whole.values["score"][later], "later", VERMILLION, "open"),
    ]  # fmt: skip
    name = found.whole.persons[i]
    return Chart("years", "score", marks, f"Forecast of {name}", name, y_range=(0.0, 72.0), height=220)

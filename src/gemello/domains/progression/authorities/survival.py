"""Death in primary biliary cholangitis: discrimination of persons held out.

312 randomised persons of survival_pbc, death (status 2), transplanted persons censored, folds by id mod 5, mean of the folds'
Harrell C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.random import child_seed
from gemello.base.reference import Check, check
from gemello.domains.progression.authorities.forecasts import SEED, at_least, table
from gemello.domains.progression.history import from_wide
from gemello.domains.progression.mixed import hazard
from gemello.domains.progression.mixed.generator import Mixed
from gemello.domains.progression.scoring import concordance, kaplan_meier
from gemello.model.generator import History

Array = NDArray[np.float64]
NOT_BASELINE = ("id", "time", "status", "trt")
YEARS = 2000.0  # days at which the risk of death is read
#: Mean C of Cox regressions with 3 and 5 covariates, and the floor, as the task states them.
COX = {("age", "logbili", "logalbumin"): 0.8345, ("age", "logbili", "logalbumin", "edema", "logprotime"): 0.8487}
FLOOR = 0.84


def randomised(folder: Path) -> tuple[pl.DataFrame, History]:
    """The table of the 312, and their history: everything measured at baseline, and death."""
    persons = table(folder / "survival_pbc.csv").filter(pl.col("trt").is_not_null())
    persons = persons.with_columns(death=(pl.col("status") == 2).cast(pl.Int64))
    baseline = [c for c in persons.columns if c not in (*NOT_BASELINE, "death")]
    return persons, from_wide(persons, person="id", baseline=baseline, events={"death": ("time", "death")})


def checks(folder: Path) -> Iterator[Check]:
    """folder: the trial reference data. Some CPU seconds."""
    persons, history = randomised(folder)
    logs = persons.with_columns(pl.col("bili", "albumin", "protime").log().name.prefix("log"))
    for names, reference in COX.items():
        x = logs.select(names).to_numpy().astype(float)
        x = (x - x.mean(axis=0)) / x.std(axis=0)

        def cox(learn: NDArray[np.bool_], out: NDArray[np.bool_], x: Array = x) -> Array:
            b = hazard.newton(x[learn], history.event_time["death"][learn], history.event_seen["death"][learn], 0.0)
            return np.asarray(x[out] @ b)

        value = _mean_concordance(history, cox)
        yield check(
            f"PBC, death: Cox with {len(names)} covariates, mean C of five folds", value, reference, 5e-5, "stated with the task"
        )
    free = np.zeros(len(history))

    def ours(learn: NDArray[np.bool_], out: NDArray[np.bool_]) -> Array:
        generator = Mixed.train(history.take(learn), seed=child_seed(SEED, "pbc"))
        free[out] = generator.survival(history.take(out).until(0.0), "death", np.array([YEARS]))[:, 0]
        return -free[out]

    source = "312 persons, 125 deaths; all baseline values"
    yield at_least("PBC, death: generator, mean C of five folds", _mean_concordance(history, ours), FLOOR, source)
    km = 1 - kaplan_meier(history.event_time["death"], history.event_seen["death"], YEARS)
    expected = 1 - float(free.mean())
    yield check(f"PBC: share dead by day {YEARS:g}, forecast against Kaplan–Meier", expected, km, 0.05, f"{source}; held out")


def _mean_concordance(h: History, risk: Callable[[NDArray[np.bool_], NDArray[np.bool_]], Array]) -> float:
    fold = np.array([int(p) % 5 for p in h.persons])
    time, seen = h.event_time["death"], h.event_seen["death"]
    return float(np.mean([concordance(time[fold == f], seen[fold == f], risk(fold != f, fold == f)) for f in range(5)]))

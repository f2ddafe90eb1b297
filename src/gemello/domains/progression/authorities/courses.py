"""Generators on sets that they were not written on: calibration with no hand work; and the twin of a participant.

Coverage of 90 % intervals of persons held out (five folds, from baseline alone) on trials of cervical dystonia, HIV infection
and schizophrenia; the nonlinear course against the linear mixed one on leaspy's Alzheimer set; `Twin` of the linear course
against the closed form of the mixed generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.reference import Check, check
from gemello.domains.progression import scoring
from gemello.domains.progression.authorities.forecasts import SEED, at_most, table
from gemello.domains.progression.history import from_long, from_wide
from gemello.domains.progression.latent_time.generator import LatentTime
from gemello.domains.progression.mixed import course
from gemello.domains.progression.mixed.generator import Mixed
from gemello.model.generator import Generator, History

Array = NDArray[np.float64]
OMEGA = np.array([[1.0, 0.05], [0.05, 0.04]])  # of parameters.csv of the linear course
SLOPE = 0.2  # of a calibration slope from 1
TYPICAL, NOISE = np.array([0.0, 0.1]), 0.25


def dystonia(folder: Path) -> History:
    """109 persons, TWSTRS at weeks 0 to 16."""
    seen = table(folder / "medicaldata_cdystonia.csv").with_columns(person=pl.format("{}-{}", "site", "id"))
    return from_long(
        seen,
        person="person",
        time="week",
        longitudinal=["twstrs"],
        baseline=["age", "sex", "treat"],
        bounds={"twstrs": (0, 87)},
        time_unit="week",
    )


def aids(folder: Path) -> History:
    """467 persons, CD4 at months 0 to 18, death."""
    seen = table(folder / "JM_aids.csv").with_columns(cd4=pl.col("CD4") ** 2)
    return from_long(
        seen, person="patient", time="obstime", longitudinal=["cd4"], baseline=["drug", "gender", "prevOI", "AZT"],
        events={"death": ("Time", "death")}, bounds={"cd4": (0, np.inf)}, time_unit="month",
    )  # fmt: skip


def schizophrenia(folder: Path) -> History:
    """150 persons, symptoms at weeks 0 to 8, drop-out (cens.ind 1) as an event."""
    seen = table(folder / "joineR_mental.csv").with_columns(pl.col("^Y.t.$").cast(pl.Float64))
    visits = {"symptoms": {float(t): f"Y.t{t}" for t in (0, 1, 2, 4, 6, 8)}}
    return from_wide(
        seen, person="id", visits=visits, baseline=["treat"], events={"dropout": ("surv.time", "cens.ind")}, time_unit="week"
    )


def alzheimer(folder: Path) -> History:
    """leaspy's 200 persons, seven scores from 0 to 1, years since the first visit."""
    seen = table(folder / "leaspy_alzheimer.csv")
    scores = [c for c in seen.columns if c not in ("ID", "TIME")]
    bounds = dict.fromkeys(scores, (0.0, 1.0))
    return from_long(seen, person="ID", time="TIME", longitudinal=scores, bounds=bounds, since_first=True, time_unit="year")


def checks(folder: Path) -> Iterator[Check]:
    """folder: the trial reference data. A CPU minute."""
    for name, read, variable in (
        ("cervical dystonia", dystonia, "twstrs"), ("HIV infection", aids, "cd4"), ("schizophrenia", schizophrenia, "symptoms"),
    ):  # fmt: skip
        found = scoring.held_out(_mixed, read(folder), folds=5, seed=SEED).variables[variable]
        source = f"nominal; {found.n} forecasts of {found.persons} persons, standard error {100 * found.coverage_error:.1f}"
        yield check(f"{name}: coverage of 90 % intervals, %", 100 * found.coverage, 90.0, 5.0, source)
        yield check(f"{name}: slope of observed on forecast", found.slope, 1.0, SLOPE, "1 is calibrated")
        yield at_most(f"{name}: RMSE", found.rmse, found.locf, "last value carried forward")
    history = alzheimer(folder)
    straight, curved = (scoring.held_out(m, history, folds=3, seed=SEED) for m in (_mixed, _latent))
    yield at_most(
        "Alzheimer set: CRPS in SD of the nonlinear course", curved.crps, straight.crps, "the mixed generator, same folds"
    )
    inside = float(np.mean([s.coverage for s in curved.variables.values()]))
    yield check("Alzheimer set: coverage of 90 % intervals, mean of seven scores, %", 100 * inside, 90.0, 3.0, "nominal")


def twin() -> Iterator[Check]:
    """A participant's twin and the mixed generator say the same."""
    from gemello.domains.progression.linear_course.model import linear_course  # noqa: PLC0415  (brings JAX)
    from gemello.model.schedule import Schedule  # noqa: PLC0415
    from gemello.twin.twin import Twin  # noqa: PLC0415

    seen, values, ahead = [1.0, 2.0, 3.0], [0.3, 0.8, 0.4], [4.0, 5.0]
    believed = Twin.new(linear_course, id="participant").assimilate(Schedule().observe(seen, values), draws=8000, seed=SEED)
    forecast = believed.forecast(times=ahead)
    draws, weights = forecast["outcome"].prediction.draws, forecast.weights
    mean, sd = closed_form(np.array(seen), np.array(values), np.array(ahead))
    for i, t in enumerate(ahead):
        ours = float(weights @ draws[:, i])
        spread = float(np.sqrt(weights @ (draws[:, i] - ours) ** 2))
        error = sd[i] * float(np.sqrt(np.sum(weights**2)))
        yield check(
            f"twin of a participant at {t:g} years, mean",
            ours,
            mean[i],
            4 * error,
            "closed form of the mixed generator; 4 Monte Carlo errors",
        )
        yield check(
            f"twin of a participant at {t:g} years, SD",
            spread,
            sd[i],
            4 * error,
            "closed form of the mixed generator; 4 Monte Carlo errors",
        )


def closed_form(seen: Array, values: Array, ahead: Array) -> tuple[Array, Array]:
    """Mean and SD of the course at `ahead` by the mixed generator, with knots at 1 and 5 years, through which every line goes."""
    line = np.array([[1.0, 1.0], [1.0, 5.0]])
    none = np.zeros(0)
    c = course.Course(
        np.array([1.0, 5.0]), (line @ TYPICAL).reshape(1, 1, 2), line @ OMEGA @ line.T, np.array([NOISE]), np.array([-1]), (none,)
    )
    index = np.zeros(len(seen), np.int64)
    points = course.Points(index, index, seen, values)
    prior = c.mean(np.zeros((1, 0))).reshape(1, -1)
    found = course.condition(c, points, values, np.zeros(len(seen)), prior)
    h, _ = c.weights(ahead, np.zeros(len(ahead), np.int64))
    return h @ found.mean[0], np.sqrt(np.einsum("ta,ab,tb->t", h, found.covariance[0], h))


def _mixed(h: History, seed: int) -> Generator:
    return Mixed.train(h, seed=seed)


def _latent(h: History, seed: int) -> Generator:
    return LatentTime.train(h, seed=seed)

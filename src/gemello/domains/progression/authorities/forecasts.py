"""Forecasts of persons held out against the floors: the last value carried forward, and a linear regression.

Sets, folds and targets are those of `reference/forecast_benchmarks.json` (folds by pidnum or id mod 5; baseline values alone;
everything is learnt inside of the training folds). CRPS of the linear floor is that of its normal forecast with the residual SD
of the fold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from gemello.base.random import child_seed
from gemello.base.reference import Check, check
from gemello.domains.progression.history import from_long, from_wide
from gemello.domains.progression.mixed.generator import Mixed
from gemello.inference import scores
from gemello.model.generator import History

Array = NDArray[np.float64]
SEED, DRAWS = 1, 2000
COVARIATES = ("cd40", "cd80", "age", "wtkg", "karnof", "hemo", "homo", "drugs", "race", "gender", "str2", "symptom")
PBC = ("logbili", "age", "logalbumin", "logprotime", "edema", "stage")
WEEKS = {"cd420": 140.0, "cd496": 672.0}
#: CRPS of the linear floor as the task states them; the rest of the floors is in the file.
LINEAR_CRPS = {"ACTG175_control_cd420": 54.754, "ACTG175_control_cd496": 79.336, "pbcseq_logbili_1y": 0.28530}


@dataclass(frozen=True)
class Case:
    """A history, the fold of each person, and the variable and time to forecast; design: (persons, q) of the linear floor."""

    history: History
    fold: NDArray[np.int64]
    variable: str
    time: float
    design: Array | None = None

    @property
    def observed(self) -> Array:
        """(persons,) what there was to forecast, NaN where nothing was seen."""
        return _at(self.history, self.variable, self.time)


@dataclass(frozen=True)
class Forecast:
    """Of persons held out (persons,): conditional mean, draws (draws, persons), bounds of the 90 % interval."""

    mean: Array
    draws: Array
    low: Array
    high: Array


def table(path: Path) -> pl.DataFrame:
    """A CSV file of the reference data."""
    return pl.read_csv(path, infer_schema_length=10_000, null_values=["", "NA"])


def actg175(folder: Path) -> History:
    """Controls (arm 0) of ACTG175: CD4 at baseline, weeks 20 and 96, and what was known at baseline."""
    controls = table(folder / "ACTG175.csv").filter(pl.col("arms") == 0)
    visits = {"cd4": {0.0: "cd40"} | {t: c for c, t in WEEKS.items()}}
    return from_wide(controls, person="pidnum", visits=visits, baseline=COVARIATES[1:], bounds={"cd4": (0.0, np.inf)})


def pbc(folder: Path) -> tuple[History, Array]:
    """PBC: log bilirubin at baseline and at the first visit on days 270 to 455 (242 persons), and the six baseline columns."""
    seq = table(folder / "survival_pbcseq.csv").with_columns(pl.col("bili", "albumin", "protime").log().name.prefix("log"))
    year = seq.filter(pl.col("day").is_between(270, 455)).group_by("id", maintain_order=True).first()
    persons = seq.filter(pl.col("day") == 0).join(year.select("id", year=pl.col("logbili")), on="id", maintain_order="left")
    visits = {"logbili": {0.0: "logbili", 365.0: "year"}}
    kinds: dict[str, Any] = dict.fromkeys(("edema", "stage"), "continuous")
    history = from_wide(persons, person="id", visits=visits, baseline=PBC[1:], kinds=kinds)
    return history, persons.select(PBC).to_numpy().astype(float)


def cases(folder: Path) -> dict[str, Case]:
    """The three forecasts of the task."""
    controls = actg175(folder)
    design = np.column_stack([controls.at_zero("cd4"), *(controls.baseline[c] for c in COVARIATES[1:])])
    fold = np.array([int(p) % 5 for p in controls.persons])
    liver, columns = pbc(folder)
    out = {f"ACTG175_control_{c}": Case(controls, fold, "cd4", t, design) for c, t in WEEKS.items()}
    out["pbcseq_logbili_1y"] = Case(liver, np.array([int(p) % 5 for p in liver.persons]), "logbili", 365.0, columns)
    return out


def held_out(case: Case, times: Array | None = None) -> dict[float, Forecast]:
    """Forecasts of every person from the other folds, by time (default: the case's)."""
    at = np.array([case.time]) if times is None else times
    n = len(case.history)
    mean, draws = np.zeros((n, len(at))), np.zeros((DRAWS, n, len(at)))
    low, high = np.zeros((n, len(at))), np.zeros((n, len(at)))
    for f in range(5):
        out = np.flatnonzero(case.fold == f)
        generator = Mixed.train(case.history.take(case.fold != f), seed=child_seed(SEED, "fold", f))
        seen = case.history.take(out).until(0.0)
        mean[out] = generator.expected(seen, at)[case.variable]
        draws[:, out] = generator.sample(seen, at, draws=DRAWS, seed=SEED).values[case.variable]
        low[out], high[out] = generator.quantiles(seen, at, np.array([0.05, 0.95]))[case.variable]
    return {float(t): Forecast(mean[:, i], draws[:, :, i], low[:, i], high[:, i]) for i, t in enumerate(at)}


def linear(case: Case) -> tuple[Array, Array]:
    """Mean and SD (persons,) of the ordinary regression on the other folds, NaN where nothing was to forecast."""
    assert case.design is not None
    y, x = case.observed, np.column_stack([np.ones(len(case.design)), case.design])
    mean, sd = np.full(len(y), np.nan), np.full(len(y), np.nan)
    there = np.isfinite(y)
    for f in range(5):
        learn, out = there & (case.fold != f), there & (case.fold == f)
        b = np.linalg.lstsq(x[learn], y[learn], rcond=None)[0]
        mean[out] = x[out] @ b
        sd[out] = np.sqrt(np.sum((y[learn] - x[learn] @ b) ** 2) / (learn.sum() - x.shape[1]))
    return mean, sd


def checks(folder: Path) -> Iterator[Check]:
    """folder: the trial reference data. Some CPU seconds."""
    file = json.loads((folder / "reference" / "forecast_benchmarks.json").read_text(encoding="utf-8"))
    three = cases(folder)
    for name, case in three.items():
        yield from _floors(name, case, file[name])
    hits: list[NDArray[np.bool_]] = []
    for name, case, ours in _three(three):
        yield from _ours(name, case, ours, hits)
    pooled = np.concatenate(hits)
    yield check(f"coverage of 90 % intervals, {len(pooled)} forecasts, %", 100 * float(pooled.mean()), 90.0, 3.0, "nominal")
    yield from _last_values(folder, file)


def at_most(name: str, value: float, limit: float, source: str, strict: bool = False) -> Check:
    """A row that passes where the value is at most the limit (below it, where strict)."""
    words = "below" if strict else "at most"
    passed = bool(value < limit if strict else value <= limit)
    return {
        "check": f"{name} ({words} the reference)", "value": float(value), "reference": float(limit), "tolerance": 0.0,
        "source": source, "passed": passed,
    }  # fmt: skip


def at_least(name: str, value: float, limit: float, source: str) -> Check:
    """A row that passes where the value is at least the limit."""
    out = at_most(name, -value, -limit, source)
    return out | {"check": f"{name} (at least the reference)", "value": float(value), "reference": float(limit)}


# ---- inside ------------------------------------------------------------------------------------------------------------
def _three(three: dict[str, Case]) -> Iterator[tuple[str, Case, Forecast]]:
    """Our forecasts; the two of ACTG175 come from one generator."""
    both = held_out(three["ACTG175_control_cd420"], np.array(sorted(WEEKS.values())))
    for column, t in WEEKS.items():
        yield f"ACTG175_control_{column}", three[f"ACTG175_control_{column}"], both[t]
    liver = three["pbcseq_logbili_1y"]
    yield "pbcseq_logbili_1y", liver, held_out(liver)[365.0]


def _floors(name: str, case: Case, file: dict[str, Any]) -> Iterator[Check]:
    """The floors of the file, made anew."""
    y = case.observed
    mean, sd = linear(case)
    start = case.history.at_zero(case.variable)
    for floor, forecast in (("LOCF", start), ("linear", mean)):
        for key, value in errors(forecast, y).items():
            yield check(f"{name}: {floor}, {key}", value, file[floor][key], 1e-6, "forecast_benchmarks.json", relative=True)
    there = np.isfinite(y)
    if "cov90" in file["linear"]:
        inside = np.abs(y - mean)[there] <= stats.norm.ppf(0.95) * sd[there]
        yield check(f"{name}: linear, cov90", float(inside.mean()), file["linear"]["cov90"], 1e-6, "forecast_benchmarks.json")
    crps = float(np.mean(normal_crps(mean[there], sd[there], y[there])))
    yield check(f"{name}: linear, CRPS", crps, LINEAR_CRPS[name], 1e-5, "stated with the task", relative=True)


def _ours(name: str, case: Case, f: Forecast, hits: list[NDArray[np.bool_]]) -> Iterator[Check]:
    y = case.observed
    there = np.isfinite(y)
    mean, sd = linear(case)
    source = f"linear regression, same folds; {int(there.sum())} persons held out"
    yield at_most(f"{name}: generator, RMSE", errors(f.mean, y)["rmse"], errors(mean, y)["rmse"], source)
    floor = float(np.mean(normal_crps(mean[there], sd[there], y[there])))
    ours = float(np.mean(scores.crps(f.draws[:, there], y[there])))
    yield at_most(f"{name}: generator, CRPS", ours, floor, f"{source}; {DRAWS} draws", strict=True)
    inside = (y >= f.low)[there] & (y <= f.high)[there]
    hits.append(inside)
    yield check(f"{name}: coverage of 90 % intervals, %", 100 * float(inside.mean()), 90.0, 5.0, "nominal")


def _last_values(folder: Path, file: dict[str, Any]) -> Iterator[Check]:
    """The sets with a last value alone: cervical dystonia (placebo) and Parkinson's telemonitoring."""
    dystonia = table(folder / "medicaldata_cdystonia.csv").filter(pl.col("treat") == 1)
    dystonia = dystonia.with_columns(person=pl.format("{}-{}", "site", "id"))
    history = from_long(
        dystonia,
        person="person",
        time="week",
        longitudinal=["twstrs"],
        baseline=["age", "sex"],
        bounds={"twstrs": (0, 87)},
        time_unit="week",
    )
    fold = np.arange(len(history)) % 5
    ours = held_out(Case(history, fold, "twstrs", 4.0), np.array([4.0, 16.0]))
    for week in (4, 16):
        name, case = f"cdystonia_placebo_wk{week}", Case(history, fold, "twstrs", float(week))
        yield from _against_last(name, case, file[name], ours[float(week)])
        start, y = history.at_zero("twstrs"), case.observed
        there = np.isfinite(start) & np.isfinite(y)
        yield check(f"{name}: n", float(there.sum()), file[name]["n"], 0.0, "forecast_benchmarks.json")
        r = float(np.corrcoef(start[there], y[there])[0, 1])
        yield check(f"{name}: corr", r, file[name]["corr"], 1e-6, "forecast_benchmarks.json", relative=True)
    case = _parkinson(folder)
    yield from _against_last("parkinson_total_UPDRS_6mo", case, file["parkinson_total_UPDRS_6mo"], held_out(case)[case.time])


def _parkinson(folder: Path) -> Case:
    """The first day's value, and that of the first day from 150 on, of each of 42 persons (days rounded, means of a day)."""
    seen = table(folder / "parkinson_telemonitoring.csv").rename({"subject#": "subject"})
    seen = seen.group_by("subject", pl.col("test_time").round()).agg(pl.col("age", "sex").first(), pl.col("total_UPDRS").mean())
    seen = seen.filter(pl.col("test_time") >= 0).sort("subject", "test_time")
    first = seen.group_by("subject", maintain_order=True).first()
    late = seen.filter(pl.col("test_time") >= 150).group_by("subject", maintain_order=True).first()
    both = first.join(late.select("subject", later="total_UPDRS"), on="subject", maintain_order="left")
    visits = {"total_UPDRS": {0.0: "total_UPDRS", 150.0: "later"}}
    history = from_wide(both, person="subject", visits=visits, baseline=["age", "sex"], bounds={"total_UPDRS": (0, 176)})
    return Case(history, np.arange(len(history)) % 5, "total_UPDRS", 150.0)


def _against_last(name: str, case: Case, file: dict[str, Any], ours: Forecast) -> Iterator[Check]:
    last = errors(case.history.at_zero(case.variable), case.observed)
    for key, value in last.items():
        yield check(f"{name}: LOCF, {key}", value, file["LOCF"][key], 1e-6, "forecast_benchmarks.json", relative=True)
    start, y = case.history.at_zero(case.variable), case.observed
    there = np.isfinite(start) & np.isfinite(y)
    loss = ((ours.mean - y) ** 2 - (start - y) ** 2)[there]
    error = float(np.std(loss, ddof=1) / np.sqrt(len(loss)))
    source = f"last value carried forward, plus one standard error of the difference of squares; {len(loss)} persons, five folds"
    limit = float(np.sqrt(last["rmse"] ** 2 + error))
    yield at_most(f"{name}: generator, RMSE", errors(ours.mean, y)["rmse"], limit, source)


def errors(forecast: Array, y: Array) -> dict[str, float]:
    """n, rmse, mae, r and r2 (1 − residual over total sum of squares) where both are there."""
    there = np.isfinite(y) & np.isfinite(forecast)
    d, seen = (forecast - y)[there], y[there]
    return {
        "n": float(there.sum()), "rmse": float(np.sqrt(np.mean(d**2))), "mae": float(np.mean(np.abs(d))),
        "r": float(np.corrcoef(forecast[there], seen)[0, 1]), "r2": float(1 - np.sum(d**2) / np.sum((seen - seen.mean()) ** 2)),
    }  # fmt: skip


def normal_crps(mean: Array, sd: Array, y: Array) -> Array:
    """CRPS of normal forecasts (Gneiting & Raftery 2007, J Am Stat Assoc 102:359, section 4.2)."""
    z = (y - mean) / sd
    return np.asarray(sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)))


def _at(h: History, name: str, time: float) -> Array:
    out = np.full(len(h), np.nan)
    here = h.time == time
    out[h.person[here]] = h.values[name][here]
    return out

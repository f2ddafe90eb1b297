"""`gemello assimilate` and `gemello optimise`: twins, forecasts, doses, refusals, and one line for what cannot be."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Result

Gemello = Callable[..., Result]

CARDED = """
from model import Decay
from gemello.model.card import SECTIONS, Card

class Carded(Decay):
    card = Card("decay", dict.fromkeys(SECTIONS, "A toy."))

decay = Carded()
"""
SLOW = """
from model import Decay
from gemello.model.card import SECTIONS, Card

class Slow(Decay):
    name = "slow"
    parameters = Decay.parameters.with_values({"k": 0.3})
    card = Card("slow decay", dict.fromkeys(SECTIONS, "A toy."))

slow = Slow()
"""
TWO = "ID,TIME,EVID,AMT,DV\nann,0,1,100,.\nann,1,0,0,6.3\nann,3,0,0,2.4\nbob,0,1,50,.\nbob,2,0,0,0.9\nbob,12,1,80,.\n"
FEW = ("--draws", "400")
GRID = ("--doses", "50:300:50", "--intervals", "4,6", "--window", "0,12")


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "two.csv").write_text(TWO)
    (here / "carded.py").write_text(CARDED)
    (here / "slow.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(here))
    return here


def fit_of(model: str = "decay", **change: Any) -> str:
    """What `gemello fit -o` writes, as far as it is read."""
    said: dict[str, Any] = {"model": model, "converged": True}
    said |= {"theta": {"k": 0.4, "V": 12.0}, "sigma": {"add": 0.2}, "omega": {"etas": ["k"], "matrix": [[0.04]]}}
    return json.dumps(said | change)


# ---- assimilate ---------------------------------------------------------------------------------------------------------
def test_twins_as_tables(gemello: Gemello, folder: Path) -> None:
    done = gemello("assimilate", "model.py:decay", "two.csv", *FEW)
    assert done.status == 0, done.err
    assert "subject ann: 2 values, " in done.out
    assert "subject bob: 1 values, " in done.out
    assert "Assimilating 2 subjects" in done.err
    assert "ann" not in gemello("assimilate", "model.py:decay", "two.csv", "--id", "bob", *FEW).out


def test_json_and_csv_say_the_same(gemello: Gemello, folder: Path) -> None:
    done = gemello("assimilate", "model.py:decay", "two.csv", *FEW, "--times", "0:24:6", "--json", "-o", "ahead.csv")
    assert done.status == 0, done.err
    ann, bob = json.loads(done.out)
    assert (ann["id"], ann["model"], ann["observations"], bob["observations"]) == ("ann", "decay", 2, 1)
    assert 0.4 < ann["map"]["k"] < 0.5  # k = ln(6.3/2.4)/2 = 0.48 between the two values, 0.5 a priori
    assert ann["map"]["V"] == 10.0
    assert ann["forecast"]["time"] == [0.0, 6.0, 12.0, 18.0, 24.0]
    quantiles = np.array(bob["forecast"]["outputs"]["cp"]["prediction"])
    assert np.all(np.diff(quantiles, axis=0) >= 0)
    assert np.all(quantiles[:, 3] > quantiles[:, 2])  # the dose of bob's future, at 12 h, is in it
    with (folder / "ahead.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert {r["id"] for r in rows} == {"ann", "bob"}
    assert {r["kind"] for r in rows} == {"prediction", "measurement"}
    one = next(r for r in rows if (r["id"], r["kind"], float(r["time"]), float(r["level"])) == ("bob", "prediction", 18.0, 0.5))
    assert float(one["value"]) == pytest.approx(quantiles[2, 3], rel=1e-12)
    again = json.loads(gemello("assimilate", "model.py:decay", "two.csv", *FEW, "--times", "0:24:6", "--json").out)
    assert again[0]["parameters"] == ann["parameters"]  # the same seed


def test_a_population_from_a_fit(gemello: Gemello, folder: Path) -> None:
    """The fit's values replace the table's; --set replaces the fit's."""
    (folder / "fit.json").write_text(fit_of())
    (folder / "blank.csv").write_text("ID,TIME,EVID,AMT,DV\nx,0,1,100,.\nx,1,0,0,.\n")
    said = json.loads(gemello("assimilate", "model.py:decay", "blank.csv", "--fit", "fit.json", *FEW, "--json").out)
    assert said[0]["map"] == {"k": pytest.approx(0.4), "V": 12.0}
    spread = next(p for p in said[0]["parameters"] if p["parameter"] == "k")
    assert spread["sd"] / spread["mean"] == pytest.approx(0.2, rel=0.2)
    said = json.loads(
        gemello("assimilate", "model.py:decay", "blank.csv", "--fit", "fit.json", "--set", "V=9", *FEW, "--json").out
    )
    assert said[0]["map"]["V"] == 9.0


def test_a_fit_that_did_not_converge_is_named_as_such(gemello: Gemello, folder: Path) -> None:
    (folder / "fit.json").write_text(fit_of(converged=False, message="V lies at its bound"))
    (folder / "blank.csv").write_text("ID,TIME,EVID,AMT,DV\nx,0,1,100,.\nx,1,0,0,.\n")
    done = gemello("assimilate", "carded.py:decay", "blank.csv", "--fit", "fit.json", *FEW, "--json", "--report", "page.html")
    words = "fit fit.json, which did not converge (V lies at its bound)"
    assert f"{words}: what follows rests on it" in done.err
    assert words in (folder / "page.html").read_text(encoding="utf-8")


# ---- optimise -----------------------------------------------------------------------------------------------------------
def optimise(gemello: Gemello, *more: object, goal: str = "trough:2-6") -> Result:
    return gemello("optimise", "model.py:decay", "two.csv", "--id", "ann", "--goal", goal, *GRID, *FEW, *more)


def test_a_dose_is_chosen(gemello: Gemello, folder: Path) -> None:
    done = optimise(gemello)
    assert done.status == 0, done.err
    assert "recommended: " in done.out
    assert "meets the goal with probability" in done.out
    said = json.loads(optimise(gemello, "--json").out)
    assert len(said["candidates"]) == 6 * 2
    assert said["refused"] is None
    assert said["probability"] == max(c["probability"] for c in said["candidates"])
    assert said["chosen"] in done.out
    assert f"{said['dose']:g} mg every {said['interval']:g} h" == said["chosen"]
    assert said["probability"] > 0.5


def test_a_limit_rules_out_high_doses(gemello: Gemello, folder: Path) -> None:
    free = json.loads(optimise(gemello, "--json", goal="trough:1-").out)
    bound = json.loads(optimise(gemello, "--json", "--limit", "peak:0-20:0.05", goal="trough:1-").out)
    assert bound["dose"] <= free["dose"] or bound["interval"] >= free["interval"]
    assert any(not c["feasible"] for c in bound["candidates"])
    assert all("risk_1" in c for c in bound["candidates"])


@pytest.mark.parametrize(("more", "goal", "reason"), [
    ((), "trough:90-95", "only (below 0.5); measure once more, widen the grid or the goal"),
    (("--limit", "peak:0-1:0.01"), "trough:2-6", "candidates keeps the constraints"),
    (("--least-probability", "1"), "trough:2.9-3", "only (below 1)"),
])  # fmt: skip
def test_a_refusal_has_status_2_and_a_reason(
    gemello: Gemello, folder: Path, more: tuple[str, ...], goal: str, reason: str
) -> None:
    done = optimise(gemello, *more, "--json", goal=goal)
    said = json.loads(done.out)
    assert (done.status, said["chosen"], said["dose"]) == (2, None, None)
    assert reason in said["refused"]
    plain = optimise(gemello, *more, goal=goal)
    assert plain.status == 2
    assert "refused: " in plain.out
    assert "Traceback" not in plain.err


def test_outside_the_model_s_population(gemello: Gemello, folder: Path) -> None:
    """300 kg: refused by name, and possible at one's own judgement, which is recorded."""
    (folder / "heavy.csv").write_text("ID,TIME,EVID,AMT,RATE,DV,WT,CLCREAT,DIAL\n" + "".join(
        f"1,{r},300,100,0\n" for r in ("0,1,1500,1000,.", "12,0,0,0,14", "24,2,0,0,.")
    ))  # fmt: skip
    ask = (
        "optimise",
        "vancomycin_goti2018",
        "heavy.csv",
        "--goal",
        "auc24:400-600",
        "--doses",
        "500:2500:500",
        "--intervals",
        "12",
        *FEW,
    )
    done = gemello(*ask, "--duration", "2")
    assert (done.status, done.out) == (2, "")
    assert "subject 1: WT 300 kg is outside [33, 255], the population that vancomycin_goti2018 was built on" in done.error()
    said = json.loads(gemello(*ask, "--duration", "2", "--override-domain", "--json", "--least-probability", "0").out)
    assert said["overridden"] is True
    assert said["outside"] == ["WT 300 kg is outside [33, 255]"]
    assert said["chosen"].endswith("every 12 h over 2 h")
    assert said["goals"] == ["AUC24 from 48 to 72 h at least 400 and at most 600 mg*h/L"]


# ---- goals, pharmacies, priors, several models --------------------------------------------------------------------------
def test_an_area_of_a_model_without_accumulator(gemello: Gemello, folder: Path) -> None:
    """Every 6 h, in steady state: 24/6 · D/(k V), about; ann's k is near 0.48 and her V is 10."""
    said = json.loads(optimise(gemello, "--json", "--steady-state", "--least-probability", "0", goal="auc24:10-").out)
    assert said["goals"] == ["AUC24 in steady state at least 10 mg*h/L"]
    one = next(c for c in said["candidates"] if c["candidate"] == "100 mg every 6 h")
    assert one["median_1"] == pytest.approx(4 * 100 / (0.48 * 10), rel=0.05)


def test_time_above_mic_and_the_unbound_fraction(gemello: Gemello, folder: Path) -> None:
    free, bound = (
        json.loads(optimise(gemello, "--json", "--mic", "1", *more, "--least-probability", "0", goal="tmic:0.5-").out)
        for more in ((), ("--unbound", "0.2"))
    )
    assert bound["goals"][0].startswith("fT>MIC (MIC 1, unbound 0.2) from ")
    for a, b in zip(free["candidates"], bound["candidates"], strict=True):
        assert a["median_1"] >= b["median_1"]


def test_loading_doses_rates_and_daily_amounts(gemello: Gemello, folder: Path) -> None:
    more = ("--loading", "300", "--durations", "1,2", "--max-rate", "2.5 mg/min", "--max-daily", "900", "--multiple", "100")
    said = json.loads(optimise(gemello, "--json", *more, "--least-probability", "0").out)
    names = [c["candidate"] for c in said["candidates"]]
    assert any(n.startswith("300 mg") and "first, then" in n for n in names)
    assert not any("50 mg" in n.split(" every")[0] for n in names)  # whole hundreds
    assert not any(n.startswith("200 mg") and n.endswith("over 1 h") for n in names)  # 200 mg/h is over 150 mg/h
    assert "loading" in said


def test_a_flattened_prior_and_drift_are_told(gemello: Gemello, folder: Path) -> None:
    plain, flat = (
        json.loads(gemello("assimilate", "model.py:decay", "two.csv", "--id", "bob", *FEW, *more, "--json").out)[0]
        for more in ((), ("--prior-weight", "0.1"))
    )
    assert flat["assumed"] == ["the population counts with weight 0.1 only (OMEGA divided by 0.1)"]
    assert flat["map"]["k"] > plain["map"]["k"] > 0.5  # bob's level asks for a fast k
    done = gemello("assimilate", "model.py:decay", "two.csv", "--id", "ann", *FEW, "--drift", "0.01")
    assert "each eta gains a variance of 0.01 per day" in done.err


def test_an_average_of_models(gemello: Gemello, folder: Path) -> None:
    """ann's levels speak for the faster model; the probability of a candidate is the average of both models'."""
    two = ("model.py:decay", "two.csv", "--id", "ann", *FEW, "--models", "slow.py:slow")
    said = json.loads(gemello("assimilate", *two, "--times", "0:12:6", "--json", "-o", "both.csv").out)
    p = said["probabilities"]
    assert p["decay"] > p["slow"] > 0
    assert sum(p.values()) == pytest.approx(1.0)
    assert all(0 <= v <= 1 for v in said["between"]["cp"])
    assert (folder / "both.csv").exists()
    tilted = json.loads(gemello("assimilate", *two, "--model-weights", "1,9", "--json").out)["probabilities"]
    assert tilted["slow"] / tilted["decay"] == pytest.approx(9 * p["slow"] / p["decay"], rel=1e-9)
    chosen = json.loads(gemello("optimise", *two, "--goal", "trough:2-6", *GRID, "--json").out)
    best = next(c for c in chosen["candidates"] if c["chosen"])
    assert best["probability"] == pytest.approx(sum(p[m] * best[f"probability_{m}"] for m in p), rel=1e-6)
    assert "probability of each model" in gemello("assimilate", *two).out


def test_levels_are_cut_into_periods() -> None:
    from gemello.cli.patient import periods
    from gemello.model.schedule import Schedule

    s = Schedule().dose(0.0, 1.0, every=12.0, times=4).observe([2.0, 11.0, 30.0, 50.0], [1.0, 2.0, 3.0, 4.0]).dose(60.0, 1.0)
    assert [c.time.tolist() for c in periods(s, 24.0)] == [[0.0, 2.0, 11.0], [30.0, 50.0, 60.0]]
    assert periods(s.without_values(), 24.0)[0] is not None


def test_a_forecast_looks_at_the_ends_of_infusions(gemello: Gemello, folder: Path) -> None:
    (folder / "slow.csv").write_text("ID,TIME,EVID,AMT,RATE,DV\n1,0,1,100,77,.\n1,5,0,0,0,2\n")
    said = json.loads(gemello("assimilate", "model.py:decay", "slow.csv", *FEW, "--json").out)
    assert any(abs(t - 100 / 77) < 1e-9 for t in said[0]["forecast"]["time"])


# ---- what cannot be -----------------------------------------------------------------------------------------------------
ANN = ("model.py:decay", "two.csv", "--id", "ann", *FEW)
ASK = (*ANN, "--goal", "trough:2-6", "--doses", "50:300:50", "--intervals", "6")
BAD: list[tuple[tuple[str, ...], str]] = [
    (("assimilate", "nothing", "two.csv"), "no model 'nothing'"),
    (("assimilate", "model.py:decay", "two.csv", "--id", "eve"), "no such subject"),
    (("assimilate", "model.py:decay", "two.csv", "--set", "V=VI"), "a twin's population is numbers"),
    (("assimilate", "model.py:decay", "two.csv", "--set", "V=-1"), "parameter V: value -1 outside its range [0, inf]"),
    (("assimilate", "model.py:decay", "two.csv", "--seed", "-1"), "not a seed"),
    (("assimilate", "model.py:decay", "two.csv", "--draws", "5"), "Invalid value for '--draws'"),
    (("assimilate", *ANN, "--times", "0:24"), "is not FROM:TO:STEP"),
    (("assimilate", *ANN, "--times", "0:24:0"), "is not a grid"),
    (("assimilate", *ANN, "--times", "24:0:1"), "is not a grid"),
    (("assimilate", *ANN, "--times", "0:1e9:1"), "at most 10,000 steps"),
    (("assimilate", *ANN, "--times", "-3,5"), "impossible time of a forecast"),
    (("assimilate", *ANN, "--times", "a,b"), "is not a number"),
    (("assimilate", *ANN, "--fit", "no.json"), "not a fit of decay"),
    (("assimilate", *ANN, "--fit", "torn.json"), "not a fit of decay"),
    (("assimilate", *ANN, "--fit", "list.json"), "not a fit of decay"),
    (("assimilate", *ANN, "--fit", "null.json"), "not a fit of decay"),
    (("assimilate", *ANN, "--fit", "other.json"), "a fit of pheno"),
    (("assimilate", *ANN, "--fit", "etas.json"), "other etas than the model's"),
    (("assimilate", *ANN, "--fit", "negative.json"), "OMEGA is not positive definite"),
    (("assimilate", *ANN, "--fit", "two.csv"), "not a fit of decay"),
    (("assimilate", *ANN, "-o", "two.csv"), "is the data set itself"),
    (
        ("assimilate", "model.py:decay", "two.csv", *FEW, "--report", "r.html"),
        "a report is about one subject; choose it with --id",
    ),
    (("optimise", "model.py:decay", "two.csv", *ASK[4:]), "the file has several subjects; choose one of ann, bob"),
    (("optimise", *ANN, "--doses", "50", "--intervals", "6"), "Missing option '--goal'"),
    (("optimise", *ASK, "--goal", "level:2-6"), "is not WHAT:LOW-HIGH"),
    (("optimise", *ASK, "--goal", "trough"), "is not WHAT:LOW-HIGH"),
    (("optimise", *ASK, "--goal", "trough:-"), "is not WHAT:LOW-HIGH"),
    (("optimise", *ASK, "--goal", "trough:x-6"), "is not a number"),
    (("optimise", *ASK, "--goal", "trough:6-2"), "low above high"),
    (("optimise", *ASK, "--goal", "tmic:0.5-"), "needs the MIC; give --mic"),
    (("optimise", *ASK, "--goal", "aucmic:400-", "--mic", "-1"), "give a MIC above 0"),
    (("optimise", *ASK, "--goal", "tmic:0.5-", "--mic", "1", "--unbound", "2"), "give a MIC above 0, and a fraction"),
    (("optimise", *ASK, "--goal", "peak@q:2-6"), "no output 'q'"),
    (("optimise", *ASK, "--max-rate", "9 mg/kg"), "unit 'mg/kg' is not a unit of 'mg/h'"),
    (("optimise", *ASK, "--duration", "1", "--max-rate", "1e-3"), "can be given (most_rate 0.001); widen the grid"),
    (("optimise", *ASK, "--max-daily", "0"), "most_daily"),
    (("optimise", *ASK, "--loading", "1:2"), "is not FROM:TO:STEP"),
    (("optimise", *ASK, "--covariate", "AGE=3"), "decay has no such covariate"),
    (("optimise", *ASK, "--covariate", "AGE=3O"), "column --covariate, value 'AGE=3O': is not a number"),
    (("optimise", *ASK, "--models", "slow.py:slow", "--covariate", "AGE=3"), "none of the models has such a covariate"),
    (("assimilate", *ANN, "-o", "a.csv", "--report", "a.csv"), "two things are to be written to it"),
    (("assimilate", *ANN, "--fit", "bound.json"), "the fit read k from a column, so its estimates hold with that only"),
    (("optimise", *ASK, "--prior-weight", "0"), "give above 0, at most 1"),
    (("optimise", *ASK, "--models", "nothing"), "no model 'nothing'"),
    (("optimise", *ASK, "--model-weights", "1,2"), "give --models, too"),
    (("optimise", *ASK, "--models", "slow.py:slow", "--set", "V=9"), "average models with their own tables"),
    (("assimilate", *ANN, "--models", "model.py:decay"), "a model that is given twice"),
    (("assimilate", *ANN, "--model-weights", "1,2"), "give --models, too"),
    (("assimilate", *ANN, "--drift", "-1"), "column drift"),
    (("optimise", *ASK, "--output-name", "q"), "no output 'q'"),
    (("optimise", *ASK, "--limit", "peak:0-9"), "--limit"),
    (("optimise", *ASK, "--limit", "peak:0-9:2"), "impossible risk"),
    (("optimise", *ASK, "--doses", "-50,50"), "impossible in a grid"),
    (("optimise", *ASK, "--doses", "50:300"), "is not FROM:TO:STEP"),
    (("optimise", *ASK, "--doses", "1:2000000:1"), "at most 10,000 steps"),
    (("optimise", *ASK, "--window", "0,12", "--intervals", "0"), "impossible in a grid"),
    (("optimise", *ASK, "--intervals", "0"), "column --intervals, value '0'"),
    (("optimise", *ASK, "--intervals", "7.3"), "no window of whole days holds these intervals"),
    (("optimise", *ASK, "--window", "0,12", "--intervals", "1e-7"), "over 2000 doses until "),
    (("optimise", *ASK, "--intervals", "six"), "is not a number"),
    (("optimise", *ASK, "--duration", "-1"), "impossible in a grid"),
    (("optimise", *ASK, "--port", "3"), "no such port in decay"),
    (("optimise", *ASK, "--window", "5"), "is not FROM,TO"),
    (("optimise", *ASK, "--window", "9,5"), "is not FROM,TO"),
    (("optimise", *ASK, "--start", "-5"), "column start, value '-5.0': impossible in a regimen"),
    (("optimise", *ASK, "--least-probability", "2"), "Invalid value for '--least-probability'"),
    (("optimise", *ASK, "--report", "no/r.html"), "there is no folder"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_leaves_no_file(
    gemello: Gemello, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    omegas = [{"etas": ["q"], "matrix": [[1.0]]}, {"etas": ["k"], "matrix": [[-1.0]]}]
    for name, text in {
        "torn.json": fit_of()[:40], "list.json": "[1]", "null.json": fit_of(theta=None), "other.json": fit_of("pheno"),
        "etas.json": fit_of(omega=omegas[0]), "negative.json": fit_of(omega=omegas[1]),
        "bound.json": fit_of(bound={"k": "K"}),
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    before = {p.name for p in folder.iterdir()} | {"__pycache__"}
    done = gemello(*arguments)
    assert done.error().startswith("gemello: error: "), done.err
    assert message in done.error()
    assert (done.status, done.out) == (2, "")
    assert {p.name for p in folder.iterdir()} | {"__pycache__"} == before


# ---- reports ------------------------------------------------------------------------------------------------------------
def test_reports_of_a_twin_and_of_a_decision(gemello: Gemello, folder: Path) -> None:
    done = gemello("assimilate", "carded.py:decay", "two.csv", "--id", "ann", *FEW, "--report", "twin.html")
    assert done.status == 0, done.err
    page = (folder / "twin.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "ann" in page
    done = gemello(
        "optimise", "carded.py:decay", "two.csv", "--id", "ann", "--goal", "trough:2-6", *GRID, *FEW, "--report", "dose.html"
    )
    assert done.status == 0, done.err
    chosen = (
        next(x for x in done.out.splitlines() if x.startswith("recommended: ")).removeprefix("recommended: ").partition(";")[0]
    )
    page = (folder / "dose.html").read_text(encoding="utf-8")
    assert chosen in page
    assert "What would change it" in page
    assert "last level 20 % higher" in page
    assert "trough aimed at" in page  # the range of the goal in the picture
    assert "<script" not in page

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
TWO = "ID,TIME,EVID,AMT,DV\nann,0,1,100,.\nann,1,0,0,6.3\nann,3,0,0,2.4\nbob,0,1,50,.\nbob,2,0,0,0.9\nbob,12,1,80,.\n"
FEW = ("--draws", "400")
GRID = ("--doses", "50:300:50", "--intervals", "4,6", "--window", "0,12")


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "two.csv").write_text(TWO)
    (here / "carded.py").write_text(CARDED)
    monkeypatch.syspath_prepend(str(here))
    return here


def fit_of(model: str = "decay", **change: Any) -> str:
    """What `gemello fit -o` writes, as far as it is read."""
    said = {"model": model, "theta": {"k": 0.4, "V": 12.0}, "sigma": {"add": 0.2}, "omega": {"etas": ["k"], "matrix": [[0.04]]}}
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
    assert said["goals"] == ["increment of auc from 48 to 72 h at least 400 and at most 600 mg*h/L"]


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
    (("optimise", *ASK, "--goal", "auc24:400-600"), "decay has no output auc"),
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
    assert chosen in (folder / "dose.html").read_text(encoding="utf-8")

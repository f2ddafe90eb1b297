"""`gemello vpc`, `npde`, `bootstrap` and `covariates`: what is printed and written, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Result

Gemello = Callable[..., Result]

CARDED = """
from model import Decay
from gemello.model.card import SECTIONS, Card

class Carded(Decay):
    name, card = "carded", Card("decay", dict.fromkeys(SECTIONS, "A toy."))

carded = Carded()
"""


def study(n: int = 24) -> str:
    """n subjects of the model `decay`: dose 100, k log-normal around 0.5 1/h and proportional to W, V 10 L, error 0.1 mg/L."""
    rng = np.random.default_rng(3)
    lines = ["ID,TIME,EVID,AMT,DV,W,G"]
    for i in range(1, n + 1):
        w = float(np.exp(0.3 * rng.standard_normal()))
        k = 0.5 * w * np.exp(0.3 * rng.standard_normal())
        lines.append(f"{i},0,1,100,.,{w:.4f},{i % 2}")
        lines += [f"{i},{t},0,0,{10 * np.exp(-k * t) + 0.1 * rng.standard_normal():.4f},{w:.4f},{i % 2}" for t in (0.5, 1, 2, 4)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "study.csv").write_text(study())
    (here / "product.py").write_text(CARDED)
    monkeypatch.syspath_prepend(str(here))
    return here


MODEL = "product.py:carded"


def test_a_predictive_check(gemello: Gemello, folder: Path) -> None:
    done = gemello("vpc", MODEL, "study.csv", "--replicates", "100", "--stratify", "G", "--corrected", "-o", "vpc.html")
    assert done.status == 0, done.err
    assert "cp (mg/L), G 0" in done.out
    assert "percentiles of the data lie outside" in done.out
    assert "Simulating: 100 of 100 data sets" in done.err
    assert "Prediction-corrected visual predictive check of cp, G 1" in (folder / "vpc.html").read_text(encoding="utf-8")
    said = json.loads(gemello("vpc", MODEL, "study.csv", "--replicates", "100", "--json").out)
    assert (said[0]["output"], said[0]["replicates"], said[0]["seed"], said[0]["corrected"]) == ("cp", 100, 1, False)
    assert sum(said[0]["count"]) == 96
    again = json.loads(gemello("vpc", MODEL, "study.csv", "--replicates", "100", "--json").out)
    assert again[0]["percentiles"] == said[0]["percentiles"]


def test_a_population_from_a_fit(gemello: Gemello, folder: Path) -> None:
    """The fitted population describes the data better than the table's: NPDE nearer to mean 0, variance 1."""
    assert gemello("fit", MODEL, "study.csv", "-o", "fit.json").status == 0
    own = json.loads(
        gemello("npde", MODEL, "study.csv", "--fit", "fit.json", "--replicates", "200", "--json", "--table", "n.csv").out
    )
    table = json.loads(gemello("npde", MODEL, "study.csv", "--replicates", "200", "--json", "--set", "k=1").out)
    distance = lambda t: abs(t["tests"]["mean"]) + abs(t["tests"]["variance"] - 1)  # noqa: E731
    assert distance(own) < 0.3 < distance(table)
    rows = list(csv.DictReader((folder / "n.csv").open()))
    assert len(rows) == 96
    assert np.mean([float(r["NPDE"]) for r in rows]) == pytest.approx(own["tests"]["mean"], abs=1e-6)


def test_a_bootstrap(gemello: Gemello, folder: Path) -> None:
    done = gemello("bootstrap", MODEL, "study.csv", "--samples", "25", "--stratify", "G", "-o", "b.json", "--report", "b.html")
    assert done.status == 0, done.err
    for word in ("2.5 %", "97.5 %", "of 25 samples converged", "OMEGA(k,k)"):
        assert word in done.out
    kept = json.loads((folder / "b.json").read_text())
    assert np.shape(kept["values"]) == (25, 4)
    assert kept["estimates"]["k"]["low"] < kept["estimates"]["k"]["estimate"] < kept["estimates"]["k"]["high"]
    assert "by bootstrap" in (folder / "b.html").read_text(encoding="utf-8")


def test_a_search_for_covariates(gemello: Gemello, folder: Path) -> None:
    """k is proportional to W, and does not depend on G."""
    done = gemello("covariates", MODEL, "study.csv", "--effect", "k:W,G", "-o", "s.json", "--report", "s.html")
    assert done.status == 0, done.err
    assert "effects found: k ~ W (power)" in done.out
    assert "k ~ G (categorical)" in done.out
    assert "would pass p < 0.05 by chance" in done.err
    kept = json.loads((folder / "s.json").read_text())
    assert kept["final"]["theta"]["k_W"] == pytest.approx(1.0, abs=0.5)
    assert "Search for covariate effects" in (folder / "s.html").read_text(encoding="utf-8")


BAD = [
    (["vpc", "study.csv", "--by", "dose"], "column by, value 'dose': unknown axis"),
    (["vpc", "study.csv", "--bins", "often"], "is not a list of numbers"),
    (["vpc", "study.csv", "--bins", "1,nan"], "is not a list of numbers"),
    (["vpc", "study.csv", "--replicates", "1000000000"], "Input should be less than or equal to 100000"),
    (["npde", "study.csv", "--table", "n.html", "-o", "n.html"], "two things are to be written to it"),
    (["vpc", "study.csv", "--stratify", "SEX"], "column SEX: no such column"),
    (["vpc", "study.csv", "--replicates", "1"], "too few replicates"),
    (["vpc", "study.csv", "--fit", "no.json"], "not a fit of carded"),
    (["vpc", "study.csv", "-o", "study.csv"], "is the data set itself"),
    (["npde", "study.csv", "--replicates", "10"], "10 replicates are too few"),
    (["npde", "study.csv", "--seed", "-1"], "not a seed"),
    (["bootstrap", "study.csv", "--samples", "1"], "too few samples"),
    (["bootstrap", "study.csv", "--kind", "wild"], "use nonparametric or parametric"),
    (["covariates", "study.csv"], "no candidates"),
    (["covariates", "study.csv", "--effect", "k"], "is not of the form PAR:COV"),
    (["covariates", "study.csv", "--effect", "k:AGE"], "column AGE: no such column"),
    (["covariates", "study.csv", "--effect", "q:W"], "no individual parameter 'q'"),
    (["covariates", "study.csv", "--effect", "k:W:cubic"], "form 'cubic'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line(gemello: Gemello, folder: Path, arguments: list[str], message: str) -> None:
    done = gemello(arguments[0], MODEL, *arguments[1:])
    assert done.status == 2
    assert message in done.error()
    assert done.out == ""

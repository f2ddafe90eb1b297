"""`gemello fit`: what is printed and written, what is left out, and what ends with which status."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.cli.conftest import Result

from gemello.cli.main import app
from gemello.domains.pharmacology.theophylline.boeckmann1994 import subjects

Gemello = Callable[..., Result]

PRODUCT = """
from model import Decay
from gemello.model.card import SECTIONS, Card
from gemello.model.parameters import Parameter, ParameterTable

class Product(Decay):
    name = "product"
    parameters = ParameterTable((*Decay.parameters.rows, Parameter("scale", 1.0, "1")))
    individuals = {"k": "1/h", "V": "L"}
    def typical(self, theta, cov): return self.individual_type(theta.k, theta.V * theta.scale)

class Carded(Decay):
    name, card = "carded", Card("decay", dict.fromkeys(SECTIONS, "A toy."))

product, carded = Product(), Carded()
"""


def data(n: int = 10) -> str:
    """n subjects of the model `decay`: dose 100, k log-normal around 0.5 1/h, V 10 L, additive error 0.1 mg/L."""
    rng = np.random.default_rng(3)
    lines = ["ID,TIME,EVID,AMT,DV"]
    for i in range(1, n + 1):
        k = 0.5 * np.exp(0.3 * rng.standard_normal())
        lines.append(f"{i},0,1,100,.")
        lines += [f"{i},{t},0,0,{10 * np.exp(-k * t) + 0.1 * rng.standard_normal():.4f}" for t in (0.5, 1, 2, 4)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "study.csv").write_text(data())
    (here / "product.py").write_text(PRODUCT)
    monkeypatch.syspath_prepend(str(here))
    return here


FAR = ("--set", "k=1.5", "--set", "V=30", "--set", "OMEGA(k,k)=0.5")


def test_a_table_a_file_and_json(gemello: Gemello, folder: Path) -> None:
    plain = gemello("fit", "model.py:decay", "study.csv", *FAR, "-o", "fit.json")
    assert plain.status == 0, plain.err
    for word in (
        "parameter",
        "standard error",
        "RSE %",
        "OMEGA(k,k)",
        "(FOCEI, without constants)",
        "10 subjects, 40 observations",
        "converged",
    ):
        assert word in plain.out
    assert "FOCEI iteration 1: objective" in plain.err
    kept = json.loads((folder / "fit.json").read_text())
    assert (kept["model"], kept["method"], kept["converged"], kept["observations"]) == ("decay", "focei", True, 40)
    assert kept["theta"]["k"] == pytest.approx(0.5, rel=0.3)
    assert kept["theta"]["V"] == pytest.approx(10.0, rel=0.05)
    done = gemello("fit", "model.py:decay", "study.csv", *FAR, "--json")
    said = json.loads(done.out)  # one JSON value and nothing else
    assert done.status == 0
    assert said["estimates"] == kept["estimates"]
    assert [s["id"] for s in said["subjects"]] == [str(i) for i in range(1, 11)]
    assert sorted(p.name for p in folder.iterdir() if p.suffix in (".json", ".part")) == ["fit.json"]


def test_the_first_order_method_and_what_is_held(gemello: Gemello, folder: Path) -> None:
    done = gemello(
        "fit",
        "model.py:decay",
        "study.csv",
        "--method",
        "fo",
        "--estimate",
        "k,add",
        "--set",
        "V=9",
        "--omega",
        "diagonal",
        "--json",
    )
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert said["method"] == "fo"
    assert list(said["estimates"]) == ["k", "add", "OMEGA(k,k)"]
    assert said["theta"]["V"] == 9.0


def test_a_parameter_from_a_column(gemello: Gemello, folder: Path) -> None:
    """V by subject from the column VI: the data were made with 10, so 20 doubles every concentration, and k must pay."""
    lines = data().splitlines()
    (folder / "bound.csv").write_text("\n".join([lines[0] + ",VI", *(f"{x},10" for x in lines[1:])]) + "\n")
    done = gemello("fit", "model.py:decay", "bound.csv", "--set", "V=VI", "--estimate", "k,add", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["theta"]["k"] == pytest.approx(0.5, rel=0.3)


def test_subjects_that_cannot_be_used_are_named_and_left_out(gemello: Gemello, folder: Path) -> None:
    (folder / "study.csv").write_text(data() + "bad,0,1,100,.\nbad,-1,0,0,3\nmute,0,1,100,.\n")
    done = gemello("fit", "model.py:decay", "study.csv", *FAR, "--json")
    assert done.status == 0, done.err
    out = {x["id"]: x["reason"] for x in json.loads(done.out)["excluded"]}
    assert "time is negative" in out["bad"] or "backwards" in out["bad"]
    assert out["mute"] == "no measured value"
    assert "note: left out" in done.err
    shown = gemello("fit", "model.py:decay", "study.csv", *FAR)
    assert "left out: subject mute: no measured value" in shown.err
    assert "10 subjects, 40 observations" in shown.out


def test_a_fit_that_did_not_converge(gemello: Gemello, folder: Path) -> None:
    """Status 1 and one line; what was found is still printed and written, and says so."""
    done = gemello("fit", "product.py:product", "study.csv", "--json", "-o", "fit.json")
    assert done.status == 1
    assert done.error() == (
        "gemello: error: model product, focei: did not converge (these data do not tell V, scale apart); "
        "try other starts, or a simpler OMEGA"
    )
    said = json.loads(done.out)
    assert said["converged"] is False
    assert said["estimates"]["V"]["se"] is None
    assert json.loads((folder / "fit.json").read_text())["converged"] is False


BAD = [
    (["nothing", "study.csv"], "no model 'nothing'"),
    (["model.py:decay", "no.csv"], "no.csv: no such file"),
    (["model.py:decay", "study.csv", "--method", "magic"], "method 'magic': use fo, foce, focei, laplace, saem, imp or bayes"),
    (["model.py:decay", "study.csv", "--setting", "draws=5"], "no setting of focei"),
    (["model.py:decay", "study.csv", "--method", "saem", "--setting", "burn_in=0.5"], "no setting of saem"),
    (["model.py:decay", "study.csv", "--estimate", "k,q"], "no parameter 'q'"),
    (["model.py:decay", "study.csv", "--omega", "k+q"], "omega: q; name each of k at most once"),
    (["model.py:decay", "study.csv", "--set", "k=-1"], "parameter k, value -1 1/h: outside [0, inf]"),
    (["model.py:decay", "study.csv", "--set", "OMEGA(k,k)=-1"], "model decay: the start of OMEGA is not positive definite"),
    (
        ["model.py:decay", "study.csv", "--set", "add=0"],
        "parameter add: start 0; a residual error is estimated from a start above 0",
    ),
    (["model.py:decay", "study.csv", "--set", "V=VI"], "study.csv, column VI: no such column"),
    (["model.py:decay", "study.csv", "-o", "study.csv"], "is the data set itself"),
    (["model.py:decay", "study.csv", "-o", "no/fit.json"], "there is no folder"),
    (["model.py:decay", "study.csv", "--report", "."], "is a folder"),
    (["model.py:decay", "study.csv", "-o", "a.json", "--table", "a.json"], "two things are to be written to it"),
    (["model.py:decay", "silent.csv"], "no subject with a measured value"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_leaves_no_file(gemello: Gemello, folder: Path, arguments: list[str], message: str) -> None:
    (folder / "silent.csv").write_text("ID,TIME,EVID,AMT,DV\n1,0,1,100,.\n1,1,0,0,.\n")
    before = {p.name for p in folder.iterdir()} | {"__pycache__"}
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "fit.json"]
    done = gemello("fit", *arguments)
    assert done.error().startswith("gemello: error: ")
    assert message in done.error()
    assert (done.status, done.out) == (2, "")
    assert {p.name for p in folder.iterdir()} | {"__pycache__"} == before


def test_a_report(gemello: Gemello, folder: Path) -> None:
    done = gemello("fit", "product.py:carded", "study.csv", *FAR, "--report", "fit.html")
    assert done.status == 0, done.err
    page = (folder / "fit.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    for word in ("carded", "FOCEI", "OMEGA(k,k)"):
        assert word in page


# ---- the page -----------------------------------------------------------------------------------------------------------
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def example(command: str) -> tuple[list[str], str]:
    """Arguments and output of the command's example in docs/cli.md."""
    found = re.search(rf"```console\n\$ gemello ({command} [^\n]*)\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return shlex.split(found[1]), found[2]


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"(?<![\w.])-?\d+\.\d+", text)]


def test_the_page_s_examples(gemello: Gemello, folder: Path) -> None:
    """Run as printed; numbers within 1 % (draws differ in the last digits between machines)."""
    lines = ["ID,TIME,EVID,AMT,DV"]
    for s in subjects():
        q = s.schedule
        values = ["." if np.isnan(v) else f"{v:g}" for v in q.value]
        lines += [f"{s.id},{t:g},{e},{a:g},{v}" for t, e, a, v in zip(q.time, q.evid, q.amount, values, strict=True)]
    (folder / "theoph.csv").write_text("\n".join(lines) + "\n")
    table = re.search(r"```\n(ID,TIME,EVID,AMT,RATE,.*?)```", PAGE, re.DOTALL)
    assert table is not None
    (folder / "patient.csv").write_text(table[1])
    for command in ("fit", "assimilate"):
        arguments, printed = example(command)
        done = gemello(*arguments)
        assert done.status == 0, done.err
        assert re.sub(r"[-\d.]+", "#", done.out).split() == re.sub(r"[-\d.]+", "#", printed).split()
        assert numbers(done.out) == pytest.approx(numbers(printed), rel=0.01)
    assert json.loads((folder / "fit.json").read_text())["converged"] is True
    arguments, _ = example("optimise")
    (last,) = re.findall(r"^recommended: .*$", PAGE, re.MULTILINE)
    assert gemello(*arguments).out.splitlines()[-1] == last


def test_the_page_names_every_option() -> None:
    for name in ("fit", "assimilate", "optimise"):
        command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = [p for p in command.params if p.param_type_name == "option"]
        asked = {o for p in options for o in p.opts if o.startswith("--")} - {"--json", "--help"}
        missing = {o for o in asked if o not in section and o not in ("--output", "--units", "--column", "--observed")}
        assert missing == set(), name

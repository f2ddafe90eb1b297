"""`gemello heart population` as a command: what it prints, writes and refuses. The cell answers at once; the files are real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.domains.heart.populations import cells

from gemello.base.errors import DataError
from gemello.cli import output
from gemello.domains.heart import pacing
from gemello.domains.heart.populations import command, measured
from gemello.domains.heart.populations.population import Population

COMPOUND = """name: blocker <b>
cmax: 10 nM
channels:
  IKr:
    ic50: 30 nM
    hill: 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def course(pooled: Population, cell: Any) -> tuple[Any, Any]:
        return np.arange(-10.0, 500.0), np.full((3, 510), -80.0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pacing, "pace", cells.pacer)
    monkeypatch.setattr(measured, "read", cells.measured)
    monkeypatch.setattr(command, "course", course)
    Path("blocker.yaml").write_text(COMPOUND, encoding="utf-8")
    return tmp_path


def call(*words: str) -> None:
    """The command as the command line runs it: `context.obj` is its output."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("population")(command.population)
    app.callback()(lambda: None)
    typer.main.get_command(app).main(["population", *words], standalone_mode=False, obj=output)


def test_json_has_both_sexes_and_every_dose(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("blocker.yaml", "--cells", "400", "--seed", "7", "--dose", "3", "--dose", "100", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["cells"]["sampled"] == 400
    assert told["cells"]["effective"] <= told["cells"]["accepted"] <= 400
    assert told["apd90_ms"]["female"]["mean"] > told["apd90_ms"]["male"]["mean"]
    for sex in ("female", "male"):
        assert [d["multiple"] for d in told["doses"][sex]] == [0, 3, 100]
        shares = [d["share"] for d in told["doses"][sex]]
        assert shares == sorted(shares)
        assert shares[0] == 0
    assert told["provenance"]["seed"] == 7
    assert not list(here.glob("*.html"))


def test_report_and_population_are_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("blocker.yaml", "--cells", "300", "-o", "r.html", "--save", "p.csv")
    out = capsys.readouterr()
    assert "Women" in out.out
    assert "r.html" in out.err + out.out
    page = Path("r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "blocker &lt;b&gt;" in page
    assert "<b>" not in re.sub(r"<body>", "", page)
    assert not re.search(r"\bnan\b", page)
    assert Population.load("p.csv").sampled == 300


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cells", "0"), "impossible number"),
        (("--model", "ord"), "no such cell"),
        (("--dose", "-1"), "impossible doses"),
        (("--save", "p.xlsx"), "unknown kind of file"),
        (("-o", "blocker.yaml"), "blocker.yaml"),
    ],
)
def test_bad_words_are_refused(here: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call("blocker.yaml", "--cells", "200", *words)
    assert Path("blocker.yaml").read_text(encoding="utf-8") == COMPOUND


def test_every_named_cell_is_there() -> None:
    assert [command.cell_of(n).name for n in command.MODELS] == list(command.MODELS)


@pytest.mark.parametrize("words", [("--dose", "-1"), ("--dose", "nan"), ("--dose", "1e300"), ("--seed", "-1")])
def test_impossible_doses_and_seeds_are_refused_before_the_work(here: Path, words: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=r"impossible doses|not a seed"):
        call("blocker.yaml", "--cells", "1", *words)

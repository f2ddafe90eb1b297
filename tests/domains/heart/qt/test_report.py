"""`gemello heart qt` and its report: what is shown, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.domains.heart.qt.studies import write

from gemello.base.errors import DataError, GemelloError
from gemello.cli import output
from gemello.domains.heart.qt import command, coverage
from gemello.domains.heart.qt.e14 import analyse
from gemello.domains.heart.qt.records import read
from gemello.domains.heart.qt.report import qt_report, quantile_chart, verdict
from gemello.report.chart import Points


def call(*words: str) -> None:
    """The command as the command line runs it: `context.obj` is its output."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("qt")(command.qt)
    app.callback()(lambda: None)
    typer.main.get_command(app).main(["qt", *words], standalone_mode=False, obj=output)


def test_residuals_over_their_sd_lie_on_the_line_of_normal_quantiles(file: Path) -> None:
    """The study's errors are normal; ordered residuals that follow the line correlate with it (Shapiro–Francia)."""
    chart = quantile_chart(analyse(read(file)))
    points = next(m for m in chart.marks if isinstance(m, Points))
    assert np.corrcoef(points.x, points.y)[0, 1] > 0.98
    assert np.std(points.y) == pytest.approx(1.0, abs=0.15)  # a little under 1: subjects' random effects are taken out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "study.csv", slope=0.2)


def test_what_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(str(file), "--at", "50")
    out = capsys.readouterr().out
    assert "geometric mean Cmax, dose 10" in out
    assert "50 ng/mL" in out
    assert "An effect of 10 ms is not excluded at" in out
    assert len([r for r in out.splitlines() if r.strip().startswith(("10  ",))]) == 6


def test_json_is_all_that_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(str(file), "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["drug"] == "Drug"
    assert told["excluded"] is False
    assert told["fixed_effects"]["concentration"]["value"] == pytest.approx(0.2, abs=0.04)


def test_a_report_with_twins(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    call(str(file), "-o", str(target), "--known", "1")
    page = target.read_text(encoding="utf-8")
    assert "no twins" not in capsys.readouterr().err
    for words in ("Concentration-QTc analysis of Drug", "is not excluded", "Kenward", "Twins of all 10 subjects", "subject 7"):
        assert words in page
    assert page.split("</main>")[0].count("<svg") == 6 + 10
    assert "http" not in page.split("<body>")[1].split("<footer>")[0].replace("http://www.w3.org/2000/svg", "")


def test_a_fit_that_fails_leaves_the_analysis(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DataError("no fit today", remedy="come back")

    monkeypatch.setattr(coverage, "follow", broken)
    call(str(file), "-o", str(tmp_path / "r.html"))
    assert "no twins in the report: no fit today" in capsys.readouterr().err
    assert "Twins" not in (tmp_path / "r.html").read_text(encoding="utf-8").split("<main>")[1].split("</main>")[0]


def test_words_from_outside_are_escaped(file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(",Drug,", ",<script>alert(1)</script>,"), encoding="utf-8")
    a = analyse(read(file))
    page = qt_report(a, path=tmp_path / "r.html", interactive=False).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "ΔΔQTcF" in verdict(a)


@pytest.mark.parametrize(("words", "said"), [
    (["--column", "CONC"], "ROLE=NAME"),
    (["--column", "CONC=NONE"], "no such column"),
    (["--known", "-1"], "number of hours"),
    (["--at", "-5"], "not a concentration"),
    (["--treatment", "x"], "no such active treatment"),
    (["-o", "missing/r.html"], "no folder"),
])  # fmt: skip
def test_bad_input_is_one_line(file: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GemelloError) as e:
        call(str(file), *words)
    assert said in str(e.value)
    assert "\n" not in str(e.value)
    assert e.value.exit_status == 2

"""The dossier, the ADaM files and the command: what they say, that JSON is JSON, and exit statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.trial.protocols import estimand, repeated, run, simple, write
from typer.testing import CliRunner

from gemello.cli import output
from gemello.formats.cdisc import read_table
from gemello.trial import dossier, figures
from gemello.trial.analyse import Result
from gemello.trial.commands import app

ONCE: dict[str, Any] = {"kind": "continuous", "outcome": "y", "label": "walking distance", "unit": "m"}
SCORE = {"column": "x", "source": "measured before randomisation", "limits": {"correlation": 0.0}}


def _text(result: Result, folder: Path) -> str:
    path = dossier.write(result, path=folder / "d.html", interactive=False)
    plain = re.sub(r"<(svg|style|script).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", plain)).replace("&#39;", "'").replace("&lt;", "<")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("trial")
    rng = np.random.default_rng(4)
    x = rng.normal(50, 10, 150)
    pl.DataFrame({"x": x, "y": 0.8 * x + rng.normal(0, 6, 150), "z": rng.normal(size=150)}).write_csv(folder / "history.csv")
    z = pl.Series("z", rng.normal(size=120))
    return folder, simple().with_columns(z)


def test_everything_a_reviewer_looks_for(history: tuple[Path, pl.DataFrame]) -> None:
    folder, table = history
    found = run(
        folder, table, endpoint=ONCE, score=SCORE | {"correlation": 0.7}, planned={"difference": 3, "sd": 10},
        estimand=estimand(stopping={"strategy": "treatment policy", "column": "off"}), sensitivity=["HC0", "unadjusted"],
        external={"file": "history.csv", "covariates": ["x", "z"]},
        credibility={"question": "Does t help?", "context_of_use": "a covariate"},
    )  # fmt: skip
    said = _text(found, folder)
    for words in (
        "mean difference", "Outcome by arm: walking distance", "Estimand (ICH E9(R1))", "treatment policy", "Prognostic score",
        "Sensitivity analyses", "Effective number of external controls", "deflated to", "stated in the protocol", "Does t help?",
        "not stated in the protocol", "It does not cover scores", "its scope excludes them", found.protocol.hash,
        found.prepared.hash, "two-sided p", "no model. Higher is better",
    ):  # fmt: skip
        assert words in said, words
    assert "complies with" not in said
    assert not re.search(r"\b(nan|None|inf)\b", said)
    assert not re.search(r"\d\.\d{8,}", said)


def test_a_refused_score_stands_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = run(tmp_path, simple().with_columns(pl.Series("u", rng.normal(size=120))), endpoint=ONCE,
                score={"column": "u", "source": "a coin"})  # fmt: skip
    said = _text(found, tmp_path)
    assert said.index("The prognostic score was refused: calibration") < said.index("Outcome by arm")


def test_course_of_a_repeated_endpoint_with_and_without_twins(tmp_path: Path) -> None:
    table = repeated().with_columns((0.8 * pl.col("x") + 3).alias("u"))
    endpoint = {"kind": "repeated", "outcome": "y", "visit": "visit", "at": "week 12"}
    plain = _text(run(tmp_path, table, endpoint=endpoint), tmp_path)
    assert "Mean course by arm" in plain
    assert "twins" not in plain.split("Mean course by arm")[1].split("Estimand")[0]
    said = _text(run(tmp_path, table, endpoint=endpoint, score={"column": "u", "source": "a formula"}), tmp_path)
    assert "what the twins of the same participants had been forecast" in said
    assert "seen at week 12" in said


def test_curves_of_a_time_to_event(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = simple().with_columns(pl.Series("days", rng.exponential(50, 120)), pl.Series("seen", np.ones(120, int)))
    endpoint = {"kind": "time-to-event", "outcome": "days", "event": "seen", "unit": "day"}
    found = run(tmp_path, table, endpoint=endpoint, estimand=estimand("log-rank"), sensitivity=["hazard ratio", "robust"])
    said = _text(found, tmp_path)
    assert "Kaplan–Meier curves by arm" in said
    assert "Log-rank test: z" in said
    assert "log hazard ratio (day)" not in said
    assert [name for name, _ in dossier.comparable(found)] == ["primary"]  # another summary is not drawn beside it


def test_every_kind_writes_a_dossier_and_adam(tmp_path: Path) -> None:
    from gemello.trial import adam

    rng = np.random.default_rng(3)
    table = simple().with_columns(
        pl.Series("count", rng.poisson(3, 120)), pl.Series("level", rng.integers(1, 5, 120)), pl.lit(2).alias("years"),
        pl.Series("days", rng.exponential(50, 120).round(2)),
    )  # fmt: skip
    two = {"column": "arm", "control": "c", "active": ["t"]}
    for k, endpoint in enumerate((
        {"kind": "binary", "outcome": "off"}, {"kind": "count", "outcome": "count", "exposure": "years"},
        {"kind": "ordinal", "outcome": "level"}, {"kind": "time-to-event", "outcome": "days", "event": "off"},
        {"kind": "continuous", "outcome": "y", "baseline": "x"},
    )):  # fmt: skip
        found = run(tmp_path, table, arms=two, endpoint=endpoint, analysis={"covariates": ["site"]})
        assert "Outcome by arm" in _text(found, tmp_path)
        files = adam.write(found, tmp_path / f"adam{k}")
        rows = read_table(files[1])[0]
        assert len(rows) == 120
        results = read_table(files[2])[0]
        assert {"ESTIMATE", "SE", "PVALUE"} <= set(results["STAT"].to_list())


def test_adam_holds_all_randomised_and_flags_the_analysed(tmp_path: Path) -> None:
    from gemello.trial import adam

    table = simple().with_columns(pl.when(pl.arange(120) < 20).then(None).otherwise(pl.col("y")).alias("y"))
    found = run(tmp_path, table, endpoint={"kind": "continuous", "outcome": "y"})
    subjects, records = (read_table(f)[0] for f in adam.write(found, tmp_path / "adam")[:2])
    assert len(subjects) == len(records) == 120
    assert (records["ANL01FL"] == "Y").sum() == 100


@pytest.mark.parametrize(("p", "words"), [
    (0.0, "p < 0.0001"), (1e-20, "p < 0.0001"), (0.00042, "p = 0.0004"), (0.0312, "p = 0.031"), (0.5637, "p = 0.564"),
    (1.0, "p = 1"),
])  # fmt: skip
def test_p_values_read_well(p: float, words: str) -> None:
    assert figures.p_words(p) == words


# ---- the command ---------------------------------------------------------------------------------------------------------
def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), obj=output)


def test_command_json_dossier_and_adam(tmp_path: Path) -> None:
    path = write(tmp_path, simple(), endpoint=ONCE, analysis={"covariates": ["x"]}, sensitivity=["mar", "tipping", "HC3"])
    page, folder = tmp_path / "d.html", tmp_path / "adam"
    done = _run("analyse", str(path), "-o", str(page), "--adam", str(folder), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["schema"] == "gemello-trial-result/1"
    assert [r["adjustment"] for r in found["primary"]] == ["covariates"]
    assert {"estimate", "se", "p", "lower", "upper", "ess_multiplier", "method"} <= set(found["primary"][0])
    again = json.loads(_run("analyse", str(path), "--json").stdout)
    for stamped in (found, again):
        del stamped["provenance"]
    assert again == found
    assert page.stat().st_size > 10_000
    assert sorted(p.name for p in folder.iterdir()) == ["adeff.xpt", "adres.xpt", "adsl.xpt"]


def test_command_prints_estimates_and_warnings(tmp_path: Path) -> None:
    strata = {"scheme": "permuted-block", "strata": ["site"]}
    done = _run("analyse", str(write(tmp_path, simple(), endpoint=ONCE, randomisation=strata)))
    assert done.exit_code == 0
    assert "t against c" in done.output
    assert "stratified the randomisation" in done.output


def test_command_does_not_write_over_its_data(tmp_path: Path) -> None:
    path = write(tmp_path, simple(), endpoint=ONCE)
    before = (tmp_path / "trial.csv").read_bytes()
    done = _run("analyse", str(path), "-o", str(tmp_path / "trial.csv"))
    assert done.exit_code != 0
    assert (tmp_path / "trial.csv").read_bytes() == before

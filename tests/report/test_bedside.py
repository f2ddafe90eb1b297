"""The page for the bedside: what it says, what it warns of, and that nothing from outside gets into it as markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.inference.gaussian import line, observed

from gemello.model.schedule import Schedule
from gemello.report import bedside_report
from gemello.report.bedside import _given, advice, alternatives_table, changes_table, shown
from gemello.report.words import percent
from gemello.twin.decide import Decision
from gemello.twin.goals import Constraint, Target
from gemello.twin.mixture import average
from gemello.twin.regimens import Grid
from gemello.twin.sensitivity import next_level, reconsider
from gemello.twin.twin import Twin

TIMES, VALUES = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.4, -0.3])
GOAL = Target("level", "at", 10.0, low=1.0, high=4.0)
LIMIT = Constraint(Target("level", "at", 7.0, high=9.0), 0.3)
GRID = Grid([2.0, 4.0, 5.0, 6.0], [5.0], (0.0, 1.0), start=6.0, until=10.0)


def decide(twin: Twin, **options: object) -> Decision:
    return twin.optimise(GOAL, GRID, constraints=[LIMIT], **{"least_probability": 0.0, **options})


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin.new(line, covariates={"WT": 70.0}, id="<b>7</b>").assimilate(
        observed(TIMES, VALUES, "<b>7</b>").schedule, draws=500
    )


def page(twin: Twin, d: Decision, path: Path, **more: object) -> str:
    plan = d.schedule if d.chosen else None
    ahead = twin.forecast(plan, times=np.linspace(0.0, 10.0, 21))
    return bedside_report(twin, ahead, d, path=path / "page.html", goals=[GOAL], **more).read_text(encoding="utf-8")  # type: ignore[arg-type]


def test_all_of_it_is_said(twin: Twin, tmp_path: Path) -> None:
    d = decide(twin)
    assert d.chosen is not None
    others = reconsider(twin, GOAL, GRID, d, constraints=[LIMIT], least_probability=0.0)
    told = next_level(twin, d.schedule, GOAL, [7.0, 8.0, 9.0])
    text = page(twin, d, tmp_path, reconsidered=others, informative=told)
    chosen = d.chosen
    for words in (
        chosen.candidate.label, f"Probability {percent(chosen.probability)} that level at 10 h is 1 to 4 mg.",
        f"too low {percent(chosen.expected[0].below)}", f"missed: {percent(chosen.risks[0].probability)} (allowed 30 %)",
        "First dose at 6 h", "Levels: 2 mg at 1 h; 1.4 mg at 2 h; −0.3 mg at 5 h.", "WT 70 kg", "last level 20 % higher (-0.36)",
        "Best time for the next level: ", "Provenance: model line 1", twin.record.hash, "value aimed at",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("<svg") == 2
    assert "Cautions" not in text
    assert "<b>7</b>" not in text
    assert "&lt;b&gt;7" in text
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", text)


def test_cautions_come_before_the_pictures(twin: Twin, tmp_path: Path) -> None:
    """Overrides, ranges, assumptions and doubts, each once."""
    heavy = Twin.new(line, covariates={"WT": 130.0}, id="8")
    data = observed(TIMES, VALUES).schedule.covariates(WT=130.0)
    wild = heavy.assimilate(data.observe(5.5, 90.0), draws=500, prior_weight=0.5)
    text = page(wild, decide(wild, override_domain=True, override_doubt=True), tmp_path)
    assert text.index("Cautions") < text.index("<svg")
    for words in ("WT 130 kg is outside [40, 120]", "contradict the population", "OMEGA divided by 0.5"):
        assert text.count(words) == 1, words
    assert "WT 130 kg (outside 40 to 120)" in text
    fresh = page(Twin.new(line, covariates={"WT": 70.0}), decide(Twin.new(line, covariates={"WT": 70.0})), tmp_path)
    assert "No level has been measured" in fresh


def test_a_refusal_is_as_large_as_a_dose(twin: Twin, tmp_path: Path) -> None:
    d = decide(twin, least_probability=0.99)
    text = page(twin, d, tmp_path)
    assert '<p class="choice">No dose is recommended</p>' in text
    assert "meets the goal with probability" in text
    assert "The best of 8 candidates" in text
    assert "goes on without a new dose" in text


def test_doses_given_are_on_the_page(tmp_path: Path) -> None:
    """Equal ones at equal intervals together."""
    fresh = Twin.new(line, covariates={"WT": 70.0}, id="9")
    assert _given(fresh) == "No dose so far."
    s = Schedule().dose(0.0, 5.0, rate=2.5).dose(1.0, 3.0, every=1.0, times=3).dose(5.0, 4.0).observe(5.5, 14.0)
    full = fresh.assimilate(s, draws=500)
    assert _given(full) == "Given: 5 mg over 2 h at 0 h; 3 mg every 1 h from 1 to 3 h; 4 mg at 5 h."
    assert "Given: 5 mg over 2 h at 0 h" in page(full, decide(full), tmp_path)


def test_what_is_as_good_as_the_recommendation_is_said(twin: Twin) -> None:
    d = decide(twin)
    assert d.chosen is not None
    best = d.chosen.probability
    words = {}
    for gap in (0.001, 0.5):
        table = tuple(a if a is d.chosen else replace(a, probability=best - gap, error=d.chosen.error, risks=()) for a in d.table)
        words[gap] = " ".join(advice(twin, replace(d, table=table), [GOAL]).sentences)
    assert "As good within the accuracy of this calculation: " in words[0.001]
    assert "As good" not in words[0.5]


def test_tables_are_those_of_the_decision(twin: Twin) -> None:
    d = decide(twin)
    assert d.chosen is not None
    some = shown(d)
    assert some[0] is d.chosen
    pairs = [(a.candidate.regimen.dose, a.candidate.regimen.interval) for a in some if a.candidate.regimen]
    assert len(set(pairs)) == len(pairs) == 4, "one infusion length of each"
    table = alternatives_table(d, [GOAL])
    assert table is not None
    assert table.rows[0][0] == d.chosen.candidate.label
    assert table.marked == {0}
    found = changes_table({"as known": d, "same": d, "none": decide(twin, least_probability=0.99)})
    assert found.rows[0][:2] == ("same", "no change")
    assert found.rows[1][:3] == ("none", "no dose (refused)", "–")
    assert advice(twin, d, [GOAL]).choice == d.chosen.candidate.label


def test_an_average_of_models_names_them(twin: Twin, tmp_path: Path) -> None:
    m = average([twin])
    d = m.optimise(GOAL, GRID, constraints=[LIMIT], least_probability=0.0)
    ahead = m.forecast(d.schedule, times=np.linspace(0.0, 10.0, 21)).mixture
    text = bedside_report(m, ahead, d, path=tmp_path / "p.html", goals=[GOAL]).read_text(encoding="utf-8")
    assert "Models averaged: line 100 %" in text
    assert "if line" in text

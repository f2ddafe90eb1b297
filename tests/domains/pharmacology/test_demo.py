"""The demo: its data are the published ones, its forecasts are honest, and its report says what it found."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from tests.report.objects import Page, demo

from gemello.base.errors import DataError
from gemello.domains.pharmacology import demo as front
from gemello.domains.pharmacology.theophylline import boeckmann1994, demonstration
from gemello.inference.population import fit


def test_the_table_equals_the_published_data(shared_data: Path) -> None:
    """R's data set Theoph, value by value."""
    with (shared_data / "pharmacology" / "R" / "Theoph.csv").open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    ours = boeckmann1994.table()
    assert len(rows) == len(ours["patient"]) == 132
    assert ours["patient"].tolist() == [r["Subject"] for r in rows]
    names = {"Wt": "weight_kg", "Dose": "dose_mg_per_kg", "Time": "time_h", "conc": "concentration_mg_per_L"}
    for theirs, own in names.items():
        np.testing.assert_array_equal(ours[own], [float(r[theirs]) for r in rows])


def test_subjects_have_the_dose_in_mg() -> None:
    subjects = boeckmann1994.subjects()
    assert [s.id for s in subjects] == [str(i) for i in range(1, 13)]
    first = subjects[0].schedule
    assert first.amount[first.evid == 1].tolist() == [pytest.approx(4.02 * 79.6)]
    assert all(s.schedule.measured.sum() == 11 for s in subjects)


def test_the_population_does_not_know_the_patient() -> None:
    d = demo()
    assert d.twin.id not in d.fit.ids
    assert len(d.fit.ids) == 11
    others = [s for s in boeckmann1994.subjects() if s.id != d.twin.id]
    again = fit(demonstration.MODEL, others)
    assert again.objective == pytest.approx(d.fit.objective, abs=1e-4)
    assert dict(d.twin.parameters.theta) == d.fit.theta


def test_the_twin_has_seen_the_first_hour_only() -> None:
    d = demo()
    seen = d.twin.record.schedule
    whole = next(s for s in boeckmann1994.subjects() if s.id == d.twin.id).schedule
    assert seen.measured.sum() == 4
    assert seen.time.max() < d.held_back.time.min()
    assert sorted([*seen.value[seen.measured], *d.held_back.value]) == sorted(whole.value[whole.measured])


def test_counts_are_those_of_the_forecast() -> None:
    d = demo()
    bundle = d.forecast["cp"].measurement
    assert bundle is not None
    inside = 0
    for t, v in zip(d.held_back.time, d.held_back.value, strict=True):
        i = int(np.flatnonzero(d.forecast.time == t)[0])
        inside += bool(bundle.quantiles[0, i] <= v <= bundle.quantiles[-1, i])
    assert d.own.number == len(d.held_back)
    assert round(d.own.share * d.own.number) == inside


def test_forecasts_of_all_patients_are_calibrated() -> None:
    """Nominal 90 %; within three standard errors, clustered by patient."""
    e = demo().everyone
    assert e.number == 12 * 7
    assert abs(e.share - demonstration.LEVEL) < 3 * e.error


def test_the_choice_is_the_most_probable_one_that_is_safe() -> None:
    d = demo().decision
    assert d.chosen is not None
    safe = [a for a in d.table if a.feasible]
    assert d.chosen.probability == max(a.probability for a in safe)
    assert all(r.probability <= 0.05 for r in d.chosen.risks)
    assert 0 < d.chosen.error < 0.02


def test_more_information_makes_the_decision_surer() -> None:
    blind, hour, day = demo().decisions.values()
    assert blind.chosen is not None
    assert hour.chosen is not None
    assert day.chosen is not None
    assert blind.chosen.probability < day.chosen.probability
    assert demo().decision is hour


def test_run_writes_the_report_and_tells_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "compute", lambda seed, say, patient: demo())
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    path, summary = front.run(progress=told.append)
    assert path.resolve() == (tmp_path / front.NAME).resolve()
    assert list(tmp_path.iterdir()) == [tmp_path / front.NAME]
    assert told[0] == "Starting JAX"
    text = Page(path.read_text(encoding="utf-8")).text
    for remark in demonstration.remarks(demo()):
        assert remark in text
    chosen = demo().decision.chosen
    assert chosen is not None
    assert any(chosen.candidate.label in line for line in summary)


def test_an_unknown_patient_is_refused() -> None:
    with pytest.raises(DataError, match="no such patient"):
        demonstration.compute(patient="13")

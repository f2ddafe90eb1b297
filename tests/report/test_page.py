"""Reports: well-formed, self-contained, escaped, and with the numbers that the results hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.report.objects import HOSTILE, Page, demo, hostile

from gemello.base.errors import DataError
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.report import figures, fit_report, tables, twin_report
from gemello.report.words import number, percent
from gemello.twin.goals import Constraint, Target
from gemello.twin.regimens import Grid
from gemello.twin.twin import Twin

FETCHING = ("src", "href", "xlink:href", "data", "action", "poster", "srcset", "formaction")


def outside(page: Page) -> list[str]:
    """What the page would fetch or send; links that a reader may follow are none."""
    found = []
    for tag, attributes in page.elements:
        for name in FETCHING:
            value = attributes.get(name)
            if value and not value.startswith("#") and tag != "a":
                found.append(f"{tag} {name}={value}")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    d = demo()
    path = twin_report(
        d.twin, d.forecast, d.decision, d.fit, d.held_back, path=tmp_path_factory.mktemp("report") / "r.html", course=d.course,
        reconsidered=d.decisions, fitted=d.fitted,
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def test_the_report_is_well_formed_and_fetches_nothing(report: str) -> None:
    page = Page(report)
    assert page.wrong == []
    assert outside(page) == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", report, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    policy = [a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy[0] is not None
    assert "default-src 'none'" in policy[0]
    assert "http" not in policy[0]


def test_identifiers_are_unique_and_links_within_the_page_lead_somewhere(report: str) -> None:
    page = Page(report)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    inside = {str(a["href"])[1:] for t, a in page.elements if t == "a" and str(a.get("href")).startswith("#")}
    assert inside <= set(ids)
    assert inside


def test_every_figure_has_words_and_every_table_has_headers(report: str) -> None:
    page = Page(report)
    tags = [t for t, _ in page.elements]
    assert tags.count("svg") == tags.count("figure") == tags.count("desc") == tags.count("figcaption") > 5
    assert tags.count("table") == tags.count("caption") == tags.count("thead") > 5
    assert all(a.get("scope") for t, a in page.elements if t == "th")


def test_the_report_holds_the_numbers_of_its_results(report: str) -> None:
    d, text = demo(), Page(report).text
    chosen = d.decision.chosen
    assert chosen is not None
    assert chosen.candidate.label in text
    assert f"probability {percent(chosen.probability)} (Monte Carlo error {percent(chosen.error, 1)})" in text
    for name in d.fit.names:
        assert number(d.fit.estimates[name]) in text
        assert number(d.fit.se[name], 3) in text
    assert number(d.fit.objective, 7) in text
    for v in (*d.held_back.value, *d.twin.record.schedule.value[d.twin.record.schedule.measured]):
        assert number(v) in text
    assert d.twin.posterior.provenance.parameter_hash in text
    assert d.twin.posterior.provenance.data_hash in text
    for section in ("Known failures", "Valid range"):
        first = d.twin.model.card.sections[section].split()[1]
        assert first.strip("`") in text


def test_the_report_counts_what_was_held_back(report: str) -> None:
    d = demo()
    q, t = d.forecast["cp"].measurement, d.held_back.time
    assert q is not None
    at = [int(np.flatnonzero(d.forecast.time == v)[0]) for v in t]
    inside = sum(q.quantiles[0, i] <= v <= q.quantiles[-1, i] for i, v in zip(at, d.held_back.value, strict=True))
    assert f"{inside} of {len(t)} lie in the 90 % interval" in Page(report).text
    assert tables.holdings(d.forecast, d.twin.model, d.held_back)[0] == tables.Holding("cp", pytest.approx(0.9), inside, len(t))


def test_charts_in_the_page_are_json_and_plotly_stands_there_once(report: str) -> None:
    data = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', report, re.DOTALL)
    assert len(data) == report.count("<figure>")
    for text in data:
        assert json.loads(text)["data"]
    assert len(re.findall(r"plotly\.js v[\d.]+", report)) == 1


def test_a_static_report_is_small_and_has_no_script(tmp_path: Path) -> None:
    twin, forecast, held_back = hostile()
    path = twin_report(twin, forecast, None, None, held_back, path=tmp_path / "r.html", interactive=False)
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in {t for t, _ in page.elements}
    assert path.stat().st_size < 200_000


def test_hostile_names_are_shown_and_never_run(tmp_path: Path) -> None:
    twin, forecast, held_back = hostile()
    goal, grid = Target("cp", "min", (120.0, 144.0), low=5.0), Grid(doses=(100.0, 200.0), intervals=(8.0,), start=24.0)
    decision = twin.optimise(goal, grid, least_probability=0.0)
    path = twin_report(
        twin, forecast, decision, None, held_back, path=tmp_path / "r.html", remarks=[HOSTILE], labels={"cp": HOSTILE},
        title=HOSTILE, reconsidered={HOSTILE: decision},
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.wrong == []
    assert "<script>alert" not in text
    assert page.text.count("<script>alert('1')</script>") >= 4  # as words
    assert outside(page) == []


def test_a_refusal_is_shown_with_its_reason(tmp_path: Path) -> None:
    twin, forecast, _ = hostile()
    goal = Target("cp", "min", (120.0, 144.0), low=500.0)
    decision = twin.optimise(goal, Grid(doses=(100.0,), intervals=(8.0,), start=24.0))
    assert decision.refused
    path = twin_report(twin, forecast, decision, path=tmp_path / "r.html", interactive=False)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "No recommendation" in text
    assert decision.refused in text


def test_a_broken_constraint_is_marked(tmp_path: Path) -> None:
    twin, _, _ = hostile()
    goal = Target("cp", "min", (120.0, 144.0), low=1.0)
    safe = Constraint(Target("cp", "max", (120.0, 144.0), high=12.0), risk=0.05)
    decision = twin.optimise(goal, Grid(doses=(50.0, 400.0), intervals=(8.0,), start=24.0), constraints=[safe])
    found = tables.candidates_table(decision)
    row = next(r for r in found.rows if r[0].startswith("400"))
    assert row[-1].endswith("too large")
    assert found.marked == {i for i, r in enumerate(found.rows) if decision.chosen and r[0] == decision.chosen.candidate.label}


def test_held_back_measurements_need_a_forecast_at_their_times(tmp_path: Path) -> None:
    twin, _, held_back = hostile()
    short = twin.forecast(times=[1.0, 2.0], outputs="cp", seed=1)
    with pytest.raises(DataError, match="held-back measurement at a time that was not forecast"):
        twin_report(twin, short, None, None, held_back, path=tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    twin, forecast, _ = hostile()
    with pytest.raises(DataError, match="cannot be written"):
        twin_report(twin, forecast, path=tmp_path / "nowhere" / "r.html", interactive=False)
    assert not list(tmp_path.iterdir())


def test_learned_is_the_share_of_variance_that_the_data_took_away() -> None:
    twin, _, _ = hostile()
    p = twin.posterior
    table = tables.posterior_table(twin)
    for k, row in enumerate(table.rows):
        mean = float(np.sum(p.weights * p.draws[:, k]))
        variance = float(np.sum(p.weights * (p.draws[:, k] - mean) ** 2))
        assert row[0] == p.names[k]
        share = 1 - variance / p.parameters.omega[k, k]
        assert row[-1] == (percent(share) if share > 0 else "none")


def test_intervals_are_found_from_the_levels() -> None:
    assert figures.pairs((0.05, 0.25, 0.5, 0.75, 0.95)) == [(0, 4), (1, 3)]
    assert figures.pairs((0.1, 0.5, 0.8)) == []


def test_decision_chart_shows_every_candidate() -> None:
    d = demo().decision
    chart = figures.decision_chart(d, "mg", "h")
    shown = sum(len(m.x) for m in chart.marks if isinstance(m, figures.Points) and m.label != "chosen")
    assert shown == len(d.table)


def test_fit_report_shows_estimates_and_all_measurements(tmp_path: Path) -> None:
    d = demo()
    path = fit_report(d.fit, d.twin.model, d.fitted, path=tmp_path / "fit.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.wrong == []
    assert outside(page) == []
    for name in d.fit.names:
        assert number(d.fit.estimates[name]) in page.text
    circles = sum(t == "circle" for t, _ in page.elements)
    assert circles >= 4 * d.fit.observations  # two predictions, two residual plots


def test_a_fit_without_standard_errors_is_shown_with_dashes() -> None:
    d = demo()
    bare = type(d.fit)(**{**d.fit.__dict__, "se": dict.fromkeys(d.fit.names, float("nan")), "covariance_type": "none"})
    table = tables.estimates_table(d.twin.model, bare)
    assert {r[4:] for r in table.rows} == {("–", "–")}


@pytest.mark.parametrize("options", [{}, {"residual": False, "levels": (0.1, 0.9)}])
def test_another_model_needs_nothing_new(tmp_path: Path, options: dict[str, object]) -> None:
    """Covariates, several outputs, an exposure goal, candidates by name, forecasts without measurement noise or median."""
    covariates = {"CLCREAT": 65.0, "WT": 70.0, "DIAL": 0.0}
    twin = Twin.new(registry.get("vancomycin_goti2018"), covariates=covariates, id="B", draws=256, seed=1)
    first = Schedule().dose(0.0, 2000.0, duration=2.0)
    twin = twin.assimilate(first.observe(13.0, 12.0), draws=256, seed=1)
    plans = {f"{dose} mg": Schedule().dose(24.0, dose, duration=2.0) for dose in (1000.0, 1500.0)}
    forecast = twin.forecast(plans["1000.0 mg"], times=range(49), seed=1, **options)
    goal = Target("auc", "increment", (24.0, 48.0), low=300.0, high=700.0, per=24.0)
    decision = twin.optimise(goal, plans, least_probability=0.0)
    path = twin_report(twin, forecast, decision, path=tmp_path / "r.html", course=forecast, goals=[goal], interactive=False)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.wrong == []
    assert decision.chosen is not None
    for word in ("CLCREAT 65 mL/min", "12 mg/L", "2000 mg at 1000 mg/h", decision.chosen.candidate.label, *decision.goals):
        assert word in page.text


def test_a_twin_without_data_is_its_population(tmp_path: Path) -> None:
    twin = Twin.new(registry.get("pk1_oral"), draws=256, seed=1)
    forecast = twin.forecast(Schedule().dose(0.0, 100.0), times=range(25), residual=False)
    page = Page(twin_report(twin, forecast, path=tmp_path / "r.html", interactive=False).read_text(encoding="utf-8"))
    assert page.wrong == []
    assert "0 measured values" in page.text


def test_a_fit_report_finds_its_model_by_name(tmp_path: Path) -> None:
    page = Page(fit_report(demo().fit, path=tmp_path / "fit.html", interactive=False).read_text(encoding="utf-8"))
    assert demo().twin.model.card.title in page.text

"""The report of a fit with all its checks: well-formed, self-contained, and with the numbers of its results."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.report.objects import Page
from tests.report.test_page import outside

from gemello.domains.pharmacology.theophylline import boeckmann1994
from gemello.domains.pharmacology.theophylline.model import oral
from gemello.inference.bootstrap import Bootstrap, bootstrap
from gemello.inference.covariates import Step, Stepwise
from gemello.inference.npde import npde
from gemello.inference.observed import Replicates, replicates
from gemello.inference.population import fit
from gemello.inference.residuals import goodness
from gemello.inference.result import Fit
from gemello.inference.vpc import vpc
from gemello.model.effects import Effect
from gemello.report import diagnostics, fit_tables, tables
from gemello.report.chart import Band, Line, Points
from gemello.report.fit_section import Checks
from gemello.report.page import checks_report, fit_report
from gemello.report.words import number


@cache
def theophylline() -> Fit:
    return fit(oral, boeckmann1994.subjects())


@cache
def simulated() -> Replicates:
    return replicates(oral, theophylline(), boeckmann1994.subjects(), 200, seed=1)


@cache
def resampled() -> Bootstrap:
    return bootstrap(oral, theophylline(), boeckmann1994.subjects(), 24, seed=1)


def searched() -> Stepwise:
    e = Effect("CL", "WT", "power")
    steps = (Step(1, "forward", e, 100.0, 12.5, 1, 4e-4, True, True), Step(1, "backward", e, 112.5, 12.5, 1, 4e-4, False, True))
    return Stepwise(theophylline(), theophylline(), oral, (e,), steps, 0.05, 0.01, ("a caution",))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    checks = Checks(
        vpc(oral, simulated()) + vpc(oral, simulated(), corrected=True), npde(oral, simulated()), resampled(), searched()
    )
    path = tmp_path_factory.mktemp("fit") / "fit.html"
    fit_report(theophylline(), oral, boeckmann1994.subjects(), path=path, checks=checks, interactive=False)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_fetches_nothing(page: Page) -> None:
    assert page.wrong == []
    assert outside(page) == []
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = {str(a["href"])[1:] for t, a in page.elements if t == "a" and str(a.get("href")).startswith("#")}
    assert links <= set(ids)
    assert {"goodness", "individuals", "vpc", "npde", "uncertainty", "search"} <= links


def test_it_holds_the_numbers_of_every_check(page: Page) -> None:
    f, b = theophylline(), resampled()
    low, high = b.interval()
    for k, n in enumerate(f.names):
        assert f"{number(f.estimates[n] - 1.959964 * f.se[n])} to {number(f.estimates[n] + 1.959964 * f.se[n])}" in page.text, n
        assert f"{number(float(low[k]))} to {number(float(high[k]))}" in page.text
    t = npde(oral, simulated()).tests
    assert f"{number(t.mean, 3)} ± {number(t.mean_se, 2)}" in page.text
    (v,) = vpc(oral, simulated())
    assert f"{v.outside[0]} of {v.outside[1]} lie outside" in page.text
    assert "12 subjects" in page.text or "All subjects" in page.text
    assert "A caution." in page.text
    assert "CL ~ WT (power)" in page.text
    assert f.provenance["data_hash"] in page.text


def test_every_subject_and_every_value_is_drawn(page: Page) -> None:
    titles = [w for w in page.words if w.strip().startswith("Subject ")]
    assert {t.strip() for t in titles} >= {f"Subject {s.id}" for s in boeckmann1994.subjects()}
    circles = sum(t == "circle" for t, _ in page.elements)
    assert circles >= 7 * theophylline().observations


def test_checks_without_a_fit(tmp_path: Path) -> None:
    path = checks_report(
        oral, Checks(vpc(oral, simulated())), path=tmp_path / "v.html", population="the table", interactive=False
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.wrong == []
    assert outside(page) == []
    assert "population: the table" in page.text
    assert "NPDE" not in page.text


def test_a_vpc_chart_draws_what_was_computed() -> None:
    (v,) = vpc(oral, simulated())
    chart = diagnostics.vpc_panels(v)[0].chart
    lines = [m for m in chart.marks if isinstance(m, Line)]
    bands = [m for m in chart.marks if isinstance(m, Band)]
    for line, band, p in zip(lines, bands, v.percentiles, strict=True):
        np.testing.assert_array_equal(line.y, p.observed)
        np.testing.assert_array_equal(np.unique(band.high), np.unique(p.high))
    assert sum(len(m.x) for m in chart.marks if isinstance(m, Points) and m.symbol == "circle") == len(v.x)
    low, high = chart.y_range or (0.0, 0.0)
    assert low <= v.y.min()
    assert high >= v.y.max()


def test_seven_panels_of_goodness_and_a_smooth_line() -> None:
    g = goodness(oral, theophylline(), boeckmann1994.subjects())
    panels = diagnostics.goodness_panels(g, oral, 0)
    assert len(panels) == 7
    trend = [m for m in panels[0].chart.marks if isinstance(m, Line) and not m.dashed]
    assert len(trend) == 1
    x = np.linspace(0, 10, 50)
    (straight,) = diagnostics._smooth(x, 2 * x + 1)
    assert isinstance(straight, Line)
    np.testing.assert_allclose(straight.y, 2 * straight.x + 1, atol=1e-9)  # a local line through a line


def test_the_band_of_normal_quantiles_holds_normal_values() -> None:
    """Pointwise 95 %: of 200 samples of 30, each of the 30 places lies outside in 5 %; over all, 3 to 7 % (fixed seed)."""
    rng, out = np.random.default_rng(4), []
    for _ in range(200):
        x = np.sort(rng.standard_normal(30))
        band = next(m for m in diagnostics.normal_quantiles(x, "x").marks if isinstance(m, Band))
        out.append(np.mean((x < band.low) | (x > band.high)))
    assert 0.03 < np.mean(out) < 0.07


def test_correlations_are_those_of_the_covariance() -> None:
    f = theophylline()
    table = fit_tables.correlation_table(f)
    assert table is not None
    sd = np.sqrt(np.diag(f.covariance))
    known = np.flatnonzero(np.isfinite(sd))
    i, j = known[2], known[0]
    assert table.rows[2][1] == number(f.covariance[i, j] / sd[i] / sd[j], 2)
    assert table.rows[0][1] == "1"
    bare = type(f)(**{**f.__dict__, "covariance": np.full_like(f.covariance, np.nan)})
    assert fit_tables.correlation_table(bare) is None


def test_a_table_of_estimates_without_extras_is_as_before() -> None:
    assert len(tables.estimates_table(oral, theophylline()).columns) == 6
    assert len(tables.estimates_table(oral, theophylline(), 0.95, resampled()).columns) == 8

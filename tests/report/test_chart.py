"""Charts: ranges, ticks, and both ways of drawing one show the same things, escaped."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.report.objects import HOSTILE

from gemello.report import live, svg
from gemello.report.chart import Band, Chart, Line, Points, Rule, Zone, extent, ticks

SVG = "{http://www.w3.org/2000/svg}"


def chart(**changes: object) -> Chart:
    x = np.linspace(0.0, 10.0, 11)
    marks = (
        Zone(2.0, 4.0, label=HOSTILE),
        Band(x, x - 1.0, x + 1.0, HOSTILE),
        Line(x, x, HOSTILE),
        Rule(5.0, "x", HOSTILE),
        Points(x, x, HOSTILE, words=(HOSTILE,) * 11, error=np.full(11, 0.5)),
        Points(x, x + 1, "diamonds", symbol="diamond", low=x - 1, high=x + 1),
    )
    return Chart(HOSTILE, HOSTILE, marks, HOSTILE, HOSTILE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        (10.0, 0.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        (-0.03, 0.07, [-0.02, 0.0, 0.02, 0.04, 0.06]),
        (1e6, 1e6 + 6, [1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3, 1e6 + 4, 1e6 + 5, 1e6 + 6]),
        (5.0, 5.0, [5.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected, abs=1e-12)


def test_no_tick_is_minus_zero() -> None:
    assert all(np.copysign(1.0, t) > 0 for t in ticks(-1.0, 1.0) if t == 0)


def test_the_range_holds_all_marks_and_leaves_room() -> None:
    low, high = extent(chart(), "y")
    assert low < -1.0  # lower edge of the band
    assert high > 11.0
    assert extent(chart(), "x") == pytest.approx((-1.48, 11.48))  # from the error bars along x, 4 % of room


def test_zero_stays_an_end() -> None:
    x = np.array([0.0, 10.0])
    assert extent(Chart("", "", [Line(x, x)], ""), "y")[0] == 0.0


def test_values_that_are_not_numbers_do_not_spoil_a_range_or_a_drawing() -> None:
    x = np.array([0.0, 1.0, np.nan, 3.0])
    c = Chart("x", "y", [Points(x, x), Line(x, x), Band(x, x, x + 1, "b")], "")
    assert np.all(np.isfinite(extent(c, "x")))
    drawn = svg.render(c)
    assert "nan" not in drawn
    assert drawn.count("<circle") == 3
    assert "NaN" not in live.to_json(c)


def test_svg_is_well_formed_and_shows_every_mark() -> None:
    root = ElementTree.fromstring(svg.render(chart(), HOSTILE))
    assert len(root.findall(f".//{SVG}clipPath")) == 1
    assert len([c for c in root.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]) == 11
    assert root.find(f"{SVG}title").text == HOSTILE  # type: ignore[union-attr]
    assert root.find(f"{SVG}desc").text == HOSTILE  # type: ignore[union-attr]
    assert not list(root.iter(f"{SVG}script"))


def test_svg_puts_points_where_the_axes_say() -> None:
    """Pixel positions are linear in the data, x to the right, y upwards."""
    c = Chart("x", "y", [Points(np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, 2.0]))], "", x_range=(0, 10), y_range=(0, 2))
    circles = [
        (float(e.get("cx", "nan")), float(e.get("cy", "nan"))) for e in ElementTree.fromstring(svg.render(c)).iter(f"{SVG}circle")
    ]
    (x0, y0), (x1, y1), (x2, y2) = circles
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert x2 > x0
    assert y2 < y0


def test_rows_run_from_the_top() -> None:
    c = Chart("x", "", [Points(np.zeros(2), np.array([0.0, 1.0]))], "", rows=("first", "second"))
    first, second = (float(e.get("cy", "nan")) for e in ElementTree.fromstring(svg.render(c)).iter(f"{SVG}circle"))
    assert first < second


def test_plotly_shows_the_same_numbers() -> None:
    found = json.loads(live.to_json(chart()))
    points = [t for t in found["data"] if t["mode"] == "markers" and len(t["x"]) == 11]
    assert len(points) == 2
    np.testing.assert_allclose(points[0]["y"], np.linspace(0.0, 10.0, 11))
    np.testing.assert_allclose(points[0]["error_y"]["array"], 0.5)
    assert found["layout"]["xaxis"]["range"] == pytest.approx(extent(chart(), "x"))


def test_plotly_json_may_stand_inside_a_script_element() -> None:
    text = live.to_json(chart())
    assert "<" not in text
    names = {t.get("name") for t in json.loads(text)["data"]}
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;&quot;quoted&quot;" in names


def test_rules_without_words_have_none_in_plotly() -> None:
    c = Chart("x", "y", [Rule(0.0, "y"), Points(np.zeros(1), np.zeros(1))], "")
    assert "annotations" not in json.loads(live.to_json(c))["layout"]

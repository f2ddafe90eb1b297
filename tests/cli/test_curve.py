"""The objective in the terminal: a curve where there is one, lines where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from gemello.cli import curve


def dots(lines: list[str]) -> np.ndarray:
    """(rows, columns) whether a dot is there."""
    out = np.zeros((4 * len(lines), 2 * len(lines[0])), bool)
    for r, line in enumerate(lines):
        for c, character in enumerate(line):
            for x in range(2):
                for y in range(4):
                    out[4 * r + y, 2 * c + x] = bool((ord(character) - 0x2800) & curve._DOTS[x][y])
    return out


def test_a_straight_line_is_drawn_from_corner_to_corner() -> None:
    lines, low, high = curve.braille([10.0, 10.0, 9.0, 8.0, 7.0, 6.0], 20, 5)
    d = dots(lines)
    assert (low, high) == (6.0, 9.0)
    assert d.shape == (20, 40)
    assert d[0, 0]
    assert d[-1, -1]
    assert d.any(axis=0).all()  # no gap
    first = d.argmax(axis=0)
    assert (np.diff(first) >= 0).all()  # it falls


def test_a_first_fall_from_far_does_not_press_the_rest_flat() -> None:
    values = [1e6, 1e5, *(100.0 - i for i in range(10))]
    lines, low, high = curve.braille(values, 30, 6)
    assert high < 100.0
    assert low == 91.0
    assert dots(lines)[:, 30:].any(axis=1).sum() > 12  # the later half uses more than half of the rows


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0], [float("nan"), 3.0, float("inf"), 2.0]])
def test_odd_series_are_drawn(values: list[float]) -> None:
    lines, low, high = curve.braille(values, 10, 3)
    assert [len(x) for x in lines] == [10] * 3
    assert high > low


def test_what_is_drawn_names_iteration_objective_and_estimates() -> None:
    c = curve.Curve("Fitting")
    out = Console(file=io.StringIO(), force_terminal=True, width=120)
    out.print(c)
    for i in range(5):
        c.add(i + 1, 700.0 - i, {"CL": 0.5 + i, "V": 10.0})
    c.add(6, 694.5, np.zeros(3))  # coordinates without names: left aside
    out.print(c)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    for word in ("Fitting", "iteration 6", "objective 694.5000 (-1.5)", "CL 4.5", "V 10"):
        assert word in text
    assert any(0x2801 <= ord(x) <= 0x28FF for x in text)


def test_without_a_terminal_each_call_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with curve.fitting("Reading", "focei") as (say, report):
        say("Fitting pheno")
        report(1, 586.27)
        report(2, 586.0, {"CL": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "Fitting pheno …", "FOCEI iteration 1: objective 586.2700 …", "FOCEI iteration 2: objective 586.0000 …",
    ]  # fmt: skip

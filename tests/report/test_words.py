"""Numbers as words: nothing is rounded into something that it is not."""

from __future__ import annotations

import math

import pytest

from gemello.report.words import axis, markdown, number, percent, plural, with_unit


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (106.99418, 7, "106.9942"), (2.5, 4, "2.5"), (1234567.0, 4, "1.235e+06"), (0.00001234, 3, "1.23e−05"), (-0.5, 4, "−0.5"),
        (0.0, 4, "0"), (1200.0, 3, "1200"), (99999.0, 2, "99999"), (math.nan, 4, "–"), (math.inf, 4, "–"), (None, 4, "–"),
        (0.07834, 4, "0.07834"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, digits: int, expected: str) -> None:
    assert number(value, digits) == expected


@pytest.mark.parametrize(
    ("p", "digits", "expected"),
    [
        (0.0, 0, "0 %"), (1.0, 0, "100 %"), (0.999, 0, "over 99 %"), (0.001, 0, "under 1 %"), (0.8228, 0, "82 %"),
        (0.8228, 1, "82.3 %"), (0.9999, 1, "over 99.9 %"), (math.nan, 0, "–"),
    ],
)  # fmt: skip
def test_certainty_is_never_made_by_rounding(p: float, digits: int, expected: str) -> None:
    assert percent(p, digits) == expected


def test_units() -> None:
    assert axis("cp", "mg/L") == "cp (mg/L)"
    assert axis("F", "1") == "F"
    assert with_unit(1.5, "mg") == "1.5 mg"
    assert with_unit(1.5, "1") == "1.5"
    assert [plural(n, "sample") for n in (0, 1, 2)] == ["0 samples", "1 sample", "2 samples"]


def test_markdown_keeps_lists_and_code_and_escapes_the_rest() -> None:
    found = markdown("One\ntwo <b>.\n\n- first `a < b`\n  goes on\n- second")
    expected = "<p>One two &lt;b&gt;.</p><ul><li>first <code>a &lt; b</code> goes on</li><li>second</li></ul>"
    assert found == expected

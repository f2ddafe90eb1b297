"""Stated probabilities of vancomycin doses come true; the full check runs in `gemello validate pharmacology`."""

from __future__ import annotations

from gemello.domains.pharmacology.authorities.dosing import stated_and_realised


def test_stated_probabilities_of_vancomycin_doses_come_true() -> None:
    """200 patients: within 3.9 binomial errors overall and in fifths (false alarm rate below 1e-3)."""
    found = stated_and_realised(200, 300)
    for b in (found.overall, *found.bins):
        assert abs(b.stated - b.realised) < 3.9 * b.error
    assert found.doubts < 20

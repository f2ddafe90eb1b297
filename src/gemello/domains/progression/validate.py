"""Every figure of the progression domain against an outside authority, made now: `gemello validate progression`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemello.base.reference import Check, checks_of, reference_data
from gemello.domains.progression.authorities import ad_chain, courses, forecasts, survival

# Parts by what is said where there are no reference data; the longest last.
WITH_DATA: dict[str, Callable[[Path], Iterator[Check]]] = {
    "forecasts against their floors": forecasts.checks,
    "death in primary biliary cholangitis": survival.checks,
    "the AD chain": ad_chain.checks,
    "calibration on other sets": courses.checks,
}


def checks() -> Iterator[Check]:
    """Every check of the domain, one at a time. Where the reference data are missing a row says so, and does not pass."""
    yield from checks_of("trial", reference_data("trial"), WITH_DATA)
    yield from courses.twin()

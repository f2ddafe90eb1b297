"""Every figure of the analyses against an outside authority (R, SAS, published output), made now: `gemello validate trial`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemello.base.reference import Check, checks_of, reference_data
from gemello.trial.authorities import cross_sectional, design, external, longitudinal, missing, survival

WITH_DATA: dict[str, Callable[[Path], Iterator[Check]]] = {
    "ANCOVA, marginal effects, GEE": cross_sectional.checks,
    "mixed models": longitudinal.checks,
    "survival": survival.checks,
    "design": design.checks,
    "external controls": external.checks,
    "missing data": missing.checks,
}


def checks() -> Iterator[Check]:
    """Every check, one at a time. Where the reference data are missing a row says so, and does not pass."""
    yield from checks_of("trial", reference_data("trial"), WITH_DATA)

"""Every figure of the heart domain against an outside authority, made now: `gemello validate heart`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemello.base.reference import Check, checks_of, reference_data
from gemello.domains.heart.authorities import cell_models, drugs, exvivo, organ, populations, qt, risk, tissue

# Parts by what is said where there are no reference data; the longest last.
WITH_DATA: dict[str, Callable[[Path], Iterator[Check]]] = {
    "cells at 1 Hz": cell_models.checks,
    "drug block": drugs.checks,
    "concentration and QTc": qt.checks,
    "the classifier of torsade risk": risk.classifier,
    "control and sotalol": risk.sotalol,
    "20 drugs": risk.twenty_drugs,
    "ex-vivo human tissue": exvivo.checks,
    "populations of cells": populations.checks,
    "the biventricular heart": organ.checks,
    "the Niederer slab": tissue.checks,
    "28 drugs, joint samples": risk.sampled,
}


def checks() -> Iterator[Check]:
    """Every check of the domain, one at a time. Where the reference data are missing a row says so, and does not pass."""
    yield from checks_of("heart", reference_data("heart"), WITH_DATA)

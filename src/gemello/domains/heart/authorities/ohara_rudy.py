"""Cells of the O'Hara-Rudy family, paced, against their published CellML files run by Myokit's CVODES (SOURCES.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gemello.base.reference import Check, check
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.ohara_rudy.model import endo, epi
from gemello.domains.heart.pacing import pace

_BEATS, _CYCLE = 500, 1000.0
_APD90 = ((endo, 268.0), (epi, 227.6), (cipa, 263.3))  # ms


def checks(folder: Path) -> Iterator[Check]:
    """APD90 at 1 Hz after as many beats as the reference, from the published initial states."""
    for model, reference in _APD90:
        paced = pace(model, cycle_length=_CYCLE, beats=_BEATS)
        source = f"CellML file, Myokit CVODES 1e-7, {_BEATS} beats"
        yield check(
            f"{model.name}: APD90 at 1 Hz, ms", float(paced.biomarkers["apd90"][0]), reference, 0.005, source, relative=True
        )

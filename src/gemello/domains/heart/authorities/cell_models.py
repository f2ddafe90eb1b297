"""The cell models at 1 Hz against their published CellML files, run through Myokit with CVODES (SOURCES.md of the data).

Convention of those runs and of `pacing`: each file's own stimulus; APD90 from the steepest rise to 90 % of the way back from the
peak to the potential at the start of the beat; 500 beats from the published state, 200 of ten Tusscher 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gemello.base.reference import Check, check
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.cells.cipa import model as cipa
from gemello.domains.heart.cells.ohara_rudy import model as ohara_rudy
from gemello.domains.heart.cells.ten_tusscher import model as ten_tusscher
from gemello.domains.heart.cells.torord import model as torord
from gemello.domains.heart.pacing import pace

SOURCE = "CellML file run through Myokit 1.39, CVODES at 1e-7"
APD90 = 0.005  # relative
POTENTIAL = 0.5  # mV


class Published(NamedTuple):
    """APD90 (ms), peak and rest (mV) of the last of `beats` beats of 1,000 ms."""

    model: CellModel
    beats: int
    apd90: float
    peak: float
    rest: float


CELLS = (
    Published(torord.endo, 500, 272.3, 33.3, -89.8),
    Published(torord.epi, 500, 236.5, 32.5, -90.8),
    Published(torord.mid, 500, 349.9, 30.9, -91.3),
    Published(ohara_rudy.endo, 500, 268.0, 40.0, -88.0),
    Published(ohara_rudy.epi, 500, 227.6, 35.3, -87.9),
    Published(cipa.cipa, 500, 263.3, 40.6, -87.9),
    Published(ten_tusscher.epi, 200, 301.8, 37.6, -85.4),
    Published(ten_tusscher.endo, 200, 299.8, 39.2, -86.1),
)


def one(cell: Published) -> Iterator[Check]:
    """APD90 within 0.5 %, peak and rest within 0.5 mV; a check that fails where the cell could not go on."""
    found = {n: float(v[0]) for n, v in pace(cell.model, beats=cell.beats, cycle_length=1000.0).biomarkers.items()}
    name = f"{cell.model.name}, 1 Hz"
    yield check(f"{name}: APD90, ms", found["apd90"], cell.apd90, APD90, SOURCE, relative=True)
    yield check(f"{name}: peak, mV", found["peak"], cell.peak, POTENTIAL, SOURCE)
    yield check(f"{name}: rest, mV", found["rest"], cell.rest, POTENTIAL, SOURCE)


def checks(folder: Path) -> Iterator[Check]:
    """Every cell model in turn. The references are those of SOURCES.md; `folder`, the data, is not read."""
    for cell in CELLS:
        yield from one(cell)

"""Measured human action potentials that a population answers to.

The 58 are endocardial small-tissue recordings of undiseased donor hearts (Szeged) at a cycle length of 1,000 ms, published with
ToR-ORd (Tomek et al. 2019, eLife 8:e48890). Of each: APD90 from the time of the peak, peak and resting potential; of all:
quantiles of the potential by time. The sexes are pooled and unnamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.reference import columns, reference_data

MARKERS = ("apd90_from_peak", "peak", "rest")  # ms, mV, mV
COLUMNS = ("APD90_ms_from_peak", "peak_mV", "rest_mV")
CYCLE = 1000.0  # ms
QUANTILES = ("q10", "q25", "median", "q75", "q90")
UPSTROKE = -40.0  # mV: where the median trace passes it is time 0
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """markers: those of MARKERS, each (traces,). time: ms after the upstroke, (points,); quantiles: of the potential at that
    time, mV, (points,) by name; both empty where there are none."""

    markers: dict[str, Floats]
    time: Floats
    quantiles: dict[str, Floats]

    @property
    def traces(self) -> int:
        """Number of action potentials."""
        return int(next(iter(self.markers.values())).size)


def read(folder: Path | None = None) -> Measured:
    """The 58. folder: the heart's reference data, looked for by default. Raises DataError where it is not there."""
    folder = reference_data("heart") if folder is None else folder
    if folder is None or not (folder / "ap_reference").is_dir():
        raise DataError("no measured action potentials", source="ap_reference", remedy="set GEMELLO_DATA to the reference data")
    each = columns(folder / "ap_reference" / "szeged_58_traces_APD90_peak_rest.csv")
    course = columns(folder / "ap_reference" / "szeged_human_AP_quantiles_from_torord_oliTraces.csv")
    up = int(np.argmax(course["median"] > UPSTROKE))
    return Measured(
        {m: each[c] for m, c in zip(MARKERS, COLUMNS, strict=True)},
        course["t_ms"] - course["t_ms"][up],
        {q: course[q] for q in QUANTILES},
    )

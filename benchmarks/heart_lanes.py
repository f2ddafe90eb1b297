"""Cost of paced heart cells against their number, 1 to 100,000: `python benchmarks/heart_lanes.py [MOST]`, some minutes.

Writes heart_lanes.csv, heart_lanes.svg and the table in README.md, here. Rows of other devices in heart_lanes.csv stay:
run it once for each (JAX_PLATFORMS=cpu where JAX would choose a GPU). Medians; the first call, which compiles, stands apart.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np

from gemello.domains.heart.benchmark import TOLERANCE, factors, overrides
from gemello.domains.heart.cells.torord.model import endo
from gemello.domains.heart.pacing import BLOCK, pace
from gemello.engine.lanes import GPU_BLOCK, use_cpu_devices
from gemello.report.chart import PALETTE, Chart, Line, Points
from gemello.report.svg import render

HERE = Path(__file__).parent
#: number of cells -> beats of a run, and runs after the first, which compiles
SIZES = {1: (20, 5), 10: (20, 5), 100: (10, 5), 1_000: (4, 3), 10_000: (1, 3), 100_000: (1, 1)}
COLUMNS = ("device", "dtype", "cells", "beats", "runs", "seconds", "cell_beats_per_s", "first_call_s")
BEGIN, END = "<!-- heart_lanes: begin -->", "<!-- heart_lanes: end -->"
Row = dict[str, str]


def device() -> str:
    """What the cells run on."""
    import jax

    kind = jax.devices()[0].device_kind
    return f"{len(jax.devices())} CPU cores" if jax.default_backend() == "cpu" else kind


def measure(cells: int, beats: int, runs: int, dtype: str) -> Row:
    """One row of the table of numbers."""
    import jax

    values = overrides(endo, factors(cells))
    block = BLOCK if jax.default_backend() == "cpu" else min(GPU_BLOCK, 1 << (cells - 1).bit_length())

    def seconds() -> float:
        begin = time.perf_counter()
        found = pace(endo, values, beats=beats, tolerance=TOLERANCE, dtype=dtype, block=block)
        assert not found.failed.any()
        return time.perf_counter() - begin

    first = seconds()
    took = float(np.median([seconds() for _ in range(runs)]))
    numbers = (f"{cells}", f"{beats}", f"{runs}", f"{took:.4g}", f"{cells * beats / took:.4g}", f"{first:.3g}")
    return dict(zip(COLUMNS, (device(), dtype, *numbers), strict=True))


def table(rows: list[Row]) -> str:
    """The rows as a table of a text page: cells down, devices and precisions across."""
    kinds = list(dict.fromkeys((r["device"], r["dtype"]) for r in rows))
    lines = ["| cells | " + " | ".join(f"{d}, {t}" for d, t in kinds) + " |", "|---:|" + "---:|" * len(kinds)]
    for n in sorted({int(r["cells"]) for r in rows}):
        rate = {(r["device"], r["dtype"]): float(r["cell_beats_per_s"]) for r in rows if int(r["cells"]) == n}
        lines.append(f"| {n:,} | " + " | ".join(f"{rate[k]:,.0f}" if k in rate else "" for k in kinds) + " |")
    return "\n".join(lines)


def chart(rows: list[Row]) -> Chart:
    """Cell-beats per second against cells, both as powers of ten."""
    marks: list[Line | Points] = []
    kinds = list(dict.fromkeys((r["device"], r["dtype"]) for r in rows))
    for (d, t), color in zip(kinds, PALETTE, strict=False):
        mine = [r for r in rows if (r["device"], r["dtype"]) == (d, t)]
        x, y = (np.log10([float(r[n]) for r in mine]) for n in ("cells", "cell_beats_per_s"))
        marks += [Line(x, y, f"{d}, {t}", color), Points(x, y, "", color)]
    return Chart(
        "log10 of the number of cells", "log10 of cell-beats per second", marks,
        "Cell-beats per second rise with the number of cells until every device has full blocks, and stay there.",
        title="ToR-ORd endo at 1 Hz",
    )  # fmt: skip


def main(most: int = 100_000) -> None:
    """Measure up to `most` cells, and write."""
    use_cpu_devices()
    path = HERE / "heart_lanes.csv"
    rows = [r for r in csv.DictReader(path.open()) if r["device"] != device()] if path.exists() else []
    for dtype in ("float32", "float64"):
        for cells, (beats, runs) in SIZES.items():
            if cells <= most:
                rows.append(measure(cells, beats, runs, dtype))
                print(rows[-1], flush=True)
                write(path, rows)


def write(path: Path, rows: list[Row]) -> None:
    """The numbers, the plot and the table in README.md; after each row, so that a run that is stopped leaves what it has."""
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".svg").write_text(render(chart(rows), "heart-lanes") + "\n")
    readme = path.with_name("README.md")
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))

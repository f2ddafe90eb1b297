"""The slab of the N-version benchmark beside Finitewave: same cell, nodes, step and duration, on all cores of this machine.

Finitewave (0.9.3) needs NumPy below 2 and so its own folder: `pip install --target FOLDER finitewave`, then
GEMELLO_FINITEWAVE=FOLDER. Times are of whole runs with everything compiled, the set-up of grid and weights included on both
sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemello.domains.heart import peer_finitewave
from gemello.domains.heart.tissue import niederer
from gemello.domains.heart.tissue.simulate import simulate

Case = dict[str, Any]
SPACING, STEP, DURATION = 0.2, 0.01, 10.0  # mm, ms, ms
BAR = 1.0
RUNS = 3
LONGEST = 1800.0  # s that the peer may take


def cases(spacing: float = SPACING, dt: float = STEP, duration: float = DURATION, runs: int = RUNS) -> Iterator[Case]:
    """One row for each precision. unit: node-steps per second; `*_activated`: part of the nodes activated at the end."""
    tissue = niederer.tissue(spacing)
    pulse, steps = niederer.pulse(tissue.grid), round(duration / dt)

    def ours(dtype: str) -> tuple[float, float]:
        begin = time.perf_counter()
        course = simulate(tissue, duration, [pulse], dt=dt, dtype=dtype, ecg_every=duration)
        return time.perf_counter() - begin, float(np.isfinite(course.activation).mean())

    first = {dtype: ours(dtype)[0] for dtype in ("float32", "float64")}
    before = {dtype: [ours(dtype) for _ in range(runs // 2 + 1)] for dtype in first}
    peer = finitewave(spacing, dt, duration)
    for dtype, compiling in first.items():  # on both sides of the peer's run, so that a slow moment of the machine strikes both
        timed = before[dtype] + [ours(dtype) for _ in range(runs // 2)]
        rate = tissue.grid.size * steps / float(np.median([t for t, _ in timed]))
        theirs = peer["nodes"] * steps / peer["seconds"] if "seconds" in peer else None
        yield {
            "case": f"slab 20 x 7 x 3 mm, dx {spacing:g} mm, dt {dt:g} ms, {duration:g} ms, ten Tusscher 2006, {dtype}",
            "ours": rate, "peer": theirs, "peer_version": peer["name"], "unit": "node-steps/s",
            "ratio": rate / theirs if theirs else None, "bar": BAR, "ours_first_call_s": compiling,
            "ours_activated": timed[0][1], "peer_activated": peer.get("activated"),
        }  # fmt: skip


def finitewave(spacing: float, dt: float, duration: float) -> dict[str, Any]:
    """What the peer's program printed, and its name; only a name that says why, where it could not be run."""
    folder = os.environ.get("GEMELLO_FINITEWAVE", "")
    if not (Path(folder) / "finitewave").is_dir():
        return {"name": "finitewave is not there; pip install --target FOLDER finitewave and set GEMELLO_FINITEWAVE=FOLDER"}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    diffusivities = (s * 1e3 / 1400.0 for s in (niederer.ALONG, niederer.ACROSS))
    command = [sys.executable, peer_finitewave.__file__, *map(str, (spacing, dt, duration, *diffusivities, cores))]
    environment = {**os.environ, "PYTHONPATH": folder, "NUMBA_NUM_THREADS": str(cores)}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=True)
        told = json.loads(ended.stdout.strip().splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as e:
        return {"name": f"finitewave in {folder} could not be run: {type(e).__name__}; look at it by {peer_finitewave.__name__}"}
    return {**told, "name": f"finitewave {told['version']}, {cores} threads, float64"}

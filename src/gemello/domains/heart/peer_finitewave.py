"""Finitewave on the benchmark's slab, run as a program of its own: it asks for NumPy below 2, which gemello cannot be run with.

python peer_finitewave.py SPACING_MM STEP_MS DURATION_MS ALONG ACROSS THREADS, the folder with Finitewave in PYTHONPATH; ALONG and
ACROSS are diffusivities in mm²/ms. Prints one line of JSON: version, nodes, seconds (of a run with everything compiled),
activated (part of the nodes above 0 mV by then). Nothing of gemello is imported here.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

SIZE_MM, STIMULUS_MM, STIMULUS_MS, STIMULUS = (20.0, 7.0, 3.0), 1.5, 2.0, 50_000.0 / 1400.0


def main(numbers: list[float], threads: int) -> None:
    """Build, compile by two steps, run, print. numbers: spacing, step, duration, diffusivities along and across."""
    import finitewave as fw  # type: ignore[import-not-found]  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    spacing, dt, duration, along, across = numbers
    tissue = fw.CardiacTissue([round(s / spacing) + 3 for s in SIZE_MM])  # nodes on both ends, and a layer without tissue around
    tissue.fibers = np.zeros((*tissue.mesh.shape, 3))
    tissue.fibers[..., 0] = 1.0
    model = fw.TenTusscherPanfilov2006()
    model.cardiac_tissue, model.dt, model.dr, model.D_model, model.prog_bar = tissue, dt, spacing, along, False
    model.stencil = model.select_stencil(tissue)
    model.stencil.D_al, model.stencil.D_ac = 1.0, across / along
    site, width = np.zeros(tissue.mesh.shape), int(STIMULUS_MM / spacing + 1e-6) + 1
    site[1 : 1 + width, 1 : 1 + width, 1 : 1 + width] = 1.0
    model.stim_sequence = fw.StimSequence()
    model.stim_sequence.add_stim(fw.StimCurrentMatrix(0.0, STIMULUS, STIMULUS_MS, site))
    tracker = fw.ActivationTimeTracker()
    tracker.threshold = 0.0
    model.tracker_sequence = fw.TrackerSequence()
    model.tracker_sequence.add_tracker(tracker)
    for model.t_max in (2.0 * dt, duration):
        begin = time.perf_counter()
        model.run(num_of_threads=threads)
        seconds = time.perf_counter() - begin
    inside = tracker.output[1:-1, 1:-1, 1:-1]
    told = {
        "version": version("finitewave"),
        "nodes": inside.size,
        "seconds": seconds,
        "activated": float((inside >= 0.0).mean()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main([float(a) for a in sys.argv[1:6]], int(sys.argv[6]))

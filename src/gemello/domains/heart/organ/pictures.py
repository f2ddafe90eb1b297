"""Charts of a virtual heart for reports: the 12 leads, and when each part of the muscle is activated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from plotly import graph_objects as go

from gemello.domains.heart.organ.cloud import Booleans, Floats, Integers
from gemello.domains.heart.organ.ecg import LEADS, Ecg
from gemello.domains.heart.organ.geometry import Heart, neighbours
from gemello.domains.heart.organ.intervals import Intervals
from gemello.report.chart import BLUE, PALETTE, Chart, Line, Mark, Rule


def leads_chart(
    ecgs: Sequence[Ecg], labels: Sequence[str], intervals: Intervals | None = None, until: float | None = None, title: str = ""
) -> Chart:
    """The 12 leads of one or several ECGs, one row each, on one scale; a colour for each ECG.

    intervals: of the first, its QRS complex and T end are marked. until: ms shown (default: 100 ms after the T end, or all).
    """
    if until is None:
        until = float(ecgs[0].time[-1]) if intervals is None else intervals.qrs_onset + intervals.qt + 100.0
    shown = [e.leads[:, e.time <= until] for e in ecgs]
    row = max(float(np.abs(v).max()) for v in shown) / 0.9 or 1.0
    step = 10.0 ** math.floor(math.log10(row))
    row = step * math.ceil(row / step)
    marks: list[Mark] = []
    for k, (ecg, v, label) in enumerate(zip(ecgs, shown, labels, strict=True)):
        x, color = ecg.time[ecg.time <= until], PALETTE[k % len(PALETTE)]
        marks += [Line(x, i - lead / row, label if i == 0 else "", color, width=1.4) for i, lead in enumerate(v)]
    if intervals is not None:
        marks += [Rule(intervals.qrs_onset, "x", "QRS"), Rule(intervals.qrs_end, "x")]
        marks.append(Rule(intervals.qrs_onset + intervals.qt, "x", f"T end, QT {intervals.qt:.0f} ms"))
    told = "Twelve leads of " + " and ".join(labels) + f" over time, one row each, {row:g} mV from row to row."
    axis = f"time (ms); {row:g} mV from row to row"
    return Chart(axis, "", marks, told, title, rows=LEADS, y_range=(len(LEADS) - 0.3, -0.9), height=640)


def lead_chart(ecgs: Sequence[Ecg], labels: Sequence[str], lead: str, title: str = "") -> Chart:
    """One lead of several ECGs, such as of rising concentrations."""
    marks: list[Mark] = [
        Line(e.time, e[lead], s, PALETTE[i % len(PALETTE)]) for i, (e, s) in enumerate(zip(ecgs, labels, strict=True))
    ]
    return Chart("time (ms)", f"lead {lead} (mV)", marks, f"Lead {lead} over time: " + ", ".join(labels) + ".", title)


def surface(mask: Booleans, spacing: float, origin: Floats) -> tuple[Floats, Integers, Integers]:
    """Corners (corners, 3) mm, triangles (triangles, 3) and the voxel behind each (triangles,) of the muscle's outside,
    cavities included: two triangles for each face of a voxel without neighbour."""
    beside, voxels = neighbours(mask), np.argwhere(mask)
    quads, owner = [], []
    for side in range(6):
        bare = np.flatnonzero(beside[:, side] == len(voxels))
        axis = side // 2
        a, b = (np.eye(3, dtype=np.int64)[i] for i in range(3) if i != axis)
        base = voxels[bare].copy()
        base[:, axis] += side % 2 == 0
        quads.append(np.stack([base, base + a, base + a + b, base + b], 1))
        owner.append(bare)
    corners, index = np.unique(np.concatenate(quads).reshape(-1, 3), axis=0, return_inverse=True)
    four = index.reshape(-1, 4)
    triangles = np.concatenate([four[:, [0, 1, 2]], four[:, [0, 2, 3]]])
    behind = np.concatenate(owner)
    return origin + spacing * (corners - 0.5), triangles, np.concatenate([behind, behind])


def activation_map(heart: Heart, activation: Floats, title: str = "Activation time (ms)", every: int | None = None) -> go.Figure:
    """The muscle's surface coloured by `activation` (voxels,) ms, to be turned and zoomed. every: voxels are joined to blocks
    of so many along each axis, to keep the page small (default: so that at most about 20,000 faces remain)."""
    if every is None:
        faces = int((heart.neighbours() == int(heart.mask.sum())).sum())
        every = max(1, math.ceil(math.sqrt(faces / 20_000)))
    mask, values = coarser(heart.mask, activation, every)
    origin = heart.origin + 0.5 * (every - 1) * heart.spacing
    corners, triangles, behind = surface(mask, every * heart.spacing, origin)
    x, y, z = np.round(corners.T, 2)
    i, j, k = triangles.T
    shade = np.round(values[behind], 1)
    bar = {"title": {"text": "ms"}, "thickness": 14}
    place = {"x": x, "y": y, "z": z, "i": i, "j": j, "k": k}
    look = {"colorscale": "Viridis_r", "colorbar": bar, "flatshading": True}
    figure = go.Figure(go.Mesh3d(**place, intensity=shade, intensitymode="cell", **look))
    axes = {"visible": False}
    camera = {"eye": {"x": -0.6, "y": -1.9, "z": 0.5}}
    scene = {"xaxis": axes, "yaxis": axes, "zaxis": axes, "aspectmode": "data", "camera": camera}
    figure.update_layout(title={"text": title}, scene=scene, margin={"l": 0, "r": 0, "t": 40, "b": 0}, height=520)
    return figure


def activation_chart(heart: Heart, activation: Floats, title: str = "") -> Chart:
    """How much of the muscle is active by when: cumulative share over time, for pages without scripts."""
    at = np.sort(activation)
    grid = np.linspace(at[0], at[-1], 101)
    share = np.searchsorted(at, grid, side="right") / len(at)
    told = f"Share of the muscle activated over time; all of it after {at[-1]:.0f} ms."
    return Chart("time (ms)", "share of the muscle activated", [Line(grid, 100.0 * share, "", BLUE)], told, title)


def coarser(mask: Booleans, values: Floats, every: int) -> tuple[Booleans, Floats]:
    """Blocks of `every` voxels along each axis: muscle where half of the block is, and there the mean of values (voxels,)."""
    pad = [(0, -n % every) for n in mask.shape]
    cut = tuple(v for n, p in zip(mask.shape, pad, strict=True) for v in ((n + p[1]) // every, every))

    def total(v: Floats) -> Floats:
        return np.asarray(np.pad(v, pad).reshape(cut).sum((1, 3, 5)))

    grid = np.zeros(mask.shape)
    grid[mask] = values
    count = total(mask.astype(float))
    blocks: Booleans = count >= 0.5 * every**3
    return blocks, (total(grid) / np.maximum(count, 1.0))[blocks]

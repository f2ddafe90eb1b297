"""When the heart is activated, as a static picture: isochrones of 10 ms seen from the front, from behind, and on a cut."""

from __future__ import annotations

from html import escape

import numpy as np
from plotly.colors import sample_colorscale

from gemello.domains.heart.organ.cloud import Floats
from gemello.domains.heart.organ.geometry import Heart

BAND = 10.0  # ms
VIEWS = ("front", "back", "cut")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def views(heart: Heart, activation: Floats) -> dict[str, Floats]:
    """Activation (ms) as seen in each of VIEWS, rows from top to bottom, NaN where there is no muscle.

    Axes are the patient's: x to the left, y to the back, z up. front, back: the nearest voxel. cut: across the body through the
    middle of the heart, seen from the feet, the front on top.
    """
    grid = heart.on_grid(activation)
    there = heart.mask.any(1)
    first, last = heart.mask.argmax(1), heart.mask.shape[1] - 1 - heart.mask[:, ::-1].argmax(1)

    def seen(depth: np.ndarray) -> Floats:
        picked = np.take_along_axis(grid, depth[:, None], 1)[:, 0]
        return np.asarray(np.where(there, picked, np.nan).T[::-1])

    middle = int(np.flatnonzero(heart.mask.any((0, 1))).mean())
    return {"front": seen(first), "back": seen(last)[:, ::-1], "cut": grid[:, :, middle].T}


def picture(heart: Heart, activation: Floats, name: str = "isochrones", width: int = 356) -> str:
    """The views side by side as one `<svg>` element, with the times of its colours."""
    seen = {k: _cropped(v) for k, v in views(heart, activation).items()}
    gap, top, foot = 12, 20, 44
    size = (width - gap * (len(seen) - 1)) / sum(v.shape[1] for v in seen.values())
    height = round(top + size * max(v.shape[0] for v in seen.values()) + foot)
    start, end = float(activation.min()), float(activation.max())
    bands = max(1, int(np.ceil((end - start) / BAND)))
    colours = sample_colorscale("Viridis_r", [(i + 0.5) / bands for i in range(bands)])
    parts, x = [], 0.0
    for word, values in seen.items():
        band = np.where(np.isnan(values), -1, np.minimum((np.nan_to_num(values) - start) // BAND, bands - 1)).astype(int)
        shapes = "".join(f'<path fill="{c}" d="{_runs(band == i)}"/>' for i, c in enumerate(colours) if (band == i).any())
        parts.append(f'<text x="{x:.1f}" y="12">{escape(word)}</text>')
        parts.append(f'<g transform="translate({x:.1f} {top}) scale({size:.3f})" shape-rendering="crispEdges">{shapes}</g>')
        x += size * values.shape[1] + gap
    parts.append(_scale(colours, width, height))
    told = (
        f"Activation of the muscle in bands of {BAND:g} ms, the whole of it within {end - start:.0f} ms, seen from the front, "
        "from behind and on a cut across the body."
    )
    ident = escape(name, quote=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
    head += f'aria-labelledby="{ident}-title {ident}-desc" font-family="{FONT}" font-size="12" fill="#374151">'
    words = f'<title id="{ident}-title">Activation map</title><desc id="{ident}-desc">{escape(told)}</desc>'
    return head + words + "".join(parts) + "</svg>"


def _scale(colours: list[str], width: int, height: int) -> str:
    """Bar of the bands with their times below."""
    step = (width - 60) / len(colours)
    out = [
        f'<rect x="{i * step:.1f}" y="{height - 30}" width="{step:.1f}" height="10" fill="{c}"/>' for i, c in enumerate(colours)
    ]
    every = 1 if step > 24 else 2
    at = range(0, len(colours) + 1, every)
    out += [
        f'<text x="{i * step:.1f}" y="{height - 6}" text-anchor="{"start" if i == 0 else "middle"}">{i * BAND:.0f}</text>'
        for i in at
    ]
    return "".join([*out, f'<text x="{width}" y="{height - 6}" text-anchor="end">ms</text>'])


def _runs(mask: np.ndarray) -> str:
    """Path of the pixels of a mask (rows, columns), joined along rows."""
    out = []
    for row, line in enumerate(mask):
        edge = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(int)))
        out += [f"M{a} {row}h{b - a}v1h{a - b}z" for a, b in edge.reshape(-1, 2)]
    return "".join(out)


def _cropped(values: Floats) -> Floats:
    """Without empty rows and columns around."""
    rows, columns = (np.flatnonzero(~np.isnan(values).all(axis)) for axis in (1, 0))
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

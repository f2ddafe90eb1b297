"""What a chart shows, without how it is drawn: `svg` draws it for paper and for browsers without scripts, `live` for plotly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Okabe & Ito (2008), "Color universal design": told apart under all common kinds of colour blindness.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#1a1a1a", "#6b7280",
)  # fmt: skip
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)


@dataclass(frozen=True, eq=False)
class Band:
    """Area between `low` and `high`, all (points,)."""

    x: Floats
    low: Floats
    high: Floats
    label: str
    color: str = BLUE
    opacity: float = 0.2


@dataclass(frozen=True, eq=False)
class Line:
    """Line through (points,)."""

    x: Floats
    y: Floats
    label: str = ""
    color: str = BLUE
    dashed: bool = False
    width: float = 2.0


@dataclass(frozen=True, eq=False)
class Points:
    """Points (points,), with error bars of half-length `error`, or from `low` to `high` along x, where given. words: of each
    point, shown on hovering."""

    x: Floats
    y: Floats
    label: str = ""
    color: str = BLACK
    symbol: Literal["circle", "open", "diamond"] = "circle"
    size: float = 4.0
    error: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """Straight line across the chart, where `axis` has the value `at`."""

    at: float
    axis: Literal["x", "y"] = "x"
    label: str = ""
    color: str = GREY


@dataclass(frozen=True)
class Zone:
    """Strip across the chart, where `axis` lies between `low` and `high` (infinite: to the edge)."""

    low: float
    high: float
    axis: Literal["x", "y"] = "y"
    label: str = ""
    color: str = GREEN
    opacity: float = 0.1


Mark = Band | Line | Points | Rule | Zone


@dataclass(frozen=True, eq=False)
class Chart:
    """Marks on two axes, drawn in their order. description: what is to be seen, in words, for those who do not see it.

    rows: names of the places 0, 1, … on the y axis, from the top, in place of numbers. x_range, y_range: default from the data.
    """

    x_title: str
    y_title: str
    marks: Sequence[Mark]
    description: str
    title: str = ""
    rows: tuple[str, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    height: int = 360
    notes: tuple[str, ...] = field(default=())


def extent(chart: Chart, axis: Literal["x", "y"]) -> tuple[float, float]:
    """Range of an axis: the one given, or that of all marks with 4 % of room at each end; 0 is kept as an end where it is one."""
    given = chart.x_range if axis == "x" else chart.y_range
    if given is not None:
        return given
    if axis == "y" and chart.rows:
        return len(chart.rows) - 0.5, -0.5
    parts = [np.ravel(v) for m in chart.marks for v in _values(m, axis)]
    numbers = np.concatenate([np.asarray(p, float) for p in parts]) if parts else np.zeros(0)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0.0, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    if low == high:
        return low - room, high + room
    if axis == "y" and any(isinstance(m, Rule) and m.axis == "x" and m.label for m in chart.marks):
        high += 2.5 * room  # for the words
    return (low if low == 0 else low - room), (high if high == 0 else high + room)


def _values(m: Mark, axis: Literal["x", "y"]) -> list[Floats]:
    if isinstance(m, Rule):
        return [np.array([m.at])] if m.axis == axis else []
    if isinstance(m, Zone):
        return [np.array([v for v in (m.low, m.high) if np.isfinite(v)])] if m.axis == axis else []
    if isinstance(m, Band):
        return [m.x] if axis == "x" else [m.low, m.high]
    if isinstance(m, Points) and axis == "x":
        return [m.x, *(v for v in (m.low, m.high) if v is not None)]
    if isinstance(m, Points) and m.error is not None:
        return [m.y - m.error, m.y + m.error]
    return [m.x] if axis == "x" else [m.y]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers inside [low, high], steps of 1, 2 or 5 times a power of ten."""
    a, b = min(low, high), max(low, high)
    if not b > a:
        return [a]
    raw = (b - a) / max(about, 1)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(k for k in (1.0, 2.0, 5.0, 10.0) if k * power >= raw * (1 - 1e-9))
    first = np.ceil(a / step - 1e-9) * step
    return [float(np.round(v, 12)) + 0.0 for v in np.arange(first, b + step * 1e-9, step)]

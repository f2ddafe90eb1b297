"""A chart as static SVG: no script, no font, no picture from elsewhere; every word is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

import numpy as np

from gemello.report.chart import GREY, Band, Chart, Floats, Line, Mark, Points, Rule, Zone, extent, ticks

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_INK, _PALE = "#374151", "#e5e7eb"
_CHARACTER = 6.3  # mean width of a character at 12 px, for legends and margins


@dataclass(frozen=True)
class _Frame:
    """Where things are, in pixels."""

    chart: Chart
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    def x(self, v: Floats | float) -> Floats:
        low, high = extent(self.chart, "x")
        return np.asarray(self.left + (np.asarray(v, float) - low) / (high - low) * (self.width - self.left - self.right))

    def y(self, v: Floats | float) -> Floats:
        low, high = extent(self.chart, "y")
        return np.asarray(
            self.height - self.bottom - (np.asarray(v, float) - low) / (high - low) * (self.height - self.top - self.bottom)
        )


def render(chart: Chart, name: str = "chart", width: int = 760) -> str:
    """The chart as one `<svg>` element. name: makes its identifiers unique within a page."""
    legend = _legend_rows(chart, width)
    words = chart.rows or [f"{v:.9g}" for v in ticks(*extent(chart, "y"))]
    left = min(max(len(w) for w in words) * _CHARACTER + 20 + (22 if chart.y_title else 0), 0.4 * width)
    top = 10 + 20 * len(legend) + (26 if chart.title else 0)
    f = _Frame(chart, width, chart.height, left, 16.0, float(top), 46.0)
    ident = escape(name, quote=True)
    clip = f"{ident}-clip"
    body = "".join(_mark(m, f) for m in chart.marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {chart.height}" width="{width}" height="{chart.height}" '
        f'role="img" aria-labelledby="{ident}-title {ident}-desc" font-family="{FONT}" font-size="12" fill="{_INK}">'
        f'<title id="{ident}-title">{escape(chart.title or chart.y_title)}</title>'
        f'<desc id="{ident}-desc">{escape(chart.description)}</desc>'
        f'<clipPath id="{clip}"><rect x="{_n(f.left)}" y="{_n(f.top)}" width="{_n(width - f.left - f.right)}" '
        f'height="{_n(chart.height - f.top - f.bottom)}"/></clipPath>'
        + (f'<text x="{_n(f.left)}" y="20" font-size="15" font-weight="600">{escape(chart.title)}</text>' if chart.title else "")
        + _legend(legend, f)
        + _axes(f)
        + f'<g clip-path="url(#{clip})">{body}</g>'
        + "".join(_words(m, f) for m in chart.marks)
        + "</svg>"
    )


# ---- axes and legend -----------------------------------------------------------------------------------------------
def _axes(f: _Frame) -> str:
    low, high = f.height - f.bottom, f.top
    out = []
    for v in ticks(*extent(f.chart, "x"), about=int(np.clip(f.width // 75, 3, 8))):
        x = _n(f.x(v))
        out.append(
            f'<path d="M{x} {_n(low)}V{_n(high)}" stroke="{_PALE}"/>'
            f'<text x="{x}" y="{_n(low + 17)}" text-anchor="middle">{v:.9g}</text>'
        )
    places = [(float(i), r) for i, r in enumerate(f.chart.rows)] or [(v, f"{v:.9g}") for v in ticks(*extent(f.chart, "y"))]
    for v, word in places:
        y = _n(f.y(v))
        out.append(
            f'<path d="M{_n(f.left)} {y}H{_n(f.width - f.right)}" stroke="{_PALE}"/>'
            f'<text x="{_n(f.left - 8)}" y="{y}" dy="0.32em" text-anchor="end">{escape(word)}</text>'
        )
    middle = (f.left + f.width - f.right) / 2
    out.append(f'<path d="M{_n(f.left)} {_n(high)}V{_n(low)}H{_n(f.width - f.right)}" fill="none" stroke="{GREY}"/>')
    out.append(
        f'<text x="{_n(middle)}" y="{_n(f.height - 8)}" text-anchor="middle" font-size="13">{escape(f.chart.x_title)}</text>'
    )
    if f.chart.y_title:
        centre = (low + high) / 2
        out.append(
            f'<text transform="translate(15 {_n(centre)}) rotate(-90)" text-anchor="middle" font-size="13">'
            f"{escape(f.chart.y_title)}</text>"
        )
    return "".join(out)


def _legend_rows(chart: Chart, width: float) -> list[list[tuple[Mark, float]]]:
    """Labelled marks and where their entries start, row by row."""
    rows: list[list[tuple[Mark, float]]] = []
    at = width
    for m in chart.marks:
        if isinstance(m, Rule) or not m.label:
            continue
        size = 30 + _CHARACTER * len(m.label) + 14
        if at + size > width - 16:
            rows.append([])
            at = 50.0
        rows[-1].append((m, at))
        at += size
    return rows


def _legend(rows: list[list[tuple[Mark, float]]], f: _Frame) -> str:
    out = []
    for i, row in enumerate(rows):
        y = f.top - 20 * (len(rows) - i) + 8
        for m, x in row:
            out.append(_key(m, x, y) + f'<text x="{_n(x + 28)}" y="{_n(y)}" dy="0.32em">{escape(m.label)}</text>')
    return "".join(out)


def _key(m: Mark, x: float, y: float) -> str:
    if isinstance(m, Band | Zone):
        return (
            f'<rect x="{_n(x)}" y="{_n(y - 6)}" width="22" height="12" fill="{m.color}" fill-opacity="{max(m.opacity, 0.12):g}"/>'
        )
    if isinstance(m, Line):
        dash = ' stroke-dasharray="6 4"' if m.dashed else ""
        return f'<path d="M{_n(x)} {_n(y)}h22" stroke="{m.color}" stroke-width="{m.width:g}"{dash}/>'
    return _symbol(m, x + 11, y) if isinstance(m, Points) else ""


# ---- marks ---------------------------------------------------------------------------------------------------------
def _band(m: Band, f: _Frame) -> str:
    x, low, high = f.x(m.x), f.y(m.low), f.y(m.high)
    there = np.isfinite(low) & np.isfinite(high)
    forth = zip(x[there], high[there], strict=True)
    back = zip(x[there][::-1], low[there][::-1], strict=True)
    return f'<path d="{_path([*forth, *back])}Z" fill="{m.color}" fill-opacity="{m.opacity:g}"/>'


def _line(m: Line, f: _Frame) -> str:
    x, y = f.x(m.x), f.y(m.y)
    there = np.isfinite(x) & np.isfinite(y)
    dash = ' stroke-dasharray="6 4"' if m.dashed else ""
    shape = _path(zip(x[there], y[there], strict=True))
    return f'<path d="{shape}" fill="none" stroke="{m.color}" stroke-width="{m.width:g}" stroke-linejoin="round"{dash}/>'


def _points(m: Points, f: _Frame) -> str:
    x, y = f.x(m.x), f.y(m.y)
    bars = []
    if m.error is not None:
        for a, low, high in zip(x, f.y(m.y - m.error), f.y(m.y + m.error), strict=True):
            bars.append(f"M{_n(a)} {_n(low)}V{_n(high)}")
    if m.low is not None and m.high is not None:
        for b, low, high in zip(y, f.x(m.low), f.x(m.high), strict=True):
            bars.append(f"M{_n(low)} {_n(b)}H{_n(high)}")
    out = [f'<path d="{"".join(bars)}" stroke="{m.color}" stroke-width="2"/>'] if bars else []
    words = m.words or ("",) * len(x)
    out += [_symbol(m, a, b, w) for a, b, w in zip(x, y, words, strict=True) if np.isfinite(a) and np.isfinite(b)]
    return "".join(out)


def _rule(m: Rule, f: _Frame) -> str:
    at = _n(f.x(m.at) if m.axis == "x" else f.y(m.at))
    shape = f"M{at} {_n(f.top)}V{_n(f.height - f.bottom)}" if m.axis == "x" else f"M{_n(f.left)} {at}H{_n(f.width - f.right)}"
    return f'<path d="{shape}" stroke="{m.color}" stroke-width="1.5" stroke-dasharray="3 3"/>'


def _zone(m: Zone, f: _Frame) -> str:
    low, high = sorted(extent(f.chart, m.axis))
    a, b = max(m.low, low), min(m.high, high)
    if m.axis == "y":
        box = (f.left, float(f.y(b)), f.width - f.left - f.right, float(f.y(a) - f.y(b)))
    else:
        box = (float(f.x(a)), f.top, float(f.x(b) - f.x(a)), f.height - f.top - f.bottom)
    x, y, w, h = box
    size = f'width="{_n(max(w, 0))}" height="{_n(max(h, 0))}"'
    return f'<rect x="{_n(x)}" y="{_n(y)}" {size} fill="{m.color}" fill-opacity="{m.opacity:g}"/>'


_DRAW: dict[type, Callable[..., str]] = {Band: _band, Line: _line, Points: _points, Rule: _rule, Zone: _zone}


def _mark(m: Mark, f: _Frame) -> str:
    return _DRAW[type(m)](m, f)


def _words(m: Mark, f: _Frame) -> str:
    """Labels of rules, beside them."""
    if not isinstance(m, Rule) or not m.label:
        return ""
    if m.axis == "x":
        at = float(f.x(m.at))
        near_end = at > f.left + 0.75 * (f.width - f.left - f.right)
        anchor, at = ("end", at - 5) if near_end else ("start", at + 5)
        return f'<text x="{_n(at)}" y="{_n(f.top + 14)}" text-anchor="{anchor}" fill="{m.color}">{escape(m.label)}</text>'
    place = f'x="{_n(f.width - f.right - 4)}" y="{_n(f.y(m.at) - 5)}"'
    return f'<text {place} text-anchor="end" fill="{m.color}">{escape(m.label)}</text>'


def _symbol(m: Points, x: float, y: float, word: str = "") -> str:
    hint = f"<title>{escape(word)}</title>" if word else ""
    r = m.size
    if m.symbol == "diamond":
        shape = f"M{_n(x)} {_n(y - 1.3 * r)}L{_n(x + 1.3 * r)} {_n(y)}L{_n(x)} {_n(y + 1.3 * r)}L{_n(x - 1.3 * r)} {_n(y)}Z"
        return f'<path d="{shape}" fill="#fff" stroke="{m.color}" stroke-width="2">{hint}</path>'
    style = f'fill="#fff" stroke="{m.color}" stroke-width="2"' if m.symbol == "open" else f'fill="{m.color}"'
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{r:g}" {style}>{hint}</circle>'


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{_n(a)} {_n(b)}" for a, b in points).join(("M", ""))


def _n(v: Floats | float) -> str:
    return f"{float(v):.1f}".rstrip("0").rstrip(".")

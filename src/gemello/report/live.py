"""A chart as a plotly figure: to hover over, zoom and save. What it shows is what `svg` shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
from plotly import graph_objects as go

from gemello.report.chart import GREY, Band, Chart, Line, Mark, Points, Rule, Zone, extent
from gemello.report.svg import FONT


def figure(chart: Chart) -> go.Figure:
    """The chart as a plotly figure."""
    f = go.Figure()
    for m in chart.marks:
        _ADD[type(m)](f, m, chart)
    f.update_layout(
        template="plotly_white",
        height=chart.height + 40,
        margin={"l": 64, "r": 16, "t": 36, "b": 52},
        font={"family": FONT, "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        title={"text": escape(chart.title)} if chart.title else None,
    )
    f.update_xaxes(title_text=escape(chart.x_title), range=list(extent(chart, "x")), linecolor=GREY, zeroline=False)
    f.update_yaxes(title_text=escape(chart.y_title), range=list(extent(chart, "y")), linecolor=GREY, zeroline=False)
    if chart.rows:
        f.update_yaxes(tickvals=list(range(len(chart.rows))), ticktext=[escape(r) for r in chart.rows], automargin=True)
    return f


def to_json(chart: Chart) -> str:
    """The figure as JSON that may stand inside a `<script>` element: no `<` is left in it."""
    plain = json.loads(figure(chart).to_json())
    plain["layout"].pop("template", None)  # 6 kB of defaults in every figure
    text = json.dumps({"data": plain["data"], "layout": plain["layout"]}, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# ---- marks ---------------------------------------------------------------------------------------------------------
def _rgba(color: str, opacity: float) -> str:
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity:g})"


def _list(v: Any) -> list[float | None]:
    """Plain numbers of about 6 digits, None where there is none."""
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in np.ravel(v)]


def _band(f: go.Figure, m: Band, chart: Chart) -> None:
    f.add_scatter(
        x=_list(np.concatenate([m.x, m.x[::-1]])), y=_list(np.concatenate([m.high, m.low[::-1]])), fill="toself", mode="lines",
        fillcolor=_rgba(m.color, m.opacity), line={"width": 0}, name=escape(m.label), showlegend=bool(m.label), hoverinfo="skip",
    )  # fmt: skip


def _line(f: go.Figure, m: Line, chart: Chart) -> None:
    f.add_scatter(
        x=_list(m.x), y=_list(m.y), mode="lines", name=escape(m.label), showlegend=bool(m.label),
        line={"color": m.color, "width": m.width, "dash": "dash" if m.dashed else "solid"},
    )  # fmt: skip


def _points(f: go.Figure, m: Points, chart: Chart) -> None:
    symbol = {"circle": "circle", "open": "circle-open", "diamond": "diamond-open"}[m.symbol]
    bars: dict[str, Any] = {}
    if m.error is not None:
        bars["error_y"] = {"type": "data", "array": _list(m.error), "color": m.color}
    if m.low is not None and m.high is not None:
        bars["error_x"] = {
            "type": "data", "symmetric": False, "array": _list(m.high - m.x), "arrayminus": _list(m.x - m.low), "color": m.color,
        }  # fmt: skip
    f.add_scatter(
        x=_list(m.x), y=_list(m.y), mode="markers", name=escape(m.label), showlegend=bool(m.label),
        marker={"color": m.color, "size": 2.2 * m.size, "symbol": symbol, "line": {"width": 2, "color": m.color}},
        text=[escape(w) for w in m.words] or None, hovertemplate="%{text}<extra></extra>" if m.words else None, **bars,
    )  # fmt: skip


def _rule(f: go.Figure, m: Rule, chart: Chart) -> None:
    add = f.add_vline if m.axis == "x" else f.add_hline
    words = {"annotation_text": escape(m.label)} if m.label else {}
    add(m.at, line={"color": m.color, "dash": "dot", "width": 1.5}, **words)


def _zone(f: go.Figure, m: Zone, chart: Chart) -> None:
    low, high = sorted(extent(chart, m.axis))
    ends = (max(m.low, low), min(m.high, high))
    add = f.add_vrect if m.axis == "x" else f.add_hrect
    add(*ends, fillcolor=m.color, opacity=m.opacity, line_width=0, layer="below")
    if m.label:
        square = {"color": _rgba(m.color, max(m.opacity, 0.12)), "symbol": "square", "size": 14}
        f.add_scatter(x=[None], y=[None], mode="markers", marker=square, name=escape(m.label))


_ADD: dict[type[Mark], Callable[[go.Figure, Any, Chart], None]] = {
    Band: _band, Line: _line, Points: _points, Rule: _rule, Zone: _zone,
}  # fmt: skip

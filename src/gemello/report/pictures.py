"""Charts drawn for a page, and numbered."""

from __future__ import annotations

from dataclasses import dataclass

from gemello.report import live, svg
from gemello.report.chart import Chart


@dataclass(frozen=True)
class Picture:
    """A chart drawn: identifier within the page, caption, SVG and plotly's JSON (empty: static)."""

    name: str
    caption: str
    svg: str
    json: str
    height: int


class Pictures:
    """Draws charts and numbers them."""

    def __init__(self, interactive: bool) -> None:
        self.interactive, self.count, self.small = interactive, 0, 0

    def draw(self, chart: Chart, caption: str, width: int = 760) -> Picture:
        """The next figure of the page."""
        self.count += 1
        name = f"figure-{self.count}"
        data = live.to_json(chart) if self.interactive else ""
        return Picture(name, f"Figure {self.count}. {caption}.", svg.render(chart, name, width), data, chart.height + 40)

    def part(self, chart: Chart, width: int = 320) -> str:
        """One of many small charts of a figure, as static SVG."""
        self.small += 1
        return svg.render(chart, f"part-{self.small}", width)

    def grid(self, charts: list[Chart], caption: str, width: int = 320) -> Grid | None:
        """Many small charts as one figure; None where there are none."""
        if not charts:
            return None
        self.count += 1
        return Grid(f"Figure {self.count}. {caption}.", tuple(self.part(c, width) for c in charts))


@dataclass(frozen=True)
class Grid:
    """A figure of many small charts: caption, and the SVG of each."""

    caption: str
    parts: tuple[str, ...]

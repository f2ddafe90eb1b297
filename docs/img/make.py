"""Makes forecast.svg, the picture of the README, from the demo: `python docs/img/make.py`."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.pharmacology.theophylline import demonstration
from gemello.report import svg
from gemello.report.figures import forecast_chart

HERE = Path(__file__).parent


def picture(demo: demonstration.Demo) -> str:
    """The forecast of the demo's patient as SVG, on white."""
    seen = demo.twin.record.schedule
    chart = forecast_chart(
        demo.forecast,
        demonstration.OUTPUT,
        held_back=demo.held_back,
        until=float(seen.time[seen.measured].max()),
        title=f"Theophylline in patient {demo.twin.id}: forecast after one hour, and what was measured",
        label="theophylline in plasma",
    )
    drawn = svg.render(chart, "forecast")
    end = drawn.index(">") + 1
    return f'{drawn[:end]}<rect width="100%" height="100%" fill="#fff"/>{drawn[end:]}\n'


if __name__ == "__main__":
    (HERE / "forecast.svg").write_text(picture(demonstration.compute(progress=print)), encoding="utf-8")

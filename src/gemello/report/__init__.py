"""Reports: one self-contained HTML file from a twin, its forecast and its decision, or from a population fit.

`twin_report`, `fit_report` and (one page for the bedside) `bedside_report` write them. Names are loaded when first asked for:
plotly and jinja2 are slow to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemello.report.bedside import bedside_report as bedside_report
    from gemello.report.page import fit_report as fit_report
    from gemello.report.page import twin_report as twin_report

__all__ = ["bedside_report", "fit_report", "twin_report"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'gemello.report' has no attribute {name!r}")
    from gemello.report import bedside, page  # noqa: PLC0415

    return getattr(bedside if name == "bedside_report" else page, name)

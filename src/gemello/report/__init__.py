"""Reports: one self-contained HTML file from a twin, its forecast and its decision, or from a population fit.

`twin_report` and `fit_report` write them. Names are loaded when first asked for: plotly and jinja2 are slow to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemello.report.page import fit_report as fit_report
    from gemello.report.page import twin_report as twin_report

__all__ = ["fit_report", "twin_report"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'gemello.report' has no attribute {name!r}")
    from gemello.report import page  # noqa: PLC0415

    return getattr(page, name)

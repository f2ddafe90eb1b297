"""What a report says of a population fit: estimates, goodness of fit, and the checks that were run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemello.inference.bootstrap import Bootstrap
from gemello.inference.covariates import Stepwise
from gemello.inference.npde import Npde
from gemello.inference.residuals import Goodness, courses
from gemello.inference.result import Fit
from gemello.inference.vpc import Vpc
from gemello.model.contract import Model
from gemello.model.schedule import Subject
from gemello.report import diagnostics, fit_tables, tables
from gemello.report.pictures import Pictures

HALF = 440  # px: width of a picture beside another
METHODS = {
    "fo": "First-order method (FO), with exact gradients",
    "foce": "First-order conditional estimation without interaction (FOCE), with exact gradients",
    "focei": "First-order conditional estimation with interaction (FOCEI), with exact gradients",
    "laplace": "Laplace approximation with exact second derivatives and gradients",
    "saem": "Stochastic approximation expectation maximisation (SAEM)",
    "imp": "Monte Carlo importance sampling",
    "bayes": "Full Bayesian estimation by the No-U-Turn sampler",
}


@dataclass(frozen=True)
class Checks:
    """What was run beside a fit, to be shown with it."""

    vpcs: Sequence[Vpc] = ()
    npde: Npde | None = None
    bootstrap: Bootstrap | None = None
    covariates: Stepwise | None = None


def short(model: Model, fit: Fit, g: Goodness | None, pictures: Pictures) -> dict[str, Any]:
    """Estimates and residual plots, as a twin's report needs them."""
    return {
        "fit": fit,
        "summary": tables.fit_summary(fit),
        "estimates": tables.estimates_table(model, fit),
        "shrinkage": tables.shrinkage_table(fit),
        "plots": _plots(model, g, pictures, 4),
        "trace": _trace(fit, pictures),
    }


def full(
    model: Model, fit: Fit, g: Goodness | None, subjects: Sequence[Subject], pictures: Pictures, checks: Checks, most: int,
    bind: Mapping[str, str] | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything, in the order in which a reviewer asks: estimates, residuals, individuals, simulated checks, uncertainty."""
    plots = _plots(model, g, pictures, 7)
    covariates = _covariates(model, g, pictures)
    individuals = _individuals(model, fit, g, subjects, pictures, most, bind)
    simulated = alone(model, pictures, checks)
    b = checks.bootstrap
    return {
        "fit": fit,
        "method": METHODS.get(fit.method, fit.method),
        "summary": tables.fit_summary(fit),
        "estimates": tables.estimates_table(model, fit, 0.95, b),
        "shrinkage": fit_tables.eta_table(fit, g),
        "plots": plots,
        "individuals": individuals,
        "covariates": covariates,
        **simulated,
        "bootstrap": (
            fit_tables.bootstrap_table(b),
            pictures.grid([p.chart for p in diagnostics.bootstrap_panels(b)], "Bootstrap estimates; lines: the fit's, and 95 %"),
        ) if b is not None else None,
        "search": fit_tables.steps_table(checks.covariates) if checks.covariates is not None else None,
        "correlations": fit_tables.correlation_table(fit),
        "trace": _trace(fit, pictures),
    }  # fmt: skip


def alone(model: Model, pictures: Pictures, checks: Checks) -> dict[str, Any]:
    """The simulated checks without a fit."""
    return {
        "vpcs": [pictures.draw(p.chart, p.caption) for v in checks.vpcs for p in diagnostics.vpc_panels(v)],
        "corrected": any(v.corrected for v in checks.vpcs),
        "npde": (
            fit_tables.npde_table(checks.npde),
            [pictures.draw(p.chart, p.caption, HALF) for p in diagnostics.npde_panels(checks.npde, model)],
        ) if checks.npde else None,
    }  # fmt: skip


def _plots(model: Model, g: Goodness | None, pictures: Pictures, most: int) -> list[Any]:
    if g is None:
        return []
    outputs = [k for k in range(len(model.outputs)) if bool(np.any((g.output == k) & (g.data.censored == 0)))]
    return [pictures.draw(p.chart, p.caption, HALF) for k in outputs for p in diagnostics.goodness_panels(g, model, k)[:most]]


def _trace(fit: Fit, pictures: Pictures) -> Any:
    return pictures.draw(diagnostics.trace_chart(fit), "Objective while it was minimised") if len(fit.trace) > 1 else None


def _individuals(
    model: Model, fit: Fit, g: Goodness | None, subjects: Sequence[Subject], pictures: Pictures, most: int,
    bind: Mapping[str, str] | None,
) -> list[Any]:  # fmt: skip
    """Small charts of up to `most` subjects, evenly spread over the data set, a figure for each output."""
    if g is None or most < 1:
        return []
    inside = [s for s in subjects if s.id in set(fit.ids)]
    chosen = [inside[i] for i in np.unique(np.linspace(0, len(inside) - 1, most).round().astype(int))]
    found = courses(model, fit, chosen, bind=bind)
    which = "All" if len(chosen) == len(inside) else f"{len(chosen)} of {len(inside)}"
    out = []
    for k, o in enumerate(model.outputs):
        if not bool(np.any(g.output == k)):
            continue
        caption = f"{which} subjects, {o.name}: measured (points), individual (line) and typical prediction (dashed)"
        limits = bool(np.any((g.output == k) & (g.data.censored != 0)))
        caption += "; diamonds: known only to lie beyond the limit" if limits else ""
        out.append(pictures.grid([p.chart for p in diagnostics.individual_panels(g, found, model, k)], caption))
    return [p for p in out if p is not None]


def _covariates(model: Model, g: Goodness | None, pictures: Pictures, most: int = 12) -> Any:
    """η̂ against the covariates that the model declares."""
    if g is None:
        return None
    columns = [c for c in model.covariates if all(c.name in s.schedule.columns for s in g.data.subjects)]
    values = {c.name: np.array([s.schedule.columns[c.name][0] for s in g.data.subjects]) for c in columns}
    panels = diagnostics.eta_panels(g, values, {c.name: c.unit for c in columns})[:most]
    return pictures.grid([p.chart for p in panels], "Estimated etas against covariates, with a local regression")

"""The pharmacology models held against outside authorities: NONMEM, nlme, Monolix, posologyr, SciPy. Recomputed each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemello.base.reference import Check, checks_of, reference_data
from gemello.domains.pharmacology.authorities import (
    calibration,
    diagnostics,
    dosing,
    fits,
    library,
    physiology,
    records,
    responses,
    saem,
    solvers,
    twins,
    wang2007,
)

# Parts that read reference data, by what is said where there are none; and parts that bring their own.
WITH_DATA: dict[str, Callable[[Path], Iterator[Check]]] = {
    "dosing designs": records.dosing_designs,
    "time-varying covariates": records.varying_covariates,
    "theophylline": fits.theophylline,
    "phenobarbital": fits.phenobarbital,
    "mapbayr": fits.mapbayr,
    "Wang 2007": wang2007.objectives,
    "library of published models": library.checks,
    "pharmacodynamic and mechanistic models": responses.checks,
    "whole-body physiology": physiology.checks,
    "residuals, predictive checks, bootstrap, covariates": diagnostics.checks,
    "simulation-based calibration": calibration.checks,
    "probability of target attainment": dosing.checks,
    "theophylline by SAEM": saem.theophylline,
    "warfarin by SAEM": saem.warfarin,
    "12 simulated sets by SAEM": saem.by_saem,
    "12 simulated sets by FOCEI": saem.by_focei,
}
WITHOUT: tuple[Callable[[], Iterator[Check]], ...] = (
    twins.vancomycin_dosing,
    solvers.solvers,
    twins.calibration,
)


def checks() -> Iterator[Check]:
    """Every check of the domain, one at a time. Where the reference data are missing a row says so, and does not pass."""
    yield from checks_of("pharmacology", reference_data("pharmacology"), WITH_DATA)
    for own in WITHOUT:
        yield from own()

"""The pharmacology models held against outside authorities: NONMEM, nlme, Monolix, posologyr, SciPy. Recomputed each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemello.base.reference import reference_data
from gemello.domains.pharmacology.authorities import fits, records, solvers, twins
from gemello.domains.pharmacology.authorities.common import Check

# Parts that read reference data, and parts that bring their own.
WITH_DATA: tuple[Callable[[Path], Iterator[Check]], ...] = (
    records.dosing_designs,
    records.varying_covariates,
    fits.theophylline,
    fits.phenobarbital,
    fits.mapbayr,
)
WITHOUT: tuple[Callable[[], Iterator[Check]], ...] = (
    twins.vancomycin_dosing,
    solvers.solvers,
    twins.calibration,
)


def checks() -> Iterator[Check]:
    """Every check of the domain, one at a time. Where the reference data are missing a row says so, and does not pass."""
    folder = reference_data("pharmacology")
    for part in WITH_DATA:
        if folder is None:
            words = f"{part.__name__}: not run, no reference data; set GEMELLO_DATA to the folder that holds pharmacology/"
            yield {"check": words, "value": None, "reference": None, "tolerance": None, "source": "", "passed": False}
        else:
            yield from part(folder)
    for own in WITHOUT:
        yield from own()

"""How long fits and individual estimates take, beside the limits asked for; and virtual patients beside chi with Myokit.

A time limit counts as the ratio limit over ours; a rate asked for, as ours over it. First calls, which compile, stand apart.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.random import generator
from gemello.base.reference import reference_data
from gemello.domains.pharmacology import peers_chi
from gemello.domains.pharmacology.authorities.common import theoph
from gemello.domains.pharmacology.authorities.responses import concentrations_alone, warfarin_subjects
from gemello.domains.pharmacology.goti2018.model import vancomycin
from gemello.domains.pharmacology.theophylline.model import oral as theoph_oral
from gemello.domains.pharmacology.two_compartment.model import iv as pk2_iv
from gemello.domains.pharmacology.warfarin.model import pk as warfarin_pk
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import modes
from gemello.inference.likelihood import problem
from gemello.inference.population import fit
from gemello.model.individuals import measurement
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import simulate

Case = dict[str, Any]
Floats = NDArray[np.float64]
RUNS = 3
_NO_CHI = "chi-drm with Myokit does not run here; pip install 'gemello[chi]', and SUNDIALS"


def cases() -> Iterator[Case]:
    """Every case of this file, one at a time; those that need reference data say so where there are none."""
    folder = reference_data("pharmacology")
    yield from fits(folder) if folder is not None else ()
    yield from individuals()
    yield from virtual_patients()


def fits(folder: Path) -> Iterator[Case]:
    """FOCEI on warfarin PK and SAEM on Theoph, from plain start values."""
    start = {"CL": 0.1, "V": 10.0, "KA": 1.0, "ALAG1": 0.5, "cp_additive": 0.5, "cp_proportional": 0.2}
    start |= {f"OMEGA({n},{n})": 0.1 for n in ("CL", "V", "KA", "ALAG1")} | {"OMEGA(CL,V)": 0.0}
    subjects = [concentrations_alone(s) for s in warfarin_subjects(folder)]
    run = lambda: fit(warfarin_pk, subjects, "focei", start=start)  # noqa: E731
    yield _limit(f"FOCEI with standard errors, warfarin PK, {len(subjects)} subjects", run, 3.0, "limit asked for")
    begin = {"KA": 1.0, "CL": 3.5, "V": 40.0, "cp_additive": 1.0} | {f"OMEGA({n},{n})": 0.1 for n in ("KA", "CL", "V")}
    patients = theoph(folder)
    again = lambda: fit(theoph_oral, patients, "saem", start=begin)  # noqa: E731
    what = "SAEM, objective and standard errors by importance sampling, Theoph, 12 subjects"
    yield _limit(what, again, 4.0, "nlmixr2's SAEM as published")


def individuals(batch: int = 4000, alone: int = 60) -> Iterator[Case]:
    """MAP estimates of patients with 4 levels, 2 compartments: one after another, and in a batch."""
    subjects = _measured(batch)
    pop = population_of(PopulationParameters.of(pk2_iv))
    one = lambda who: modes(problem(pk2_iv, who), pop)  # noqa: E731
    first, _ = _timed(lambda: one(subjects[:1]))
    seconds = [_timed(lambda: [one([s]) for s in subjects[:alone]])[0] for _ in range(RUNS)]
    yield _rate("MAP, 2 compartments, 4 levels, one patient after another", alone / float(np.median(seconds)), 50.0, first)
    first, _ = _timed(lambda: one(subjects))
    seconds = [_timed(lambda: one(subjects))[0] for _ in range(RUNS)]
    yield _rate(f"MAP, 2 compartments, 4 levels, {batch:,} patients at once", batch / float(np.median(seconds)), 1000.0, first)


def _measured(number: int) -> list[Subject]:
    rng = generator(1, "patients")
    plan = Schedule().dose(0.0, 500.0, duration=0.5, every=12.0, times=3).observe([1.0, 6.0, 12.5, 34.0])
    at = np.flatnonzero(plan.evid == 0)
    etas = rng.standard_normal((number, len(pk2_iv.parameters.eta_names))) * 0.3
    f = simulate(pk2_iv, [Subject(str(i), plan) for i in range(number)], etas=etas, outputs=["cp"]).check().outputs["cp"][:, at]
    values = f * np.exp(0.1 * rng.standard_normal(f.shape))
    bare = plan.take(plan.evid == 1)
    return [Subject(str(i), bare.observe(plan.time[at], v)) for i, v in enumerate(values)]


def virtual_patients(ours: int = 10_000, theirs: int = 300) -> Iterator[Case]:
    """Measurements of virtual patients, hourly for 3 days, whose clearance and volume follow renal function and weight."""
    name = "virtual patients, 2 compartments, 2 covariates, 6 infusions, 73 measurements with error"
    times = np.arange(73.0)
    plan = Schedule().dose(0.0, 1000.0, duration=1.0, every=12.0, times=6).observe(times)
    at = np.flatnonzero(plan.evid == 0)
    table = vancomycin.parameters
    sigma = {n: table[n].value for n in table.residual_names}
    root = np.linalg.cholesky(np.array(table.omega()))

    def draw(number: int, seed: int) -> Floats:
        rng = generator(seed, "virtual patients")
        renal, weight = np.exp(np.clip(rng.standard_normal((2, number)), -3.0, 3.0) * [[0.3], [0.2]])
        f = simulate(
            vancomycin, plan, etas=rng.standard_normal((number, 3)) @ root.T, outputs=["cp"],
            covariates={"CLCREAT": 120.0 * renal, "WT": 70.0 * weight, "DIAL": 0.0},
        ).check().outputs["cp"][:, at]  # fmt: skip
        return np.asarray(measurement(vancomycin, 0, f, sigma, rng.standard_normal(f.shape)))

    first, _ = _timed(lambda: draw(ours, 0))
    made = _chi(times)
    if made is None:
        speed = ours / float(np.median([_timed(lambda s=s: draw(ours, s))[0] for s in range(1, 1 + RUNS)]))  # type: ignore[misc]
        yield _row(name, speed, None, _NO_CHI, "patients/s", None, 20.0, first)
        return
    sample, error = made
    seconds: list[list[float]] = [[], []]
    for seed in range(1, 1 + RUNS):  # in turn, so that a slow moment of the machine strikes both
        seconds[0].append(_timed(lambda s=seed: draw(ours, s))[0])  # type: ignore[misc]
        rng = generator(seed, "covariates of chi")
        logs = rng.standard_normal((theirs, 2)) * [0.3, 0.2]
        seconds[1].append(_timed(lambda s=seed, c=logs: sample(c, s))[0])  # type: ignore[misc]
    a, b = ours / float(np.median(seconds[0])), theirs / float(np.median(seconds[1]))
    peer = f"chi-drm {version('chi-drm')} with Myokit {version('myokit')} (its individuals within {error:.1g} of ours)"
    yield _row(name, a, b, peer, "patients/s", a / b, 20.0, first)


def _chi(times: Floats) -> tuple[Callable[[Floats, int], Floats], float] | None:
    """chi's sampler of the same population, and how far its typical individual is from ours, over the largest concentration."""
    if any(importlib.util.find_spec(p) is None for p in ("chi", "myokit")):
        return None
    table = vancomycin.parameters
    typical = {n: table[n].value for n in ("CL", "V1", "Q", "V2")}
    try:
        patients = peers_chi.Patients(1000.0, 1.0, 12.0, 6)
        theirs = patients.individual(typical, times)
    except Exception:  # Myokit compiles its solver at run time, and fails in many ways where SUNDIALS or a compiler is missing
        return None
    plan = Schedule().dose(0.0, 1000.0, duration=1.0, every=12.0, times=6).observe(times)
    own = simulate(vancomycin, plan, covariates={"CLCREAT": 120.0, "WT": 70.0, "DIAL": 0.0}, outputs=["cp"]).outputs["cp"][0]
    error = float(np.abs(theirs - own[plan.evid == 0]).max() / own.max())
    sd = {n: table[n].variance ** 0.5 for n in ("CL", "V1", "V2")}
    sigma = (table["cp_additive"].value, table["cp_proportional"].value)
    return patients.sampler(typical, sd, {"CL": 0.8, "V1": 1.0}, sigma, times), error


# ---- rows ----------------------------------------------------------------------------------------------------------
def _timed(f: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    out = f()
    return time.perf_counter() - begin, out


def _row(
    name: str, ours: float, peer: float | None, peer_version: str, unit: str, ratio: float | None, bar: float, first: float
) -> Case:
    return {
        "case": name, "ours": ours, "peer": peer, "peer_version": peer_version, "unit": unit, "ratio": ratio, "bar": bar,
        "ours_first_call_s": first, "peer_first_call_s": None, "ours_error": None, "peer_error": None,
    }  # fmt: skip


def _limit(name: str, run: Callable[[], Any], limit: float, peer: str) -> Case:
    first, _ = _timed(run)
    seconds = float(np.median([_timed(run)[0] for _ in range(RUNS)]))
    return _row(name, seconds, limit, peer, "s", limit / seconds, 1.0, first)


def _rate(name: str, ours: float, asked: float, first: float) -> Case:
    return _row(name, ours, asked, "rate asked for", "patients/s", ours / asked, 1.0, first)

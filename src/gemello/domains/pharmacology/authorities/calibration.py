"""Simulation-based calibration of the samplers, and the two posteriors of a patient against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from gemello.base.random import generator
from gemello.base.reference import Check, check
from gemello.domains.pharmacology.goti2018.model import vancomycin
from gemello.domains.pharmacology.one_compartment.model import iv
from gemello.inference import ensemble, nuts, sbc
from gemello.inference.bayes import LKJ, Distribution, Normal
from gemello.inference.likelihood import problem
from gemello.model.population import PopulationParameters
from gemello.model.schedule import Schedule, Subject
from gemello.twin.calibration import simulate_subjects
from gemello.twin.twin import assimilate_subjects

REPLICATES, PATIENTS, RANKS = 200, 400, 99
SOURCE = "uniform ranks: Talts et al. 2018; Säilynoja et al. 2022"
PRIORS: dict[str, Distribution | LKJ] = {
    "CL": Normal(5.0, 0.3),
    "V": Normal(50.0, 0.3),
    "cp_additive": Normal(0.3, 0.3),
    "OMEGA(CL,CL)": Normal(0.3, 0.3),
    "OMEGA(V,V)": Normal(0.3, 0.3),
    "correlation": LKJ(2.0),
}


def design(subjects: int = 5) -> list[Subject]:
    """Subjects with one dose of 100 or 200 mg and two samples."""
    return [Subject(f"{i + 1}", Schedule().dose(0.0, 100.0 * (1 + i % 2)).observe([2.0, 10.0])) for i in range(subjects)]


def patients(count: int, seed: int) -> tuple[list[Subject], np.ndarray]:
    """Vancomycin patients drawn from Goti's population, with three levels each, and their etas."""
    rng = generator(seed, "covariates")
    own = {
        "CLCREAT": np.clip(62.0 * np.exp(0.5 * rng.standard_normal(count)), 4.0, 150.0),
        "WT": np.clip(rng.normal(80.0, 18.0, count), 40.0, 200.0),
        "DIAL": (rng.random(count) < 0.15).astype(float),
    }
    schedule = Schedule().dose(0.0, 1500.0, duration=1.5, every=12.0, times=4).observe([11.5, 23.5, 36.0])
    return simulate_subjects(vancomycin, PopulationParameters.of(vancomycin), schedule, count, covariates=own, seed=seed)


def population_sampler(seed: int = 1, count: int = REPLICATES) -> sbc.Calibration:
    """NUTS: one compartment, 5 subjects, full OMEGA."""
    found = sbc.sample_replicates(
        iv, design(), priors=PRIORS, values={"cp_additive": 0.3, "cp_proportional": 0.0}, estimate=("CL", "V", "cp_additive"),
        omega="full", count=count, seed=seed,
    )  # fmt: skip
    return found.calibration()


def twin_ensemble(seed: int = 1, count: int = PATIENTS, believed: PopulationParameters | None = None) -> sbc.Calibration:
    """The twin's weighted draws of virtual vancomycin patients; believed: another population than theirs, to see what is
    detected."""
    subjects, etas = patients(count, seed)
    twins = assimilate_subjects(vancomycin, believed, subjects, draws=2000, seed=seed)
    draws = np.stack([t.posterior.draws for t in twins])
    weights = np.stack([t.posterior.weights for t in twins])
    ranks = sbc.weighted_ranks(draws, weights, etas, RANKS, generator(seed, "resample"))
    names = [f"eta {n}" for n in vancomycin.parameters.eta_names]
    return sbc.calibration(names, ranks, RANKS, np.array([t.posterior.ess for t in twins]))


def two_posteriors(seed: int = 1, count: int = 20) -> float:
    """Largest difference of posterior means between NUTS and the ensemble, in their Monte Carlo standard errors."""
    data, own = problem(vancomycin, patients(count, seed)[0]), PopulationParameters.of(vancomycin)
    chains = nuts.individual(data, own, seed=seed)
    weighted = ensemble.ensemble(data, own, seed=seed)
    mean, cov = ensemble.moments(weighted.draws, weighted.weights)
    error = np.sqrt(chains.mcse**2 + np.diagonal(cov, axis1=1, axis2=2) / weighted.ess[:, None])
    return float(np.max(np.abs(chains.draws.mean(axis=(1, 2)) - mean) / error))


def checks(folder: Path) -> Iterator[Check]:
    """Smallest p of each sampler after Bonferroni's correction (passes above 0.01), and NUTS against the ensemble."""
    found = population_sampler()
    words = f"{REPLICATES} replicates, {100 * np.mean(found.ess > found.draws):.0f} % with more effective draws than ranks"
    yield check(
        f"calibration of NUTS, smallest p of {2 * len(found.p)} (worst: {found.worst})",
        found.smallest,
        1.0,
        0.99,
        f"{SOURCE}; {words}",
    )
    found = twin_ensemble()
    yield check(
        f"calibration of the twin's ensemble, smallest p of {2 * len(found.p)} (worst: {found.worst})", found.smallest, 1.0,
        0.99, f"{SOURCE}; {PATIENTS} virtual vancomycin patients",
    )  # fmt: skip
    pairs = 20 * len(vancomycin.parameters.eta_names)
    limit = float(-ndtri(0.0005 / pairs))
    yield check(
        "vancomycin posterior means, NUTS against the ensemble, largest difference in standard errors", two_posteriors(),
        0.0, limit, f"equal; 20 patients, false alarms in 1 of 1,000 ({pairs} pairs)",
    )  # fmt: skip

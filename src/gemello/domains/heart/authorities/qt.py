"""Concentration-QTc: the arithmetic of the files, REML against other programs, and the coverage of twins of real people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check
from gemello.domains.heart.qt.coverage import follow
from gemello.domains.heart.qt.e14 import at_times, fit, placebo_corrected
from gemello.domains.heart.qt.mixed import Mixed, reml
from gemello.domains.heart.qt.model import ConcentrationQT, dofetilide, quinidine
from gemello.domains.heart.qt.records import Study, read

FILE = "cqt/ecgrdvq_cqtkit_{}.csv"
DRUGS: tuple[tuple[str, ConcentrationQT], ...] = (("dofetilide", dofetilide), ("quinidine", quinidine))
PEAK = {"dofetilide": (79.1, 2.5), "quinidine": (78.6, 2.0)}  # ms, h
OLS = {"dofetilide": 0.02753, "quinidine": 0.03578}  # ms per concentration
# statsmodels 0.15.0, MixedLM by REML with concentrations in thousands: treatment, slope, their standard errors (from the joint
# Hessian with the variances, so a little larger than (X'V⁻¹X)⁻¹), σ², log-likelihood
STATSMODELS = {
    "dofetilide": (-1.57940686, 0.02680501083, 1.54796854, 0.00160293303, 88.26335382875627, -2431.4340145876836),
    "quinidine": (4.68511059, 0.04199693138, 1.81638217, 0.0032062251, 97.74127861824103, -2398.4231686568223),
}
# Potthoff & Roy, Biometrika 51:313-326, 1964: distance (mm) from pituitary to pterygomaxillary fissure at 8, 10, 12, 14 years
BOYS = (
    (26, 25, 29, 31), (21.5, 22.5, 23, 26.5), (23, 22.5, 24, 27.5), (25.5, 27.5, 26.5, 27), (20, 23.5, 22.5, 26),
    (24.5, 25.5, 27, 28.5), (22, 22, 24.5, 26.5), (24, 21.5, 24.5, 25.5), (23, 20.5, 31, 26), (27.5, 28, 31, 31.5),
    (23, 23, 23.5, 25), (21.5, 23.5, 24, 28), (17, 24.5, 26, 29.5), (22.5, 25.5, 25.5, 26), (23, 24.5, 26, 30),
    (22, 21.5, 23.5, 25),
)  # fmt: skip
GIRLS = (
    (21, 20, 21.5, 23), (21, 21.5, 24, 25.5), (20.5, 24, 24.5, 26), (23.5, 24.5, 25, 26.5), (21.5, 23, 22.5, 23.5),
    (20, 21, 21, 22.5), (21.5, 22.5, 23, 25), (23, 23, 23.5, 24), (20, 21, 22, 21.5), (16.5, 19, 19, 19.5), (24.5, 25, 28, 28),
)  # fmt: skip


def checks(folder: Path) -> Iterator[Check]:
    """Peak mean ΔΔQTcF and slopes of the two drugs, REML against nlme and statsmodels, coverage of the twins' forecasts."""
    yield from orthodont()
    for drug, model in DRUGS:
        study = read(folder / FILE.format(drug))
        yield from arithmetic(drug, study)
        yield from mixed_model(drug, study)
        yield coverage(drug, study, model)


def growth() -> Mixed:
    """Random intercept and slope in the growth data of Potthoff & Roy."""
    y = np.array(BOYS + GIRLS, float)
    age = np.tile([8.0, 10.0, 12.0, 14.0], len(y))
    x = np.stack([np.ones(y.size), age], axis=1)
    return reml(y.ravel(), x, x, np.repeat([f"{i}" for i in range(len(y))], 4), ("intercept", "age"))


def orthodont() -> Iterator[Check]:
    """As nlme's lme(distance ~ age, random = ~ age | Subject) prints it."""
    m, source = growth(), "lme of nlme, Pinheiro & Bates 2000, data of Potthoff & Roy 1964"
    slope = m.effect("age")
    yield check("Orthodont slope, mm/year", slope.value, 0.6601852, 1e-6, source)
    yield check("Orthodont standard error of the slope, mm/year", slope.se, 0.0712533, 1e-6, source)
    yield check("Orthodont standard deviation of slopes, mm/year", float(m.random[1, 1] ** 0.5), 0.2264278, 1e-5, source)
    yield check("Orthodont restricted log-likelihood", m.loglik, -221.3183, 1e-4, source)


def arithmetic(drug: str, study: Study) -> Iterator[Check]:
    """What follows from the file alone."""
    peak = max(at_times(study), key=lambda a: a.mean)
    value, time = PEAK[drug]
    source = "SOURCES.md, C-QT: drug less mean placebo at the same time, mean of the subjects"
    yield check(f"{drug} largest mean ΔΔQTcF, ms", peak.mean, value, 0.1, source)
    yield check(f"{drug} time of the largest mean ΔΔQTcF, h", peak.time, time, 0.0, source)
    slope = float(np.polyfit(study.conc[study.active], placebo_corrected(study), 1)[0])
    yield check(f"{drug} least-squares slope, ms per {study.unit}", slope, OLS[drug], 1e-5, source)


def mixed_model(drug: str, study: Study) -> Iterator[Check]:
    """The pre-specified model of the white paper."""
    m, source = fit(study), "statsmodels 0.15.0, MixedLM by REML"
    treatment, slope, error_treatment, error_slope, residual, loglik = STATSMODELS[drug]
    i, j = m.names.index("treatment"), m.names.index("concentration")
    yield check(f"{drug} treatment effect at concentration 0, ms", m.beta[i], treatment, 1e-3, source)
    yield check(f"{drug} slope, ms per {study.unit}", m.beta[j], slope, 1e-4, source, relative=True)
    yield check(f"{drug} error of the treatment effect, ms", m.plain[i, i] ** 0.5, error_treatment, 0.01, source, relative=True)
    yield check(f"{drug} error of the slope", m.plain[j, j] ** 0.5, error_slope, 0.01, source, relative=True)
    yield check(f"{drug} residual variance, ms²", m.residual, residual, 1e-4, source, relative=True)
    # theirs has the concentration in thousands: log|X'V⁻¹X| differs by twice log 1000
    yield check(f"{drug} restricted log-likelihood", m.loglik, loglik - np.log(1000.0), 1e-3, source)


def coverage(drug: str, study: Study, model: ConcentrationQT) -> Check:
    """Twins that saw the day up to 2 h forecast the rest; every subject left out of the population that its twin starts from."""
    held = follow(model, study, 2.0)
    c = held.coverage
    source = (
        f"nominal; {len(set(held.id.tolist()))} subjects left out in 5 folds, {c.number} measurements, standard error "
        f"{100 * c.error:.1f} points by subject ({100 * held.binomial:.1f} binomial); false alarms in 1 of 100"
    )
    return check(f"{drug} coverage of 90 % forecast intervals of twins, %", 100 * c.share, 90.0, 100 * 2.576 * c.error, source)

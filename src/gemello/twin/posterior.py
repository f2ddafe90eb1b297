"""What is believed of one subject's individual parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from gemello.base.errors import DataError, ModelError
from gemello.base.provenance import Provenance
from gemello.engine.lanes import precision
from gemello.inference.ensemble import khat_limit
from gemello.inference.scores import quantiles
from gemello.model.contract import Model
from gemello.model.individuals import individual
from gemello.model.population import PopulationParameters
from gemello.twin.weighting import BAYES, Weighting

Floats = NDArray[np.float64]

LEAST_SURPRISE = 1e-3  # data less probable than this are asked about, not absorbed: 1 in 1,000 subjects is asked in vain
CLOSE = 2.0  # ln units: a second mode within them is reported
LEAST_EFFECTIVE = 100.0  # draws below which a probability is not to be trusted


def natural(model: Model, parameters: PopulationParameters, etas: Floats, covariates: Mapping[str, float]) -> dict[str, Floats]:
    """Individual parameters by name, (draws,), at etas (draws, etas) and these covariates, occasions apart. Raises DataError."""
    for c in model.covariates:
        if c.name not in covariates:
            raise DataError(
                f"{model.name} needs this covariate", column=c.name, remedy="give it to Twin.new, or as a column of the schedule"
            )
    with precision():
        cov = model.covariate_type(*(np.float64(covariates[c.name]) for c in model.covariates))
        theta = model.theta_type(*(np.float64(parameters.theta[n]) for n in model.parameters.theta_names))
        p = individual(model, theta, tuple(np.asarray(etas, float)[:, : len(parameters.eta_names)].T), cov)
        return {n: np.broadcast_to(np.asarray(v, float), len(etas)) for n, v in zip(p._fields, p, strict=True)}


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of one subject's etas, in the order of `names`; of a subject without data, the prior.

    mode (etas,) and covariance (etas, etas): Laplace's approximation. draws (draws, etas), weights (draws,) summing to 1.
    ess: effective number of draws. khat: tail index of the weights. log_evidence: ln p(data). observations: how many values.
    covariates: those of the last record, with which individual parameters are shown. until: time of the last record.
    weighting: departures from Bayes' rule. rival: of another mode of the etas, by how much its ln density is lower (at most
    `CLOSE`); None where no search ended in one. cautions: what a reader must know of the data.
    """

    model: Model
    parameters: PopulationParameters
    names: tuple[str, ...]
    mode: Floats
    covariance: Floats
    draws: Floats
    weights: Floats
    ess: float
    khat: float
    log_evidence: float
    objective: float
    observations: int
    covariates: Mapping[str, float]
    until: float
    provenance: Provenance
    misfit: float = 0.0  # see `gemello.inference.laplace.Modes`
    weighting: Weighting = BAYES
    rival: float | None = None
    cautions: tuple[str, ...] = ()

    @property
    def surprise(self) -> float:
        """Probability that a subject of this population shows data at least as far from what it expects (χ² approximation)."""
        return float(chi2.sf(self.misfit, self.observations)) if self.observations else 1.0

    @property
    def doubt(self) -> str | None:
        """Why the posterior cannot be trusted; None if it can."""
        if self.surprise < LEAST_SURPRISE:
            return (
                f"the measurements contradict the population (probability {self.surprise:.1g}, below {LEAST_SURPRISE:g}): check "
                "the levels, their times and units, and the doses before them; measure again before you rely on this twin"
            )
        if self.rival is not None:
            return (
                f"two explanations of the measurements compete: another mode of the individual parameters is only "
                f"{self.rival:.2f} ln units less probable; measure once more, at another time after the dose"
            )
        limit = khat_limit(len(self.draws))
        if self.khat > limit:
            return (
                f"the posterior draws are unreliable (k-hat {self.khat:.2f}, above {limit:.2f}); "
                "assimilate with more draws, or check the data"
            )
        if not self.ess >= LEAST_EFFECTIVE:
            return (
                f"the posterior has only {self.ess:.0f} effective draws (below {LEAST_EFFECTIVE:.0f}); assimilate with more draws"
            )
        return None

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the posterior rests on beside the model and Bayes' rule, in words."""
        return self.weighting.words(self.model)

    @property
    def mean(self) -> Floats:
        """(etas,) posterior mean."""
        return np.asarray(self.weights @ self.draws)

    @cached_property
    def individual(self) -> dict[str, Floats]:
        """Draws of the individual parameters by name, natural scale, (draws,)."""
        return natural(self.model, self.parameters, self.draws, self.covariates)

    @cached_property
    def individual_mode(self) -> dict[str, float]:
        """Individual parameters at the mode, natural scale (MAP estimates)."""
        return {n: float(v[0]) for n, v in natural(self.model, self.parameters, self.mode[None, :], self.covariates).items()}

    @cached_property
    def typical(self) -> dict[str, float]:
        """Individual parameters of a typical subject with the same covariates."""
        return {
            n: float(v[0])
            for n, v in natural(self.model, self.parameters, np.zeros((1, len(self.names))), self.covariates).items()
        }

    def table(self, level: float = 0.9, every: bool = False) -> Any:
        """Individual parameters (polars): parameter, unit, typical, mode, mean, sd, low, median, high.

        level: probability of the central interval low to high. every: also those that do not vary between subjects.
        """
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        if not 0 < level < 1:
            raise ModelError(f"level {level:g}: give a probability between 0 and 1")
        rows, units = [], self.model.individual_units()
        for name, x in self.individual.items():
            if not every and np.ptp(x) == 0:
                continue
            low, median, high = quantiles(x, [0.5 - level / 2, 0.5, 0.5 + level / 2], self.weights)
            mean = float(self.weights @ x)
            sd = float(np.sqrt(self.weights @ (x - mean) ** 2))
            rows.append(
                (
                    name,
                    units[name],
                    self.typical[name],
                    self.individual_mode[name],
                    mean,
                    sd,
                    float(low),
                    float(median),
                    float(high),
                )
            )
        columns = ("parameter", "unit", "typical", "mode", "mean", "sd", "low", "median", "high")
        kinds = {c: pl.String if i < 2 else pl.Float64 for i, c in enumerate(columns)}
        return pl.DataFrame(rows, schema=kinds, orient="row")

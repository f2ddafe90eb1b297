"""What a fit of a population gives, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ConvergenceError


@dataclass(frozen=True)
class Fit:
    """Population estimates. All dicts are by name; OMEGA is in the order of `etas`.

    objective: −2 log-likelihood without constants. se: standard errors of `estimates` (NaN where they could not be had),
    by `covariance_type` (sandwich R⁻¹SR⁻¹, as NONMEM's default, or R⁻¹). individual: etas of each subject, (subjects, etas).
    shrinkage: of each eta, 1 − SD(η̂)/ω. trace: objective at each iteration. occasion: variances between occasions;
    individual_occasion: what each occasion adds to the etas, (subjects, occasions, parameters). censored: number of values known
    only to lie below or above a limit, which are not among the `observations`.

    Of sampled methods also: objective_error and monte_carlo, standard errors of the objective and of each estimate from the
    finite number of draws; conditional, conditional_sd: mean and SD of each subject's etas given its data (individual: modes);
    posterior: all of a Bayesian fit.
    """

    model: str
    method: str
    objective: float
    theta: dict[str, float]
    omega: NDArray[np.float64]
    etas: tuple[str, ...]
    sigma: dict[str, float]
    names: tuple[str, ...]
    estimates: dict[str, float]
    se: dict[str, float]
    covariance: NDArray[np.float64]
    covariance_type: str
    ids: tuple[str, ...]
    individual: NDArray[np.float64]
    individual_objective: NDArray[np.float64]
    shrinkage: dict[str, float]
    converged: bool
    message: str
    iterations: int
    observations: int
    trace: tuple[float, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    occasion: dict[str, float] = field(default_factory=dict)
    individual_occasion: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0, 0)))
    censored: int = 0
    objective_error: float = 0.0
    monte_carlo: dict[str, float] = field(default_factory=dict)
    conditional: NDArray[np.float64] | None = None
    conditional_sd: NDArray[np.float64] | None = None
    posterior: Any = None

    def check(self) -> Fit:
        """Raise ConvergenceError unless the fit converged."""
        if not self.converged:
            raise ConvergenceError(
                f"model {self.model}, {self.method}: did not converge ({self.message}); try other starts, or a simpler OMEGA"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        plain = lambda v: None if v is None or not np.isfinite(v) else float(v)  # noqa: E731
        return {
            "model": self.model,
            "method": self.method,
            "converged": self.converged,
            "message": self.message,
            "objective": plain(self.objective),
            "objective_error": plain(self.objective_error),
            "theta": {k: plain(v) for k, v in self.theta.items()},
            "omega": {"etas": list(self.etas), "matrix": [[plain(v) for v in row] for row in self.omega]},
            "sigma": {k: plain(v) for k, v in self.sigma.items()},
            "estimates": {
                k: {"estimate": plain(v), "se": plain(self.se[k])}
                | ({"monte_carlo_error": plain(self.monte_carlo[k])} if k in self.monte_carlo else {})
                for k, v in self.estimates.items()
            },
            "covariance_type": self.covariance_type,
            "shrinkage": {k: plain(v) for k, v in self.shrinkage.items()},
            "subjects": [
                {"id": i, "objective": plain(o), "etas": dict(zip(self.etas, map(plain, e), strict=True))}
                for i, o, e in zip(self.ids, self.individual_objective, self.individual, strict=True)
            ],
            "observations": self.observations,
            "censored": self.censored,
            "occasion": {k: plain(v) for k, v in self.occasion.items()},
            "iterations": self.iterations,
            "excluded": [{"id": i, "reason": r} for i, r in self.excluded],
            "notes": list(self.notes),
            "provenance": self.provenance,
        } | ({"posterior": self.posterior.to_dict()} if self.posterior is not None else {})

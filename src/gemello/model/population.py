"""Population parameters: what is known of a population before a subject's own data speak."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemello.base.errors import ModelError
from gemello.model.contract import Model


@dataclass(frozen=True, eq=False)
class PopulationParameters:
    """Values of a model's population parameters.

    theta, sigma: by name, in the table's units (sigma: standard deviations of the residual error). omega: (etas, etas),
    covariance of the etas in the order of `eta_names`. occasion: variances between occasions by name. covariance: of the
    estimates, (estimates, estimates) in the order of `estimated`, where they came from a fit. source: where the values come from,
    in words.
    """

    theta: Mapping[str, float]
    omega: NDArray[np.float64]
    sigma: Mapping[str, float]
    eta_names: tuple[str, ...]
    covariance: NDArray[np.float64] | None = None
    estimated: tuple[str, ...] = field(default=())
    source: str = ""
    occasion: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Model,
        values: Mapping[str, float] | None = None,
        omega: ArrayLike | None = None,
        source: str = "",
        occasion: Mapping[str, float] | None = None,
    ) -> PopulationParameters:
        """The table's values, replaced by `values` (theta and residual parameters by name), `omega` and `occasion` (variances
        between occasions by name). Raises ModelError."""
        table = model.parameters.with_values(values or {})
        n = len(table.eta_names)
        out = cls(
            {n: table[n].value for n in table.theta_names},
            np.reshape(np.array(table.omega(), float), (n, n)) if omega is None else np.array(omega, float),
            {n: table[n].value for n in table.residual_names},
            table.eta_names,
            source=source or f"parameter table of {model.name} {model.version}",
            occasion={n: table[n].occasion_variance for n in table.occasion_names} | dict(occasion or {}),
        )
        return out.check(model)

    @classmethod
    def from_fit(cls, fit: Any) -> PopulationParameters:
        """From the result of an estimation: its `theta`, `omega`, `etas`, `sigma`, and the `covariance` of the estimates `names`.

        A covariance that could not be had (NaN) is left out. Raises ModelError for something that is no fit.
        """
        missing = [n for n in ("theta", "omega", "etas", "sigma") if not hasattr(fit, n)]
        if missing:
            raise ModelError(f"{type(fit).__name__} has no {', '.join(missing)}; give the result of a fit")
        covariance = getattr(fit, "covariance", None)
        known = covariance is not None and bool(np.all(np.isfinite(covariance)))
        return cls(
            {n: float(v) for n, v in fit.theta.items()},
            np.array(fit.omega, float),
            {n: float(v) for n, v in fit.sigma.items()},
            tuple(fit.etas),
            np.array(covariance, float) if known else None,
            tuple(getattr(fit, "names", ())) if known else (),
            f"fit of {getattr(fit, 'model', 'a model')} ({getattr(fit, 'method', 'unknown method')})",
            {n: float(v) for n, v in getattr(fit, "occasion", {}).items()},
        )

    def covariance_of_etas(self, occasions: int) -> NDArray[np.float64]:
        """OMEGA of all etas of a subject with so many occasions: (etas + occasions · changing) square."""
        extra = np.tile([float(v) for v in self.occasion.values()], occasions)
        n = len(self.omega)
        out = np.zeros((n + len(extra), n + len(extra)))
        out[:n, :n] = self.omega
        out[range(n, len(out)), range(n, len(out))] = extra
        return out

    def check(self, model: Model) -> PopulationParameters:
        """Raise ModelError unless these are the parameters of `model`, inside their ranges, with a covariance for OMEGA."""
        table = model.parameters
        for have, need, what in (
            (tuple(self.theta), table.theta_names, "theta"),
            (tuple(self.sigma), table.residual_names, "sigma"),
            (self.eta_names, table.eta_names, "eta_names"),
            (tuple(self.occasion), table.occasion_names, "occasion"),
        ):
            if sorted(have) != sorted(need) or (what in ("eta_names", "occasion") and have != need):
                raise ModelError(
                    f"model {model.name}: {what} names {', '.join(have) or 'nothing'}; give {', '.join(need) or 'none'}"
                )
        table.with_values({**self.theta, **self.sigma})
        if not all(0 < v < np.inf for v in self.occasion.values()):
            raise ModelError(
                f"model {model.name}: a variance between occasions is not above 0; give one, or take it out of the table"
            )
        n = len(self.eta_names)
        if self.omega.shape != (n, n) or not np.all(np.isfinite(self.omega)) or not np.allclose(self.omega, self.omega.T):
            raise ModelError(
                f"model {model.name}: OMEGA of shape {self.omega.shape}; give a symmetric matrix of finite numbers, {n} by {n}"
            )
        if n and np.linalg.eigvalsh(self.omega)[0] <= 0:
            low = self.eta_names[int(np.argmin(np.diagonal(self.omega)))]
            raise ModelError(
                f"model {model.name}: OMEGA is not positive definite (variance of {low}: {np.min(np.diagonal(self.omega)):g}); "
                "give every parameter that varies between subjects a variance above 0, or its row the distribution none"
            )
        return self

    def hash(self) -> str:
        """16 hexadecimal digits that depend on every value, for provenance."""
        values = (
            sorted(self.theta.items()),
            self.omega.tolist(),
            sorted(self.sigma.items()),
            self.eta_names,
            list(self.occasion.items()),
        )
        return hashlib.sha256(repr(values).encode()).hexdigest()[:16]

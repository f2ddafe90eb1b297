"""Population parameters as one vector x without constraints, and back: what an optimiser moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import ModelError
from gemello.inference.likelihood import Population
from gemello.model.contract import Model
from gemello.model.parameters import Parameter


@dataclass(frozen=True)
class Entry:
    """One estimated scalar. transform: log, logit (between the bounds) or linear (times scale)."""

    name: str
    transform: Literal["log", "logit", "linear"]
    lower: float
    upper: float
    scale: float

    def forward(self, x: Any) -> Any:
        """Natural value of the coordinate x."""
        if self.transform == "log":
            return jnp.exp(x)
        if self.transform == "logit":
            return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(x)
        return self.scale * x

    def inverse(self, value: float) -> float:
        """Coordinate of a natural value."""
        if self.transform == "log":
            return float(np.log(value))
        if self.transform == "logit":
            u = np.clip((value - self.lower) / (self.upper - self.lower), 1e-6, 1 - 1e-6)
            return float(np.log(u / (1 - u)))
        return value / self.scale


def _entry(row: Parameter, start: float) -> Entry:
    if row.kind == "residual" or (row.lower >= 0 and np.isinf(row.upper) and start > 0):
        return Entry(row.name, "log", row.lower, row.upper, 1.0)
    if np.isfinite(row.lower) and np.isfinite(row.upper):
        return Entry(row.name, "logit", row.lower, row.upper, 1.0)
    return Entry(row.name, "linear", row.lower, row.upper, max(abs(start), 0.1))


@dataclass(frozen=True)
class Layout:
    """What is estimated. x = thetas, residual parameters, the Cholesky factor of each block of OMEGA, row by row, and the
    standard deviations between occasions.

    blocks: names of etas that covary. log_diagonal: the factor's diagonal as its logarithm (FO lets it pass through 0, so
    that a singular OMEGA is reached smoothly). fixed: names and values of what is not estimated. scale: start SDs of etas.
    changing: names that vary between occasions; occasions: their number; changing_scale: start SDs.
    """

    thetas: tuple[Entry, ...]
    sigmas: tuple[Entry, ...]
    etas: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    scale: tuple[float, ...]
    fixed_theta: tuple[tuple[str, float], ...]
    fixed_sigma: tuple[tuple[str, float], ...]
    log_diagonal: bool = True
    changing: tuple[str, ...] = ()
    changing_scale: tuple[float, ...] = ()
    occasions: int = 0

    @property
    def elements(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns (row ≥ column) of OMEGA that are estimated, in the order of x."""
        at = self.etas.index
        return tuple((at(b[i]), at(b[j])) for b in self.blocks for i in range(len(b)) for j in range(i + 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the estimated natural quantities, in the order of x."""
        omega = (f"OMEGA({self.etas[i]},{self.etas[j]})" for i, j in self.elements)
        occasion = (f"OCCASION({n},{n})" for n in self.changing)
        return (*(e.name for e in self.thetas), *(e.name for e in self.sigmas), *omega, *occasion)

    def __len__(self) -> int:
        return len(self.thetas) + len(self.sigmas) + len(self.elements) + len(self.changing)

    def population(self, x: Any) -> Population:
        """Natural parameters at x."""
        n = len(self.thetas)
        theta = {e.name: e.forward(x[i]) for i, e in enumerate(self.thetas)}
        sigma = {e.name: e.forward(x[n + i]) for i, e in enumerate(self.sigmas)}
        theta.update({k: jnp.asarray(v, x.dtype) for k, v in self.fixed_theta})
        sigma.update({k: jnp.asarray(v, x.dtype) for k, v in self.fixed_sigma})
        factor = self.factor(x)
        return Population(theta, factor @ factor.T, sigma)

    def factor(self, x: Any) -> Any:
        """Lower triangular factor of OMEGA at x, (etas, etas), occasions included; without log_diagonal it may be singular."""
        first, n = len(self.thetas) + len(self.sigmas), len(self.etas)
        size = n + self.occasions * len(self.changing)
        out = jnp.zeros((size, size), x.dtype)
        for k, (i, j) in enumerate(self.elements):
            v = x[first + k]
            out = out.at[i, j].set(jnp.exp(v) if i == j and self.log_diagonal else v * self.scale[i])
        if size > n:
            v = x[first + len(self.elements) :]
            sd = jnp.exp(v) if self.log_diagonal else v * jnp.array(self.changing_scale)
            at = jnp.arange(n, size)
            out = out.at[at, at].set(jnp.tile(sd, self.occasions))
        return out

    def natural(self, x: Any) -> Any:
        """Estimated natural quantities in the order of `names`: thetas, residual SDs, elements of OMEGA."""
        pop = self.population(x)
        values = [pop.theta[e.name] for e in self.thetas] + [pop.sigma[e.name] for e in self.sigmas]
        n = len(self.etas)
        occasion = (pop.omega[n + j, n + j] for j in range(len(self.changing)))
        return jnp.stack([*values, *(pop.omega[i, j] for i, j in self.elements), *occasion])

    def start(
        self, theta: Mapping[str, float], sigma: Mapping[str, float], omega: NDArray[np.float64],
        occasion: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:  # fmt: skip
        """x at these natural values. omega: (etas, etas) between subjects. occasion: variances between occasions, by default
        those at the start."""
        x = [e.inverse(theta[e.name]) for e in self.thetas] + [e.inverse(sigma[e.name]) for e in self.sigmas]
        factor = np.zeros_like(omega)
        for b in self.blocks:
            rows = np.ix_([self.etas.index(n) for n in b], [self.etas.index(n) for n in b])
            part = omega[rows] + np.diag(1e-8 * np.diag(omega[rows]))
            factor[rows] = np.linalg.cholesky(part)
        for i, j in self.elements:
            diagonal = i == j and self.log_diagonal
            x.append(float(np.log(factor[i, i])) if diagonal else factor[i, j] / self.scale[i])
        sd = np.array(self.changing_scale) if occasion is None else np.sqrt(occasion)
        return np.array([*x, *(np.log(sd) if self.log_diagonal else sd / np.array(self.changing_scale))])


def omega_blocks(model: Model, omega: str | Sequence[Sequence[str]] | None) -> tuple[tuple[str, ...], ...]:
    """Blocks of etas: "diagonal", "full", a list of lists of names, or None for what the parameter table's covariances say."""
    names = model.parameters.eta_names
    if omega == "full":
        return (names,)
    if omega == "diagonal":
        return tuple((n,) for n in names)
    if omega is None:
        groups = {n: {n} for n in names}
        for a, b in model.parameters.covariances:
            joined = groups[a] | groups[b]
            for n in joined:
                groups[n] = joined
        return tuple(dict.fromkeys(tuple(n for n in names if n in groups[k]) for k in names))
    blocks = [tuple(b) for b in omega]
    given = [n for b in blocks for n in b]
    unknown = [n for n in given if n not in names]
    if unknown or len(given) != len(set(given)):
        raise ModelError(f"omega: {', '.join(unknown) or 'a name twice'}; name each of {', '.join(names)} at most once")
    return (*blocks, *((n,) for n in names if n not in given))


def layout(
    model: Model,
    values: Mapping[str, float],
    *,
    estimate: Sequence[str] | None = None,
    omega: str | Sequence[Sequence[str]] | None = None,
    log_diagonal: bool = True,
    occasions: int = 0,
) -> Layout:
    """Layout of a fit of this model. estimate: names to estimate, by default those that the table marks. occasions: the largest
    number of occasions of any subject."""
    table = model.parameters
    chosen = {r.name for r in table if r.kind != "constant" and r.estimate} if estimate is None else set(estimate)
    for n in chosen:
        if table[n].kind == "constant":
            raise ModelError(f"parameter {n}: a constant cannot be estimated; leave it out")
    start = {r.name: float(values.get(r.name, r.value)) for r in table}
    for r in table:
        if r.distribution != "none" and r.variance <= 0 and r.occasion_variance <= 0:
            raise ModelError(
                f"parameter {r.name}: varies between subjects but has variance 0; give a start above 0, or distribution none"
            )
        if r.name in chosen and r.distribution == "lognormal" and start[r.name] == 0:
            raise ModelError(f"parameter {r.name}: start {start[r.name]:g}; it is log-normal, so give a start above 0")
        if r.name in chosen and r.kind == "residual" and start[r.name] <= 0:
            raise ModelError(f"parameter {r.name}: start {start[r.name]:g}; a residual error is estimated from a start above 0")
    thetas = tuple(_entry(r, start[r.name]) for r in table if r.name in chosen and r.kind == "theta")
    sigmas = tuple(_entry(r, start[r.name]) for r in table if r.name in chosen and r.kind == "residual")
    held = [(r.name, start[r.name], r.kind) for r in table if r.name not in chosen]
    return Layout(
        thetas,
        sigmas,
        table.eta_names,
        omega_blocks(model, omega),
        tuple(float(np.sqrt(v)) for v in np.diag(np.reshape(table.omega(), (len(table.eta_names),) * 2))),
        tuple((n, v) for n, v, k in held if k != "residual"),
        tuple((n, v) for n, v, k in held if k == "residual"),
        log_diagonal,
        table.occasion_names,
        tuple(float(np.sqrt(table[n].occasion_variance)) for n in table.occasion_names),
        occasions,
    )

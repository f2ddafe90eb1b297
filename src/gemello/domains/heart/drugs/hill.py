"""Hill block fitted to raw block tables, with the posterior of IC50 and Hill coefficient.

Model: block (%) = 100 C^h/(C^h + IC50^h) + noise N(0, σ²). Prior: log IC50, h and σ uniform within bounds; those of FDA's fit of
the laboratory-specific vintage of 2020 by default. σ is integrated out in closed form, which leaves two parameters: their
posterior is tabulated on a grid (first everywhere, then where its mass is) and drawn from exactly, so no chain has to converge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import gammaincc, gammaln

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.drugs.drug import HIGHEST, LOWEST, Block

Array = NDArray[np.float64]
COARSE, FINE = (401, 101), (400, 200)  # grid points of log10 IC50 and h
WEAK, HALF = 20.0, 60.0  # mean block in % at the highest concentration: below, none was seen; below, IC50 is extrapolated
MOST_ROWS = 100_000
NOISE = 1e-6  # %, least residual standard deviation: data of a formula are fitted too


class Prior(NamedTuple):
    """Uniform prior: log10 of IC50 in nM, Hill coefficient, residual standard deviation in %."""

    log10_ic50: tuple[float, float] = (-10.0, 10.0)
    h: tuple[float, float] = (0.5, 2.0)
    sigma: float = 50.0


LAB2020 = Prior()
WIDE = Prior(h=(0.1, 10.0))


@dataclass(frozen=True)
class HillFit:
    """ic50 (nM), h, sigma (%): best fit within the prior's bounds. draws: of the posterior, Block of (draws,), and their sigma.
    concentration (nM), block (%): the data. top: mean block at the highest concentration, %. notes: what to distrust."""

    ic50: float
    h: float
    sigma: float
    draws: Block
    draws_sigma: Array
    concentration: Array
    block: Array
    top: float
    seed: int
    notes: tuple[str, ...]

    @property
    def point(self) -> Block:
        """Best fit."""
        return Block(self.ic50, self.h)

    def interval(self, level: float = 0.95) -> tuple[tuple[float, float], tuple[float, float]]:
        """Equal-tailed intervals of IC50 (nM) and h."""
        tails = (0.5 - level / 2, 0.5 + level / 2)
        low, high = ((float(q[0]), float(q[1])) for q in (np.quantile(v, tails) for v in self.draws))
        return low, high

    def predict(self, concentration: ArrayLike, level: float = 0.95, noise: bool = False) -> Array:
        """Lower, median and upper block in % at each concentration: (3, concentrations). noise: of a new measurement."""
        c = np.atleast_1d(np.asarray(concentration, float))
        curves = percent(self.draws.ic50[:, None], self.draws.h[:, None], c)
        if noise:
            normal = generator(self.seed, "hill", "predict").standard_normal(curves.shape)
            curves = curves + self.draws_sigma[:, None] * normal
        return np.quantile(curves, (0.5 - level / 2, 0.5, 0.5 + level / 2), axis=0)


def percent(ic50: ArrayLike, h: ArrayLike, concentration: ArrayLike) -> Array:
    """Block in %, by the Hill equation; broadcasts. Stable where a power would overflow."""
    x = np.asarray(h) * (np.log(np.asarray(concentration, float)) - np.log(np.asarray(ic50, float)))
    return np.asarray(50.0 * (1.0 + np.tanh(0.5 * x)))


def fit(
    concentration: ArrayLike, block: ArrayLike, *, draws: int = 2000, seed: int = 0, prior: Prior = LAB2020, source: str = "block"
) -> HillFit:
    """Fit block (%) measured at `concentration` (nM), one row per cell. Raises DataError for data that cannot be fitted.

    draws: joint draws of the posterior. source: words for errors.
    """
    c, y = _checked(concentration, block, source)
    best = _optimum(c, y, prior)
    seen = _Posterior(c, y, prior)
    pairs = seen.draw(draws, generator(seed, "hill", source, "posterior"))
    sigma = seen.draw_sigma(pairs, generator(seed, "hill", source, "sigma"))
    top = float(np.mean(y[c == c.max()]))
    residual = y - percent(10.0 ** best[0], best[1], c)
    sd = max(math.sqrt(float(residual @ residual) / max(len(y) - 2, 1)), NOISE)
    notes = _notes(c, y, pairs, best, prior)
    return HillFit(10.0 ** best[0], best[1], sd, Block(10.0 ** pairs[0], pairs[1]), sigma, c, y, top, seed, notes)


def _checked(concentration: ArrayLike, block: ArrayLike, source: str) -> tuple[Array, Array]:
    c, y = np.atleast_1d(np.asarray(concentration, float)), np.atleast_1d(np.asarray(block, float))
    if c.shape != y.shape or c.ndim != 1:
        raise DataError("concentrations and block of unequal length", source=source, remedy="one row, one of each")
    if len(c) > MOST_ROWS:
        raise DataError(f"more than {MOST_ROWS} rows", source=source, remedy="give one row per cell and concentration")
    for i, (x, b) in enumerate(zip(c, y, strict=True), start=1):
        if not (math.isfinite(x) and LOWEST <= x <= HIGHEST):
            raise DataError("not a concentration in nM", source=source, row=i, value=x, remedy="leave out rows without drug")
        if not (math.isfinite(b) and -200.0 <= b <= 200.0):
            raise DataError("not a block in %", source=source, row=i, value=b, remedy="give 0 for none, 100 for complete block")
    if np.all(np.abs(y) <= 1.2) and len(y) > 2 and y.max() > 0.5:
        raise DataError("block looks like a fraction, not %", source=source, value=y.max(), remedy="multiply it by 100")
    if len(np.unique(c)) < 2 or len(c) < 4:
        raise DataError(
            f"{len(c)} measurements at {len(np.unique(c))} concentrations", source=source,
            remedy="give at least 4, at 2 or more concentrations",
        )  # fmt: skip
    return c, y


def _optimum(c: Array, y: Array, prior: Prior) -> tuple[float, float]:
    """log10 IC50 and h of least squares within the prior's bounds, from several starts."""
    low, high = np.array([prior.log10_ic50[0], prior.h[0]]), np.array([prior.log10_ic50[1], prior.h[1]])
    middle = np.clip(1.0, *prior.h)
    starts = np.linspace(np.log10(c.min()) - 2.0, np.log10(c.max()) + 2.0, 7)
    fits = [
        least_squares(
            lambda p: percent(10.0 ** p[0], p[1], c) - y,
            np.clip([s, middle], low + 1e-6, high - 1e-6),
            bounds=(low, high),
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        for s in starts
    ]
    x = min(fits, key=lambda f: f.cost).x
    return float(x[0]), float(x[1])


class _Posterior:
    """Posterior of (log10 IC50, h), σ integrated out over (0, s): ∫ σ^−N exp(−S/2σ²) dσ = ½ (S/2)^−a Γ(a, S/2s²), a = (N−1)/2."""

    def __init__(self, c: Array, y: Array, prior: Prior) -> None:
        self.prior, self.shape = prior, 0.5 * (len(y) - 1)
        self.c, at, self.count = np.unique(c, return_inverse=True, return_counts=True)
        self.mean = np.bincount(at, y) / self.count
        self.within = float(np.sum((y - self.mean[at]) ** 2))
        whole = tuple(np.linspace(*bounds, n) for bounds, n in zip((prior.log10_ic50, prior.h), COARSE, strict=True))
        weight = self._weights(*whole)
        for _ in range(3):  # a narrow peak may hide between the first points
            whole = tuple(_around(axis, weight.sum(1 - i), n) for i, (axis, n) in enumerate(zip(whole, FINE, strict=True)))
            weight = self._weights(*whole)
        self.axes, self.weight = whole, weight

    def squares(self, x: Array, h: Array) -> Array:
        """Sum of squares at log10 IC50 x and h, broadcast."""
        total = np.full(np.broadcast_shapes(x.shape, h.shape), self.within)
        for c, n, y in zip(self.c, self.count, self.mean, strict=True):
            total += n * (percent(10.0**x, h, c) - y) ** 2
        return np.maximum(total, NOISE**2)

    def _weights(self, x: Array, h: Array) -> Array:
        s = self.squares(x[:, None], h[None, :])
        a = self.shape
        with np.errstate(divide="ignore"):  # no mass where the noise would have to exceed its bound
            tail = np.log(gammaincc(a, s / (2.0 * self.prior.sigma**2))) + gammaln(a)
        log = -a * np.log(s / 2.0) + tail
        weight: Array = np.exp(log - log.max())
        return weight / weight.sum()

    def draw(self, n: int, random: np.random.Generator) -> Array:
        """(2, n) draws: a cell of the grid by its weight, then a place within it."""
        x, h = self.axes
        at = random.choice(self.weight.size, n, p=self.weight.reshape(-1))
        pairs = np.stack([x[at // len(h)], h[at % len(h)]])
        step = np.array([[x[1] - x[0]], [h[1] - h[0]]])
        bounds = np.array([self.prior.log10_ic50, self.prior.h])
        return np.clip(pairs + step * (random.random((2, n)) - 0.5), bounds[:, :1], bounds[:, 1:])

    def draw_sigma(self, pairs: Array, random: np.random.Generator) -> Array:
        """σ given each pair: S/2σ² is gamma(a), cut where σ would exceed its bound."""
        s = self.squares(pairs[0], pairs[1])
        out = np.sqrt(s / (2.0 * random.gamma(self.shape, size=len(s))))
        for _ in range(100):
            bad = out > self.prior.sigma
            if not bad.any():
                break
            out[bad] = np.sqrt(s[bad] / (2.0 * random.gamma(self.shape, size=int(bad.sum()))))
        return np.minimum(out, self.prior.sigma)


def _around(axis: Array, mass: Array, n: int) -> Array:
    """n points over the part of the axis that holds all but 1e-9 of the mass, with two of the old points to spare."""
    total = np.cumsum(mass)
    first = max(int(np.searchsorted(total, 1e-9)) - 2, 0)
    last = min(int(np.searchsorted(total, total[-1] - 1e-9)) + 2, len(axis) - 1)
    return np.linspace(axis[first], axis[last], n)


def _notes(c: Array, y: Array, pairs: Array, best: tuple[float, float], prior: Prior) -> tuple[str, ...]:
    notes = []
    top, bottom = (float(np.mean(y[c == end])) for end in (c.max(), c.min()))
    if top < WEAK:
        least = 10.0 ** float(np.quantile(pairs[0], 0.05))
        notes.append(f"no block seen ({top:.0f} % at {c.max():g} nM): IC50 above {least:.3g} nM (95 %), no more is known of it")
    elif top < HALF:
        notes.append(f"IC50 extrapolated: {top:.0f} % block at the highest concentration, {c.max():g} nM")
    if bottom > HALF:
        notes.append(f"IC50 extrapolated: {bottom:.0f} % block at the lowest concentration already, {c.min():g} nM")
    if min(best[1] - prior.h[0], prior.h[1] - best[1]) < 1e-3:
        notes.append(f"Hill coefficient at its bound, {best[1]:.3g}")
    return tuple(notes)

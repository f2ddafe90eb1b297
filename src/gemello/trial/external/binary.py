"""Borrowing for a control proportion: priors of the response rate from history, as densities on a grid of the logit.

The likelihood is binomial, exactly; nothing is taken for normal and nothing is sampled. Power priors with a fixed power are beta
distributions (`beta_prior`); the others are sums of them or predictive densities by quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit, logit, logsumexp

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.priors import drift_nodes, power_nodes

Array = NDArray[np.float64]
Counts = tuple[int, int]  # responders, subjects
GRID = np.linspace(-14.0, 14.0, 2801)  # logit of the rate: 8e-7 to 1 − 8e-7


@dataclass(frozen=True, eq=False)
class Rate:
    """Distribution of a rate. log_density: (G,) log density of the logit on `GRID`, up to a constant. parts: log densities of
    its named components, with their weights in them, where there are some."""

    log_density: Array
    parts: tuple[tuple[str, Array], ...] = ()

    @property
    def mass(self) -> Array:
        """(G,) probabilities of the grid's points, sum 1."""
        return np.exp(self.log_density - logsumexp(self.log_density))

    @property
    def mean(self) -> float:
        """Mean of the rate."""
        return float(self.mass @ expit(GRID))

    @property
    def sd(self) -> float:
        """Standard deviation of the rate."""
        return float(np.sqrt(self.mass @ (expit(GRID) - self.mean) ** 2))

    def quantile(self, q: float) -> float:
        """Rate below which the probability is q."""
        mass = self.mass
        middle = np.cumsum(mass) - mass / 2
        return float(expit(np.interp(q, middle, GRID)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Equal-tailed credible interval."""
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def update(self, data: Counts) -> Rate:
        """Posterior after more subjects."""
        like = log_likelihood(data)
        return Rate(self.log_density + like, tuple((name, d + like) for name, d in self.parts))

    def share(self, part: str) -> float:
        """Probability of a named component ("history", "vague")."""
        return float(sum(np.exp(logsumexp(d) - logsumexp(self.log_density)) for name, d in self.parts if name == part))

    def moment_sample_size(self) -> float:
        """Subjects that the prior is worth by moments: a + b of the beta distribution with the same mean and variance."""
        return self.mean * (1 - self.mean) / self.sd**2 - 1

    def effective_sample_size(self) -> float:
        """The same by expected local information ratio (ELIR; Neuenschwander et al. 2020, Biometrics 76:578), for the rate p:
        mean of −(log prior)″(p)·p(1−p). For a beta distribution it is a + b."""
        p, step = expit(GRID), GRID[1] - GRID[0]
        mass = self.mass
        slope = np.gradient(self.log_density, step)  # of the logit's density
        # partial integration, so that no second derivative is needed: −E[v l″] = E[v l′²] + E[v′ l′], v = p(1 − p)
        of_rate = (slope - (1 - 2 * p)) / (p * (1 - p))  # d log density of p / dp
        return float(mass @ (p * (1 - p) * of_rate**2 + (1 - 2 * p) * of_rate))


def log_likelihood(data: Counts) -> Array:
    """(G,) binomial log-likelihood on the grid, without its constant. Raises DataError for counts that cannot be."""
    r, n = data
    if not 0 <= r <= n or n <= 0:
        raise DataError("not a count of responders", column="counts", value=data, remedy="give (responders, subjects)")
    return r * GRID - n * np.logaddexp(0, GRID)


def beta_prior(a: float, b: float, label: str = "history") -> Rate:
    """Beta(a, b) distribution of the rate."""
    d = a * GRID - (a + b) * np.logaddexp(0, GRID) - betaln(a, b)
    return Rate(d, ((label, d),))


def _total(history: Sequence[Counts]) -> Counts:
    for h in history:
        log_likelihood(h)
    if not history:
        raise DataError("no history", remedy="give (responders, subjects) of one study at least")
    return sum(h[0] for h in history), sum(h[1] for h in history)


def power_prior(history: Sequence[Counts], a0: float, initial: tuple[float, float] = (1.0, 1.0)) -> Rate:
    """Beta(a + a0 r, b + a0 (n − r)) from Beta(a, b) (Ibrahim & Chen 2000, Stat Sci 15:46)."""
    if not 0 <= a0 <= 1:
        raise DataError("not a power", column="a0", value=a0, remedy="give a0 from 0 to 1")
    r, n = _total(history)
    return beta_prior(initial[0] + a0 * r, initial[1] + a0 * (n - r))


def normalised_power_prior(
    history: Sequence[Counts], a: float = 1.0, b: float = 1.0, initial: tuple[float, float] = (1.0, 1.0)
) -> Rate:
    """Power a0 ~ Beta(a, b), the prior normalised for each a0 (Duan, Ye & Smith 2006): a sum of beta distributions."""
    nodes, w = power_nodes(a, b, 60)
    r, n = _total(history)
    log_w = np.log(np.maximum(w, 1e-300))
    each = [beta_prior(initial[0] + x * r, initial[1] + x * (n - r)).log_density + v for x, v in zip(nodes, log_w, strict=True)]
    d = logsumexp(np.array(each), axis=0)
    return Rate(d, (("history", d),))


def commensurate_prior(
    history: Sequence[Counts], *, sd_scale: float | None = None, gamma: tuple[float, float] | None = None
) -> Rate:
    """Logit of the control rate ~ normal(history's logit, 1/τ) (Hobbs et al. 2011), history's with a Beta(1, 1) prior; the
    commensurability as in `priors.commensurate_prior`, on the logit scale."""
    base = beta_prior(1, 1).log_density + log_likelihood(_total(history))
    sds, w = drift_nodes(sd_scale, gamma, 40)
    d = logsumexp(np.array([_blurred(base, sd) + np.log(v) for sd, v in zip(sds, w, strict=True)]), axis=0)
    return Rate(d, (("history", d),))


def map_prior(
    history: Sequence[Counts], tau_scale: float, *, mean: float = 0.0, mean_sd: float = 2.0, points: tuple[int, int] = (60, 121)
) -> Rate:
    """Meta-analytic predictive prior with a binomial likelihood: logits of the studies' rates ~ normal(μ, τ²), τ ~ half-normal
    (tau_scale), μ ~ normal(mean, mean_sd) (Neuenschwander et al. 2010; Schmidli et al. 2014). points: of the grids of τ and μ."""
    _total(history)
    if tau_scale <= 0 or mean_sd <= 0:
        raise DataError("not above 0", column="tau_scale", value=(tau_scale, mean_sd), remedy="give positive numbers")
    x, w_tau = np.polynomial.legendre.leggauss(points[0])
    tau = 5 * tau_scale * (0.5 * (x + 1)) ** 2
    w_tau = w_tau * (x + 1) * np.exp(-0.5 * (tau / tau_scale) ** 2)
    centre = [logit((r + 0.5) / (n + 1)) for r, n in history]
    reach = 4 * tau_scale + 1.0
    mu = np.linspace(min(centre) - reach, max(centre) + reach, points[1])
    nodes, w = np.polynomial.hermite_e.hermegauss(40)
    theta = mu[:, None, None] + tau[:, None] * nodes  # (M, T, Q)
    log_joint = -0.5 * ((mu - mean) / mean_sd)[:, None] ** 2 + np.log(np.maximum(w_tau, 1e-300))
    for r, n in history:
        like = r * theta - n * np.logaddexp(0, theta)
        top = like.max()
        log_joint = log_joint + top + np.log(np.maximum(np.exp(like - top) @ w, 1e-300))
    joint = np.exp(log_joint - log_joint.max())  # (M, T)
    step = GRID[1] - GRID[0]
    density = np.zeros(len(GRID))
    for t in range(len(tau)):
        of_mu = np.interp(GRID, mu, joint[:, t], left=0, right=0)
        density += _convolved(of_mu, float(tau[t]), float(step))
    d = np.log(np.maximum(density, 1e-300))
    d -= logsumexp(d) + np.log(step)
    return Rate(d, (("history", d),))


def robust(prior: Rate, weight: float, vague: tuple[float, float] = (1.0, 1.0)) -> Rate:
    """Prior with a vague part Beta(vague) of probability `weight` (Schmidli et al. 2014)."""
    if not 0 < weight < 1:
        raise DataError("not a probability", column="weight", value=weight, remedy="give a number between 0 and 1")
    step = np.log(GRID[1] - GRID[0])
    old = prior.log_density - logsumexp(prior.log_density) - step + np.log1p(-weight)
    new = beta_prior(*vague).log_density
    new = new - logsumexp(new) - step + np.log(weight)
    return Rate(np.logaddexp(old, new), (("history", old), ("vague", new)))


def difference(treated: Rate, control: Rate, label: str, method: str, n: int, level: float = 0.95) -> Estimate:
    """Posterior of the risk difference of two independent rates: mean, SD, and in `extra` the equal-tailed credible interval and
    the probability of a difference above 0."""
    p = expit(GRID)
    a, b = treated.mass, control.mass
    below = np.cumsum(b) - b / 2
    above_zero = float(a @ below)

    def cdf(d: float) -> float:
        return 1 - float(a @ np.interp(logit(np.clip(p - d, 1e-7, 1 - 1e-7)), GRID, below, left=0, right=1))

    low, high = (_bisect(cdf, q) for q in (0.5 - level / 2, 0.5 + level / 2))
    said = {"credible_lower": low, "credible_upper": high, "probability_above_null": above_zero}
    sd = float(np.hypot(treated.sd, control.sd))
    return Estimate(label, "risk difference", treated.mean - control.mean, sd, method, n, level=level, extra=said)


def _bisect(cdf: Callable[[float], float], q: float) -> float:
    low, high = -1.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < q else (low, middle)
    return (low + high) / 2


def _blurred(log_density: Array, sd: float) -> Array:
    """Log density of the grid's variable plus a normal one."""
    mass = np.exp(log_density - logsumexp(log_density))
    step = float(GRID[1] - GRID[0])
    return np.log(np.maximum(_convolved(mass, sd, step), 1e-300)) - np.log(step)


def _convolved(values: Array, sd: float, step: float) -> Array:
    """values ⊗ normal(0, sd) on the grid; what leaves the grid is lost."""
    if sd < step / 2:
        return values
    half = int(min(np.ceil(8 * sd / step), len(values) - 1))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * step / sd) ** 2)
    size = len(values) + 2 * half
    out = np.fft.irfft(np.fft.rfft(values, 2 * size) * np.fft.rfft(kernel / kernel.sum(), 2 * size), 2 * size)
    return np.maximum(out[half : half + len(values)], 0)

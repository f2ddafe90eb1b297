"""Have chains of draws converged, and how many independent draws are they worth?

Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021 (Bayesian Analysis 16:667): rank-normalised split R-hat (section 4), bulk and
tail effective sample size (sections 3 and 4). Autocorrelations are cut by Geyer's initial monotone sequence (Geyer 1992,
Statistical Science 7:473). Draws are (chains, draws, ...); results have the rest of the shape. A quantity that never moves
has NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def split(x: Floats) -> Floats:
    """(2 chains, draws // 2, ...): the halves of each chain; of an odd number the middle draw is left out."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, x.shape[1] - half :]])


def rank_normalised(x: Floats) -> Floats:
    """Normal scores of the ranks over all chains (equation 14; Blom's offsets)."""
    flat = x.reshape(x.shape[0] * x.shape[1], -1)
    ranks = rankdata(flat, axis=0)
    return np.asarray(ndtri((ranks - 0.375) / (len(flat) + 0.25))).reshape(x.shape)


def _variances(x: Floats) -> tuple[Any, Any]:
    """Mean variance within chains, and the estimate of the variance of the target (equations 2 and 3)."""
    n = x.shape[1]
    within = np.mean(np.var(x, axis=1, ddof=1), axis=0)
    between = np.var(np.mean(x, axis=1), axis=0, ddof=1)
    return within, within * (n - 1) / n + between


def _rhat(x: Floats) -> Floats:
    within, total = _variances(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(total / within)


def rhat(draws: ArrayLike) -> Floats:
    """The larger of the R-hats of the ranks and of the ranks of the distance from the median; 1 if chains agree."""
    x = split(np.asarray(draws, float))
    folded = np.abs(x - np.median(x, axis=(0, 1), keepdims=True))
    return np.maximum(_rhat(rank_normalised(x)), _rhat(rank_normalised(folded)))


def effective(x: Floats) -> Floats:
    """Effective number of draws for the mean of x, chains as they are (equations 10 to 13), at most draws · log10(draws)."""
    chains, n = x.shape[:2]
    centred = x - x.mean(axis=1, keepdims=True)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size, axis=1)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), size, axis=1)[:, :n] / n
    within, total = _variances(x) if chains > 1 else (np.var(x, axis=1, ddof=1)[0], np.var(x, axis=1)[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (within - covariance.mean(axis=0) * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(n // 2, 2, *rho.shape[1:]).sum(axis=1)
    positive = np.cumprod(pairs > 0, axis=0)
    monotone = np.minimum.accumulate(np.maximum(pairs, 0.0), axis=0)
    tau = np.maximum(-1.0 + 2.0 * np.sum(positive * monotone, axis=0), 1.0 / np.log10(max(chains * n, 11)))
    still = np.ptp(x, axis=(0, 1)) == 0
    return np.where(still | ~np.isfinite(tau), np.nan, chains * n / tau)


def ess_bulk(draws: ArrayLike) -> Floats:
    """Effective number of draws where most of the probability is: of the normal scores of the split chains."""
    return effective(rank_normalised(split(np.asarray(draws, float))))


def ess_tail(draws: ArrayLike) -> Floats:
    """The smaller of the effective numbers of draws for the 5 % and the 95 % quantile."""
    x = np.asarray(draws, float)
    each = [effective(split((x <= np.quantile(x, q, axis=(0, 1), keepdims=True)).astype(float))) for q in (0.05, 0.95)]
    return np.fmin(*each)


def mcse_mean(draws: ArrayLike) -> Floats:
    """Monte Carlo standard error of the mean."""
    x = np.asarray(draws, float)
    return np.asarray(np.std(x, axis=(0, 1), ddof=1) / np.sqrt(effective(split(x))))


def mcse_sd(draws: ArrayLike) -> Floats:
    """Monte Carlo standard error of the standard deviation, by the delta method on the mean of squares."""
    x = np.asarray(draws, float)
    square = (x - x.mean(axis=(0, 1))) ** 2
    return np.asarray(mcse_mean(square) / (2.0 * np.sqrt(square.mean(axis=(0, 1)))))

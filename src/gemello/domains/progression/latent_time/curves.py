"""Logistic courses along a latent disease time, and their estimation over many persons.

Disease time of person i at time t since baseline is s = β_i + α_i t (Jedynak et al. 2012, NeuroImage 63:1478, equation 2);
outcome k is low + (high − low) / (1 + exp(−(v_k (s − d_k) + w_ik))) + ε, with normal log α, β, w_k and ε: a logistic curve with
the person's pace, start and differences between outcomes (Schiratti et al. 2017, J Mach Learn Res 18:133, of which w stands for
the space shifts). Baseline values shift the start: β_i = γ'x_i + η. Estimation by EM with a Laplace approximation of each
person's posterior (Lindstrom & Bates 1990, Biometrics 46:673, with the conditional covariance in the M step)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
ROUNDS, STEPS, CLOSE, WIDER = 150, 8, 1e-4, 1.3


@dataclass(frozen=True)
class Data:
    """Observations (N,): person, outcome, time since baseline, value; x (persons, p) scaled baseline values."""

    person: Numbers
    outcome: Numbers
    time: Array
    value: Array
    x: Array


@dataclass(frozen=True)
class Curves:
    """The population. low, high (K,): asymptotes; speed v (1/time), place d (time), noise σ (value), all (K,); pace: (2, 2)
    covariance of log α and η; shifts: (K,) variances of w; start: (p,) γ."""

    low: Array
    high: Array
    speed: Array
    place: Array
    noise: Array
    pace: Array
    shifts: Array
    start: Array

    @property
    def omega(self) -> Array:
        """(2 + K, 2 + K) covariance of log α, η and w."""
        k = len(self.speed)
        out = np.zeros((2 + k, 2 + k))
        out[:2, :2] = self.pace
        out[range(2, 2 + k), range(2, 2 + k)] = self.shifts
        return out

    def value(self, u: Array, onset: Array, outcome: Numbers, time: Array) -> tuple[Array, Array, Array]:
        """Course, its slope along the latent scale, and the disease time, all (..., N). u (..., N, 2 + K) of each observation's
        person; onset (N,): γ'x."""
        s = u[..., 1] + onset + np.exp(u[..., 0]) * time
        own = np.take_along_axis(u, np.broadcast_to(2 + outcome, u.shape[:-1])[..., None], axis=-1)[..., 0]
        p = expit(self.speed[outcome] * (s - self.place[outcome]) + own)
        width = (self.high - self.low)[outcome]
        return self.low[outcome] + width * p, width * p * (1 - p), s


@dataclass(frozen=True)
class Modes:
    """Of persons: mode u (n, 2 + K), covariance at it (n, 2 + K, 2 + K)."""

    u: Array
    covariance: Array


def modes(c: Curves, data: Data, first: Array | None = None, steps: int = 40) -> Modes:
    """Modes of the persons' effects by Gauss–Newton steps, halved for those whose objective would rise. A person stands still
    once the own step is small, whoever else goes on."""
    n, m = len(data.x), 2 + len(c.speed)
    u = np.zeros((n, m)) if first is None else first
    inverse = np.asarray(np.linalg.inv(c.omega), float)
    onset = data.x @ c.start
    objective, gradient, hessian = _objective(c, data, u, onset, inverse)
    for _ in range(steps):
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        moving = np.max(np.abs(step), axis=1, initial=0.0) >= 1e-6
        if not moving.any():
            break
        length = np.ones(n)
        for _ in range(8):
            new = u - length[:, None] * step
            tried, g, h = _objective(c, data, new, onset, inverse)
            worse = moving & (tried > objective + 1e-9)
            if not worse.any():
                break
            length = np.where(worse, 0.5 * length, length)
        better = moving & (tried <= objective + 1e-9)
        u = np.where(better[:, None], new, u)
        objective, gradient = np.where(better, tried, objective), np.where(better[:, None], g, gradient)
        hessian = np.where(better[:, None, None], h, hessian)
    return Modes(u, np.asarray(np.linalg.inv(hessian), float))


def _objective(c: Curves, data: Data, u: Array, onset: Array, inverse: Array) -> tuple[Array, Array, Array]:
    """(n,) minus log posterior, its gradient (n, m) and Gauss–Newton Hessian (n, m, m)."""
    n, m = u.shape
    f, slope, _ = c.value(u[data.person], onset[data.person], data.outcome, data.time)
    weight = 1.0 / c.noise[data.outcome] ** 2
    r = data.value - f
    v = c.speed[data.outcome]
    rows = np.stack([slope * v * np.exp(u[data.person, 0]) * data.time, slope * v, slope], axis=1)
    at = np.stack([np.zeros_like(data.outcome), np.ones_like(data.outcome), 2 + data.outcome], axis=1)
    gradient, hessian = np.zeros((n, m)), np.zeros((n, m, m))
    np.add.at(gradient, (data.person[:, None], at), -rows * (weight * r)[:, None])
    np.add.at(
        hessian, (data.person[:, None, None], at[:, :, None], at[:, None, :]),
        weight[:, None, None] * rows[:, :, None] * rows[:, None, :],
    )  # fmt: skip
    pull = u @ inverse
    loss = 0.5 * np.bincount(data.person, weight * r**2, minlength=n) + 0.5 * np.sum(u * pull, axis=1)
    return loss, gradient + pull, hessian + inverse


def posterior(c: Curves, data: Data, m: Modes, normal: Array, uniform: Array) -> Array:
    """Draws (draws, n, m) of the persons' effects by sampling and importance resampling (Rubin 1988): candidates from the
    Laplace approximation, widened, weighted by the posterior. normal: (candidates, n or 1, m) standard normal; uniform:
    (draws, n or 1), sorted."""
    n, size = m.u.shape
    value, vector = np.linalg.eigh(WIDER * m.covariance)
    root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
    wide = np.broadcast_to(normal, (len(normal), n, size))
    u = m.u + np.einsum("nab,dnb->dna", root, wide)
    inverse, onset = np.linalg.inv(c.omega), data.x @ c.start
    log_weight = 0.5 * np.sum(wide**2, axis=2) - 0.5 * np.einsum("dna,ab,dnb->dn", u, inverse, u)
    weight = 0.5 / c.noise[data.outcome] ** 2
    for i, one in enumerate(u):
        f = c.value(one[data.person], onset[data.person], data.outcome, data.time)[0]
        log_weight[i] -= np.bincount(data.person, weight * (data.value - f) ** 2, minlength=n)
    w = np.exp(log_weight - log_weight.max(axis=0))
    edges = np.cumsum(w / w.sum(axis=0), axis=0)
    at = np.broadcast_to(uniform, (len(uniform), n))
    found = [np.searchsorted(e, a) for e, a in zip(edges.T, at.T, strict=True)]
    chosen = np.minimum(np.stack(found, axis=1), len(u) - 1)
    return np.asarray(u[chosen, np.arange(n)])


def begin(data: Data, low: Array, high: Array) -> Curves:
    """Curves to start from: a line through each outcome on the logit scale."""
    k = len(low)
    speed, place, noise = np.ones(k), np.zeros(k), np.ones(k)
    for i in range(k):
        here = data.outcome == i
        share = np.clip((data.value[here] - low[i]) / (high[i] - low[i]), 0.02, 0.98)
        t, z = data.time[here], logit(share)
        b = float(np.cov(t, z)[0, 1] / max(np.var(t), 1e-12)) if np.ptp(t) > 0 else 0.0
        b = b if abs(b) * np.ptp(data.time) > 0.05 else (0.05 if b >= 0 else -0.05) / max(float(np.ptp(data.time)), 1e-12)
        speed[i], place[i] = b, float(np.mean(t) - np.mean(z) / b)
        noise[i] = max(0.5 * float(np.std(data.value[here])), 1e-3 * (high[i] - low[i]))
    unit = 1.0 / float(np.median(np.abs(speed)))  # time in which a typical outcome moves by 1 on the logit scale
    place = np.clip(place, -5 * unit, 5 * unit + np.max(data.time))
    return Curves(low, high, speed, place, noise, np.diag([0.25, (1.0 * unit) ** 2]), np.full(k, 0.5), np.zeros(data.x.shape[1]))


def fit(first: Curves, data: Data, rounds: int = ROUNDS) -> Curves:
    """EM from `first`."""
    c, u = first, None
    for _ in range(rounds):
        m = modes(c, data, u, steps=STEPS)
        new = _maximise(c, data, m)
        change = np.max(
            np.abs(np.concatenate([new.speed / c.speed - 1, (new.place - c.place) * np.abs(c.speed), new.noise / c.noise - 1]))
        )
        c, u = new, m.u
        if change < CLOSE:
            break
    return c


def _maximise(c: Curves, data: Data, m: Modes) -> Curves:
    n, k = len(data.x), len(c.speed)
    onset = data.x @ c.start
    _, slope, s = c.value(m.u[data.person], onset[data.person], data.outcome, data.time)
    spread = _prediction_variance(c, data, m, slope)
    eta = m.u[:, 1]
    p = data.x.shape[1]
    gamma = (
        np.linalg.solve(data.x.T @ data.x + (1.0 + 0.1 * n / max(n, 1)) * np.eye(p), data.x.T @ (eta + onset)) if p else c.start
    )
    moved = np.stack([m.u[:, 0], eta + onset - data.x @ gamma], axis=1)
    pace = (moved.T @ moved + m.covariance[:, :2, :2].sum(axis=0) + 2.0 * c.pace * 0.5) / (n + 1.0)
    second = m.u[:, 2:] ** 2 + np.einsum("nkk->nk", m.covariance[:, 2:, 2:])
    shifts = np.maximum((second.sum(axis=0) + 0.1) / (n + 1.0), 1e-3)
    own = m.u[data.person, 2 + data.outcome]
    speed, place, noise = c.speed.copy(), c.place.copy(), c.noise.copy()
    for i in range(k):
        here = data.outcome == i
        speed[i], place[i] = _curve(c, i, s[here], own[here], data.value[here])
        width = c.high[i] - c.low[i]
        f = c.low[i] + width * expit(speed[i] * (s[here] - place[i]) + own[here])
        noise[i] = np.sqrt((np.sum((data.value[here] - f) ** 2 + spread[here]) + 1e-4 * width**2) / (here.sum() + 1.0))
    shift = float(np.mean(m.u[:, 0]))  # log α has mean 0: the rest of the mean pace is a unit of disease time
    scale = np.exp(shift)
    pace = pace - np.array([[shift**2, 0.0], [0.0, 0.0]])
    pace = pace / np.array([[1.0, scale], [scale, scale**2]])
    return replace(
        c, speed=speed * scale, place=place / scale, noise=noise, pace=_positive(pace), shifts=shifts, start=gamma / scale
    )


def _positive(a: Array) -> Array:
    value, vector = np.linalg.eigh(0.5 * (a + a.T))
    return (vector * np.maximum(value, 1e-6 * max(float(value.max()), 1e-6))) @ vector.T


def _prediction_variance(c: Curves, data: Data, m: Modes, slope: Array) -> Array:
    """(N,) variance of the course at each observation, by the delta method."""
    v = c.speed[data.outcome]
    rows = np.stack([slope * v * np.exp(m.u[data.person, 0]) * data.time, slope * v, slope], axis=1)
    at = np.stack([np.zeros_like(data.outcome), np.ones_like(data.outcome), 2 + data.outcome], axis=1)
    part = m.covariance[data.person[:, None, None], at[:, :, None], at[:, None, :]]
    return np.einsum("na,nab,nb->n", rows, part, rows)


def _curve(c: Curves, i: int, s: Array, own: Array, y: Array) -> tuple[float, float]:
    """Speed and place of one outcome: damped Gauss–Newton steps on the logit line a + v s."""
    v, a = float(c.speed[i]), float(-c.speed[i] * c.place[i])
    width = float(c.high[i] - c.low[i])
    for _ in range(3):
        p = expit(v * s + a + own)
        r, d = y - c.low[i] - width * p, width * p * (1 - p)
        rows = np.stack([d * s, d], axis=1)
        step = np.linalg.solve(rows.T @ rows + 1e-6 * width**2 * np.diag([np.mean(s**2) + 1e-12, 1.0]), rows.T @ r)
        before = float(r @ r)
        for _ in range(6):
            q = expit((v + step[0]) * s + a + step[1] + own)
            if float(np.sum((y - c.low[i] - width * q) ** 2)) <= before:
                v, a = v + float(step[0]), a + float(step[1])
                break
            step = 0.5 * step
    least = 1e-3 * abs(float(c.speed[i])) + 1e-9
    v = v if abs(v) > least else (least if v >= 0 else -least)
    return v, -a / v

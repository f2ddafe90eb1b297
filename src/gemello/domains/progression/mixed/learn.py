"""Learning of the latent course and of its margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import ndtr, ndtri

from gemello.domains.progression.mixed import course, ridge
from gemello.domains.progression.mixed.course import Course, Points
from gemello.domains.progression.mixed.frame import Frame
from gemello.domains.progression.mixed.shape import Shape
from gemello.domains.progression.mixed.shape import fit as fit_shape

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
FOLDS, HELD_ROUNDS, ENOUGH, PASSES, EDGE = 5, 15, 30, 1, 4.0


@dataclass(frozen=True)
class Margin:
    """Of one variable: shape of its residual; for a cut variable the slope of a person's mean about `base`, the mean of all at
    the knots (K,), and the thresholds of forecasts, learnt like the shape from persons held out."""

    shape: Shape = field(default_factory=Shape)
    slope: float = 1.0
    cuts: Array = field(default_factory=lambda: np.zeros(0))
    base: Array = field(default_factory=lambda: np.zeros(0))
    shift: Array = field(default_factory=lambda: np.zeros(0))

    def centre(self, mean: Array, h: Array) -> Array:
        """Mean of the latent variable (..., T) for forecasts; h: (T, K) weights of the knots, or of each row."""
        base = h @ self.base
        return base + h @ self.shift + self.slope * (mean - base)

    def to_dict(self) -> dict[str, Any]:
        """Plain."""
        return {"shape": self.shape.to_dict(), "slope": self.slope, "cuts": self.cuts.tolist(),
                "base": self.base.tolist(), "shift": self.shift.tolist()}  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Margin:
        """The margin of `to_dict`."""
        return cls(Shape(**d["shape"]), float(d["slope"]), *(np.array(d[k], float) for k in ("cuts", "base", "shift")))


def learn(frame: Frame, points: Points, x: Array, seed: int) -> tuple[Course, tuple[Margin, ...]]:
    """Course and margins from observations and complete x (persons, p)."""
    if not frame.courses:
        return Course(frame.knots, np.zeros((1 + x.shape[1], 0, 1)), np.zeros((0, 0)), np.zeros(0), np.zeros(0, np.int64), ()), ()
    first, penalty = begin(frame, points, x)
    whole = course.fit(first, points, x, penalty)
    found = margins(frame, whole, points, points, x, penalty, seed)
    for _ in range(PASSES):  # residuals brought to the normal scale of their margins, and all once more
        normal = replace(points, z=normalised(whole, found, points, x))
        whole = course.fit(whole, normal, x, penalty)
        found = margins(frame, whole, points, normal, x, penalty, seed)
    return whole, found


def normalised(c: Course, found: tuple[Margin, ...], points: Points, x: Array, spread: Array | None = None) -> Array:
    """Latent values (N,) with residuals brought to the normal scale of their margins; those of cut variables stay."""
    mean, sd = marginal(c, points, x, spread)
    z = points.z.copy()
    for i, m in enumerate(found):
        here = points.variable == i
        if not len(c.cuts[i]):
            z[here] = mean[here] + sd[here] * np.clip(m.shape.backward((z[here] - mean[here]) / sd[here]), -EDGE, EDGE)
    return z


def begin(frame: Frame, points: Points, x: Array) -> tuple[Course, Array]:
    """Where EM starts: ridge regressions of the observations of each variable; and their penalties (J, 1 + p)."""
    j, k, p = len(frame.courses), len(frame.knots), x.shape[1]
    own = np.array([frame.columns.index(n) if n in frame.columns else -1 for n in frame.courses], np.int64)
    pins = np.array([-1 if frame.levels[n] else o for n, o in zip(frame.courses, own, strict=True)], np.int64)
    cuts = tuple(_thresholds(points.z[points.variable == i], len(frame.levels[n])) for i, n in enumerate(frame.courses))
    empty = Course(frame.knots, np.zeros((1 + p, j, k)), np.eye(j * k), np.ones(j), pins, cuts)
    coefficients, penalty, variance = np.zeros((1 + p, j, k)), np.zeros((j, 1 + p)), np.ones(j)
    x1 = course.with_intercept(x)
    for i in range(j):
        here = points.variable == i
        person, z = points.person[here], points.z[here]
        if len(cuts[i]):
            z = _scores(z, cuts[i])
        h, o = empty.weights(points.time[here], points.variable[here])
        z = z - o * empty.start(x, points.variable[here], person)
        free = np.zeros(1 + p, bool)
        free[0] = True
        if own[i] >= 0:
            free[1 + own[i]] = True
        design = (x1[person][:, :, None] * h[:, None, :]).reshape(len(z), -1)
        scale = max(1.0, len(z) / (np.unique(person).size * k))
        chosen = ridge.choose(x1, z, person, h, free) if not free.all() else 1.0
        b = ridge.solve(design, z, np.repeat(free, k), chosen * scale)
        variance[i] = max(float(np.mean((z - design @ b) ** 2)), 1e-3)
        coefficients[:, i, :] = _lend(b.reshape(1 + p, k), h.sum(axis=0))
        penalty[i] = np.where(free, 0.0, chosen)
    spread = np.repeat(np.where([len(c) > 0 for c in cuts], 1.0, 0.7 * variance), k)
    same = np.kron(np.eye(j), 0.5 * np.eye(k) + 0.5)
    noise = np.where([len(c) > 0 for c in cuts], 1.0, 0.3 * variance)
    return Course(frame.knots, coefficients, np.sqrt(np.outer(spread, spread)) * same, noise, pins, cuts), penalty


def _lend(b: Array, weight: Array) -> Array:
    """Coefficients (1 + p, K); a knot where the variable was hardly seen takes those of the nearest where it was."""
    good = np.flatnonzero(weight >= 3.0)
    if not len(good):
        good = np.array([int(np.argmax(weight))])
    nearest = good[np.argmin(np.abs(np.arange(len(weight))[:, None] - good), axis=1)]
    return b[:, nearest]


def _thresholds(level: Array, number: int) -> Array:
    """(levels − 1,) thresholds of a latent variable of variance 2 (course 1 and noise 1) from how often each level was seen."""
    if not number:
        return np.zeros(0)
    count = np.bincount(level.astype(int), minlength=number) + 0.5
    return np.sqrt(2.0) * ndtri(np.cumsum(count)[:-1] / count.sum())


def _scores(level: Array, cuts: Array) -> Array:
    """Latent values to start from: the mean of the latent variable within each level."""
    edges = np.concatenate([[-np.inf], cuts, [np.inf]]) / np.sqrt(2.0)
    density = np.where(np.isfinite(edges), np.exp(-0.5 * np.where(np.isfinite(edges), edges, 0) ** 2), 0.0) / np.sqrt(2 * np.pi)
    mean = np.sqrt(2.0) * (density[:-1] - density[1:]) / np.maximum(np.diff(ndtr(edges)), 1e-12)
    return mean[level.astype(int)]


def margins(frame: Frame, c: Course, points: Points, normal: Points, x: Array, penalty: Array, seed: int) -> tuple[Margin, ...]:
    """Margins from forecasts of persons held out, from baseline alone. normal: the observations that courses are learnt from."""
    n = len(x)
    fold = ridge.folds(n, FOLDS, seed, "margins")
    centre, sd = np.zeros(len(points)), np.ones(len(points))
    for f in range(FOLDS):
        inside = fold != f
        part = course.fit(c, normal.of(inside), x[inside], penalty, HELD_ROUNDS)
        out = ~inside[points.person]
        held = Points(points.person[out], points.variable[out], points.time[out], points.z[out])
        centre[out], sd[out] = marginal(part, held, x)
    found = []
    for i, name in enumerate(frame.courses):
        here = points.variable == i
        if frame.levels[name]:
            h, _ = c.weights(points.time[here], points.variable[here])
            found.append(_cut(points.z[here], centre[here], sd[here], h, c.cuts[i], c.coefficients[0, i]))
        else:
            found.append(Margin(fit_shape((points.z[here] - centre[here]) / sd[here])))
    return tuple(found)


def marginal(c: Course, points: Points, x: Array, spread: Array | None = None) -> tuple[Array, Array]:
    """Mean and SD (N,) of latent observations given baseline alone. x: (persons, p); spread: as in `condition`."""
    j, k = c.shape
    h, own = c.weights(points.time, points.variable)
    mean = np.sum(h * c.mean(x)[points.person, points.variable], axis=1) + own * c.start(x, points.variable, points.person)
    g = c.deviations.reshape(j, k, j, k)
    every = np.arange(j)
    block = g[every, :, every, :][points.variable]
    if spread is not None:
        block = block + spread.reshape(-1, j, k, j, k)[points.person, points.variable, :, points.variable, :]
    return mean, np.sqrt(np.einsum("nk,nkl,nl->n", h, block, h) + c.noise[points.variable])


def _cut(level: Array, centre: Array, sd: Array, h: Array, cuts: Array, base: Array) -> Margin:
    """Slope, shifts and thresholds by ordinal probit regression on held-out means, weakly drawn to those of the course."""
    k, at = len(base), level.astype(int)
    first = Margin(cuts=cuts, base=base, shift=np.zeros(k))
    if len(level) < ENOUGH:
        return first

    def margin(q: Array) -> Margin:
        spaced = cuts[0] + np.concatenate([[0.0], np.cumsum(np.diff(cuts) * np.exp(q[1 + k :]))])
        return replace(first, slope=float(q[0]), shift=q[1 : 1 + k], cuts=spaced)

    def loss(q: Array) -> float:
        m = margin(q)
        edges, z = np.concatenate([[-np.inf], m.cuts, [np.inf]]), m.centre(centre, h)
        p = ndtr((edges[at + 1] - z) / sd) - ndtr((edges[at] - z) / sd)
        prior = ((q[0] - 1.0) / 0.5) ** 2 + float(np.sum(q[1 : 1 + k] ** 2) + np.sum((q[1 + k :] / 0.5) ** 2))
        return float(-np.sum(np.log(np.maximum(p, 1e-12))) + 0.5 * prior)

    start = np.concatenate([[1.0], np.zeros(k + len(cuts) - 1)])
    bounds = [(0.0, 3.0)] + [(-3.0, 3.0)] * k + [(-2.0, 2.0)] * (len(cuts) - 1)
    return margin(optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)

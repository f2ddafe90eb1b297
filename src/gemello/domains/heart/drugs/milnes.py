"""Dynamic hERG parameters fitted to fractional currents of the Milnes protocol, with their uncertainty.

Least squares of the mean current over cells at every concentration, sweep and time, first by differential evolution within FDA's
bounds (hergmod, Li 2017), then by Levenberg–Marquardt steps from the best of its population. Uncertainty by bootstrap: of cells
where the recording tells them apart (as Chang 2017, Front Physiol 8:917), else of the residuals, a whole sweep at a time, for
residuals of one sweep belong together. Recordings hardly ever tell Kmax from EC50 where no concentration saturates the binding:
their ratio is what is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, differential_evolution, least_squares

from gemello.base.errors import ConvergenceError, DataError
from gemello.base.random import generator
from gemello.base.reference import rows
from gemello.domains.heart.drugs.drug import HIGHEST, LOWEST, Binding
from gemello.domains.heart.drugs.herg import MILNES, Milnes, fraction

Array = NDArray[np.float64]
BOUNDS = {"kmax": (1e-8, 1e8), "ku": (1e-9, 1.0), "n": (0.5, 2.0), "halfmax": (1e-3, 1e9), "vhalf": (-200.0, -1.0)}
LOGARITHMIC = np.array([True, True, False, True, False])
POPULATION, GENERATIONS, STARTS = 12, 40, 4  # members for each parameter; generations; members that are refined
WORST = 1e6  # sum of squares of a candidate that cannot be simulated
FINEST = 10.0  # ms, finest grid of times
MOST = 1_000_000
_SCREEN = 100.0  # ms, grid of the simulation where the data have none of their own


@dataclass(frozen=True)
class Recording:
    """One drug's fractional currents. All (points,): concentration nM, sweep from 1, time since the step to the test voltage in
    ms, fraction of the control current at that time of that sweep, cell (numbers; all 0: means over cells)."""

    drug: str
    concentration: Array
    sweep: NDArray[np.int64]
    time: Array
    fraction: Array
    cell: NDArray[np.int64]

    def __post_init__(self) -> None:
        sizes = {np.shape(v) for v in (self.concentration, self.sweep, self.time, self.fraction, self.cell)}
        if len(sizes) > 1 or not len(self.time):
            raise self._bad("columns of unequal length, or none", None, "give one row for each point")
        if len(self.time) > MOST:
            raise self._bad(f"more than {MOST} points", len(self.time), "average the current over 10 ms or more")
        for name, v, low, high in (
            ("concentration", self.concentration, LOWEST, HIGHEST),
            ("sweep", self.sweep, 1, 100),
            ("time", self.time, 1e-9, MILNES.pulse),
            ("fraction", self.fraction, -1.0, 2.0),
        ):
            bad = ~(np.isfinite(v) & (v >= low) & (v <= high))
            if bad.any():
                raise self._bad(f"outside {low:g} to {high:g}", v[bad][0], "give nM, sweeps from 1, ms and fractions", name)

    def _bad(self, problem: str, value: object, remedy: str, column: str | None = None) -> DataError:
        return DataError(problem, source=f"recording of {self.drug}", column=column, value=value, remedy=remedy)

    @cached_property
    def protocol(self) -> Milnes:
        """The protocol on a grid that holds every time of the recording; DataError where that would be finer than 10 ms."""
        whole = np.rint(self.time).astype(np.int64)
        step = float(np.gcd.reduce(np.append(whole, 10_000)))
        if step < FINEST or np.any(np.abs(whole - self.time) > 1e-6):
            raise self._bad("times not on a grid of 10 ms or more", self.time[0], "average the current in such bins", "time")
        return Milnes(step=min(step, _SCREEN), sweeps=int(self.sweep.max()))

    @cached_property
    def levels(self) -> Array:
        """Concentrations, ascending, nM."""
        return np.unique(self.concentration)

    @cached_property
    def _at(self) -> tuple[Any, ...]:
        point = np.rint(self.time / self.protocol.step).astype(np.int64) - 1
        return np.searchsorted(self.levels, self.concentration), self.sweep - 1, point

    def predict(self, binding: Binding) -> Array:
        """Fraction at the points of the recording: (candidates, points) for a binding of arrays (candidates,)."""
        values = [np.atleast_1d(np.asarray(v, float)) for v in binding]
        count, doses = max(len(v) for v in values), len(self.levels)
        each = Binding(*(np.repeat(np.broadcast_to(v, count), doses) for v in values))
        grid = fraction(each, np.tile(self.levels, count), self.protocol)
        dose, sweep, point = self._at
        return grid.reshape(count, doses, *grid.shape[1:])[:, dose, sweep, point]

    def squares(self, binding: Binding) -> Array:
        """Sum of squared residuals: (candidates,)."""
        residual = self.predict(binding) - self.fraction
        return np.nan_to_num(np.sum(residual**2, axis=1), nan=WORST, posinf=WORST)

    def averaged(self) -> Recording:
        """Means over cells, at each time of each sweep of each concentration."""
        if not self.cell.any():
            return self
        keys = np.stack([self.concentration, self.sweep, self.time], axis=1)
        (c, sweep, time), at = (v.T if v.ndim > 1 else v for v in np.unique(keys, axis=0, return_inverse=True))
        mean = np.bincount(at.reshape(-1), self.fraction) / np.bincount(at.reshape(-1))
        return Recording(self.drug, c, sweep.astype(np.int64), time, mean, np.zeros(len(c), np.int64))

    def rmse(self, binding: Binding) -> float:
        """Root mean squared residual of one binding."""
        return float(np.sqrt(self.squares(binding)[0] / len(self.time)))


@dataclass(frozen=True)
class HergFit:
    """point: best parameters. rmse: root mean squared residual of the mean over cells, in fractions of the current. draws:
    bootstrap refits (draws,), or None. notes: what to distrust."""

    point: Binding
    rmse: float
    recording: Recording
    seed: int
    draws: Binding | None = None
    notes: tuple[str, ...] = ()

    def bootstrap(self, draws: int = 200) -> HergFit:
        """The fit with bootstrap refits: of cells if the recording has several at each concentration, else of residuals."""
        random = generator(self.seed, "hERG", self.recording.drug, "bootstrap")
        start = _pack(self.point)
        several = _several_cells(self.recording)
        mean = self.recording.averaged()
        fitted = mean.predict(self.point)[0]
        packed = []
        for _ in range(draws):
            again = _resampled_cells(self.recording, random).averaged() if several else _flipped(mean, fitted, random)
            packed.append(_refine(again, start).x)
        way = "cells" if several else "residuals: cells differ more than these intervals show"
        return replace(self, draws=_unpack(np.array(packed)), notes=(*self.notes, f"bootstrap of {way}"))


def fit(recording: Recording, seed: int = 0) -> HergFit:
    """Best parameters within BOUNDS for a recording. Raises DataError for too few data, ConvergenceError where none was found."""
    mean = recording.averaged()
    if len(recording.levels) < 2 or len(mean.time) < 20:
        raise DataError(
            f"{len(mean.time)} points at {len(recording.levels)} concentrations", source=f"recording of {recording.drug}",
            remedy="give at least 20, at 2 or more concentrations",
        )  # fmt: skip
    found = differential_evolution(
        lambda x: mean.squares(_unpack(np.atleast_2d(x.T))),
        list(zip(*_box(), strict=True)),
        popsize=POPULATION,
        maxiter=GENERATIONS,
        tol=1e-4,
        init="sobol",
        updating="deferred",
        vectorized=True,
        polish=False,
        rng=generator(seed, "hERG", recording.drug, "evolution"),
    )
    order = np.argsort(found.population_energies)[:STARTS]
    fits = [_refine(mean, found.population[i]) for i in order]
    best = min(fits, key=lambda f: float(f.cost))
    if not np.isfinite(best.cost) or best.cost > found.fun:
        raise ConvergenceError(f"recording of {recording.drug}: no parameters within the bounds follow it; check its units")
    point = _one(best.x)
    return HergFit(point, mean.rmse(point), recording, seed, None, _notes(mean, best.x))


def _box() -> tuple[Array, Array]:
    low, high = (np.array([b[i] for b in BOUNDS.values()]) for i in (0, 1))
    return tuple(np.where(LOGARITHMIC, np.log(np.where(LOGARITHMIC, v, 1.0)), v) for v in (low, high))  # type: ignore[return-value]


def _pack(binding: Binding) -> Array:
    low, high = _box()
    x = np.array([np.log(v) if log else v for v, log in zip(binding, LOGARITHMIC, strict=True)])
    return np.clip(x, low, high)


def _unpack(x: Array) -> Binding:
    """(candidates, 5) to a Binding of arrays (candidates,)."""
    return Binding(*(np.exp(v) if log else v for v, log in zip(x.T, LOGARITHMIC, strict=True)))


def _one(x: Array) -> Binding:
    return Binding(*(float(v[0]) for v in _unpack(x[None])))


def _refine(recording: Recording, start: ArrayLike) -> OptimizeResult:
    """Least squares from `start`, within the box."""
    low, high = _box()
    scale = np.array([1.0, 1.0, 0.1, 1.0, 10.0])
    step = 1e-4 * scale

    def residual(x: Array) -> Array:
        return np.nan_to_num(recording.predict(_unpack(x[None]))[0], nan=1e3) - recording.fraction

    def slope(x: Array) -> Array:
        sides = np.clip(np.concatenate([x + np.diag(step), x - np.diag(step)]), low, high)
        values = np.nan_to_num(recording.predict(_unpack(sides)), nan=1e3)
        gap = np.diag(sides[:5] - sides[5:])
        return np.asarray((values[:5] - values[5:]).T / gap)

    x = np.clip(np.asarray(start, float), low + 1e-9, high - 1e-9)
    return least_squares(
        residual, x, jac=slope, bounds=(low, high), x_scale=scale, xtol=1e-8, ftol=1e-10, gtol=1e-10, max_nfev=60
    )


def _notes(recording: Recording, x: Array) -> tuple[str, ...]:
    point, notes = _one(x), []
    low, high = _box()
    for name, v, a, b in zip(BOUNDS, x, low, high, strict=True):
        if min(v - a, b - v) < 1e-3 * (b - a):
            notes.append(f"{name} at its bound")
    if point.ec50 > 3.0 * recording.levels[-1]:
        ratio = point.kmax / point.halfmax
        notes.append(
            f"EC50 {point.ec50:.3g} nM is beyond the concentrations: of Kmax and halfmax only the ratio, {ratio:.3g}, is known"
        )
    top = recording.concentration == recording.levels[-1]
    late = top & (recording.sweep == recording.sweep[top].max())
    deepest = float(np.mean(recording.fraction[late]))
    if deepest > 0.6:
        notes.append(f"at most {100 * (1 - deepest):.0f} % block: parameters are extrapolated")
    return tuple(notes)


def _several_cells(recording: Recording) -> bool:
    return all(len(np.unique(recording.cell[recording.concentration == c])) > 1 for c in recording.levels)


def _resampled_cells(recording: Recording, random: np.random.Generator) -> Recording:
    """As many cells as there are at each concentration, drawn from them with replacement."""
    taken = []
    for c in recording.levels:
        here = np.flatnonzero(recording.concentration == c)
        cells = np.unique(recording.cell[here])
        taken += [here[recording.cell[here] == k] for k in random.choice(cells, len(cells))]
    at = np.concatenate(taken)
    fields = ("concentration", "sweep", "time", "fraction", "cell")
    return Recording(recording.drug, *(getattr(recording, name)[at] for name in fields))


def _flipped(recording: Recording, fitted: Array, random: np.random.Generator) -> Recording:
    """Fit plus residuals whose sign is drawn for each sweep of each concentration (wild bootstrap of clusters, Cameron 2008)."""
    dose = np.searchsorted(recording.levels, recording.concentration)
    sign = random.choice([-1.0, 1.0], (len(recording.levels), recording.sweep.max() + 1))[dose, recording.sweep]
    return replace(recording, fraction=np.clip(fitted + sign * (recording.fraction - fitted), -1.0, 2.0))


# ---- reading -------------------------------------------------------------------------------------------------------
def reference(path: Path, drug: str) -> Recording:
    """The mean recording of one of the 28 drugs from the reference file (every 200 ms of ten joined sweeps).

    The file counts time through the joined sweeps, each 990 points of 10 ms that begin 100 ms after the step.
    """
    found = [r for r in rows(path) if r["drug"] == drug]
    if not found:
        raise DataError("no such drug", source=path.name, value=drug, remedy="use one of the file's 28")
    c, t, y = (np.array([float(r[k]) for r in found]) for k in ("conc_nM", "time_ms", "mean_fractional_current"))
    index = np.rint(t / 10.0).astype(np.int64)
    time = np.asarray(100.0 + 10.0 * (index % 990), np.float64)
    return Recording(drug, c, 1 + index // 990, time, y, np.zeros(len(c), np.int64))

"""Bootstrap of a population fit: subjects drawn anew with replacement, and the model fitted to each sample.

Nonparametric (Efron 1979; for population models Parke, Holford & Charles 1999, Comput Methods Programs Biomed 59:19): a sample is
how often each subject was drawn, so all samples run in one compiled program (`refit`). Stratified: within each group of subjects
as many are drawn as it has. Parametric: all measured values are simulated anew from the fit. Intervals are percentiles of the
estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, UnsupportedError
from gemello.base.provenance import Provenance
from gemello.base.random import generator
from gemello.inference.likelihood import problem
from gemello.inference.observed import replicates
from gemello.inference.refit import Refit, refit
from gemello.model.contract import Model
from gemello.model.schedule import Subject

Floats = NDArray[np.float64]


LEAST_SAMPLES = 20  # for percentiles


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates of every sample. names: of the quantities, as in `Fit.names`. estimates: (samples, names); converged:
    (samples,), the others are left out of what follows. fitted: (names,) the fit's own. kind, method, stratified: how it was
    done."""

    names: tuple[str, ...]
    fitted: Floats
    estimates: Floats
    objective: Floats
    converged: NDArray[np.bool_]
    kind: str
    method: str
    stratified: str
    seed: int
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def used(self) -> Floats:
        """(successful samples, names)."""
        return self.estimates[self.converged]

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """(names,) each: ends of the central percentile interval. Raises DataError with fewer than 20 that succeeded."""
        if len(self.used) < LEAST_SAMPLES:
            raise DataError(
                f"{len(self.used)} successful samples are too few for an interval", column="samples", value=len(self.converged),
                remedy="run more samples, or a simpler model",
            )  # fmt: skip
        low, high = np.quantile(self.used, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high

    def interval_error(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Monte Carlo standard errors of these ends: half the distance of the quantiles at q ± √(q (1 − q) / samples)."""
        n, out = len(self.used), []
        for q in (0.5 - level / 2, 0.5 + level / 2):
            room = np.sqrt(q * (1 - q) / n)
            a, b = np.quantile(self.used, np.clip([q - room, q + room], 0, 1), axis=0)
            out.append((b - a) / 2)
        return out[0], out[1]

    @property
    def se(self) -> Floats:
        """(names,) standard deviation over the successful samples."""
        return np.asarray(np.std(self.used, axis=0, ddof=1)) if len(self.used) > 1 else np.full(len(self.names), np.nan)

    @property
    def bias(self) -> Floats:
        """(names,) mean over the successful samples minus the fit's estimate."""
        return np.asarray(self.used.mean(axis=0) - self.fitted) if len(self.used) else np.full(len(self.names), np.nan)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Summary and samples, for JSON."""
        low, high = self.interval(level)
        errors = self.interval_error(level)
        rows = {
            n: {"estimate": float(self.fitted[i]), "se": float(self.se[i]), "bias": float(self.bias[i]), "low": float(low[i]),
                "high": float(high[i]), "low_error": float(errors[0][i]), "high_error": float(errors[1][i])}
            for i, n in enumerate(self.names)
        }  # fmt: skip
        return {
            "estimates": rows, "level": level, "samples": len(self.converged), "successful": int(self.converged.sum()),
            "kind": self.kind, "method": self.method, "stratified": self.stratified, "seed": self.seed, "notes": list(self.notes),
            "values": [[float(v) for v in row] for row in self.estimates], "provenance": self.provenance,
        }  # fmt: skip


def bootstrap(
    model: Model,
    fit: Any,
    subjects: Sequence[Subject],
    samples: int = 200,
    *,
    seed: int,
    kind: Literal["nonparametric", "parametric"] = "nonparametric",
    method: str | None = None,
    stratify: str | None = None,
    bind: Mapping[str, str] | None = None,
    solver: str | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Bootstrap:
    """Fit the model to `samples` samples, each from the estimates of `fit`.

    subjects: those of the fit. method: of the refits, by default the fit's (focei for a fit that was sampled). stratify: column
    whose first value of each subject says which group it belongs to. progress(done, successful, samples) is called while it
    runs. Raises DataError, UnsupportedError; a sample that does not converge is counted and left out.
    """
    if samples < 2:
        raise DataError("too few samples", column="samples", value=samples, remedy="give 200 or more for intervals")
    base = refit(model, subjects, fit, method=method, bind=bind, solver=solver)
    hessian = base.hessian(base.x0, base.etas)
    own = base.search(base.x0, base.etas, hessian)  # the fit's optimum by this method, so that bias is that of sampling
    kept = base.data.subjects
    notes = [] if base.method == fit.method else [f"the fit is by {fit.method}, the refits are by {base.method}"]
    groups = _groups(kept, stratify)
    draw = _weights(groups, seed) if kind == "nonparametric" else None
    others = _parametric(model, fit, base, samples, seed, bind, solver) if kind == "parametric" else None
    if draw is None and others is None:
        raise UnsupportedError(f"bootstrap {kind!r}: use nonparametric or parametric")
    estimates, value, fine = np.full((samples, len(base.names)), np.nan), np.full(samples, np.nan), np.zeros(samples, bool)
    for i in range(samples):
        target = base if others is None else others(i)
        found = target.search(own.x, own.etas, hessian, weights=None if draw is None else draw(i))
        fine[i], value[i] = found.converged, found.objective
        estimates[i] = base.natural(found.x)
        if progress:
            progress(i + 1, int(fine.sum()), samples)
    if draw is not None and min(np.bincount(groups)) < 10:
        notes.append("a group of fewer than 10 subjects: a bootstrap of few subjects says little")
    return Bootstrap(
        base.names, base.natural(own.x), estimates, value, fine, kind, base.method, stratify or "", seed, tuple(notes),
        {**Provenance.collect(model, seed=seed).to_dict(), "data_hash": fit.provenance.get("data_hash", "")},
    )  # fmt: skip


def _groups(subjects: Sequence[Subject], column: str | None) -> NDArray[np.int64]:
    """(subjects,) index of each subject's group."""
    if column is None:
        return np.zeros(len(subjects), np.int64)
    for s in subjects:
        if column not in s.schedule.columns:
            raise DataError(f"subject {s.id}: no such column", column=column, remedy="stratify by a column of the data")
    return np.asarray(np.unique([s.schedule.columns[column][0] for s in subjects], return_inverse=True)[1])


def _weights(groups: NDArray[np.int64], seed: int) -> Callable[[int], Floats]:
    """How often each subject is in sample i, (subjects,)."""

    def draw(i: int) -> Floats:
        random, out = generator(seed, "bootstrap", i), np.zeros(len(groups))
        for g in np.unique(groups):
            members = np.flatnonzero(groups == g)
            out[members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)))
        return out

    return draw


def _parametric(
    model: Model, fit: Any, base: Refit, samples: int, seed: int, bind: Mapping[str, str] | None, solver: str | None
) -> Callable[[int], Refit]:  # fmt: skip
    """The objective of sample i: the same design with simulated values, in the program of `base`."""
    kept = base.data.subjects
    if any((s.schedule.censored[s.schedule.measured] != 0).any() for s in kept):
        raise UnsupportedError("a parametric bootstrap of values beyond a limit (CENS) is not offered; use the nonparametric one")
    simulated = replicates(model, fit, kept, samples, seed=seed, bind=bind)
    moving = frozenset(e.name for e in base.layout.thetas)
    values = {n: v for n, v in {**fit.theta, **fit.sigma}.items() if n not in (bind or {})}

    def made(i: int) -> Refit:
        new = []
        for k, s in enumerate(simulated.data.subjects):
            y = s.schedule.value.copy()
            y[s.schedule.measured] = simulated.simulated[i, simulated.data.subject == k]
            new.append(Subject(s.id, replace(s.schedule, value=y)))
        data = problem(model, new, values=values, bind=bind, estimated=moving, method=solver)
        return Refit(data, base.layout, base.method, base.x0, base.etas)

    return made

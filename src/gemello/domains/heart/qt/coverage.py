"""Are the twin's intervals right on real people? Subjects unknown to the population are followed through their drug day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.domains.heart.qt.records import Study
from gemello.domains.heart.qt.subjects import after, drug_day, measured, subjects, until
from gemello.inference.population import fit
from gemello.inference.scores import Coverage, share
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.twin.data import assimilate_many
from gemello.twin.forecast import forecast_many
from gemello.twin.twin import new_twins

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Later measurements of subjects left out of the population, beside their forecasts. id, time, value, median, low, high:
    (measurements,), ms. coverage: its error clustered by subject; binomial: the error were measurements independent."""

    id: NDArray[np.str_]
    time: Floats
    value: Floats
    median: Floats
    low: Floats
    high: Floats
    coverage: Coverage
    level: float

    @property
    def binomial(self) -> float:
        """Standard error of the share under independence, at the nominal level."""
        return float(np.sqrt(self.level * (1.0 - self.level) / len(self.value)))

    @property
    def rmse(self) -> float:
        """Of the medians, ms."""
        return float(np.sqrt(np.mean((self.value - self.median) ** 2)))


def follow(
    model: Model,
    study: Study,
    known: float | None,
    *,
    folds: int = 5,
    level: float = 0.90,
    draws: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> HeldOut:
    """Leave each fold of subjects out of the fit, show their twins the drug day up to `known` hours (None: nothing), and
    forecast the rest of it at the concentrations that were measured.

    Raises DataError where too few subjects had the drug, and what `fit`, `assimilate` and `forecast` raise.
    """
    ids = [s for s in dict.fromkeys(study.subject.tolist()) if study.active[study.subject == s].any()]
    if not 2 <= folds <= len(ids):
        raise DataError(f"{len(ids)} subjects on drug for {folds} folds", column="folds", value=folds, remedy="use fewer folds")
    everyone = subjects(study)
    found: list[tuple[str, Floats, Floats, Floats]] = []
    for k in range(folds):
        out = ids[k::folds]
        progress(f"Leaving out subjects {', '.join(out[:3])} … ({k + 1} of {folds})")
        population = PopulationParameters.from_fit(fit(model, [s for s in everyone if s.id not in out]).check())
        found += _forecasts(model, population, study, out, known, level, draws, seed)
    cells = [np.concatenate([f[j] for f in found], axis=-1) for j in (1, 2, 3)]
    who = np.repeat([f[0] for f in found], [len(f[1]) for f in found])
    t, y, q = cells
    inside = (y >= q[0]) & (y <= q[2])
    return HeldOut(who, t, y, q[1], q[0], q[2], share(inside, cluster=who), level)


def _forecasts(
    model: Model, population: PopulationParameters, study: Study, ids: list[str], known: float | None, level: float, draws: int,
    seed: int,
) -> list[tuple[str, Floats, Floats, Floats]]:  # fmt: skip
    """Of each subject: identifier, times, values, and quantiles (3, times) of what was measured later."""
    days = [drug_day(study, s) for s in ids]
    twins = new_twins(model, population, ids, draws=draws, seed=seed)
    edge = -1.0 if known is None else known
    if known is not None:
        twins = assimilate_many(twins, [until(d, known) for d in days], draws=draws, seed=seed)
    look = np.unique(np.concatenate([measured(after(d, edge))[0] for d in days]))
    levels = (0.5 - level / 2, 0.5, 0.5 + level / 2)
    seen = forecast_many(twins, [after(d, edge) for d in days], times=look, outputs="qtcf", levels=levels, seed=seed)
    out = []
    for s, d, f in zip(ids, days, seen, strict=True):
        t, y = measured(after(d, edge))
        bundle = f["qtcf"].measurement
        assert bundle is not None
        out.append((s, t, y, bundle.quantiles[:, np.searchsorted(look, t)]))
    return out

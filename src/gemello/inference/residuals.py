"""Goodness of fit: predictions and residuals of every measured value at the estimates of a fit.

With f and its derivative J by the etas, R the diagonal residual covariance, and symmetric roots C^(−1/2):

    RES   = y − f(0)
    WRES  = C₀^(−1/2) (y − f(0)),                C₀ = J₀ Ω J₀ᵀ + R₀, all at etas 0 (first-order method)
    CWRES = C^(−1/2) (y − f(η̂) + J η̂),          C  = J Ω Jᵀ + R, all at the subject's own η̂
    IWRES = (y − f(η̂)) / sd

(Hooker, Staatz & Karlsson 2007, Pharm Res 24:2187, equations 2 to 6). If the model is right CWRES are about standard normal and
independent. With a log-normal error y and f are logarithms in WRES, CWRES and IWRES. A value that is a limit only (below or above
quantification) has predictions and no residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.engine.lanes import map_blocks, precision
from gemello.engine.plan import Plan
from gemello.inference.ensemble import population_of
from gemello.inference.laplace import modes
from gemello.inference.likelihood import Block, Population, problem
from gemello.inference.observed import Observations, observations
from gemello.model.contract import Model
from gemello.model.population import PopulationParameters
from gemello.model.schedule import OBSERVATION, Subject
from gemello.model.simulate import prepare, solve_prepared

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Goodness:
    """All arrays (values,): prediction with all etas 0 (PRED) and at η̂ (IPRED), residuals NaN where the value is a limit only.

    etas: (subjects, etas) η̂ of the subjects of `data` (EBE), named by `eta_names`.
    """

    data: Observations
    typical: Floats
    individual: Floats
    res: Floats
    wres: Floats
    cwres: Floats
    iwres: Floats
    etas: Floats
    eta_names: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """(values,) whose."""
        return self.data.ids

    @property
    def time(self) -> Floats:
        return self.data.time

    @property
    def output(self) -> NDArray[np.int64]:
        return self.data.output

    @property
    def measured(self) -> Floats:
        return self.data.value

    def columns(self) -> dict[str, NDArray[Any]]:
        """The table by NONMEM's names: ID, TIME, TAD (time after dose), DVID, CENS, DV, PRED, IPRED, RES, WRES, CWRES, IWRES,
        and ETA_ with the name of each eta."""
        d = self.data
        out: dict[str, NDArray[Any]] = {
            "ID": np.array(self.ids), "TIME": d.time, "TAD": d.after_dose, "DVID": d.output + 1,
            "CENS": d.censored, "DV": d.value, "PRED": self.typical, "IPRED": self.individual, "RES": self.res,
            "WRES": self.wres, "CWRES": self.cwres, "IWRES": self.iwres,
        }  # fmt: skip
        return out | {f"ETA_{n}": self.etas[d.subject, k] for k, n in enumerate(self.eta_names)}

    def frame(self) -> Any:
        """`columns` as a polars table; `.write_csv(path)` writes it."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        return pl.DataFrame({k: v for k, v in self.columns().items()}).fill_nan(None)


def goodness(
    model: Model, fit: Any, subjects: Sequence[Subject], *, bind: Mapping[str, str] | None = None, solver: str | None = None
) -> Goodness:
    """Predictions and residuals of the subjects of `fit`. subjects: those it was made from (others are left out).

    fit: a `Fit`, or `PopulationParameters`, for which η̂ of all subjects are found first. bind, solver: as in the fit. Raises
    DataError where a subject of the fit is missing, and what `problem` raises.
    """
    by_id = {s.id: s for s in subjects}
    wanted = getattr(fit, "ids", tuple(by_id))
    missing = [i for i in wanted if i not in by_id]
    if missing:
        raise DataError(
            "a subject of the fit is missing", column="subjects", value=missing[0], remedy="give the subjects that were fitted"
        )
    data = observations([by_id[i] for i in wanted])
    parameters = fit if isinstance(fit, PopulationParameters) else PopulationParameters.from_fit(fit)
    values = {k: v for k, v in parameters.theta.items() if k not in (bind or {})}
    with precision():
        ready = problem(model, data.subjects, values=values, bind=bind, method=solver)
        pop = population_of(parameters, ready.prepared.occasions)
        found = getattr(fit, "individual", None)
        place = {i: k for k, i in enumerate(wanted)}
        etas = modes(ready, pop).eta if found is None else _found(fit, ready.etas)[[place[s.id] for s in data.subjects]]
        start = ready.cut(etas.T)
        tree = ready.blocks._replace(tree=(ready.blocks.tree, start.tree))
        parts = map_blocks(_program(model, ready.prepared.timeline.plan), pop, tree)
        zero, own = ({k: ready.in_subject_order(v) for k, v in p.items()} for p in parts)
    columns = [np.empty(len(data)) for _ in range(6)]
    for k in range(len(data.subjects)):
        here = data.subject == k
        for column, v in zip(columns, _subject(model, data, here, zero, own, k, etas[k], np.asarray(pop.omega)), strict=True):
            column[here] = v
    names = parameters.eta_names
    names += tuple(f"{n}_occasion{i + 1}" for i in range(ready.prepared.occasions) for n in parameters.occasion)
    typical, individual, res, wres, cwres, iwres = columns
    return Goodness(data, typical, individual, res, wres, cwres, iwres, etas, names)


def _found(fit: Any, number: int) -> Floats:
    """(subjects, etas) of a fit, what occasions add behind them."""
    own, more = np.asarray(fit.individual, float), np.asarray(getattr(fit, "individual_occasion", np.zeros(0)), float)
    return np.hstack([own, more.reshape(len(own), -1)]) if own.shape[1] < number else own


@lru_cache(maxsize=32)
def _program(model: Model, plan: Plan) -> Any:
    """Program for `map_blocks`: prediction f, variance v (lanes, records) and slope (lanes, records, etas), at etas 0 and at
    η̂."""

    def run(pop: Population, blocks: Any) -> Any:
        tree, eta = blocks
        block = Block(model, plan, tree)

        def at(e: Any) -> dict[str, Any]:
            g, slope = block.gradient_parts(pop, e)
            return {"f": g.f.T, "v": g.v.T, "slope": jnp.moveaxis(slope.f, 0, -1).swapaxes(0, 1)}

        return at(jnp.zeros_like(eta)), at(eta)

    return run


def _subject(
    model: Model, data: Observations, here: NDArray[np.bool_], zero: Mapping[str, Floats], own: Mapping[str, Floats], k: int,
    eta: Floats, omega: Floats,
) -> tuple[Floats, ...]:  # fmt: skip
    """Columns of one subject, in the order of `Goodness`."""
    at, y, exact = data.record[here], data.value[here], data.censored[here] == 0
    log = np.array([getattr(model.outputs[i].residual, "form", "") == "lognormal" for i in data.output[here]], bool)
    f0, f1 = zero["f"][k, at], own["f"][k, at]
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(log, np.log(y), y)
        typical, individual = np.where(log, np.exp(f0), f0), np.where(log, np.exp(f1), f1)
    lost = np.where(exact, 1.0, np.nan)
    wres, cwres = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for parts, f, shift, target in ((zero, f0, 0.0 * eta, wres), (own, f1, eta, cwres)):
        j = parts["slope"][k, at][exact]
        c = j @ omega @ j.T + np.diag(parts["v"][k, at][exact])
        target[exact] = whiten((seen - f)[exact] + j @ shift, c)
    return typical, individual, (y - typical) * lost, wres, cwres, (seen - f1) / np.sqrt(own["v"][k, at]) * lost


@dataclass(frozen=True, eq=False)
class Course:
    """Predictions of one subject over time: individual (at η̂) and typical (etas 0), (times,) each by output."""

    id: str
    time: Floats
    individual: dict[str, Floats]
    typical: dict[str, Floats]


def courses(
    model: Model, fit: Any, subjects: Sequence[Subject], *, points: int = 100, bind: Mapping[str, str] | None = None
) -> list[Course]:
    """Smooth courses of these subjects of `fit` from their first to their last record, at `points` times and at their own
    records."""
    place = {i: k for k, i in enumerate(fit.ids)}
    chosen = [s for s in subjects if s.id in place]
    fine = []
    for s in chosen:
        first, last = float(s.schedule.time[0]), float(s.schedule.time[-1])
        fine.append(Subject(s.id, s.schedule.without_values().observe(np.linspace(first, last, points))))
    values = {k: v for k, v in fit.theta.items() if k not in (bind or {})}
    n = fit.individual.shape[1]
    more = np.asarray(getattr(fit, "individual_occasion", np.zeros((len(fit.ids), 0))), float).reshape(len(fit.ids), -1)
    etas = np.hstack([fit.individual, more])[[place[s.id] for s in chosen]]
    ready = prepare(model, fine, values=values, bind=bind)
    own = solve_prepared(ready, values, etas if ready.occasions and more.size else etas[:, :n])
    typical = solve_prepared(ready, values)
    out = []
    for k, s in enumerate(fine):
        here = np.flatnonzero(s.schedule.evid == OBSERVATION)
        of = lambda t, k=k, here=here: {name: v[k, here] for name, v in t.outputs.items()}  # noqa: E731
        out.append(Course(s.id, s.schedule.time[here], of(own), of(typical)))
    return out


def whiten(residual: Floats, covariance: Floats) -> Floats:
    """C^(−1/2) r with the symmetric root, NaN where C is not positive definite."""
    if not np.all(np.isfinite(covariance)) or not len(residual):
        return np.full_like(residual, np.nan)
    size, directions = np.linalg.eigh(covariance)
    if size[0] <= 0:
        return np.full_like(residual, np.nan)
    return np.asarray(directions @ ((directions.T @ residual) / np.sqrt(size)))

"""How good a generator is on persons that it has not seen: error, proper scores, coverage, calibration, discrimination,
subgroups.

Everything comes from persons held out by folds, forecast from baseline (or from what was known at `landmark`) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError
from gemello.base.random import child_seed, generator
from gemello.inference import scores
from gemello.model.generator import Generator, History

Array = NDArray[np.float64]
Train = Callable[[History, int], Generator]
MOST_TIMES, DRAWS = 60, 400
LEVEL = 0.9


@dataclass(frozen=True)
class Score:
    """Of one variable. n forecasts of `persons`; rmse, mae, mean error (forecast − observed) and r of the conditional mean; locf:
    RMSE of the last value carried forward (NaN without one); crps; coverage of 90 % intervals with its standard error (by
    person); slope and intercept of observed on forecast (1 and 0: calibrated), slope_error; spread: SD of observed values; pit:
    ten shares of the probability integral transform (0.1 each: calibrated); brier, auc (c statistic) of a binary variable.
    subgroups: group -> (n, mean error, RMSE)."""

    n: int
    persons: int
    rmse: float
    mae: float
    bias: float
    r: float
    locf: float
    crps: float
    coverage: float
    coverage_error: float
    slope: float
    intercept: float
    slope_error: float
    spread: float
    pit: tuple[float, ...]
    brier: float | None = None
    auc: float | None = None
    subgroups: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class EventScore:
    """Of one event. concordance: mean over folds of Harrell's C; brier: at the median time of follow-up, of persons whose state
    there is known; observed, expected: shares with the event by then (Kaplan–Meier, mean forecast)."""

    n: int
    events: int
    concordance: float
    time: float
    brier: float
    observed: float
    expected: float


@dataclass(frozen=True)
class Report:
    """Scores by variable and event. crps, energy: mean over variables of CRPS in SD of the variable, and mean energy score of
    all that was seen of a person; by_person: (persons,) the former of each person, NaN where nothing was seen later. folds,
    seed, landmark."""

    variables: Mapping[str, Score]
    events: Mapping[str, EventScore]
    crps: float
    energy: float
    by_person: tuple[float, ...]
    folds: int
    seed: int
    landmark: float

    def as_dict(self) -> dict[str, Any]:
        """Plain, without the values of single persons."""
        out = asdict(self)
        out.pop("by_person")
        return out


@dataclass(frozen=True)
class _Held:
    """Forecasts (F,) of one variable: person (number in the whole history), mean, observed, last value; draws (d, F)."""

    person: NDArray[np.int64]
    mean: Array
    observed: Array
    last: Array
    draws: Array


def held_out(
    train: Train, history: History, *, folds: int = 5, seed: int = 0, landmark: float = 0.0, fold: NDArray[Any] | None = None
) -> Report:
    """Train on all folds but one, forecast the one, and score all.

    train(history, seed) gives a generator. fold: (persons,) number of each person's fold, by default balanced at random.
    landmark: what was known until then is seen. Raises DataError for fewer persons than folds."""
    n = len(history)
    if n < 2 * folds:
        raise DataError(f"{n} persons for {folds} folds", column="folds", remedy="take fewer folds")
    fold = np.arange(n)[np.argsort(generator(seed, "held out").permutation(n))] % folds if fold is None else np.asarray(fold)
    parts: dict[str, list[_Held]] = {}
    survivals: dict[str, list[tuple[Array, NDArray[np.bool_], Array]]] = {}
    horizon = {k: float(np.nanmedian(t[t > landmark])) for k, t in history.event_time.items() if np.any(t > landmark)}
    for f in np.unique(fold):
        learn = history.take(fold != f)
        trained = train(learn, child_seed(seed, "fold", int(f)))
        limit = float(np.max(learn.time, initial=landmark))
        for name, one in forecasts(trained, history, np.flatnonzero(fold == f), landmark, limit, seed).items():
            parts.setdefault(name, []).append(one)
        test = history.take(fold == f)
        for name, at in horizon.items():
            known = np.isfinite(test.event_time[name]) & (test.event_time[name] > landmark)
            free = _survival(trained, test.until(landmark), name, at, seed)
            survivals.setdefault(name, []).append((test.event_time[name][known], test.event_seen[name][known], free[known]))
    held = {k: _joined(v) for k, v in parts.items()}
    kinds = {v.name: v.kind for v in history.variables}
    variables = {k: score(h, history, binary=kinds[k] == "binary") for k, h in held.items()}
    by_person, energy = _of_persons(held, n)
    events = {k: _event_score(v, horizon[k]) for k, v in survivals.items()}
    mean = float(np.nanmean(by_person)) if np.isfinite(by_person).any() else float("nan")
    return Report(variables, events, mean, energy, tuple(map(float, by_person)), len(np.unique(fold)), seed, landmark)


def forecasts(
    trained: Generator, history: History, who: NDArray[np.int64], landmark: float, limit: float, seed: int
) -> dict[str, _Held]:
    """Forecasts of what was seen of some persons after the landmark until `limit`, the last time that was learnt from; visits at
    many times are forecast at the nearest of 60."""
    test = history.take(who)
    later = (test.time > landmark) & (test.time <= limit)
    if not later.any():
        return {}
    distinct = np.unique(test.time[later])
    grid = distinct if len(distinct) <= MOST_TIMES else np.unique(np.quantile(test.time[later], np.linspace(0, 1, MOST_TIMES)))
    seen = test.until(landmark)
    drawn = trained.sample(seen, grid, draws=DRAWS, seed=child_seed(seed, "score")).values
    mean = trained.expected(seen, grid)
    out = {}
    for name in mean:
        y = test.values[name]
        here = later & np.isfinite(y)
        at = np.argmin(np.abs(test.time[here][:, None] - grid), axis=1)
        p = test.person[here]
        out[name] = _Held(who[p], mean[name][p, at], y[here], _last(test, name, landmark)[p], drawn[name][:, p, at])
    return out


def score(h: _Held, history: History, binary: bool = False) -> Score:
    """Scores of the forecasts of one variable."""
    y, m = h.observed, h.mean
    off = m - y
    lower = np.mean(h.draws < y, axis=0)
    same = np.mean(h.draws == y, axis=0)
    pit = lower + generator(0, "pit").uniform(size=len(y)) * same  # randomised where values are tied (Czado et al. 2009)
    inside = scores.share((pit >= 0.5 - LEVEL / 2) & (pit <= 0.5 + LEVEL / 2), cluster=h.person)
    slope, intercept, error = _line(m, y)
    last = np.isfinite(h.last)
    ten = np.histogram(pit, bins=10, range=(0, 1))[0] / max(len(pit), 1)
    top = float(np.max(y))
    return Score(
        len(y), len(np.unique(h.person)), _rms(off), float(np.mean(np.abs(off))), float(np.mean(off)), _correlation(m, y),
        _rms((h.last - y)[last]) if last.any() else float("nan"), float(np.mean(scores.crps(h.draws, y))),
        inside.share, inside.error,
        slope, intercept, error, float(np.std(y)), tuple(map(float, ten)),
        float(np.mean((m - (y == top)) ** 2)) if binary else None, auc(m, y == top) if binary else None,
        _subgroups(h, off, history),
    )  # fmt: skip


def auc(mark: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic by ranks; NaN where all are of one class."""
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    return float((stats.rankdata(mark)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def concordance(time: Array, seen: NDArray[np.bool_], risk: Array) -> float:
    """Harrell's C: of pairs of whom one is known to have had the event first, the share in which this one had the higher risk;
    ties of risk count half (Harrell et al. 1996, Stat Med 15:361). NaN without such a pair."""
    right = pairs = 0.0
    for i in np.flatnonzero(seen):
        after = (time > time[i]) | ((time == time[i]) & ~seen)
        right += float(np.sum(risk[i] > risk[after]) + 0.5 * np.sum(risk[i] == risk[after]))
        pairs += float(after.sum())
    return right / pairs if pairs else float("nan")


def energy_score(draws: Array, y: Array) -> float:
    """E‖X − y‖ − ½E‖X − X'‖ of draws (d, m) of a vector y (m,) (Gneiting & Raftery 2007, J Am Stat Assoc 102:359, equation 22),
    with the second mean over successive draws."""
    near = np.mean(np.linalg.norm(draws - y, axis=1))
    return float(near - 0.5 * np.mean(np.linalg.norm(draws - np.roll(draws, 1, axis=0), axis=1)))


# ---- inside ------------------------------------------------------------------------------------------------------------
def _survival(trained: Generator, seen: History, name: str, at: float, seed: int) -> Array:
    """(persons,) probability of no event by a time: the generator's own, or the share of its draws."""
    own, risk = getattr(trained, "survival", None), getattr(trained, "risk", None)
    if own is not None:
        return np.asarray(own(seen, name, np.array([at]))[:, 0])
    if risk is not None:
        found = risk(seen, np.array([at]))
        return 1 - np.asarray(found[name])[:, 0] if name in found else np.full(len(seen), np.nan)
    drawn = trained.sample(seen, np.array([at]), draws=DRAWS, seed=child_seed(seed, "events")).event_time
    return np.mean(drawn[name] > at, axis=0) if name in drawn else np.full(len(seen), np.nan)


def _event_score(parts: list[tuple[Array, NDArray[np.bool_], Array]], at: float) -> EventScore:
    time, seen, free = (np.concatenate(a) for a in zip(*parts, strict=True))
    c = [concordance(t, s, -q) for t, s, q in parts]
    known = (time > at) | seen
    brier = float(np.mean((free[known] - (time[known] > at)) ** 2)) if known.any() else float("nan")
    return EventScore(
        len(time), int(seen.sum()), float(np.nanmean(c)) if np.isfinite(c).any() else float("nan"), at, brier,
        1 - kaplan_meier(time, seen, at), float(1 - np.mean(free)),
    )  # fmt: skip


def kaplan_meier(time: Array, seen: NDArray[np.bool_], at: float) -> float:
    """Share without the event at a time (Kaplan & Meier 1958)."""
    out = 1.0
    for t in np.unique(time[seen & (time <= at)]):
        out *= 1 - np.sum(seen & (time == t)) / np.sum(time >= t)
    return float(out)


def _of_persons(held: Mapping[str, _Held], n: int) -> tuple[Array, float]:
    """(n,) mean scaled CRPS of each person; mean energy score of all scaled values of a person."""
    total, number = np.zeros(n), np.zeros(n)
    rows: dict[int, list[tuple[Array, Array]]] = {}
    for h in held.values():
        sd = float(np.std(h.observed)) or 1.0
        np.add.at(total, h.person, scores.crps(h.draws, h.observed) / sd)
        np.add.at(number, h.person, 1.0)
        for p in np.unique(h.person):
            here = h.person == p
            rows.setdefault(int(p), []).append((h.draws[:, here] / sd, h.observed[here] / sd))
    energy = [energy_score(np.concatenate([d for d, _ in r], axis=1), np.concatenate([y for _, y in r])) for r in rows.values()]
    with np.errstate(invalid="ignore"):
        return np.where(number > 0, total / np.maximum(number, 1), np.nan), float(np.mean(energy)) if energy else float("nan")


def _subgroups(h: _Held, off: Array, history: History) -> dict[str, tuple[int, float, float]]:
    """Errors in the halves of each baseline variable (levels of a binary one)."""
    out = {}
    for name, y in history.baseline.items():
        seen = np.unique(y[np.isfinite(y)])
        if len(seen) < 2:
            continue
        cut = float(seen[0]) if len(seen) == 2 else float(np.nanmedian(y))
        groups = ((f"{name} = {seen[0]:g}", y == seen[0]), (f"{name} = {seen[1]:g}", y == seen[1])) if len(seen) == 2 else (
            (f"{name} ≤ {cut:g}", y <= cut), (f"{name} > {cut:g}", y > cut))  # fmt: skip
        for words, member in groups:
            here = member[h.person]
            if here.any():
                out[words] = (int(here.sum()), float(np.mean(off[here])), _rms(off[here]))
    return out


def _last(h: History, name: str, landmark: float) -> Array:
    """(persons,) last value seen until the landmark."""
    out = h.at_zero(name).copy() if name in h.baseline else np.full(len(h), np.nan)
    here = (h.time <= landmark) & np.isfinite(h.values[name])
    out[h.person[here]] = h.values[name][here]  # visits are in order of time, so the last one stays
    return out


def _joined(parts: list[_Held]) -> _Held:
    pick = lambda name, axis=0: np.concatenate([getattr(p, name) for p in parts], axis=axis)  # noqa: E731
    return _Held(pick("person"), pick("mean"), pick("observed"), pick("last"), pick("draws", 1))


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(x**2))) if len(x) else float("nan")


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Slope, intercept and the slope's standard error of y on x."""
    if len(x) < 3 or np.ptp(x) == 0:
        return float("nan"), float("nan"), float("nan")
    fit = stats.linregress(x, y)
    return float(fit.slope), float(fit.intercept), float(fit.stderr)

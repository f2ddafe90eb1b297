"""Multiple imputation of a longitudinal outcome: at random, by reference to the control arm, and shifted by a delta.

Strategies after the intercurrent event that ends treatment (Carpenter, Roger & Kenward 2013, J Biopharm Stat 23:1352):

    MAR   as others of the same arm
    J2R   jump to reference: the control arm's mean from the next visit on
    CR    copy reference: the control arm's mean at all visits
    CIR   copy increments in reference: the gain so far is kept, then changes as in the control arm
    LMCF  last mean carried forward: the own arm's mean at the last visit before the event

Each is a joint normal distribution of all visits, in which what is missing is drawn given what was seen before the event. A
subject without any visit before the event has no gain to keep and no last mean: CIR and LMCF are J2R then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.trial.analysis.linear import least_squares
from gemello.trial.analysis.result import Estimate
from gemello.trial.missing.normal import Normal, conditional, maximum_likelihood, posterior_draws
from gemello.trial.missing.rubin import pool
from gemello.trial.missing.visits import Visits

Array = NDArray[np.float64]
Strategy = Literal["MAR", "J2R", "CR", "CIR", "LMCF"]
Strategies = Strategy | Mapping[str, Strategy] | None  # one for the active arms, by arm, or each subject's own
STRATEGIES: tuple[Strategy, ...] = ("MAR", "J2R", "CR", "CIR", "LMCF")


@dataclass(frozen=True, eq=False)
class Imputations:
    """values: (M, n, T), equal where observed. data: what they were made from. strategies: (n,) of each subject. method: in
    words. imputed_after: (n, T) values missing after the event (not the gaps before it): where a delta goes."""

    values: Array
    data: Visits
    strategies: tuple[str, ...]
    method: str
    imputed_after: NDArray[np.bool_]

    def shifted(self, delta: Mapping[str, float | Array], *, gaps: bool = False) -> Imputations:
        """Imputed values moved by a delta (NRC 2010; Ratitch, O'Kelly & Tosiello 2013, Pharm Stat 12:337).

        delta: arm -> one number for all visits, or (T,). Only values missing after the event move; gaps: those before it too.
        """
        where = self.data.missing if gaps else self.imputed_after
        move = np.zeros(self.data.y.shape)
        for arm, d in delta.items():
            if arm not in self.data.arms:
                raise DataError("no such arm", column="delta", value=arm, remedy=f"one of {', '.join(self.data.arms)}")
            step = np.broadcast_to(np.asarray(d, float), (len(self.data.visits),))
            move[self.data.arm == self.data.arms.index(arm)] = step
        said = ", ".join(f"{arm} {np.round(d, 4)}" for arm, d in delta.items())
        return replace(self, values=self.values + np.where(where, move, 0.0), method=f"{self.method}; delta {said}")

    def analyse(self, *, visit: str | None = None, baseline: Array | None = None, level: float = 0.95) -> tuple[Estimate, ...]:
        """ANCOVA at a visit (the last one where None) of each imputed data set, pooled by Rubin's rules: each arm against
        control.

        Covariates are those of the data (and baseline (n, k), more columns of one's own); model-based errors.
        """
        t = -1 if visit is None else _number(self.data, visit)
        fits = [ancova(self.data, y[:, t], baseline, level, str(self.data.visits[t])) for y in self.values]
        return tuple(pool([f[k] for f in fits], method=f"{self.method}; ANCOVA") for k in range(len(self.data.arms) - 1))


def impute(
    data: Visits,
    draws: int,
    *,
    strategies: Strategies = "MAR",
    by_arm: bool = False,
    seed: int,
    burn_in: int = 100,
    thin: int = 10,
) -> Imputations:
    """Proper multiple imputation with a multivariate normal model.

    strategies: for all arms but control (at random then), or one for each arm, or None: what the data's `handling` says of each
    subject.
    by_arm: a covariance for each arm. Parameters are drawn from their posterior (`posterior_draws`). Values observed after the
    event do not inform the model under another strategy than MAR, and stay as they are. Raises DataError for unknown
    strategies.
    """
    chosen = plan(data, strategies)
    fitted = model_data(data, chosen)
    rng = generator(seed, "imputation")
    values = np.empty((draws, *data.y.shape))
    for k, parameters in enumerate(posterior_draws(fitted, draws, seed=seed, by_arm=by_arm, burn_in=burn_in, thin=thin)):
        values[k] = fill(data, fitted, parameters, chosen, rng)
    said = _named(data, chosen)
    words = f"multiple imputation ({said}), multivariate normal model{', covariance by arm' if by_arm else ''}"
    return Imputations(values, data, chosen, words, data.missing & _after(data))


def _after(data: Visits) -> NDArray[np.bool_]:
    return np.asarray(np.arange(len(data.visits))[None, :] >= data.occurred[:, None])


def plan(data: Visits, given: Strategies) -> tuple[str, ...]:
    """(n,) strategy of each subject. Raises DataError for unknown arms or strategies, and for subjects with missing values after
    an event whose handling says that they are not to be filled."""
    if given is None:
        if not data.handling:
            raise DataError(
                "the data say no handling", column="strategies", remedy="read them with `handling`, or name a strategy"
            )
        out = data.handling
        gap = np.any(data.missing & _after(data), axis=1).tolist()
        for who, s, missing in zip(data.subjects, out, gap, strict=True):
            if s not in STRATEGIES and missing:
                raise DataError(
                    f"handling {s!r} fills nothing, but values are missing", value=who, remedy="choose another handling"
                )
        return tuple(s if s in STRATEGIES else "MAR" for s in out)
    chosen = dict.fromkeys(data.arms[1:], given) if isinstance(given, str) else dict(given)
    for arm, s in chosen.items():
        if arm not in data.arms:
            raise DataError("no such arm", column="strategies", value=arm, remedy=f"one of {', '.join(data.arms)}")
        if s not in STRATEGIES:
            raise DataError("no such strategy", column="strategies", value=s, remedy=f"one of {', '.join(STRATEGIES)}")
    return tuple(chosen.get(data.arms[a], "MAR") for a in data.arm)


def _named(data: Visits, chosen: tuple[str, ...]) -> str:
    """Strategies of the active arms, in words."""
    return "/".join(dict.fromkeys(s for s, a in zip(chosen, data.arm, strict=True) if a > 0))


def model_data(data: Visits, strategies: tuple[str, ...]) -> Visits:
    """Outcomes that inform the model: those after the event only under MAR."""
    off = np.array(strategies) != "MAR"
    return data.filled(np.where(_after(data) & off[:, None], np.nan, data.y))


def fill(data: Visits, fitted: Visits, model: Normal, strategies: tuple[str, ...], rng: np.random.Generator | None) -> Array:
    """(n, T) completed outcomes under the strategies: drawn, or conditional means where rng is None."""
    own, reference = model.mean(data), model.mean(data, np.zeros(len(data), np.int64))
    out = data.y.copy()
    t = len(data.visits)
    number = np.array([STRATEGIES.index(s) for s in strategies])  # type: ignore[arg-type]
    keys = np.column_stack([data.arm, data.occurred, number, ~fitted.missing])
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    for k, key in enumerate(unique):
        seen = key[3:].astype(bool)
        if seen.all():
            continue
        rows = np.flatnonzero(inverse.ravel() == k)
        mean, sigma = imputation_model(
            own[rows],
            reference[rows],
            model.covariances[key[0]],
            model.covariances[0],
            int(key[1]),
            STRATEGIES[key[2]],
        )
        value, left = conditional(fitted.y[rows], mean, sigma, seen)
        if rng is not None:
            value = value + rng.standard_normal(value.shape) @ np.linalg.cholesky(left).T
        full = np.empty((len(rows), t))
        full[:, ~seen] = value
        out[rows] = np.where(np.isnan(out[rows]), full, out[rows])
    return out


def imputation_model(
    own: Array, reference: Array, own_cov: Array, ref_cov: Array, before: int, strategy: Strategy
) -> tuple[Array, Array]:
    """Mean (m, T) and covariance (T, T) of all visits of subjects whose event came after `before` visits."""
    t = own.shape[1]
    if strategy == "MAR" or before >= t:
        return own, own_cov
    if strategy == "CR":
        return reference, ref_cov
    mean = own.copy()
    if strategy == "J2R" or before == 0:
        mean[:, before:] = reference[:, before:]
    elif strategy == "CIR":
        mean[:, before:] = own[:, [before - 1]] + reference[:, before:] - reference[:, [before - 1]]
    elif strategy == "LMCF":
        mean[:, before:] = own[:, [before - 1]]
        return mean, own_cov
    else:
        raise DataError("no such strategy", value=strategy, remedy=f"one of {', '.join(STRATEGIES)}")
    if before == 0 or np.array_equal(own_cov, ref_cov):
        return mean, ref_cov
    # own covariance before the event, the reference's regression of later on earlier visits (Carpenter et al. 2013, section 3)
    a, b = slice(0, before), slice(before, t)
    slope = np.linalg.solve(ref_cov[a, a], ref_cov[a, b])
    sigma = np.empty((t, t))
    sigma[a, a] = own_cov[a, a]
    sigma[a, b] = own_cov[a, a] @ slope
    sigma[b, a] = sigma[a, b].T
    sigma[b, b] = ref_cov[b, b] - slope.T @ (ref_cov[a, a] - own_cov[a, a]) @ slope
    return mean, sigma


def ancova(data: Visits, y: Array, extra: Array | None = None, level: float = 0.95, visit: str = "") -> tuple[Estimate, ...]:
    """Each arm against control by least squares on arm and the data's covariates. y: (n,) complete."""
    arms = np.eye(len(data.arms))[data.arm][:, 1:]
    more = np.empty((len(data), 0)) if extra is None else np.asarray(extra, float).reshape(len(data), -1)
    x = np.column_stack([np.ones(len(data)), arms, data.x, more])
    names = ("(Intercept)", *data.arms[1:], *data.names, *(f"extra{k}" for k in range(more.shape[1])))
    found = least_squares(x, y, names).coefficients("model")
    label = f"{visit}: " if visit else ""
    return tuple(found.of(a, f"{label}{a} − {data.arms[0]}", "mean difference").at(level) for a in data.arms[1:])


def _number(data: Visits, visit: str) -> int:
    if visit not in data.visits:
        raise DataError("no such visit", column="visit", value=visit, remedy=f"one of {', '.join(data.visits)}")
    return data.visits.index(visit)


def conditional_mean(
    data: Visits,
    *,
    strategies: Strategies = "MAR",
    by_arm: bool = False,
    visit: str | None = None,
    baseline: Array | None = None,
    error: Literal["jackknife", "bootstrap"] = "jackknife",
    replicates: int = 200,
    seed: int = 0,
    delta: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """Conditional mean imputation (Wolbers et al. 2022, Pharm Stat 21:1246): REML fit, every missing value replaced by its
    conditional mean under the strategies, ANCOVA, and the whole repeated for the standard error.

    The estimate has no Monte Carlo error. error: "jackknife" leaves out one subject after the other; "bootstrap" draws subjects
    within arms `replicates` times (its own Monte Carlo error in `extra`). Both give the frequentist variance of the estimator,
    which under reference-based strategies is smaller than Rubin's (which is about information-anchored: Cro, Carpenter &
    Kenward 2019, JRSS A 182:623). Normal quantiles.
    """
    chosen = plan(data, strategies)
    t = -1 if visit is None else _number(data, visit)

    def estimate(d: Visits, start: Normal | None, more: Array | None) -> tuple[Array, Normal]:
        chosen = plan(d, strategies)
        fitted = model_data(d, chosen)
        model = maximum_likelihood(fitted, by_arm=by_arm, restricted=True, start=start, tolerance=1e-9 if start is None else 1e-6)
        done = Imputations(fill(d, fitted, model, chosen, None)[None], d, chosen, "", d.missing & _after(d))
        y = done.shifted(delta).values[0] if delta else done.values[0]
        return np.array([e.estimate for e in ancova(d, y[:, t], more)]), model

    best, model = estimate(data, None, baseline)
    n = len(data)
    rng = generator(seed, "bootstrap of imputation")
    every = np.arange(n)
    samples = (
        (np.delete(every, i) for i in every)
        if error == "jackknife"
        else (
            np.concatenate([rng.choice(r, len(r)) for r in (every[data.arm == a] for a in range(len(data.arms)))])
            for _ in range(replicates)
        )
    )
    values = []
    for rows in samples:
        more = None if baseline is None else np.asarray(baseline, float).reshape(n, -1)[rows]
        values.append(estimate(data.take(rows), model, more)[0])
    v = np.array(values)
    if error == "jackknife":
        se = np.sqrt((n - 1) / n * np.sum((v - v.mean(0)) ** 2, axis=0))
        said: dict[str, float] = {"replicates": n}
    else:
        se = v.std(0, ddof=1)
        said = {"replicates": replicates, "monte_carlo_relative_se": float(1 / np.sqrt(2 * (replicates - 1)))}
    name = _named(data, chosen)
    words = f"conditional mean imputation ({name}), REML, {error} SE"
    label = str(data.visits[t])
    return tuple(
        Estimate(f"{label}: {a} − {data.arms[0]}", "mean difference", float(b), float(s), words, n, level=level, extra=said)
        for a, b, s in zip(data.arms[1:], best, se, strict=True)
    )

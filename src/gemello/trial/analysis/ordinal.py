"""Ordinal outcomes of a trial: proportional odds, then marginal effects by g-computation.

Mean score difference, probabilistic index P(Y_a > Y_b) + ½ P(Y_a = Y_b) (Mann and Whitney; Thas et al., JRSS B 2012), win odds
and differences of P(Y ≤ k) (Benkeser, Díaz, Luedtke, Segal, Scharfstein and Rosenblum, Biometrics 2021). By influence function
the category probabilities are augmented by each arm's mean residuals, so that they hold where odds are not proportional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.trial.analysis import proportional
from gemello.trial.analysis.arms import Terms, randomised, word
from gemello.trial.analysis.margins import augmentation, error_of, errors_by, influence, words_of
from gemello.trial.analysis.result import Coefficients, Estimate, Scale

Array = NDArray[np.float64]
Measure = Literal["mean score difference", "probabilistic index", "log win odds", "conditional log odds ratio"]
MEASURES = ("mean score difference", "probabilistic index", "log win odds", "conditional log odds ratio")
COVARIANCES = ("influence", "model", "HC0")


@dataclass(frozen=True)
class OrdinalMargins:
    """arms: control first. categories: lowest first. scores: (K,) their values. cumulative: (arms, K − 1) adjusted P(Y ≤ k).
    covariance: (arms (K − 1), arms (K − 1)), arm by arm; `by` holds it in the other ways. coefficients: of the regression."""

    arms: tuple[str, ...]
    arm: str
    categories: tuple[str, ...]
    scores: Array
    cumulative: Array
    covariance: Array
    method: str
    n: int
    counts: tuple[int, ...]
    coefficients: Coefficients
    by: Mapping[str, Array] = field(default_factory=dict)
    coefficient_by: Mapping[str, Array] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    level: float = 0.95

    @property
    def probabilities(self) -> Array:
        """(arms, K) adjusted probability of each category."""
        return np.diff(self.cumulative, axis=1, prepend=0, append=1)

    def contrast(self, arm: str | float, against: str | float | None = None, measure: str = "mean score difference") -> Estimate:
        """One arm against another (None: control), by one of MEASURES; above the null means higher categories in `arm`."""
        i, j = self._arm(arm), 0 if against is None else self._arm(against)
        if i == j:
            raise DataError(f"arm {self.arms[i]!r} against itself", remedy="name two arms")
        if measure == "conditional log odds ratio":
            return self._conditional(i, j)
        k = len(self.categories)
        gradient, label = np.zeros_like(self.cumulative), f"{self.arms[i]} − {self.arms[j]}"
        if measure == "mean score difference":
            gradient[i], gradient[j] = -np.diff(self.scores), np.diff(self.scores)
            value = float(np.sum(gradient * self.cumulative))
            return self._estimate(label, measure, value, gradient)
        if measure not in MEASURES:
            raise DataError(f"measure {measure!r} is not known", remedy=f"one of {', '.join(MEASURES)}")
        p, c = self.probabilities, np.hstack([np.zeros((len(self.arms), 1)), self.cumulative, np.ones((len(self.arms), 1))])
        middle = (c[:, :-1] + c[:, 1:]) / 2  # P(Y < k) + ½ P(Y = k)
        index = float(p[i] @ middle[j])
        gradient[i] = -np.diff(middle[j])
        gradient[j] = (p[i, : k - 1] + p[i, 1:]) / 2
        if measure == "probabilistic index":
            return self._estimate(label, measure, index, gradient, null=0.5)
        if not 0 < index < 1:
            raise DataError(f"no odds of a probabilistic index of {index:g}", remedy="use the mean score difference")
        slope = 1 / (index * (1 - index))
        return self._estimate(label.replace(" − ", " / "), measure, float(np.log(index / (1 - index))), slope * gradient, "log")

    def at_most(self, arm: str | float, category: str | float, against: str | float | None = None) -> Estimate:
        """Difference of P(Y ≤ category), one arm against another (None: control)."""
        i, j = self._arm(arm), 0 if against is None else self._arm(against)
        name = word(category)
        if name not in self.categories[:-1]:
            raise DataError(f"no category {name!r} below the highest", remedy=f"one of {', '.join(self.categories[:-1])}")
        k = self.categories.index(name)
        gradient = np.zeros_like(self.cumulative)
        gradient[i, k], gradient[j, k] = 1, -1
        value = float(self.cumulative[i, k] - self.cumulative[j, k])
        return self._estimate(f"{self.arms[i]} − {self.arms[j]}", f"difference of P(Y ≤ {name})", value, gradient)

    def contrasts(self, measure: str = "mean score difference") -> tuple[Estimate, ...]:
        """Every arm against control."""
        return tuple(self.contrast(a, measure=measure) for a in self.arms[1:])

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Mean score differences to control."""
        return self.contrasts()

    def _arm(self, arm: str | float) -> int:
        if (name := word(arm)) not in self.arms:
            raise DataError(f"no arm {name!r}", remedy=f"the trial has {', '.join(self.arms)}")
        return self.arms.index(name)

    def _conditional(self, i: int, j: int) -> Estimate:
        weights = np.zeros(len(self.coefficients.names))
        for arm, sign in ((i, 1.0), (j, -1.0)):
            if arm:
                weights[self.coefficients.names.index(f"{self.arm}{self.arms[arm]}")] = sign
        by = {k: float(np.sqrt(weights @ c @ weights)) for k, c in self.coefficient_by.items()}
        e = self.coefficients.contrast(weights, f"{self.arms[i]} / {self.arms[j]}", "conditional log odds ratio", "log")
        extra = {"warnings": self.warnings, "se_by": by}
        return Estimate(e.label, e.measure, e.estimate, e.se, e.method, e.n, None, "log", self.level, extra=extra)

    def _estimate(
        self, label: str, measure: str, value: float, gradient: Array, scale: Scale = "identity", null: float = 0.0
    ) -> Estimate:
        g = gradient.ravel()

        extra: dict[str, Any] = {"warnings": self.warnings, "se_by": errors_by(g, self.by)}
        return Estimate(
            label, measure, value, error_of(g, self.covariance, label), self.method, self.n, None, scale, self.level, null, extra
        )


def ordinal(
    table: pl.DataFrame,
    *,
    outcome: str,
    arm: str,
    control: str | float,
    covariates: Terms = (),
    score: str | None = None,
    order: Sequence[str | float] | None = None,
    scores: Sequence[float] | None = None,
    covariance: str | None = None,
    strata: Terms = (),
    randomisation: str = "simple",
    level: float = 0.95,
) -> OrdinalMargins:
    """Marginal effects on an ordinal outcome, adjusted by proportional odds.

    order: categories, lowest first (needed for words; numbers are sorted). scores: value of each category for mean scores
    (None: the numbers themselves, 1, 2, … for words). covariance: "influence" (None; augmented, model free), or of plain
    g-computation "model" or "HC0". The rest as `ancova.ancova`. Raises DataError for words without an order, a category that
    the order lacks, a single category.
    """
    covariance = covariance or "influence"
    if covariance not in COVARIANCES:
        raise DataError(f"covariance {covariance!r} is not known", remedy=f"one of {', '.join(COVARIANCES)}")
    table, categories, values = _coded(table, outcome, order, scores)
    trial = randomised(
        table, outcome=outcome, arm=arm, control=control, covariates=covariates, score=score, strata=strata,
        randomisation=randomisation,
    )  # fmt: skip
    y = trial.outcome.astype(np.int64)
    seen = np.unique(y)
    if len(seen) < 2:
        raise DataError("the outcome has one category only", column=outcome, remedy="an ordinal outcome needs two at least")
    y, categories, values = np.searchsorted(seen, y), tuple(categories[s] for s in seen), values[seen]
    keep = [i for i, n in enumerate(trial.design.names) if n != "(Intercept)"]
    names = tuple(trial.design.names[i] for i in keep)
    model = proportional.fit(trial.design.matrix[:, keep], y, names, categories)
    worlds = [x[:, keep] for x in trial.counterfactual()]
    k, a = len(categories) - 1, len(trial.arms)
    predictions = np.hstack([model.cumulative(x) for x in worlds])
    gradient = np.vstack([model.gradient(x) for x in worlds])
    below = np.tile((y[:, None] <= np.arange(k)).astype(float), (1, a))
    arm_of = np.repeat(np.arange(a), k)
    by = {kind: gradient @ model.covariance(kind) @ gradient.T for kind in ("model", "HC0")}
    by["influence"], said = influence(trial, below, predictions, arm_of)
    cumulative = predictions.mean(axis=0)
    if covariance == "influence":
        cumulative = cumulative + augmentation(trial, below, predictions, arm_of)
    how = ", augmented by the arms' mean residuals" if covariance == "influence" else ""
    words = f"g-computation, proportional odds, {trial.adjustment}{how}; {words_of(covariance)}"
    kind = "HC0" if covariance == "influence" else covariance
    coefficients = Coefficients(
        model.names,
        model.values,
        model.covariance(kind),
        None,
        len(y),
        f"proportional odds, {trial.adjustment}, {kind} covariance",
    )
    return OrdinalMargins(
        trial.arms, arm, categories, values, cumulative.reshape(a, k), by[covariance], words, len(y),
        tuple(int(c) for c in trial.counts), coefficients, by, {kind: model.covariance(kind) for kind in ("model", "HC0")},
        trial.warnings + (said if covariance == "influence" else ()) + _outside(cumulative), level,
    )  # fmt: skip


def _outside(cumulative: Array) -> tuple[str, ...]:
    """A warning where augmentation took a probability out of 0 … 1."""
    low, high = float(cumulative.min()), float(cumulative.max())
    words = f"an augmented P(Y ≤ k) is {low if low < 0 else high:.4f}: a category is rare; read it as {0 if low < 0 else 1}"
    return (words,) if low < 0 or high > 1 else ()


def _coded(
    table: pl.DataFrame, outcome: str, order: Sequence[str | float] | None, scores: Sequence[float] | None
) -> tuple[pl.DataFrame, tuple[str, ...], Array]:
    """The table with the outcome as category numbers from 0, the categories, their scores."""
    if outcome not in table.columns:
        raise DataError(f"no column {outcome!r}", remedy=f"the table has {', '.join(table.columns[:30])}")
    numeric = table[outcome].dtype.is_numeric() or table.schema[outcome] == pl.Boolean
    column = table[outcome].cast(pl.Float64).fill_nan(None) if numeric else table[outcome]
    words = [None if v is None else word(v) if numeric else str(v) for v in column.to_list()]
    if order is None and not numeric:
        raise DataError("categories in words have no order", column=outcome, remedy="give order=, the lowest first")
    given = sorted(set(column.drop_nulls().to_list())) if order is None else list(order)
    categories = tuple(word(v) for v in given)
    unknown = sorted({w for w in words if w is not None} - set(categories))
    if unknown:
        raise DataError(
            "category that the order lacks", column=outcome, value=unknown[0], remedy=f"one of {', '.join(categories)}"
        )
    if len(categories) > 100:
        raise DataError(f"{len(categories)} categories", column=outcome, remedy="at most 100; use ancova for a measurement")
    if scores is not None and len(scores) != len(categories):
        raise DataError(f"{len(scores)} scores for {len(categories)} categories", column=outcome, remedy="one for each")
    values = scores if scores is not None else [float(c) for c in categories] if numeric else range(1, len(categories) + 1)
    where = {c: i for i, c in enumerate(categories)}
    codes = [None if w is None else where[w] for w in words]
    return table.with_columns(pl.Series(outcome, codes, dtype=pl.Float64)), categories, np.asarray(values, float)

"""The same history used twice: as a prognostic covariate of a randomised comparison, and as an external control arm.

The randomised estimate stands beside both. A covariate cannot bias a randomised comparison, whatever history is like; an external
arm can, and here one sees by how much it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gemello.base.errors import ConvergenceError, DataError
from gemello.trial.analysis.formula import Formula, design
from gemello.trial.analysis.linear import ols
from gemello.trial.analysis.result import Estimate
from gemello.trial.external.balance import balance
from gemello.trial.external.borrow import FULL, NONE, Method, borrow, commensurate, normalised_power, robust_map
from gemello.trial.external.comparison import Comparison, comparison, propensity
from gemello.trial.external.doubly import doubly_robust, standardised
from gemello.trial.external.hazard import hazard_ratio
from gemello.trial.external.match import match, matched_difference
from gemello.trial.external.models import SURVIVAL, Data, Family, Gaussian, posterior_mode
from gemello.trial.external.weight import Weights, entropy_balance, inverse_probability, weighted_difference

Array = NDArray[np.float64]
ARM, EXTERNAL, SCORE = "gemello_arm", "gemello_external", "gemello_score"


@dataclass(frozen=True)
class Row:
    """One way of using history. role: "randomised" (without history), "covariate", "external arm" (the trial's own controls left
    out), "hybrid" (both). estimate: None where the method refused, `refused` says why. gap: estimate − the unadjusted randomised
    one. precision: variance of the unadjusted randomised estimate over this one's."""

    role: str
    method: str
    estimate: Estimate | None
    gap: float | None
    precision: float | None
    refused: str = ""


@dataclass(frozen=True, eq=False)
class LikeForLike:
    """rows: in the order of `Row.role`. correlation: of the score with the outcome among the trial's controls (None for
    survival). imbalance: largest standardised difference between treated subjects and history before weighting."""

    rows: tuple[Row, ...]
    correlation: float | None
    imbalance: float
    worst_covariate: str

    @property
    def truth(self) -> Estimate:
        """The unadjusted randomised estimate."""
        assert self.rows[0].estimate is not None
        return self.rows[0].estimate

    def of(self, role: str) -> tuple[Row, ...]:
        """Rows of one role."""
        return tuple(r for r in self.rows if r.role == role)

    def table(self) -> pl.DataFrame:
        """Columns role, method, estimate, se, lower, upper, gap, precision, n, refused. lower and upper are the credible limits
        of a Bayesian method."""
        rows = []
        for r in self.rows:
            e = r.estimate
            low, high = (None, None) if e is None else e.interval
            if e is not None and "credible_lower" in e.extra:
                low, high = e.extra["credible_lower"], e.extra["credible_upper"]
            rows.append({
                "role": r.role, "method": r.method, "estimate": e and e.estimate, "se": e and e.se, "lower": low, "upper": high,
                "gap": r.gap, "precision": r.precision, "n": e and e.n, "refused": r.refused,
            })  # fmt: skip
        return pl.DataFrame(rows, schema_overrides={"estimate": pl.Float64, "n": pl.Int64})


def like_for_like(
    trial: pl.DataFrame,
    history: pl.DataFrame,
    formula: str,
    arm: str,
    *,
    control: object = 0,
    treated: object = 1,
    family: Family = "normal",
    event: str | None = None,
    score: Callable[[pl.DataFrame, pl.DataFrame], Array] | None = None,
    methods: tuple[Method, ...] | None = None,
    level: float = 0.95,
) -> LikeForLike:
    """Compare uses of one history.

    trial: randomised, with column `arm` (only rows of `control` and `treated` are used); history: controls with the same outcome
    and covariates (an arm column is ignored). formula: outcome ~ covariates; `event` names the event column for survival, where
    every estimate is a log hazard ratio. score: (history, trial) -> (rows of trial,), trained on history alone and blind to the
    trial's outcomes and arms (columns that it is not given); None: the formula's own prediction, fitted to history. methods: of
    borrowing; None: none, normalised power, commensurate, robust MAP and full, with a drift SD of half an outcome SD (normal) or
    0.5 on the log scale. Binary outcomes are compared on the risk difference as external arms, on the log odds ratio as hybrids,
    so `gap` is empty for the latter.

    A method that refuses (no overlap, separation) keeps its row with the reason. Raises DataError where trial or history cannot
    be read at all.
    """
    f = Formula.parse(formula)
    t = trial.filter(pl.col(arm).is_in([control, treated]))
    t = t.with_columns((pl.col(arm) == pl.lit(treated)).cast(pl.Int64).alias(ARM), pl.lit(0).alias(EXTERNAL))
    h = history.with_columns(pl.lit(0).alias(ARM), pl.lit(1).alias(EXTERNAL))
    used = [*dict.fromkeys([*f.columns, *([event] if event else [])])]
    for name, table in (("trial", t), ("history", h)):
        if missing := [c for c in used if c not in table.columns]:
            raise DataError(f"no such column in the {name}", column=missing[0], remedy="give trial and history the same columns")
    keep = [*used, ARM, EXTERNAL]
    t, h = t.select(keep).drop_nulls(), h.select(keep).drop_nulls()
    if len(h) == 0:
        raise DataError("history has no complete row", remedy="give history with the formula's columns")
    blind = t.drop([c for c in (ARM, EXTERNAL, *_outcome(f), event) if c in t.columns]) if score else t
    values = _score(h, t, f, family, event) if score is None else np.asarray(score(h.drop(ARM, EXTERNAL), blind), float)
    if values.shape != (len(t),) or not np.all(np.isfinite(values)):
        raise DataError(
            f"scores of shape {values.shape}, or not all finite", column="score", remedy=f"give {len(t)} finite numbers"
        )
    t = t.with_columns(pl.Series(SCORE, values))
    both = pl.concat([t.drop(SCORE), h], how="vertical_relaxed")
    arms = _arms_only(both, formula, family, event)
    rows: list[Row] = []
    truth: Estimate | None = None
    for role, name, make in _ways(t, both, arms, formula, f, family, event, methods, level, score is not None):
        try:
            e, why = make(), ""
        except (DataError, ConvergenceError) as refusal:
            if truth is None:
                raise
            e, why = None, str(refusal)
        truth = truth or e
        assert truth is not None
        same = e is not None and e.measure == truth.measure
        rows.append(
            Row(
                role,
                name,
                e,
                e.estimate - truth.estimate if e and same else None,
                (truth.se / e.se) ** 2 if e and same else None,
                why,
            )
        )
    seen = t.filter(pl.col(ARM) == 0)
    d = design(f, seen)
    rho = None if family in SURVIVAL else float(np.corrcoef(seen[SCORE].to_numpy(), np.asarray(d.outcome))[0, 1])
    table = balance(arms).table.with_columns(pl.col("smd").abs()).sort("smd", descending=True)
    return LikeForLike(tuple(rows), rho, float(table["smd"][0]), str(table["covariate"][0]))


def _arms_only(both: pl.DataFrame, formula: str, family: Family, event: str | None) -> Comparison:
    """Treated subjects of the trial against history."""
    rows = both.filter((pl.col(ARM) == 1) | (pl.col(EXTERNAL) == 1))
    kind = "binary" if family == "binary" else "continuous"
    return comparison(rows, formula, ARM, kind=kind, label="treated − external control")  # type: ignore[arg-type]


def _outcome(f: Formula) -> tuple[str, ...]:
    """Columns that the outcome is made of."""
    return Formula.parse(f.text.split("~", 1)[0]).columns


def _score(history: pl.DataFrame, trial: pl.DataFrame, f: Formula, family: Family, event: str | None) -> Array:
    """(n,) linear predictor for the trial's subjects, fitted to history."""
    d = design(f, history)
    if problem := d.rank_problem():
        raise DataError(f"history: {problem}", remedy="leave it out")
    assert d.outcome is not None
    seen = history[event].cast(pl.Float64).to_numpy() if event else np.ones(len(d))
    centre, spread = d.matrix.mean(0), d.matrix.std(0)
    centre[0], spread[0] = 0.0, 1.0
    data = Data(family, (d.matrix - centre) / spread, d.outcome, seen)
    flat = Gaussian(np.zeros(data.size), np.zeros(data.size))
    b = posterior_mode(data, flat, np.ones(len(d))).values[: d.matrix.shape[1]]
    return np.asarray((d.at(trial) - centre) / spread @ b)


Way = tuple[str, str, Callable[[], Estimate]]


def _ways(
    t: pl.DataFrame, both: pl.DataFrame, arms: Comparison, formula: str, f: Formula, family: Family, event: str | None,
    methods: tuple[Method, ...] | None, level: float, own_score: bool,
) -> Iterator[Way]:  # fmt: skip
    assert f.outcome is not None
    y = f.outcome.text
    covariates = formula.split("~", 1)[1]

    def inside(right: str) -> Callable[[], Estimate]:
        """The randomised comparison with a right-hand side."""
        if family in SURVIVAL:
            return lambda: hazard_ratio(t, f"{y} ~ {right}", ARM, event or "", family=family, level=level)
        if family == "normal":
            return lambda: _ancova(t, f"{y} ~ {right} + {ARM}", level)
        return lambda: _adjusted(comparison(t, f"{y} ~ {right}", ARM, kind="binary", label="treated − control"), level)

    yield "randomised", "unadjusted", inside("1")
    yield "randomised", "covariate-adjusted", inside(covariates)
    yield "covariate", "prognostic score from history", inside(SCORE)
    if own_score:  # the formula's own prediction adds nothing to the formula's covariates
        yield "covariate", "prognostic score and covariates", inside(f"{covariates} + {SCORE}")
    for name, way in _external(arms, both, formula, y, family, event, level):
        yield "external arm", name, way
    if methods is None:
        scale = 0.5 * (float(np.std(np.asarray(arms.outcome))) if family == "normal" else 1.0)
        methods = (NONE, normalised_power(), commensurate(sd_scale=scale), robust_map(scale / 2), FULL)
    for m in methods:
        yield "hybrid", m.words, _hybrid(both, formula, m, family, event, level)


def _hybrid(
    both: pl.DataFrame, formula: str, m: Method, family: Family, event: str | None, level: float
) -> Callable[[], Estimate]:
    return lambda: borrow(both, formula, ARM, EXTERNAL, m, family=family, event=event, level=level).estimate


def _ancova(table: pl.DataFrame, formula: str, level: float) -> Estimate:
    return ols(formula, table, "HC3").of(ARM, "treated − control", "mean difference").at(level)


def _adjusted(groups: Comparison, level: float) -> Estimate:
    if groups.design.matrix.shape[1] == 1:
        return weighted_difference(groups, _unit(groups), level=level)
    return standardised(groups, "ATE", interactions=(), level=level)


def _unit(groups: Comparison) -> Weights:
    none = np.empty((len(groups), 0))
    return Weights(np.ones(len(groups)), "ATE", "difference of means", none, none, np.empty((0, 0)))


def _external(
    arms: Comparison, both: pl.DataFrame, formula: str, y: str, family: Family, event: str | None, level: float
) -> Iterator[tuple[str, Callable[[], Estimate]]]:
    if family in SURVIVAL:
        rows = arms.table

        def hazard(right: str, weights: Callable[[], Array] | None = None) -> Callable[[], Estimate]:
            return lambda: hazard_ratio(
                rows, f"{y} ~ {right}", ARM, event or "", family=family, weights=weights() if weights else None, level=level
            )

        yield "naive", hazard("1")
        yield "outcome regression", hazard(formula.split("~", 1)[1])
        yield "matching", hazard("1", lambda: match(arms, propensity(arms), replacement=True).weights)
        yield "weighting (ATT)", hazard("1", lambda: inverse_probability(arms, propensity(arms), "ATT").values)
        yield "weighting (overlap)", hazard("1", lambda: inverse_probability(arms, propensity(arms), "overlap").values)
        yield "entropy balancing", hazard("1", lambda: entropy_balance(arms).values)
        return
    yield "naive", lambda: weighted_difference(arms, _unit(arms), level=level)
    yield "outcome regression", lambda: standardised(arms, "ATT", level=level)
    yield "matching", lambda: matched_difference(arms, s := propensity(arms), match(arms, s, replacement=True), level=level)
    yield "weighting (ATT)", lambda: weighted_difference(arms, inverse_probability(arms, propensity(arms), "ATT"), level=level)
    yield (
        "weighting (overlap)",
        lambda: weighted_difference(arms, inverse_probability(arms, propensity(arms), "overlap"), level=level),
    )
    yield "entropy balancing", lambda: weighted_difference(arms, entropy_balance(arms), level=level)
    yield "doubly robust", lambda: doubly_robust(arms, "ATT", level=level)

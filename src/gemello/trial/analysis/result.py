"""What an analysis says: an estimate with its error, its degrees of freedom, and the method that ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gemello.base.errors import DataError

Scale = Literal["identity", "log"]  # "log": estimate and se are logarithms of a ratio


@dataclass(frozen=True)
class Estimate:
    """One number that a trial was run for.

    label: what is compared ("ddI − ZDV", "week 24: high − placebo"). measure: in the field's words ("mean difference", "risk
    difference", "log odds ratio", "log hazard ratio"). se: standard error on the scale of the estimate. df: degrees of freedom of
    the t distribution, None for the normal one. method: what ran, in words. n: subjects used. null: value under the null
    hypothesis. extra: whatever else the method says, by name (plain numbers and words).
    """

    label: str
    measure: str
    estimate: float
    se: float
    method: str
    n: int
    df: float | None = None
    scale: Scale = "identity"
    level: float = 0.95
    null: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise DataError("no confidence level", column="level", value=self.level, remedy="give a number such as 0.95")

    @property
    def statistic(self) -> float:
        """(estimate − null) / se."""
        return (self.estimate - self.null) / self.se

    @property
    def p(self) -> float:
        """Two-sided p value."""
        z = abs(self.statistic)
        return float(2 * (stats.norm.sf(z) if self.df is None else stats.t.sf(z, self.df)))

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided confidence interval of `level`, on the scale of the estimate."""
        q = 0.5 + self.level / 2
        half = float(stats.norm.ppf(q) if self.df is None else stats.t.ppf(q, self.df)) * self.se
        return self.estimate - half, self.estimate + half

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Estimate and interval as a ratio, where the scale is logarithmic; DataError elsewhere."""
        if self.scale != "log":
            raise DataError(f"{self.measure} is no ratio", column=self.label, remedy="read estimate and interval")
        return (float(np.exp(self.estimate)), *(float(np.exp(v)) for v in self.interval))  # type: ignore[return-value]

    def at(self, level: float) -> Estimate:
        """The same with another confidence level."""
        return replace(self, level=level)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON: with interval, statistic, p, and the ratio where there is one."""
        low, high = self.interval
        out = asdict(self) | {"extra": dict(self.extra), "lower": low, "upper": high, "statistic": self.statistic, "p": self.p}
        if self.scale == "log":
            out["ratio"], out["ratio_lower"], out["ratio_upper"] = self.ratio
        return out


@dataclass(frozen=True)
class Coefficients:
    """A fitted regression: names and values (k,), covariance (k, k), degrees of freedom of its residual (None: normal theory)."""

    names: tuple[str, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    df: float | None
    n: int
    method: str

    @property
    def se(self) -> NDArray[np.float64]:
        """(k,) standard errors."""
        return np.sqrt(np.diag(self.covariance))

    def contrast(self, weights: NDArray[np.float64], label: str, measure: str, scale: Scale = "identity") -> Estimate:
        """The combination weights'β as an estimate. weights: (k,)."""
        value = float(weights @ self.values)
        se = float(np.sqrt(weights @ self.covariance @ weights))
        return Estimate(label, measure, value, se, self.method, self.n, self.df, scale)

    def of(self, name: str, label: str = "", measure: str = "coefficient", scale: Scale = "identity") -> Estimate:
        """One coefficient. Raises DataError for a name that the model does not have."""
        if name not in self.names:
            raise DataError(f"no coefficient {name!r}", remedy=f"the model has {', '.join(self.names)}")
        return self.contrast(np.eye(len(self.names))[self.names.index(name)], label or name, measure, scale)

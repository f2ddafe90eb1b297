"""Pooling of estimates over imputed data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemello.base.errors import DataError
from gemello.trial.analysis.result import Estimate


def pool(estimates: Sequence[Estimate], *, complete_df: float | None = None, method: str = "") -> Estimate:
    """Rubin's rules (1987): mean of the estimates, variance W + (1 + 1/M) B, t with the degrees of freedom of Barnard & Rubin
    1999 (Biometrika 86:948).

    estimates: of M ≥ 2 imputed data sets, on one scale. complete_df: degrees of freedom had nothing been missing; None: the
    estimates' own, infinite where they have none. `extra`: within, between, fraction_missing (γ), relative_increase (r),
    relative_efficiency, imputations, monte_carlo_se (√(B/M), what other seeds would change). Raises DataError for fewer than 2.
    """
    m = len(estimates)
    if m < 2:
        raise DataError(f"{m} imputed data sets", remedy="two at least, for the variance between them; 50 or more for a report")
    first = estimates[0]
    if any((e.measure, e.scale) != (first.measure, first.scale) for e in estimates):
        raise DataError("estimates of different measures", remedy="pool estimates of one measure on one scale")
    q = np.array([e.estimate for e in estimates])
    within = float(np.mean([e.se**2 for e in estimates]))
    between = float(q.var(ddof=1))
    total = within + (1 + 1 / m) * between
    share = (1 + 1 / m) * between / total if total > 0 else 0.0
    if complete_df is None:
        complete_df = float(np.mean([np.inf if e.df is None else e.df for e in estimates]))
    df = degrees_of_freedom(m, share, complete_df)
    increase = (1 + 1 / m) * between / within if within > 0 else np.inf
    # fraction of missing information with its small-sample correction
    gamma = (increase + 2 / (df + 3)) / (1 + increase) if np.isfinite(df) and np.isfinite(increase) else share
    said = {
        "within": within, "between": between, "relative_increase": increase, "fraction_missing": gamma,
        "relative_efficiency": 1 / (1 + gamma / m), "imputations": m, "monte_carlo_se": float(np.sqrt(between / m)),
    }  # fmt: skip
    words = method or f"{first.method}; {m} imputations"
    return Estimate(
        first.label, first.measure, float(q.mean()), float(np.sqrt(total)), f"{words}, Rubin's rules",
        first.n, None if np.isinf(df) else df, first.scale, first.level, first.null, said,
    )  # fmt: skip


def degrees_of_freedom(imputations: int, share: float, complete: float = np.inf) -> float:
    """Barnard & Rubin 1999, equation 3. share: (1 + 1/M) B / T. complete: degrees of freedom of the complete data."""
    old = (imputations - 1) / share**2 if share > 0 else np.inf
    if np.isinf(complete):
        return float(old)
    observed = (complete + 1) / (complete + 3) * complete * (1 - share)
    return float(observed if np.isinf(old) else old * observed / (old + observed))

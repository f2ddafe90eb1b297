"""From scores to a verdict: class, its probability, the interval of the score, and what a reader must be warned of.

Two probabilities are kept apart. The *share of samples* in a class says how sure the assay data are of the side of the threshold.
The *class probability* is the mean over samples of the proportional-odds model of 28 reference drugs: it also says how well the
score tells classes apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, SolverError
from gemello.domains.heart.drugs.drug import HERG
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.risk.logit import OrdinalLogit
from gemello.domains.heart.risk.reference import reference
from gemello.domains.heart.risk.score import Scored, classes_of
from gemello.inference.scores import quantiles_with_error

CLASSES = ("low", "intermediate", "high")
LEVELS = (0.025, 0.5, 0.975)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """A value with its Monte Carlo standard error (0: none was drawn)."""

    value: float
    error: float


@dataclass(frozen=True)
class Dose:
    """One dose: multiple of Cmax; concentration nM; qnet C/F and apd90 ms of the best values with the 95 % intervals of the
    samples (NaN without); ead, unrepolarised: of the best values; ead_share, unrepolarised_share: of the samples."""

    multiple: float
    concentration: float
    qnet: float
    qnet_interval: tuple[float, float]
    apd90: float
    apd90_interval: tuple[float, float]
    ead: bool
    unrepolarised: bool
    ead_share: float
    unrepolarised_share: float


@dataclass(frozen=True, eq=False)
class Risk:
    """The verdict on one compound.

    risk: 0 low, 1 intermediate, 2 high: the most frequent class of the samples; of the best values where there are no samples.
    score: of the best values, C/F. median, low, high: of the samples' scores, C/F, None without samples. shares: of samples by
    class; probabilities: by class (module's docstring). samples: used; failed: lanes that could not be solved. warnings: all that
    a reader must know. scores: (samples,) C/F.
    """

    name: str
    vintage: str
    thresholds: tuple[float, float]
    risk: int
    point_risk: int
    score: float
    median: Number | None
    low: Number | None
    high: Number | None
    shares: tuple[Number, ...] | None
    probabilities: tuple[Number, ...] | None
    samples: int
    failed: int
    doses: tuple[Dose, ...]
    warnings: tuple[str, ...]
    scores: Floats

    @property
    def settled(self) -> bool | None:
        """Whether the 95 % interval of the score lies within one class; None without samples."""
        if self.low is None or self.high is None:
            return None
        ends = classes_of([self.low.value, self.high.value], self.thresholds)
        return bool(ends[0] == ends[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that do not exist are None."""
        number = lambda n: None if n is None else {"value": n.value, "mc_error": n.error}  # noqa: E731
        by_class = lambda v: None if v is None else {c: number(n) for c, n in zip(CLASSES, v, strict=True)}  # noqa: E731
        return {
            "compound": self.name,
            "class": CLASSES[self.risk],
            "class_of_best_values": CLASSES[self.point_risk],
            "settled": self.settled,
            "score_C_per_F": self.score,
            "score_median": number(self.median),
            "score_2.5%": number(self.low),
            "score_97.5%": number(self.high),
            "class_probabilities": by_class(self.probabilities),
            "share_of_samples": by_class(self.shares),
            "samples": self.samples,
            "failed_lanes": self.failed,
            "vintage": self.vintage,
            "thresholds_C_per_F": {"high_below": self.thresholds[0], "low_from": self.thresholds[1]},
            "doses": [
                {
                    "x_cmax": d.multiple,
                    "concentration_nM": d.concentration,
                    "qNet_C_per_F": d.qnet,
                    "qNet_95%": d.qnet_interval,
                    "APD90_ms": d.apd90,
                    "APD90_95%": d.apd90_interval,
                    "EAD": d.ead,
                    "repolarised": not d.unrepolarised,
                    "EAD_share_of_samples": d.ead_share,
                    "unrepolarised_share_of_samples": d.unrepolarised_share,
                }
                for d in self.doses
            ],
            "warnings": self.warnings,
        }


def assess(scored: Scored, vintage: Vintage) -> Risk:
    """The verdict on a compound by the thresholds of `vintage`, to which it must belong (`Vintage.adopt`).

    Raises DataError for a compound of another vintage or a vintage without thresholds, SolverError where the best values could
    not be solved.
    """
    if vintage.thresholds is None:
        raise DataError(
            "no thresholds were published with it", source=f"vintage {vintage.name}", remedy="use lab2020 or validation2018"
        )
    if scored.drug.vintage != vintage.name:
        vintage.adopt(scored.drug)
        raise DataError("has no vintage", source=f"drug {scored.drug.name}", remedy="adopt it into the vintage first")
    every = scored.scores
    if not np.isfinite(every[0]):
        at = scored.doses[int(np.flatnonzero(scored.failed[0] | ~np.isfinite(scored.qnet[0]))[0])]
        raise SolverError(f"drug {scored.drug.name} at {at:g} x Cmax: the cell could not be solved; check IC50s and Cmax")
    drawn = every[1:][np.isfinite(every[1:])]
    point = int(classes_of(every[0], vintage.thresholds))
    median = low = high = shares = None
    if len(drawn) > 1:
        q, e = quantiles_with_error(drawn, LEVELS)
        low, median, high = (Number(float(a), float(b)) for a, b in zip(q, e, strict=True))
        shares = _shares(drawn, vintage.thresholds)
    modal = point if shares is None else int(np.argmax([s.value for s in shares]))
    found = Risk(
        scored.drug.name, vintage.name, vintage.thresholds, modal, point, float(every[0]), median, low, high, shares,
        _probabilities(drawn if len(drawn) > 1 else every[:1], vintage), len(drawn), int(np.sum(scored.failed)),
        tuple(_dose(scored, k) for k in range(len(scored.doses))), (), drawn,
    )  # fmt: skip
    return _warned(found, scored, vintage)


def logit_of(vintage: Vintage) -> OrdinalLogit | None:
    """The vintage's published classifier."""
    return None if vintage.logit is None else OrdinalLogit((vintage.logit.intermediate, vintage.logit.high), vintage.logit.slope)


def _shares(drawn: Floats, thresholds: tuple[float, float]) -> tuple[Number, ...]:
    """Share of samples in each class; error: standard deviation of Beta(k + 1, n − k + 1), never 0."""
    n = len(drawn)
    counts = np.bincount(classes_of(drawn, thresholds), minlength=3)
    return tuple(Number(k / n, float(np.sqrt((k + 1) * (n - k + 1) / ((n + 2) ** 2 * (n + 3))))) for k in counts)


def _probabilities(drawn: Floats, vintage: Vintage) -> tuple[Number, ...] | None:
    """Mean over samples of the classifier's probabilities."""
    model = logit_of(vintage)
    if model is None:
        return None
    p = model.probabilities(drawn)
    error = p.std(axis=0, ddof=1) / np.sqrt(len(p)) if len(p) > 1 else np.zeros(p.shape[1])
    return tuple(Number(float(a), float(b)) for a, b in zip(p.mean(axis=0), error, strict=True))


def _dose(scored: Scored, k: int) -> Dose:
    good = ~scored.failed[1:, k]
    many = int(good.sum()) > 1

    def interval(values: Floats) -> tuple[float, float]:
        v = values[1:, k][good]
        v = v[np.isfinite(v)]
        if not many or len(v) < 2:
            return (float("nan"), float("nan"))
        ends = np.quantile(v, [LEVELS[0], LEVELS[2]])
        return float(ends[0]), float(ends[1])

    def share(flags: Any) -> float:
        return float(np.mean(flags[1:, k][good])) if many else float("nan")

    multiple = scored.doses[k]
    return Dose(
        multiple, multiple * scored.drug.cmax, float(scored.qnet[0, k]), interval(scored.qnet), float(scored.apd90[0, k]),
        interval(scored.apd90), bool(scored.ead[0, k]), not scored.repolarised[0, k], share(scored.ead),
        share(~scored.repolarised),
    )  # fmt: skip


# ---- warnings ------------------------------------------------------------------------------------------------------
def _warned(found: Risk, scored: Scored, vintage: Vintage) -> Risk:
    drug, out = scored.drug, list(scored.drug.notes)
    if found.settled is False and found.low is not None and found.high is not None:
        crossed = [f"{t:g}" for t in found.thresholds if found.low.value < t <= found.high.value]
        out.append(f"the 95 % interval of the score crosses the threshold {' and '.join(crossed)} C/F: the class is not settled")
    if found.shares is not None and found.risk != found.point_risk:
        out.append(f"the best values alone fall into another class: {CLASSES[found.point_risk]}")
    most = None if found.probabilities is None else int(np.argmax([p.value for p in found.probabilities]))
    if most is not None and most != found.risk:
        out.append(f"most samples fall into class {CLASSES[found.risk]}, but the most probable class is {CLASSES[most]}")
    if found.shares is None:
        out.append("no samples of the parameters: the uncertainty of the assay is not in these numbers")
    if drug.point.binding is None:
        how = "a static IC50 of hERG" if HERG in drug.point.block else "no block of hERG"
        out.append(f"{how} in place of dynamic binding, for which the thresholds of {vintage.name} hold")
    known = reference(vintage.name)
    middle = found.score if found.median is None else found.median.value
    if known and not min(r.median for r in known) <= middle <= max(r.median for r in known):
        out.append(f"the score lies beyond those of the {len(known)} reference drugs: its probabilities are an extrapolation")
    return replace(found, warnings=tuple(dict.fromkeys([*out, *_arrhythmias(found)])))


def _arrhythmias(found: Risk) -> list[str]:
    """Early afterdepolarisations and repolarisation failure, and lanes that could not be solved."""
    out = []
    for what, here, share in (
        ("early afterdepolarisations", lambda d: d.ead, lambda d: d.ead_share),
        ("no repolarisation by the end of the beat", lambda d: d.unrepolarised, lambda d: d.unrepolarised_share),
    ):
        at = [f"{d.multiple:g}" for d in found.doses if here(d)]
        some = [d for d in found.doses if share(d) > 0]
        if at:
            out.append(f"{what} at {', '.join(at)} × Cmax")
        if some:
            out.append(f"{what} in up to {100 * max(share(d) for d in some):.1f} % of samples")
    if found.failed:
        out.append(f"{found.failed} cells could not be solved and are left out of the interval")
    return out

"""Concentration-QTc analysis and by-time-point analysis of ICH E14.

Garnett et al., J Pharmacokinet Pharmacodyn 45:383-397, 2018 (scientific white paper on concentration-QTc modelling), with its
pre-specified linear mixed-effects model (section "Prespecified linear mixed effects model"):

    ΔQTcF_ijk = (θ0 + η0,i) + θ1 TRT_j + (θ2 + η2,i) C_ijk + θ3,k TIME_k + θ4 (QTcF_baseline,ij − mean baseline)

unstructured covariance of the random effects, REML, Kenward-Roger degrees of freedom. ΔΔQTcF(C) = θ1 + θ2 C. ICH E14, and its
questions and answers (R3, 2015) 5.1: a drug has no effect of concern where the upper bound of the two-sided 90 % interval of
ΔΔQTcF at the highest clinically relevant exposure lies below 10 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.qt.mixed import Contrast, Mixed, reml
from gemello.domains.heart.qt.records import HIGHEST, Study

Floats = NDArray[np.float64]
THRESHOLD = 10.0  # ms, ICH E14
LEVEL = 0.90
HEART_RATE = 10.0  # beats/min of mean placebo-corrected change above which QTcF alone does not do (white paper)


@dataclass(frozen=True)
class AtTime:
    """Mean ΔΔQTcF of one dose at one nominal time: ms, with its 90 % interval; mean concentration; subjects on drug and
    placebo; mean placebo-corrected change of heart rate (beats/min, NaN without RR)."""

    time: float
    mean: float
    se: float
    df: float
    low: float
    high: float
    concentration: float
    drug: int
    placebo: int
    heart_rate: float
    dose: float


@dataclass(frozen=True)
class Prediction:
    """ΔΔQTcF of the model at one concentration. label: what the concentration is."""

    label: str
    concentration: float
    contrast: Contrast


@dataclass(frozen=True)
class Decile:
    """Observed ΔΔQTcF of one group of concentrations: median concentration, mean, 90 % interval, records; the model's there."""

    concentration: float
    mean: float
    low: float
    high: float
    records: int
    predicted: float


@dataclass(frozen=True)
class Hysteresis:
    """Mean ΔΔQTcF against mean concentration at the highest dose. peak_effect, peak_concentration: their times, h. area: signed
    area of the loop as a share of its bounding box, positive where the effect comes after the concentration; low, high: 90 %
    interval by resampling subjects. seen: whether the interval lies above 0 and the effect is of 5 ms or more."""

    peak_effect: float
    peak_concentration: float
    area: float
    low: float
    high: float
    seen: bool


@dataclass(frozen=True)
class Correction:
    """QTcF (or QT) against RR without drug: slope within subjects, ms/s, with its 90 % interval. Flat: the correction holds."""

    name: str
    slope: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything that the report shows. paired: ΔΔQTcF of each record on drug, ms. linearity: of a term in C² added to the
    model."""

    study: Study
    model: Mixed
    intercept: Contrast
    slope: Contrast
    predictions: tuple[Prediction, ...]
    by_time: tuple[AtTime, ...]
    deciles: tuple[Decile, ...]
    paired: Floats
    hysteresis: Hysteresis
    corrections: tuple[Correction, ...]
    linearity: Contrast
    ols: tuple[float, float]
    notes: tuple[str, ...]

    @property
    def excluded(self) -> bool:
        """Whether an effect of 10 ms is excluded at the highest exposure asked for."""
        return max(self.predictions, key=lambda p: p.concentration).contrast.high < THRESHOLD

    @property
    def peak(self) -> AtTime:
        """The time of the largest mean ΔΔQTcF."""
        return max(self.by_time, key=lambda a: a.mean)

    @property
    def excluded_by_time(self) -> bool:
        """Intersection-union test: the upper bound lies below 10 ms at every time."""
        return max(a.high for a in self.by_time) < THRESHOLD

    def at(self, concentration: float) -> Contrast:
        """ΔΔQTcF of the model at a concentration."""
        return ddqtcf(self.model, concentration)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, lists and words, for JSON."""
        m, s = self.model, self.study
        return {
            "file": s.source, "drug": s.drug, "unit": s.unit, "subjects": len(set(s.subject.tolist())), "records": len(s),
            "crossover": s.crossover, "excluded": self.excluded, "excluded_by_time": self.excluded_by_time,
            "predictions": [{"label": p.label, "concentration": p.concentration, **asdict(p.contrast)} for p in self.predictions],
            "fixed_effects": {n: asdict(m.effect(n)) for n in m.names},
            "random": m.random.tolist(), "residual_variance": m.residual, "loglik": m.loglik, "singular": m.singular,
            "by_time": [asdict(t) for t in self.by_time], "deciles": [asdict(d) for d in self.deciles],
            "hysteresis": asdict(self.hysteresis), "corrections": [asdict(c) for c in self.corrections],
            "linearity": asdict(self.linearity), "ols": {"slope": self.ols[0], "intercept": self.ols[1]},
            "notes": list(self.notes), "columns": dict(s.columns), "hash": s.hash,
        }  # fmt: skip


def analyse(study: Study, concentrations: Sequence[float] = (), *, seed: int = 0) -> Analysis:
    """The whole analysis. concentrations: where to predict, besides the geometric mean Cmax of each dose. seed: of the
    interval of the hysteresis loop. Raises DataError, ConvergenceError."""
    for c in concentrations:
        if not 0 <= c <= HIGHEST:
            raise DataError("not a concentration", column="concentration", value=c, remedy=f"give 0 or more, in {study.unit}")
    model = fit(study)
    by_time = at_times(study)
    paired = placebo_corrected(study)
    slope, intercept = np.polyfit(study.conc[study.active], paired, 1)
    asked = [*geometric_cmax(study), *((f"{v:g} {study.unit}", float(v)) for v in concentrations)]
    found = tuple(Prediction(label, v, ddqtcf(model, v)) for label, v in asked)
    top, highest = by_dose(study)[-1]
    shown = [t for t in by_time if t.dose == top or np.isnan(top)]
    loop = hysteresis(study.rows(highest | ~study.active), shown, seed)
    curved = fit(study, quadratic=True).effect("concentration²")
    corrections = heart_rate_correction(study)
    return Analysis(
        study, model, model.effect("treatment"), model.effect("concentration"), found, by_time, deciles(study, paired, model),
        paired, loop, corrections, curved, (float(slope), float(intercept)),
        _notes(study, model, by_time, loop, curved, corrections, found),
    )  # fmt: skip


# ---- the linear mixed model --------------------------------------------------------------------------------------------
def fit(study: Study, *, quadratic: bool = False) -> Mixed:
    """The pre-specified model. quadratic: with a term in C², to test linearity."""
    times = study.times
    blocks: list[tuple[str, Floats]] = [
        ("intercept", np.ones(len(study))),
        ("treatment", study.active.astype(float)),
        ("concentration", study.conc),
        ("baseline", study.baseline - _mean_baseline(study)),
    ]
    blocks += [(f"time {t:g} h", (study.time == t).astype(float)) for t in times[1:]]
    blocks += [("concentration²", study.conc**2)] if quadratic else []
    x = np.stack([b for _, b in blocks], axis=1)
    z = np.stack([np.ones(len(study)), study.conc], axis=1)
    return reml(study.change, x, z, study.subject, tuple(n for n, _ in blocks))


def _mean_baseline(study: Study) -> float:
    """Over subjects and periods, each counted once."""
    keys = zip(study.subject.tolist(), study.active.tolist(), np.nan_to_num(study.dose).tolist(), strict=True)
    return float(np.mean(list(dict(zip(keys, study.baseline.tolist(), strict=True)).values())))


def ddqtcf(model: Mixed, concentration: float, level: float = LEVEL) -> Contrast:
    """θ1 + θ2 C with its interval, ms."""
    w = np.zeros(len(model.names))
    w[model.names.index("treatment")], w[model.names.index("concentration")] = 1.0, concentration
    return model.contrast(w, level)


def geometric_cmax(study: Study) -> list[tuple[str, float]]:
    """Geometric mean over subjects of the largest concentration, by dose, in order of dose."""
    out = []
    for d, here in by_dose(study):
        largest = np.array([study.conc[here & (study.subject == s)].max() for s in np.unique(study.subject[here])])
        largest = largest[largest > 0]
        if len(largest):
            name = "geometric mean Cmax" + (f", dose {d:g}" if np.isfinite(d) else "")
            out.append((name, float(np.exp(np.log(largest).mean()))))
    if not out:
        raise DataError("no concentration above 0 on drug", source=study.source, column="CONC", remedy="give the concentrations")
    return out


def by_dose(study: Study) -> list[tuple[float, NDArray[np.bool_]]]:
    """Each dose of the drug, in order, and its records; one, NaN, where the file does not give all doses."""
    own = study.dose[study.active]
    doses = np.unique(own) if np.isfinite(own).all() else np.array([np.nan])
    return [(float(d), study.active & ((study.dose == d) | np.isnan(d))) for d in doses]


# ---- what was observed -------------------------------------------------------------------------------------------------
def placebo_corrected(study: Study) -> Floats:
    """(records on drug,) ΔQTcF less the mean ΔQTcF of all placebo records at the same nominal time, ms."""
    mean = {t: study.change[~study.active & (study.time == t)] for t in study.times.tolist()}
    empty = [t for t, v in mean.items() if not len(v)]
    if empty:
        raise DataError(
            f"no placebo record at {empty[0]:g} h",
            source=study.source,
            column="TIME",
            remedy="give nominal times that both share",
        )
    at = np.array([mean[t].mean() for t in study.time[study.active].tolist()])
    return np.asarray(study.change[study.active] - at)


def at_times(study: Study) -> tuple[AtTime, ...]:
    """Mean ΔΔQTcF of each dose at each nominal time with its 90 % interval."""
    out = []
    rate = 60_000.0 / study.rr
    for (dose, own), t in product(by_dose(study), study.times.tolist()):
        drug, placebo = own & (study.time == t), ~study.active & (study.time == t)
        if not drug.any():
            continue
        mean, se, df = _difference(study, study.change, drug, placebo)
        half = float(student.ppf(0.5 + LEVEL / 2, df)) * se
        beats = float(np.nanmean(rate[drug]) - np.nanmean(rate[placebo])) if np.isfinite(rate[drug | placebo]).all() else np.nan
        out.append(
            AtTime(t, mean, se, df, mean - half, mean + half, float(study.conc[drug].mean()), int(drug.sum()),
                   int(placebo.sum()), beats, dose)
        )  # fmt: skip
    return tuple(out)


def _difference(study: Study, value: Floats, drug: NDArray[np.bool_], placebo: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Mean on drug less mean on placebo, its standard error and degrees of freedom.

    Subjects that had both enter the variance with their covariance: the paired t test where all did, Welch's where none did.
    """
    a = dict(zip(study.subject[drug].tolist(), value[drug].tolist(), strict=True))
    b = dict(zip(study.subject[placebo].tolist(), value[placebo].tolist(), strict=True))
    if min(len(a), len(b)) < 2:
        return float(np.mean(list(a.values())) - np.mean(list(b.values()))), np.nan, np.nan
    both = [s for s in a if s in b]
    va, vb = np.var(list(a.values()), ddof=1) / len(a), np.var(list(b.values()), ddof=1) / len(b)
    mean = float(np.mean(list(a.values())) - np.mean(list(b.values())))
    if len(both) < 2:
        df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
        return mean, float(np.sqrt(va + vb)), float(df)
    shared = np.cov([a[s] for s in both], [b[s] for s in both], ddof=1)[0, 1] * len(both) / (len(a) * len(b))
    return mean, float(np.sqrt(max(va + vb - 2.0 * shared, 0.0))), float(len(both) - 1)


def deciles(study: Study, paired: Floats, model: Mixed, groups: int = 10) -> tuple[Decile, ...]:
    """Observed ΔΔQTcF by groups of equal number along the concentration (the white paper's goodness of fit)."""
    c = study.conc[study.active]
    order = np.argsort(c, kind="stable")
    out = []
    for part in np.array_split(order, min(groups, len(c) // 2)):
        v, n = paired[part], len(part)
        half = float(student.ppf(0.5 + LEVEL / 2, n - 1) * v.std(ddof=1) / np.sqrt(n))
        at = float(np.median(c[part]))
        out.append(Decile(at, float(v.mean()), float(v.mean()) - half, float(v.mean()) + half, n, ddqtcf(model, at).value))
    return tuple(out)


# ---- assumptions -------------------------------------------------------------------------------------------------------
def hysteresis(study: Study, by_time: Sequence[AtTime], seed: int, replicates: int = 500) -> Hysteresis:
    """Loop of mean ΔΔQTcF against mean concentration, of one dose."""
    times = np.array([a.time for a in by_time])
    conc, effect = np.array([a.concentration for a in by_time]), np.array([a.mean for a in by_time])
    subjects = np.unique(study.subject[study.active])
    table = np.full((3, len(subjects), len(times)), np.nan)
    for i, s in enumerate(subjects):
        for j, t in enumerate(times):
            here = (study.subject == s) & (study.time == t)
            on, off = here & study.active, here & ~study.active
            table[0, i, j] = study.conc[on].mean() if on.any() else np.nan
            table[1, i, j] = study.change[on].mean() if on.any() else np.nan
            table[2, i, j] = study.change[off].mean() if off.any() else np.nan
    means = np.array([study.change[~study.active & (study.time == t)].mean() for t in times])
    rng = generator(seed, "hysteresis")
    areas = []
    for _ in range(replicates):
        again = table[:, rng.integers(len(subjects), size=len(subjects))]
        with np.errstate(invalid="ignore"):
            c, d, p = (_mean_rows(v) for v in again)
        areas.append(_loop(c, d - np.where(np.isnan(p), means, p)))
    low, high = np.nanquantile(areas, [0.05, 0.95])
    area = _loop(conc, effect)
    k = int(np.argmax(effect))
    return Hysteresis(
        float(times[k]), float(times[np.argmax(conc)]), area, float(low), float(high), bool(low > 0 and effect[k] >= 5.0)
    )


def _mean_rows(v: Floats) -> Floats:
    """Mean over the first axis of what is there; NaN where nothing is."""
    n = np.isfinite(v).sum(axis=0)
    return np.where(n > 0, np.nansum(v, axis=0) / np.maximum(n, 1), np.nan)


def _loop(c: Floats, e: Floats) -> float:
    """Signed area of the closed loop from (0, 0) through (c, e), positive where it runs anticlockwise (the effect lags), as a
    share of the rectangle around it."""
    x, y = np.concatenate([[0.0], c]), np.concatenate([[0.0], e])
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    box = float((x.max() - x.min()) * (y.max() - y.min()))
    return area / box if box > 0 else 0.0


def heart_rate_correction(study: Study) -> tuple[Correction, ...]:
    """Slope of QTcF, and of QT for comparison, on RR within subjects off drug; empty without RR."""
    off = ~study.active & np.isfinite(study.rr)
    if off.sum() < 10:
        return ()
    who = study.subject[off]
    out = []
    for name, value in (("QTcF", study.qtcf[off]), ("QT", study.qt[off])):
        if not np.isfinite(value).all():
            continue
        x, y = _centred(study.rr[off] / 1000.0, who), _centred(value, who)
        slope = float(x @ y / (x @ x))
        # subjects are independent, their records are not: sandwich variance over subjects (Liang & Zeger 1986)
        scores = np.array([np.sum((x * (y - slope * x))[who == s]) for s in np.unique(who)])
        n = len(scores)
        se = float(np.sqrt(np.sum(scores**2) * n / (n - 1)) / (x @ x))
        half = float(student.ppf(0.5 + LEVEL / 2, n - 1)) * se
        out.append(Correction(name, slope, slope - half, slope + half))
    return tuple(out)


def _centred(v: Floats, who: NDArray[np.str_]) -> Floats:
    out = v.copy()
    for s in np.unique(who):
        out[who == s] -= v[who == s].mean()
    return out


def _notes(
    study: Study, model: Mixed, by_time: Sequence[AtTime], loop: Hysteresis, curved: Contrast,
    corrections: Sequence[Correction], asked: Sequence[Prediction],
) -> tuple[str, ...]:  # fmt: skip
    """What a reviewer must know before believing the line."""
    out = list(study.notes)
    intercept = model.effect("treatment")
    if model.singular:
        out.append("The covariance of the random effects is singular: the data do not support an unstructured one.")
    if not intercept.low <= 0 <= intercept.high:
        out.append(
            f"The treatment effect at concentration 0 is {intercept.value:.1f} ms ({intercept.low:.1f} to {intercept.high:.1f}):"
            " a sign that the line is not the right model."
        )
    if curved.p < 0.05:
        out.append(f"A term in C² is significant (p = {curved.p:.2g}): the relation is not linear.")
    if loop.seen:
        out.append(
            f"The effect lags behind the concentration (loop area {100 * loop.area:.0f} % of its box, 90 % interval"
            f" {100 * loop.low:.0f} to {100 * loop.high:.0f} %): an effect-compartment model is due, and the line, which knows no"
            " delay, is no ground to exclude an effect."
        )
    if loop.high < 0 and max(a.mean for a in by_time) >= 5.0:
        out.append(
            f"The loop of effect and concentration runs clockwise (area {100 * loop.area:.0f} % of its box, 90 % interval"
            f" {100 * loop.low:.0f} to {100 * loop.high:.0f} %): saturation with early samples, tolerance, or another moiety."
        )
    beats = [a.heart_rate for a in by_time if np.isfinite(a.heart_rate)]
    if beats and max(map(abs, beats)) > HEART_RATE:
        out.append(f"Mean heart rate changes by more than {HEART_RATE:g} beats/min: QTcF alone does not do.")
    first = next((c for c in corrections if c.name == "QTcF"), None)
    if first is not None and not first.low <= 0 <= first.high:
        out.append(
            f"QTcF depends on RR without drug ({first.slope:.0f} ms/s, {first.low:.0f} to {first.high:.0f}): Fridericia does not"
            " fully correct here."
        )
    largest = float(study.conc[study.active].max())
    beyond = [p.concentration for p in asked if p.concentration > largest]
    by_line = max(asked, key=lambda p: p.concentration).contrast.high < THRESHOLD
    if by_line and not max(a.high for a in by_time) < THRESHOLD:
        out.append(
            f"The line excludes {THRESHOLD:g} ms, the means by time do not (see there): judge by the line only if its assumptions"
            " hold."
        )
    if beyond:
        out.append(f"{beyond[0]:.4g} {study.unit} lies beyond the highest concentration observed ({largest:.4g}): extrapolated.")
    return tuple(out)

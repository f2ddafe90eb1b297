"""Torsade risk held against FDA's own output for the laboratory-specific vintage of 2020.

Point values: FDA's R program for sotalol, its model driven by CVODE for 20 drugs. Samples: medians, intervals, class counts and
classifiers of FDA's 2,000 joint samples per drug; here SAMPLES of them are run, so comparisons allow for Monte Carlo error, which
each row states.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemello.base.random import generator
from gemello.base.reference import Check, check, columns, rows
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.risk import score, solver
from gemello.domains.heart.risk.assess import CLASSES, logit_of
from gemello.domains.heart.risk.logit import LeaveOneOut, leave_one_out, pooled
from gemello.domains.heart.risk.performance import across, class_error, likelihood_ratios, performance
from gemello.domains.heart.risk.reference import Reference, reference, write
from gemello.domains.heart.risk.score import Scored, classes_of

SAMPLES, SEED = 200, 1
SOTALOL = (0.16, 0.32, 0.64, 0.96, 1.28, 2.56)
CONTROL = (0.069672, 290.0)  # C/F, ms: SOURCES.md of the reference data


class Panel(NamedTuple):
    """28 drugs at 1 to 4 Cmax: best values and SAMPLES joint samples; each drug predicted by the others."""

    scored: dict[str, Scored]
    left_out: LeaveOneOut


def checks(folder: Path) -> Iterator[Check]:
    """Every check of the risk room. folder: the heart's reference data. Half an hour on two cores, most of it in `sampled`."""
    yield from classifier(folder)
    yield from sotalol(folder)
    yield from twenty_drugs(folder)
    yield from sampled(folder)


# ---- without a cell ------------------------------------------------------------------------------------------------
def classifier(folder: Path) -> Iterator[Check]:
    """FDA's classifier gives its thresholds, and its counts give its table of performance."""
    (r,) = rows(folder / "cipa" / "li2019" / "chantest28_qNettraining_errors.csv")
    vintage = Vintage.read(folder, "lab2020", samples=False)
    model = logit_of(vintage)
    assert model is not None
    for name, ours in zip(("intercept1", "intercept2", "slope"), (*model.intercepts, model.slope), strict=True):
        yield check(f"classifier of lab2020: {name}", ours, float(r[name]), 1e-8, "chantest28_qNettraining_errors", relative=True)
    low, high = model.thresholds()
    yield check("threshold low / intermediate, from the classifier", low, 0.0683, 5e-5, "published threshold, C/F")
    yield check("threshold intermediate / high, from the classifier", high, 0.0536, 5e-5, "published threshold, C/F")
    called, truth = _counted(folder / "cipa" / "li2019" / "nanion8_qNetLOOCV_probs.csv")
    for j, wanted in ((1, (3.0, 1.5e-6)), (2, (6.0, 1.2e-6))):
        for name, values, ref in zip(("LR+", "LR−"), likelihood_ratios(called >= j, truth >= j), wanted, strict=True):
            yield check(f"{name} at threshold {j}, 8 drugs", across(values).value, ref, 0.01, "Table7_nanion8", relative=True)
    yield check("classification error, 8 drugs", class_error(called, truth).value, 0.322, 5e-4, "Table7_nanion8")


def _counted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes (drugs, 2000) that have the file's counts, paired at random, and true ones (drugs,)."""
    table, random = rows(path), generator(SEED, "pairing of counts")
    called = [random.permutation(np.repeat(np.arange(3), [int(r[f"predict_{c}"]) for c in range(3)])) for r in table]
    return np.array(called), np.array([int(r["CiPA"]) for r in table])


# ---- best values ---------------------------------------------------------------------------------------------------
def sotalol(folder: Path) -> Iterator[Check]:
    """Control and sotalol at six doses: FDA's own program."""
    vintage = Vintage.read(folder, "lab2020", samples=False)
    table = columns(folder / "cipa" / "fixed_sotalol_metrics.csv")
    (found,) = score.run([vintage["sotalol"]], doses=(0.0, *SOTALOL), pacer=solver.as_fda)
    yield check("control: qNet (C/F)", found.qnet[0, 0], CONTROL[0], 1e-4, "FDA's model, SOURCES.md")
    yield check("control: APD90 (ms)", found.apd90[0, 0], CONTROL[1], 1.0, "FDA's model, SOURCES.md")
    for k, dose in enumerate(SOTALOL, start=1):
        i = int(np.flatnonzero(np.isclose(table["dose"], dose))[0])
        source = "fixed_sotalol_metrics (FDA's output)"
        yield check(f"sotalol {dose:g} Cmax: qNet (C/F)", found.qnet[0, k], 1e-3 * table["qNet"][i], 5e-5, source)
        yield check(f"sotalol {dose:g} Cmax: APD90 (ms)", found.apd90[0, k], table["APD90"][i], 1.0, source)


def twenty_drugs(folder: Path) -> Iterator[Check]:
    """20 drugs at 1 to 4 Cmax, FDA's model by CVODE for 1,000 beats: the largest difference of each drug, and of APD90."""
    vintage = Vintage.read(folder, "lab2020", samples=False)
    table = rows(folder / "cipa" / "qnet_reference_20drugs.csv")
    names = list(dict.fromkeys(r["drug"] for r in table))
    for found in score.run([vintage[n] for n in names], pacer=solver.as_fda):
        here = {float(r["xCmax"]): r for r in table if r["drug"] == found.drug.name}
        wanted = np.array([float(here[d]["qNet_C_per_F"]) for d in found.doses])
        apd = np.array([float(here[d]["APD90_ms"]) for d in found.doses])
        k, m = int(np.argmax(np.abs(found.qnet[0] - wanted))), int(np.argmax(np.abs(found.apd90[0] - apd)))
        name, source = found.drug.name, "qnet_reference_20drugs (FDA's model, CVODE)"
        yield check(f"{name}: qNet (C/F), worst of 4 doses ({k + 1} Cmax)", found.qnet[0, k], wanted[k], 1e-4, source)
        yield check(f"{name}: APD90 (ms), worst of 4 doses ({m + 1} Cmax)", found.apd90[0, m], apd[m], 1.5, source)


# ---- samples -------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def panel(folder: Path, samples: int = SAMPLES, seed: int = SEED) -> Panel:
    """The 28 drugs, run now."""
    vintage = Vintage.read(folder, "lab2020")
    found = score.run(list(vintage.drugs.values()), samples=samples, seed=seed)
    return of(found)


def of(found: list[Scored]) -> Panel:
    """A panel of scored drugs. Samples that could not be solved take the median of the others, so that all drugs have as many."""
    scores = {}
    for s in found:
        drawn = s.scores[1:]
        scores[s.drug.name] = np.where(np.isfinite(drawn), drawn, np.nanmedian(drawn))
    return Panel({s.drug.name: s for s in found}, leave_one_out(scores, {s.drug.name: int(s.drug.risk or 0) for s in found}))


def sampled(folder: Path, panel_: Panel | None = None) -> Iterator[Check]:
    """Medians, classes and classifiers of the joint samples."""
    made = panel(folder) if panel_ is None else panel_
    yield from _medians(folder, made)
    yield from _classes(folder, made)
    yield from _classifiers(folder, made)
    yield from _kept(made)


def _medians(folder: Path, made: Panel) -> Iterator[Check]:
    """Eight drugs, four doses: our median within FDA's 95 % interval; and next to FDA's median, in Monte Carlo errors."""
    table = rows(folder / "cipa" / "qnet_summary_8validation_chantest.csv")
    far = []
    for name in dict.fromkeys(r["drug"] for r in table):
        s, inside = made.scored[name], 0
        for r in (r for r in table if r["drug"] == name):
            q = s.qnet[1:, s.doses.index(float(r["dose"]))]
            middle = float(np.nanmedian(q))
            inside += float(r["qNet_lo"]) <= middle <= float(r["qNet_hi"])
            sd = (float(r["qNet_hi"]) - float(r["qNet_lo"])) / 3.92
            error = np.hypot(1.2533 * sd * np.sqrt(1 / len(q) + 1 / 2000), 1e-4)
            far.append(abs(middle - float(r["qNet_med"])) / error)
        yield check(f"{name}: doses of 4 with median qNet in FDA's interval", inside, 4, 0, "qnet_summary_8validation_chantest")
    source = "32 medians; 4.5 errors: false alarm 2e-4"
    yield check("largest distance from FDA's median (Monte Carlo errors)", max(far), 0.0, 4.5, source)


def _classes(folder: Path, made: Panel) -> Iterator[Check]:
    """Modal class of each drug, training and left out, against FDA's over 2,000 samples."""
    vintage = Vintage.read(folder, "lab2020", samples=False)
    assert vintage.thresholds is not None
    files = folder / "cipa" / "li2019"
    training = {r["drug"]: r for r in rows(files / "chantest28_qNettraining_probs.csv")}
    right = 0
    for k, name in enumerate(made.left_out.drugs):
        drawn = made.left_out.scores[k]
        counts = np.bincount(classes_of(drawn, vintage.thresholds), minlength=3)
        theirs = np.array([int(training[name][f"predict_{c}"]) for c in range(3)])
        ours, wanted = int(counts.argmax()), int(theirs.argmax())
        right += int(training[name]["CiPA"]) == wanted
        share = theirs[wanted] / theirs.sum()
        words = f"{name}: modal class of {len(drawn)} samples ({CLASSES[ours]}; FDA: {CLASSES[wanted]} in {100 * share:.0f} %)"
        if share < 0.5 + 4.5 * 0.5 / np.sqrt(len(drawn)):  # at the threshold: its interval must straddle it
            low, high = np.quantile(drawn, [0.025, 0.975])
            straddles = classes_of(low, vintage.thresholds) != classes_of(high, vintage.thresholds)
            ours = wanted if straddles else ours
        yield check(words, ours, wanted, 0, "chantest28_qNettraining_probs")
    left = {r["drug"]: [int(r[f"predict_{c}"]) for c in range(3)] for r in rows(files / "chantest28_qNetLOOCV_probs.csv")}
    modal = [np.bincount(p, minlength=3).argmax() for p in made.left_out.predicted]
    same = sum(int(np.argmax(left[n])) == m for n, m in zip(made.left_out.drugs, modal, strict=True))
    yield check("left-out drugs whose modal class is FDA's", same, 28, 2, "chantest28_qNetLOOCV_probs; two lie near a threshold")
    shares = np.array([np.bincount(p, minlength=3) / len(p) for p in made.left_out.predicted])
    theirs_all = np.array([np.array(left[n]) / sum(left[n]) for n in made.left_out.drugs])
    most = float(np.abs(shares - theirs_all).max())
    yield check("left-out classes: largest difference of a share", most, 0.0, 0.18, "4.5 errors of 200 samples, and thresholds'")


def _classifiers(folder: Path, made: Panel) -> Iterator[Check]:
    """Classifier of all drugs and of all but one, fitted to our scores, against FDA's; tolerance: 4.5 Monte Carlo errors."""
    files = folder / "cipa" / "li2019"
    (r,) = rows(files / "chantest28_qNettraining_errors.csv")
    error = _bootstrap(made)
    model = made.left_out.training
    theirs = np.array([float(r[k]) for k in ("intercept1", "intercept2", "slope")])
    for k, name in enumerate(("intercept 1", "intercept 2", "slope")):
        ours = (*model.intercepts, model.slope)[k]
        allowed = 4.5 * error[k] + 0.01 * abs(theirs[k])
        yield check(f"classifier fitted to {len(made.scored)} drugs: {name}", ours, theirs[k], allowed, "4.5 errors and 1 %")
    left = {row["drug"]: row for row in rows(files / "chantest28_qNetLOOCV_errors.csv")}
    for j, name in ((0, "intercept1"), (1, "intercept2")):
        ours_ = np.array([-f.intercepts[j] / f.slope for f in made.left_out.fits])
        wanted = np.array([-float(left[d][name]) / float(left[d]["slope"]) for d in made.left_out.drugs])
        k = int(np.argmax(np.abs(ours_ - wanted)))
        words = f"classifiers without one drug: half-way score {j + 1}, worst (without {made.left_out.drugs[k]})"
        yield check(words, ours_[k], wanted[k], 3e-4, "chantest28_qNetLOOCV_errors, C/F")
    found = performance(made.left_out)
    wanted_error = float(np.mean([float(row["error"]) for row in left.values()]))
    yield check("mean leave-one-out error", found.error.value, wanted_error, 0.02, "chantest28_qNetLOOCV_errors")


def _bootstrap(made: Panel, repeats: int = 30) -> np.ndarray:
    """(3,) Monte Carlo standard errors of intercepts and slope: samples of each drug drawn anew."""
    random, lo = generator(SEED, "bootstrap of the classifier"), made.left_out
    classes = dict(zip(lo.drugs, (int(c) for c in lo.classes), strict=True))
    found = []
    for _ in range(repeats):
        drawn = {d: random.choice(row, len(row)) for d, row in zip(lo.drugs, lo.scores, strict=True)}
        m = pooled(drawn, classes)
        found.append((*m.intercepts, m.slope))
    return np.std(found, axis=0, ddof=1)


def _kept(made: Panel) -> Iterator[Check]:
    """The table of reference drugs that the program brings is what it computes."""
    stored = {r.drug: r for r in reference()}
    now = {r.drug: r for r in references(made)}
    apart = max((abs(stored[d].median - r.median) for d, r in now.items() if d in stored), default=np.inf)
    yield check("reference table of 28 drugs: drugs", len(stored), len(now), 0, "reference_lab2020.csv")
    yield check("reference table of 28 drugs: medians, largest difference (C/F)", apart, 0.0, 1e-3, "reference_lab2020.csv")


def make_reference(folder: Path, path: Path, samples: int = SAMPLES, seed: int = SEED) -> None:
    """Write the table of reference drugs that the program brings, after a change of cell, solver or vintage."""
    remark = f"28 drugs of lab2020 in the CiPA cell, {samples} of 2,000 joint samples, seed {seed}: authorities/risk.py"
    write(path, references(panel(folder, samples, seed)), remark)


def references(made: Panel) -> list[Reference]:
    """The rows of the table of reference drugs."""
    out = []
    for k, name in enumerate(made.left_out.drugs):
        s, drawn = made.scored[name], made.left_out.scores[k]
        low, middle, high = (float(v) for v in np.quantile(drawn, [0.025, 0.5, 0.975]))
        p = made.left_out.probabilities[k].mean(axis=0)
        left = (float(p[0]), float(p[1]), float(p[2]))
        out.append(Reference(name, int(made.left_out.classes[k]), float(s.scores[0]), middle, low, high, left, len(drawn)))
    return out

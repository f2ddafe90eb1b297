"""Drug effects held against FDA's fits and recordings, another group's factors and a stiff ODE solver. Recomputed each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from gemello.base.reference import Check, check, rows
from gemello.domains.heart.drugs import herg, hill, milnes
from gemello.domains.heart.drugs.drug import HERG, KT, Binding, Block, Drug
from gemello.domains.heart.drugs.effect import unblocked
from gemello.domains.heart.drugs.vintage import Vintage

Array = NDArray[np.float64]
HTS = ("HTS_trainingdrug_block.csv", "HTS_validationdrug_block.csv")  # what the vintage of 2020 was fitted to
MANUAL = ("manual_trainingdrug_block.csv",)  # what that of 2017 was
OTHER_DATA = (("verapamil", "ICaL"),)  # FDA's values of 2020 follow another table than the published one
SHALLOW = 60.0  # % block that the concentrations must pass, else an IC50 is extrapolated
FITTED = ("dofetilide", "bepridil", "cisapride", "verapamil", "ranolazine", "terfenadine")
FDA = "FDA/CiPA, branch Lab_Specific_Validation_Calibration_2020"


def checks(folder: Path) -> Iterator[Check]:
    """Every check of drug effects; folder: the heart's reference data."""
    yield from factors(folder)
    yield from hill_2020(folder)
    yield from hill_2017(folder)
    yield from markov()
    yield from recordings(folder)
    yield from recovery()


def block_tables(folder: Path, files: tuple[str, ...]) -> dict[tuple[str, str], tuple[Array, Array]]:
    """Concentrations (nM) and block (%) of each drug and channel."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for file in files:
        for r in rows(folder / "cipa" / "li2019" / file):
            if r["block"] != "NA":
                channel = HERG if r["channel"] == "hERG" else r["channel"]
                found.setdefault((r["drug"], channel), []).append((float(r["conc"]), float(r["block"])))
    return {k: (np.array([c for c, _ in v]), np.array([y for _, y in v])) for k, v in found.items()}


def factors(folder: Path) -> Iterator[Check]:
    """Conductance factors of the validation drugs at 1, 5 and 10 × EFTPC, from another group's file (four decimals).

    Its training drugs, and ibutilide, follow other assays than the published table.
    """
    published = Vintage.read(folder, "validation2018")
    training = {r["drug"] for r in rows(folder / "cipa" / "CiPA_training_drugs.csv")}
    worst = 0.0
    for r in rows(folder / "simcardems" / "drug_factors_28x3.csv"):
        name = {"metropolol": "metoprolol"}.get(r["drug"].lower(), r["drug"].lower())
        if name in training or name not in published.drugs or name == "ibutilide":
            continue
        drug = published[name]
        for channel in ("INa", "INaL", "ICaL"):
            ours = float(unblocked(drug.point.block[channel], float(r["xEFTPC"]) * drug.cmax))
            worst = max(worst, abs(ours - float(r[f"scale_drug_{channel}"])))
    source = "simcardems demos/drug_factors (28 drugs), 15 validation drugs x 3 doses x 3 channels"
    yield check("Hill factors of conductances, largest difference", worst, 0.0, 1e-4, source)


def hill_2020(folder: Path) -> Iterator[Check]:
    """112 fits of the high-throughput tables against FDA's optima and FDA's 2,000 samples of each."""
    vintage = Vintage.read(folder, "lab2020")
    excess, optimum, middle, ends = [], [], [], []
    for (name, channel), (c, y) in block_tables(folder, HTS).items():
        if name not in vintage.drugs or channel not in vintage[name].point.block or (name, channel) in OTHER_DATA:
            continue
        fitted = hill.fit(c, y, source=f"{name} {channel}")
        fda = vintage[name].point.block[channel]
        excess.append(_squares(*fitted.point, c, y) / _squares(*fda, c, y) - 1.0)
        if fitted.top < SHALLOW or float(np.mean(y[c == c.min()])) > SHALLOW:
            continue
        optimum.append(abs(np.log10(fitted.ic50 / fda.ic50)))
        ours, theirs = (_quantiles(b.ic50) for b in (fitted.draws, _samples(vintage[name], channel)))
        middle.append(abs(ours[1] - theirs[1]))
        ends += [abs(ours[i] - theirs[i]) for i in (0, 2)]
    data = f"{FDA}, tables of block of Li 2019"
    yield check(f"Hill fits, {len(excess)} tables: excess of squares over FDA's", max(0.0, *excess), 0.0, 1e-6, data)
    deep = f"{len(optimum)} tables whose block passes 60 %"
    yield check(f"log10 IC50, {deep}: median difference from FDA's", float(np.median(optimum)), 0.0, 1e-3, data)
    yield check(
        f"posterior of log10 IC50, {deep}: largest difference of medians", max(middle), 0.0, 0.05, f"{FDA}, 2,000 samples"
    )
    yield check(
        f"posterior of log10 IC50, {deep}: mean difference of ends of 95 % intervals",
        float(np.mean(ends)),
        0.0,
        0.03,
        f"{FDA}, 2,000 samples",
    )


def _samples(drug: Drug, channel: str) -> Block:
    assert drug.samples is not None
    return drug.samples.block[channel]


def _quantiles(ic50: Array) -> Array:
    return np.asarray(np.quantile(np.log10(ic50), (0.025, 0.5, 0.975)))


def _squares(ic50: float, h: float, c: Array, y: Array) -> float:
    return float(np.sum((hill.percent(ic50, h, c) - y) ** 2))


def hill_2017(folder: Path) -> Iterator[Check]:
    """Fits of the manual tables of 12 training drugs, Hill coefficient free, against FDA's optima of 2017 (four digits)."""
    vintage = Vintage.read(folder, "master2017")
    worst, count = 0.0, 0
    for (name, channel), (c, y) in block_tables(folder, MANUAL).items():
        if name not in vintage.drugs or channel == HERG or channel not in vintage[name].point.block:
            continue
        fda = vintage[name].point.block[channel]
        fitted = hill.fit(c, y, prior=hill.WIDE, draws=10)
        if fitted.top >= 20.0:
            worst, count = max(worst, abs(fitted.ic50 / fda.ic50 - 1.0)), count + 1
    source = "FDA/CiPA, branch master: Hill_fitting/results"
    yield check(f"IC50 of {count} manual tables with 20 % block or more: largest relative difference", worst, 0.0, 1e-3, source)


def markov() -> Iterator[Check]:
    """Fractional current by matrix exponentials against a stiff ODE solver of the same equations, three sweeps."""
    binding, dose = Binding(5000.0, 2e-3, 0.9, 1e6, -60.0), 300.0
    protocol = herg.Milnes(sweeps=3)
    exact = herg.open_probability(binding, dose, protocol)[0]
    on = binding.kmax * binding.ku * dose**binding.n / (dose**binding.n + binding.halfmax)
    state, points = herg.rest(protocol.holding), []
    spans = [(protocol.holding, protocol.before)]
    spans += [(protocol.test, protocol.pulse), (protocol.holding, protocol.interval - protocol.pulse)] * protocol.sweeps
    for voltage, span in spans:
        release = KT / (1.0 + np.exp(-(voltage - binding.vhalf) / herg.SLOPE))
        lane = (np.array([v]) for v in (on, binding.ku, release))
        a = np.asarray(herg.system(voltage, *lane))[:, :, 0]
        at = protocol.times if voltage == protocol.test else np.array([span])
        solved = solve_ivp(lambda _, x, a=a: a @ x, (0.0, span), state, "BDF", at, rtol=1e-9, atol=1e-13, jac=a)
        if voltage == protocol.test:
            points.append(solved.y[herg.OPEN])
        state = solved.y[:, -1]
    worst = float(np.max(np.abs(np.array(points) / exact - 1.0)))
    yield check(
        "hERG in the Milnes protocol: largest relative difference of open probability", worst, 0.0, 1e-6, "SciPy BDF, rtol 1e-9"
    )


def recordings(folder: Path) -> Iterator[Check]:
    """FDA's parameters follow FDA's recordings in our simulation; our fits follow them at least as closely, to the same block."""
    vintage = Vintage.read(folder, "lab2020", samples=False)
    path = folder / "cipa" / "milnes_mean_28drugs_200ms.csv"
    read = {d: milnes.reference(path, d) for d in vintage.drugs}
    rmse = {d: r.rmse(vintage[d].point.binding or _none()) for d, r in read.items()}
    data = f"{FDA}, mean recordings of 28 drugs"
    yield check(
        "dynamic hERG at FDA's parameters, median error over 28 drugs", float(np.median([*rmse.values()])), 0.0, 0.05, data
    )
    for name in FITTED:
        fda, recording = vintage[name].point.binding or _none(), read[name]
        fitted = milnes.fit(recording)
        yield check(f"hERG fit of {name}: excess of error over FDA's", max(0.0, fitted.rmse / rmse[name] - 1.0), 0.0, 1e-9, data)
        ours, theirs = (herg.fraction(b, recording.levels)[:, -1, -1] for b in (fitted.point, fda))
        worst = float(np.max(np.abs(ours - theirs)))
        yield check(f"hERG fit of {name}: current left after the tenth pulse, largest difference", worst, 0.0, 0.05, data)


def _none() -> Binding:
    raise AssertionError("every drug of this vintage has dynamic hERG")


def recovery() -> Iterator[Check]:
    """Known parameters found again from an exact simulation of four concentrations."""
    truth = Binding(50.0, 0.005, 0.95, 1e5, -90.0)
    sweep, point = (v.reshape(-1) for v in np.indices((10, 50)))
    dose = np.repeat([1e3, 1e4, 3e4, 1e5], 500)
    columns = (np.tile(1 + sweep, 4), np.tile(200.0 * (1 + point), 4))
    blank = milnes.Recording("known", dose, *columns, np.ones(2000), np.zeros(2000, np.int64))
    known = milnes.Recording("known", dose, *columns, blank.predict(truth)[0], blank.cell)
    found = milnes.fit(known).point
    worst = max(abs(a / b - 1.0) for a, b in zip(found, truth, strict=True))
    yield check("hERG parameters found again from a simulation: largest relative error", worst, 0.0, 1e-2, "our own simulation")

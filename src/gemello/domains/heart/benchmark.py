"""The speed of heart cells beside named peers: the same work to a stated accuracy, in one run, on this machine.

Rows of populations: `ours` and `peer` in cell-beats per second (medians of runs taken in turn), `ratio` ours over the peer's.
Rows of limits: seconds, `ratio` the limit over ours. Seconds of the first call, which compiles, stand apart. `ours_error` and
`peer_error`: the largest error of APD90 (ms) of any cell against a run of the same side at a tight tolerance.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.random import generator
from gemello.base.reference import reference_data, rows
from gemello.domains.heart import peers_myokit
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.cells.torord.model import endo as torord
from gemello.domains.heart.drugs.effect import lanes
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.domains.heart.pacing import Paced, pace
from gemello.domains.heart.steady import steady

Case = dict[str, Any]
Floats = NDArray[np.float64]
RUNS = 3
CURRENTS = ("INa", "INaL", "Ito", "ICaL", "IKr", "IKs", "IK1")  # whose conductances differ from cell to cell
SPREAD = 0.2  # standard deviation of their logarithms
TOLERANCE, TIGHT = 2e-3, 2e-5  # the tight run is within 0.01 ms
PEER_TOLERANCE, PEER_TIGHT = 1e-6, 1e-9  # Myokit's default is 1e-6
BARS = {"float32": 20.0, "float64": 10.0}
FILES = {
    cipa: "cellmodels/chaste_cellml/ohara_rudy_cipa_v1_2017.cellml",
    torord: "cellmodels/torord_cellml/ToRORd_dynCl_endo.cellml",
}
PANEL_LIMIT, PANEL_TOLERANCE, CYCLE, BEATS, MULTIPLES = 300.0, 3e-4, 2000.0, 1000, (1.0, 2.0, 3.0, 4.0)
_NO_DATA = "the heart's reference data are not there; set GEMELLO_DATA"


def cases() -> Iterator[Case]:
    """Every case of the domain, one at a time; those that need reference data or a peer say so where there is none."""
    folder = reference_data("heart")
    for model in FILES:
        yield from population(model, folder)
    yield from panel(folder)
    if importlib.util.find_spec("gemello.domains.heart.benchmark_tissue") is not None:
        yield from importlib.import_module("gemello.domains.heart.benchmark_tissue").cases()


# ---- populations ---------------------------------------------------------------------------------------------------
def factors(cells: int) -> Floats:
    """Factors (cells, currents) of the conductances: a log-normal population, the same for both sides."""
    return np.exp(SPREAD * generator(1, "population of cells").standard_normal((cells, len(CURRENTS))))


def overrides(model: CellModel, f: Floats) -> dict[str, Floats]:
    """`f` (cells, currents) as values of the model's parameters."""
    names = [model.conductances[c] for c in CURRENTS]
    return {n: model.parameters[n].value * f[:, i] for i, n in enumerate(names)}


def population(
    model: CellModel, folder: Path | None, cells: int = 1000, beats: int = 5, theirs: int = 8, runs: int = RUNS
) -> Iterator[Case]:
    """1,000 cells from the published state at 1 Hz, in both precisions, beside `theirs` of them in Myokit."""
    f = factors(cells)
    values = overrides(model, f)
    tight = pace(model, values, beats=beats, tolerance=TIGHT).biomarkers["apd90"]
    peer, name, compiling = _myokit(model, folder)
    try:
        sample = f[:theirs]
        off = _largest(peer.apd90(sample, beats), peer.apd90(sample, beats, PEER_TIGHT)) if peer else None
        run = (lambda: peer(sample, beats)) if peer else None
        for dtype, bar in BARS.items():
            ours = lambda dtype=dtype: pace(model, values, beats=beats, tolerance=TOLERANCE, dtype=dtype)  # noqa: E731
            first, got = _timed(ours)
            error = _largest(got.biomarkers["apd90"], tight)
            seconds = _in_turn(ours, run, runs)
            a = cells * beats / seconds[0]
            b = theirs * beats / seconds[1] if run else None
            yield _row(
                f"{model.name}, {cells:,} cells, {beats} beats at 1 Hz, {dtype}, largest error of APD90 {error:.2g} ms",
                a, b, name, "cell-beats/s", a / b if b else None, bar, first, compiling, error, off,
            )  # fmt: skip
    finally:
        if peer:
            peer.close()


def _myokit(model: CellModel, folder: Path | None) -> tuple[peers_myokit.Cells | None, str, float | None]:
    """The peer, its name, and the seconds in which it compiled; no peer and the reason, where it does not run."""
    if importlib.util.find_spec("myokit") is None:
        return None, "myokit is not installed; pip install 'gemello[chi]', and SUNDIALS", None
    if folder is None:
        return None, _NO_DATA, None
    begin = time.perf_counter()
    try:
        peer = peers_myokit.Cells(folder / FILES[model], CURRENTS, PEER_TOLERANCE)
    except Exception:  # Myokit compiles its solver at run time, and fails in many ways where SUNDIALS or a compiler is missing
        return None, "myokit does not run here; it needs SUNDIALS and a C compiler", None
    what = f"myokit {version('myokit')}, CVODES, tolerances {PEER_TOLERANCE:g}, 2 processes"
    return peer, what, time.perf_counter() - begin


def _largest(a: Floats, b: Floats) -> float:
    """Largest difference (ms); infinite where only one of them repolarises."""
    missing = np.isnan(a) != np.isnan(b)
    return float("inf") if missing.any() else float(np.nanmax(np.abs(a - b)))


# ---- the panel of drugs --------------------------------------------------------------------------------------------
def panel(
    folder: Path | None, drugs: Sequence[str] = (), most: int = BEATS, estimate: int = 50, runs: int = RUNS
) -> Iterator[Case]:
    """Drugs (the 28 of the panel by default) at 4 doses to the steady state of 1,000 beats: accelerated, and beat by beat
    (estimated from `estimate` beats)."""
    if folder is None:
        yield _row(f"28 drugs, steady state of {most:,} beats", None, PANEL_LIMIT, _NO_DATA, "s", None, 1.0)
        return
    known = Vintage.read(folder, "lab2020", samples=False)
    chosen = [known[n] for n in drugs or sorted(known.drugs)]
    name = (
        f"{len(chosen)} drugs at {len(MULTIPLES)} doses, CL {CYCLE:g} ms, steady state of {most:,} beats, "
        f"tolerance {PANEL_TOLERANCE:g}"
    )
    p = lanes(chosen, MULTIPLES, cipa).parameters
    options: dict[str, Any] = {"cycle_length": CYCLE, "tolerance": PANEL_TOLERANCE}
    fast = lambda: steady(cipa, p, beats=most, **options)  # noqa: E731
    first, found = _timed(fast)
    seconds = float(np.median([_timed(fast)[0] for _ in range(runs)]))
    off = _qnet_error(folder, [d.name for d in chosen], found)
    told = f"{name}, accelerated" if off is None else f"{name}, accelerated, qNet within {off:.2g} C/F of CVODE's"
    yield _row(told, seconds, PANEL_LIMIT, "limit asked for", "s", PANEL_LIMIT / seconds, 1.0, first)
    slow = lambda: pace(cipa, p, beats=estimate, **options)  # noqa: E731
    first, _ = _timed(lambda: pace(cipa, p, **options))
    seconds = _timed(slow)[0] * most / estimate
    yield _row(
        f"{name}, every beat (estimated from {estimate})", seconds, PANEL_LIMIT, "limit asked for", "s", PANEL_LIMIT / seconds,
        None, first,
    )  # fmt: skip


def _qnet_error(folder: Path, names: list[str], found: Paced) -> float | None:
    """Largest error of qNet (C/F) against the reference of 1,000 beats by CVODE, over the drugs that it holds and that repolarise
    in it without early afterdepolarisations."""
    path = folder / "cipa" / "qnet_reference_20drugs.csv"
    if not path.is_file():
        return None
    ours = found.biomarkers["qnet"].reshape(len(names), len(MULTIPLES))
    off = [
        abs(ours[names.index(r["drug"]), MULTIPLES.index(float(r["xCmax"]))] - float(r["qNet_C_per_F"]))
        for r in rows(path)
        if r["drug"] in names and float(r["xCmax"]) in MULTIPLES and r["EAD"] == "0" and r["no_repolarisation"] == "0"
    ]
    return max(off, default=None)


# ---- rows ----------------------------------------------------------------------------------------------------------
def _timed(f: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    out = f()
    return time.perf_counter() - begin, out


def _in_turn(ours: Callable[[], Any], peer: Callable[[], Any] | None, runs: int) -> tuple[float, float]:
    """Median seconds of both. Their runs alternate, so that a slow moment of the machine strikes both."""
    seconds: list[list[float]] = [[], []]
    for _ in range(runs):
        for side, f in zip(seconds, (ours, peer), strict=True):
            if f:
                side.append(_timed(f)[0])
    a, b = (float(np.median(s)) if s else float("nan") for s in seconds)
    return a, b


def _row(
    name: str, ours: float | None, peer: float | None, peer_version: str, unit: str, ratio: float | None, bar: float | None,
    first: float | None = None, peer_first: float | None = None, error: float | None = None, peer_error: float | None = None,
) -> Case:  # fmt: skip
    return {
        "case": name, "ours": ours, "peer": peer, "peer_version": peer_version, "unit": unit, "ratio": ratio, "bar": bar,
        "ours_first_call_s": first, "peer_first_call_s": peer_first, "ours_error": error, "peer_error": peer_error,
    }  # fmt: skip

"""The pharmacology models' speed beside named peers: the same work to the same accuracy, in one run, on this machine.

Each row: `ours` and `peer` in subjects per second (medians of several runs, taken in turn), `ratio` ours over the peer's, `bar`
the ratio asked for (None: none is). Beyond these: seconds of the first call, which compiles, and the largest error of either
against a run at a tight tolerance, over the largest concentration.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.domains.pharmacology import benchmark_fits, peers
from gemello.domains.pharmacology.target_mediated.model import tmdd
from gemello.domains.pharmacology.two_compartment.model import oral as pk2_oral
from gemello.engine.lanes import precision
from gemello.model.contract import Model
from gemello.model.schedule import Schedule
from gemello.model.simulate import Prepared, prepare, solve_prepared

Case = dict[str, Any]
Floats = NDArray[np.float64]
RTOL, ATOL = 1e-6, 1e-8
RUNS = 7


def cases() -> Iterator[Case]:
    """Every case of the domain, one at a time."""
    yield from two_compartments()
    yield from target_mediated()
    yield from benchmark_fits.cases()


def two_compartments(subjects: int = 10_000) -> Iterator[Case]:
    """2 compartments, oral, 7 daily doses, 169 hourly outputs: closed form beside NumPy, ODE beside diffrax."""
    times = np.arange(169.0)
    plan = Schedule().observe(times).dose(0.0, 100.0, every=24.0, times=7)
    p = _draw(subjects, KA=1.0, CL=5.0, V1=30.0, Q=4.0, V2=60.0)
    # the record of the first dose is a row of its own; the outputs before and after it are both at time 0
    keep = np.flatnonzero(plan.evid == 0)
    exact = _ours(pk2_oral, plan, p, keep, method="closed")
    tight = exact()
    name = f"2-compartment oral, 7 daily doses, 169 outputs, {subjects:,} subjects"
    numpy_form = lambda: peers.numpy_closed_form(p, 100.0, 24.0, 7, times)  # noqa: E731
    yield _case(f"{name}, closed form", exact, numpy_form, f"NumPy closed form {np.__version__}", 2.0, tight, subjects)
    stepped = _ours(pk2_oral, plan, p, keep, method="tsit5", rtol=RTOL, atol=ATOL)
    peer = _diffrax(
        lambda: peers.diffrax_two_compartments(100.0, 24.0, 7, times, RTOL, ATOL), *(p[k] for k in ("KA", "CL", "V1", "Q", "V2"))
    )
    yield _case(f"{name}, ODE, rtol 1e-6", stepped, peer, _name("diffrax", "Tsit5 under vmap"), 12.0, tight, subjects, runs=3)


def target_mediated(subjects: int = 1000) -> Iterator[Case]:
    """Stiff target-mediated disposition, 56 days, 225 outputs: beside libRoadRunner in 2 processes and diffrax Kvaerno5."""
    times = np.linspace(0.0, 56.0, 225)
    p = _draw(subjects, KEL=0.15, KON=90.0, KOFF=0.5, KINT=2.0, KSYN=1.0, KDEG=0.5, V=3.0)
    first = 50.0 * np.exp(0.3 * np.random.default_rng(1).standard_normal(subjects))
    p["F1"] = first * p["V"] / 150.0  # each subject's own dose: a bolus of 150 nmol times F1
    plan = Schedule().observe(times).dose(0.0, 150.0)
    keep = np.r_[np.flatnonzero(plan.evid == 1), np.flatnonzero(plan.evid == 0)[1:]]
    ours = _ours(tmdd, plan, p, keep, method="rodas5p", rtol=RTOL, atol=ATOL, output="free")
    tight = _ours(tmdd, plan, p, keep, method="rodas5p", rtol=1e-10, atol=1e-12, output="free")()
    table = np.stack([p[n] for n in ("KEL", "KON", "KOFF", "KINT", "KSYN", "KDEG")])
    name = f"stiff TMDD, 56 days, 225 outputs, {subjects:,} subjects, rtol 1e-6"
    if importlib.util.find_spec("roadrunner") is None:
        yield _case(name, ours, None, _name("libroadrunner", "CVODE, 2 processes"), 5.0, tight, subjects)
    else:
        runner = peers.RoadRunner(RTOL, ATOL)
        road = lambda: runner(first, table, times)  # noqa: E731
        yield _case(name, ours, road, _name("libroadrunner", "CVODE, 2 processes"), 5.0, tight, subjects)
        runner.close()
    peer = _diffrax(lambda: peers.diffrax_target_mediated(times, RTOL, ATOL), first, *table)
    yield _case(name, ours, peer, _name("diffrax", "Kvaerno5 under vmap"), 60.0, tight, subjects, runs=1)


def _draw(subjects: int, **typical: float) -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    return {k: v * np.exp(0.3 * rng.standard_normal(subjects)) for k, v in typical.items()}


def _ours(
    model: Model, plan: Schedule, p: dict[str, Floats], keep: NDArray[np.int64], *, output: str = "cp", **options: Any
) -> Callable[[], Floats]:
    """Function () -> (subjects, times): what a user of `simulate` gets, the schedule compiled before."""
    ready: Prepared = prepare(model, plan, values=p, **options)
    return lambda: solve_prepared(ready, p, outputs=[output]).check().outputs[output][:, keep]


def _diffrax(make: Callable[[], Callable[..., Any]], *arguments: Floats) -> Callable[[], Floats] | None:
    if importlib.util.find_spec("diffrax") is None:
        return None
    with precision():
        run = make()

    def call() -> Floats:
        with precision():
            return np.asarray(run(*arguments))

    return call


def _name(package: str, what: str) -> str:
    if importlib.util.find_spec(package.removeprefix("lib")) is None:
        return f"{package} is not installed; pip install 'gemello[bench]'"
    return f"{package} {version(package)}, {what}"


def _timed(f: Callable[[], Floats]) -> tuple[float, Floats]:
    begin = time.perf_counter()
    out = f()
    return time.perf_counter() - begin, out


def _case(
    name: str, ours: Callable[[], Floats], peer: Callable[[], Floats] | None, peer_version: str, bar: float | None, tight: Floats,
    subjects: int, runs: int = RUNS,
) -> Case:  # fmt: skip
    """One row. The runs of both alternate, so that a slow moment of the machine strikes both."""
    first_ours, mine = _timed(ours)
    first_peer, theirs = _timed(peer) if peer else (np.nan, np.full_like(mine, np.nan))
    seconds: list[list[float]] = [[], []]
    for _ in range(runs):
        for side, f in zip(seconds, (ours, peer), strict=True):
            if f:
                side.append(_timed(f)[0])
    a, b = (float(np.median(s)) if s else np.nan for s in seconds)
    scale = np.abs(tight).max()
    plain = lambda v: None if np.isnan(v) else float(v)  # noqa: E731
    return {
        "case": name, "ours": subjects / a, "peer": plain(subjects / b), "peer_version": peer_version, "unit": "subjects/s",
        "ratio": plain(b / a), "bar": bar, "ours_first_call_s": first_ours, "peer_first_call_s": plain(first_peer),
        "ours_error": plain(np.abs(mine - tight).max() / scale), "peer_error": plain(np.abs(theirs - tight).max() / scale),
    }  # fmt: skip

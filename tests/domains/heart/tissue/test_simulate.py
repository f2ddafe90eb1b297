"""Waves on cables and small slabs: speed against the literature and fine grids, dimensions, steps, continuation, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError, SolverError
from gemello.domains.heart.cells.ten_tusscher.model import endo, epi
from gemello.domains.heart.tissue import Diffusion, Grid, Pulse, Tissue, cable, fibre_conductivity, largest_piece, simulate, slab
from gemello.domains.heart.tissue.reaction import advance
from gemello.engine.lanes import precision

SIGMA = 0.1334  # S/m


def speed(
    spacing: float, sigma: float = SIGMA, dt: float = 0.01, length: float = 15.0, duration: float = 80.0, **options: Any
) -> float:
    """Conduction velocity over the middle of a cable, mm/ms."""
    grid = cable(length, spacing, sigma)
    x = grid.positions[:, 0]
    first, last = grid.nearest([0.5 * length]), grid.nearest([0.8 * length])
    course = simulate(Tissue(grid, epi, **options), duration, [Pulse(x <= 1.5, 0.0, 2.0, -50.0)], dt=dt, until_active=True)
    return float((x[last] - x[first]) / (course.activation[last] - course.activation[first]))


def test_speed_of_the_paper() -> None:
    """ten Tusscher & Panfilov 2006: 70 cm/s at D = 0.00154 cm²/ms, central differences, dx 0.25 mm, dt 0.02 ms (within 3 %)."""
    assert speed(0.25, sigma=0.154 * 1.4, dt=0.02, order=2) == pytest.approx(0.70, rel=0.03)


def test_fitted_speed_on_coarse_grids() -> None:
    """Spacings of 0.5 and 1 mm against 0.1 mm: 1 %; without the fit 0.5 mm is more than 15 % too slow."""
    fine = speed(0.1)
    assert speed(0.5) == pytest.approx(fine, rel=0.01)
    assert speed(1.0, length=30.0) == pytest.approx(fine, rel=0.01)
    assert speed(0.5, front=0.0) < 0.85 * fine


def test_speed_converges_in_the_step() -> None:
    """First order: the error at dt 0.02 is 1.5 to 2.7 times that at 0.01, taken from 0.00125 ms."""
    fine, near, far = (speed(0.25, dt=dt, length=10.0) for dt in (0.00125, 0.01, 0.02))
    assert 1.5 < (far - fine) / (near - fine) < 2.7
    assert near == pytest.approx(fine, rel=0.01)


def test_one_and_three_dimensions_agree() -> None:
    """A plane wave in a slab is that of a cable: activation within 1e-6 ms, in float64."""
    line, box = cable(3.0, 0.25, SIGMA), slab((3.0, 0.5, 0.5), 0.25, SIGMA, 0.02)
    times = []
    for grid in (line, box):
        site = grid.positions[:, 0] <= 1.0
        times.append(simulate(Tissue(grid, epi), 8.0, [Pulse(site, 0.0, 2.0, -50.0)], dt=0.02).activation)
    assert np.isfinite(times[0]).all()
    assert np.abs(times[1] - times[0][box.nodes[:, 0]]).max() < 1e-6


def test_ragged_tissue_is_stepped_as_written() -> None:
    """50 steps on a mask with holes, two kinds of cells: the same splitting written with NumPy (1e-9 mV)."""
    rng, shape = np.random.default_rng(0), (9, 8, 7)
    fibre = rng.standard_normal((*shape, 3))
    grid = Grid(shape, 0.3, fibre_conductivity(fibre, 0.2, 0.03), largest_piece(rng.random(shape) < 0.7))
    inner = grid.positions[:, 1] < 1.2
    table = {n: np.where(inner, endo.parameters[n].value, epi.parameters[n].value) for n in ("Gto", "sHalf")}
    site, dt = grid.positions[:, 0] < 1.0, 0.02
    tissue = Tissue(grid, epi, table, {"Nai": 9.0})
    course = simulate(tissue, 1.0, [Pulse(site, 0.2, 0.5, -150.0)], dt=dt, snapshots=[0.5])
    operator = Diffusion(grid, 1.99)
    parts = int(np.ceil(dt * operator.fastest / 1.6))
    import jax

    with precision():
        p = epi.individual_type(**{q.name: table.get(q.name, q.value) for q in epi.parameters})
        y = epi.state_type(
            *(np.full(grid.size, float(v)) for v in epi.initial(epi.individual_type(*(q.value for q in epi.parameters))))
        )
        y = y._replace(Nai=np.full(grid.size, 9.0))
        cells = jax.jit(lambda y, i: advance(epi, y, p, i, dt))
        for k in range(50):
            y = cells(y, -150.0 * site * (10 <= k < 35))
            v = np.asarray(y.V)
            for _ in range(parts):
                v = v + dt / parts * operator(v)
            y = y._replace(V=v)
            if k == 24:
                assert np.abs(course.snapshots[0.5] - v).max() < 1e-9
    assert np.abs(course.state["V"] - v).max() < 1e-9
    assert v.max() > -60.0


def test_a_run_may_be_cut_in_two() -> None:
    """State handed on at 3 ms: the same potentials at 6 ms (1e-9 mV), in an ECG as in the cells."""
    grid = slab((3.0, 0.5, 0.5), 0.25, SIGMA, 0.02)
    pulse = Pulse(grid.positions[:, 0] <= 1.0, 0.0, 2.0, -50.0)
    leads = {"electrodes_mm": [(10.0, 0.0, 0.0)], "ecg_every": 1.0, "dt": 0.02}
    whole = simulate(Tissue(grid, epi), 6.0, [pulse], **leads)
    first = simulate(Tissue(grid, epi), 3.0, [pulse], **leads)
    rest = simulate(Tissue(grid, epi, state=first.state), 3.0, [], **leads)
    assert rest.state["V"] == pytest.approx(whole.state["V"], abs=1e-9)
    assert whole.ecg_times.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert np.r_[first.ecg[0], rest.ecg[0, 1:]] == pytest.approx(whole.ecg[0], abs=1e-9)
    assert whole.ecg[0].max() > 1e-3


def test_repolarisation_and_repeated_pulses() -> None:
    """Two beats 400 ms apart on a short cable: APD at −70 mV of 240 to 310 ms, and the second starts from rest."""
    grid = cable(3.0, 0.5, SIGMA)
    pulse = Pulse(grid.positions[:, 0] <= 1.0, 0.0, 2.0, -50.0, every=400.0, times=2)
    course = simulate(Tissue(grid, epi), 410.0, [pulse], dt=0.05, dtype="float32", snapshots=[395.0, 410.0], ecg_every=5.0)
    apd = course.repolarisation - course.activation
    assert ((apd > 240.0) & (apd < 310.0)).all()
    assert course.snapshots[395.0].max() < -80.0
    assert course.snapshots[410.0].min() > 0.0


def test_float32_moves_activation_by_less_than_a_step() -> None:
    grid = cable(5.0, 0.25, SIGMA)
    pulse = Pulse(grid.positions[:, 0] <= 1.0, 0.0, 2.0, -50.0)
    double, single = (simulate(Tissue(grid, epi), 12.0, [pulse], dt=0.01, dtype=d).activation for d in ("float64", "float32"))
    assert np.abs(double - single).max() < 0.01


def test_stops_and_tells() -> None:
    grid, told = cable(2.0, 0.25, SIGMA), []
    pulse = Pulse(np.ones(grid.size, bool), 0.0, 2.0, -50.0)
    course = simulate(Tissue(grid, epi), 100.0, [pulse], dt=0.02, until_active=True, progress=lambda t, a: told.append((t, a)))
    assert course.time < 10.0
    assert told[-1] == (course.time, 1.0)
    assert told[0] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"parameters": {"GXX": 1.0}}, {}, "no such parameter"),
        ({"parameters": {"GNa": np.ones(3)}}, {}, "nodes"),
        ({"state": {"W": 1.0}}, {}, "no such state"),
        ({}, {"snapshots": [0.503]}, "multiple of the step"),
        ({}, {"snapshots": [2.0]}, "after the end"),
        ({}, {"pulses": [Pulse(np.zeros(9, bool))]}, "mark at least one"),
        ({}, {"electrodes_mm": [(1.0, 0.0, 0.0)]}, "3 axes"),
    ],
)
def test_bad_input(change: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as e:
        simulate(Tissue(cable(2.0, 0.25, SIGMA), epi, **change), 1.0, options.pop("pulses", []), dt=0.02, **options)
    assert "\n" not in str(e.value)


def test_a_blown_up_run_says_where() -> None:
    grid = cable(2.0, 0.25, SIGMA)
    with pytest.raises(SolverError, match=r"node 0 .* not finite"):
        simulate(Tissue(grid, epi), 3.0, [Pulse(grid.positions[:, 0] < 0.1, 0.0, 2.0, -1e9)], dt=0.05)

"""The hERG channel under voltage clamp: conservation, a stiff solver, the cell's own rates, limits that are known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.base.random import generator
from gemello.domains.heart.authorities.drugs import markov
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.drugs import herg
from gemello.domains.heart.drugs.drug import KT, Binding, Drug, Effects
from gemello.domains.heart.drugs.effect import effect
from gemello.engine.lanes import precision

BINDING = Binding(5000.0, 2e-3, 0.9, 1e6, -60.0)


def test_against_a_stiff_solver() -> None:
    for row in markov():
        assert row["passed"], row


def test_rates_are_the_published_ones(shared_data: Path) -> None:
    """FDA's file of parameters (facts), read here and nowhere else."""
    lines = (shared_data / "heart" / "cipa" / "model" / "hergmod_pars.txt").read_text().split("\n")
    given = {name: float(v) for name, v in (line.split() for line in lines if line.strip())}
    number = {
        ("C1", "C2"): "1", ("C2", "C1"): "2", ("IC2", "IO"): "3", ("IO", "IC2"): "4", ("IC1", "IC2"): "11",
        ("IC2", "IC1"): "21", ("C2", "O"): "31", ("O", "C2"): "41", ("C1", "IC1"): "51", ("C2", "IC2"): "52", ("O", "IO"): "53",
        ("IC1", "C1"): "61", ("IC2", "C2"): "62", ("IO", "O"): "63",
    }  # fmt: skip
    assert {r[:2]: [given[f"{k}{number[r[:2]]}"] for k in "ABq"] for r in herg.RATES} == {r[:2]: [*r[2:]] for r in herg.RATES}
    assert (given["T"], given["Kt"]) == (herg.TEMPERATURE, KT)


@pytest.mark.parametrize("voltage", [-80.0, 0.0, 40.0])
def test_nothing_is_lost(voltage: float) -> None:
    a = np.asarray(herg.system(voltage, np.array([0.3]), np.array([0.01]), np.array([1e-5])))[:, :, 0]
    np.testing.assert_allclose(a.sum(axis=0), 0.0, atol=1e-12)
    assert np.all(a - np.diag(np.diag(a)) >= 0.0)
    rest = herg.rest(voltage)
    np.testing.assert_allclose(herg.system(voltage, *np.zeros((3, 1)))[:, :, 0] @ rest, 0.0, atol=1e-12)
    assert rest.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("voltage", [-85.0, -20.0, 35.0])
def test_the_cell_has_the_same_equations(voltage: float) -> None:
    """Derivatives of the nine states with a drug bound, as the CiPA cell writes them, to 1e-7 of the largest."""
    occupied = generator(1, "states").dirichlet(np.ones(9))
    drug = effect(Drug("any", 10.0, Effects({}, BINDING)), 300.0, cipa)
    with precision("float64"):
        values = {r.name: r.value for r in cipa.parameters} | {k: float(v[0]) for k, v in drug.items()}
        p = cipa.typical(cipa.theta_type(*(values[n] for n in cipa.theta_type._fields)), None)
        state = cipa.initial(p)._replace(v=voltage, **dict(zip(herg.STATES, occupied, strict=True)))
        moved = cipa.rates(0.0, state, p, 0.0).derivative
        cell = np.array([float(getattr(moved, n)) for n in herg.STATES])
    on = BINDING.kmax * BINDING.ku * 300.0**BINDING.n / (300.0**BINDING.n + BINDING.halfmax)
    release = KT / (1.0 + np.exp(-(voltage - BINDING.vhalf) / herg.SLOPE))
    ours = np.asarray(herg.system(voltage, *(np.array([v]) for v in (on, BINDING.ku, release))))[:, :, 0] @ occupied
    np.testing.assert_allclose(cell, ours, atol=1e-7 * np.abs(ours).max())
    assert np.all(np.abs(ours[6:]) > 0)


def test_no_drug_no_block() -> None:
    left = herg.fraction(BINDING, [0.0, 1e-12])
    assert left.shape == (2, 10, 100)
    np.testing.assert_allclose(left, 1.0, atol=1e-9)


def test_more_drug_less_current_and_it_builds_up() -> None:
    left = herg.fraction(BINDING, [30.0, 300.0, 3000.0])
    assert np.all(np.diff(left, axis=0) < 0)
    assert np.all((left > 0) & (left <= 1.0 + 1e-12))
    assert np.all(np.diff(left[0], axis=1) < 0)  # within a pulse block grows, where it is far from its equilibrium
    slow = herg.fraction(Binding(40.0, 2e-5, 1.0, 200.0, -1.0), 10.0)[0]  # trapped: kept from pulse to pulse
    assert np.all(slow[1:, 0] < slow[:-1, 0])


def test_after_a_long_pulse_block_is_an_equilibrium() -> None:
    """Ten minutes at 0 mV: bound states hold K, K and K·Kt/release of the open one (detailed balance); K = Kmax·D/(D + EC50)."""
    kmax, ec50, dose = 4.0, 100.0, np.array([10.0, 100.0, 1000.0])
    long = herg.Milnes(pulse=600_000.0, interval=625_000.0, step=100_000.0, sweeps=1)
    left = herg.fraction(Binding(kmax, 0.1, 1.0, ec50, -20.0), dose, long)[:, 0, -1]
    k = kmax * dose / (dose + ec50)
    free = herg.rest(0.0)[herg.OPEN]
    np.testing.assert_allclose(left, 1.0 / (1.0 + free * k * (2.0 + 1.0 + np.exp(-20.0 / herg.SLOPE))), rtol=1e-6)


def test_the_grid_does_not_matter() -> None:
    fine = herg.fraction(BINDING, 300.0, herg.Milnes(step=50.0, sweeps=2))
    coarse = herg.fraction(BINDING, 300.0, herg.Milnes(step=200.0, sweeps=2))
    np.testing.assert_allclose(fine[:, :, 3::4], coarse, rtol=1e-9)
    with pytest.raises(DataError, match="choose a step that divides it"):
        herg.fraction(BINDING, 300.0, herg.Milnes(step=300.0))


def test_extremes_stay_numbers() -> None:
    """The corners of the box that fits search."""
    corners = [
        Binding(k, u, n, h, v)
        for k in (1e-8, 1e8)
        for u in (1e-9, 1.0)
        for n in (0.5, 2.0)
        for h in (1e-3, 1e9)
        for v in (-200.0, -1.0)
    ]
    left = herg.fraction(Binding(*(np.array(v) for v in zip(*corners, strict=True))), 1e5)
    assert np.all(np.isfinite(left))
    assert np.all((left > -1e-6) & (left < 1.0 + 1e-6))

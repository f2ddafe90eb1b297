"""Lead algebra, the lead field against a dipole, the sum over voxels against itself by hand, layers of cells."""

from __future__ import annotations

import numpy as np
import pytest
from tests.domains.heart.organ.small import block

from gemello.base.errors import DataError
from gemello.domains.heart.organ.compare import correlation
from gemello.domains.heart.organ.ecg import (
    LEADS,
    Conductivity,
    Ecg,
    from_recorded,
    grid_of,
    independent,
    lead_field,
    node_field,
    twelve_leads,
)
from gemello.domains.heart.organ.recovery import Heterogeneity, Templates, aligned, electrocardiogram, weights


def test_lead_algebra() -> None:
    """Einthoven I + III = II; aVR + aVL + aVF = 0; leads of potentials all equal are 0; values by hand."""
    potential = np.random.default_rng(1).standard_normal((10, 7))
    leads = dict(zip(LEADS, twelve_leads(potential), strict=True))
    assert leads["I"] + leads["III"] == pytest.approx(leads["II"])
    assert leads["aVR"] + leads["aVL"] + leads["aVF"] == pytest.approx(np.zeros(7), abs=1e-12)
    assert np.abs(twelve_leads(np.full((10, 1), 3.0))).max() < 1e-12
    by_hand = dict(
        zip(LEADS, twelve_leads(np.arange(1.0, 11.0)[:, None])[:, 0], strict=True)
    )  # LA 1, RA 2, LL 3, RL 4, V1 5 ... V6 10
    assert by_hand["I"] == -1.0
    assert by_hand["II"] == 1.0
    assert by_hand["aVL"] == pytest.approx(1.0 - 2.5)
    assert by_hand["V1"] == pytest.approx(5.0 - 2.0)
    assert by_hand["V6"] == pytest.approx(10.0 - 2.0)


def test_eight_leads_are_enough() -> None:
    leads = twelve_leads(np.random.default_rng(2).standard_normal((10, 5)))
    assert from_recorded(independent(leads)) == pytest.approx(leads)


def test_wrong_numbers_of_leads() -> None:
    with pytest.raises(DataError, match="ten electrodes"):
        twelve_leads(np.zeros((9, 2)))
    with pytest.raises(DataError, match="eight leads"):
        from_recorded(np.zeros((12, 2)))
    with pytest.raises(DataError, match="no such lead"):
        Ecg(np.arange(2.0), np.zeros((12, 2)))["V7"]


def test_lead_field_of_a_gradient_is_a_dipole() -> None:
    """V = g·x over a box far from the electrodes: φ = −σ/(4π σ_b) · volume · g · ∇(1/r). Sources in the inner half of the box,
    where the mean over nodes leaves a linear V as it is; within 2 %."""
    heart = block((8, 8, 8), far=120.0)
    gradient = np.array([0.3, -1.0, 0.5])
    field = node_field(heart, Conductivity(0.1, 0.2))
    nodes = grid_of(heart).positions
    found = field @ (nodes @ gradient)
    away = nodes.mean(0) - heart.electrodes
    exact = -0.1 / 0.2 / (4 * np.pi) * 8**3 * (-(away @ gradient) / np.linalg.norm(away, axis=1) ** 3)
    assert found == pytest.approx(exact, rel=0.02, abs=0.02 * np.abs(exact).max())
    assert np.abs(lead_field(heart).sum(1)).max() < 1e-12
    voxels = lead_field(heart, Conductivity(0.1, 0.2)) @ (heart.positions @ gradient)
    assert voxels == pytest.approx(found * 7 / 8, rel=0.05, abs=0.05 * np.abs(exact).max())  # half a voxel at each end is lost


def test_lead_field_refuses() -> None:
    with pytest.raises(DataError, match="electrodes"):
        lead_field(block(far=2.0))
    with pytest.raises(DataError, match="not positive"):
        lead_field(block(), Conductivity(0.0, 0.2))


def spikes() -> Templates:
    """Two action potentials by formula, 0.5 ms apart."""
    t = np.arange(-10.0, 300.0, 0.5)
    up = 1.0 / (1.0 + np.exp(-t / 0.4))
    return Templates(t, np.stack([-85.0 + 110.0 * up / (1.0 + np.exp((t - d) / 12.0)) for d in (180.0, 230.0)]))


def test_sum_over_voxels() -> None:
    """The convolution of binned starts is Σ_v W_v Σ_k w_vk (A_k(t − T_v) − A_k(start)), exactly for starts on the grid."""
    random = np.random.default_rng(4)
    templates, n = spikes(), 40
    start = 0.5 * random.integers(0, 100, n)
    start[0] = 0.0
    weight = random.dirichlet([1.0, 1.0], n)
    field = random.standard_normal((10, n))
    ecg = electrocardiogram(start, weight, templates, field)
    by_hand = np.zeros((10, len(ecg.time)))
    for v in range(n):
        course = [np.interp(ecg.time - start[v], templates.time, a, left=a[0]) - a[0] for a in templates.voltage]
        by_hand += np.outer(field[:, v], weight[v] @ np.array(course))
    assert ecg.leads == pytest.approx(twelve_leads(by_hand), abs=1e-8)


def test_shapes_must_match() -> None:
    with pytest.raises(DataError, match="shapes"):
        electrocardiogram(np.zeros(3), np.ones((3, 1)), spikes(), np.zeros((10, 3)))


def test_alignment() -> None:
    """Upstrokes through 0 mV at different times come to lie on 0 ms: to 0.02 ms of a 1 ms grid that is linear between points."""
    t = np.arange(0.0, 400.0, 1.0)
    courses = np.stack([np.interp(t, [0, a, a + 2, 300, 399], [-85, -85, 35, -80, -85]) for a in (10.0, 17.3)])
    got = aligned(t, courses)
    assert np.interp(0.0, got.time, got.voltage[0]) == pytest.approx(0.0, abs=1.0)
    assert np.interp(0.0, got.time, got.voltage[1]) == pytest.approx(0.0, abs=1.0)
    with pytest.raises(DataError, match="never crosses 0 mV"):
        aligned(t, np.full((1, len(t)), -80.0))


def test_weights() -> None:
    """They sum to 1; without blur each voxel is of one layer; two levels are linear in ab; blurring keeps about the shares."""
    heart = block((6, 12, 9))
    sharp = weights(heart, 2, Heterogeneity(blur=0.0))
    assert sharp.sum(1) == pytest.approx(np.ones(len(sharp)))
    layer = sharp.reshape(-1, 3, 2).sum(2)
    assert ((layer == 0.0) | (layer == 1.0)).all()
    assert (layer[heart.tm == 0.0] == [0.0, 0.0, 1.0]).all()  # outside: epi
    assert (layer[heart.tm == 1.0] == [1.0, 0.0, 0.0]).all()
    assert sharp.reshape(-1, 3, 2).sum(1)[:, 1] == pytest.approx(heart.ab)
    soft = weights(heart, 1, Heterogeneity(blur=2.0))
    assert soft.mean(0) == pytest.approx(weights(heart, 1, Heterogeneity(blur=0.0)).mean(0), abs=0.05)
    assert soft.max() < 1.0
    for bad in (Heterogeneity(epi=0.8, mid=0.5), Heterogeneity(blur=-1.0)):
        with pytest.raises(DataError, match="impossible layers"):
            weights(heart, 1, bad)


def test_correlation_needs_no_scale() -> None:
    """An ECG ten times smaller and 7 ms later is the same; turned over it is the opposite."""
    t = np.arange(0.0, 200.0)
    leads = np.stack([np.exp(-(((t - 60.0 - 3 * i) / 9.0) ** 2)) * (1.0 + 0.1 * i) for i in range(12)])
    late = 0.1 * np.stack([np.interp(t - 7.0, t, v) for v in leads])
    same = correlation(t, leads, t, late, (20.0, 27.0), (0.0, 120.0))
    assert same == pytest.approx(np.ones(9), abs=1e-6)
    assert correlation(t, leads, t, -late, (20.0, 27.0), (0.0, 120.0)) == pytest.approx(-np.ones(9), abs=1e-6)

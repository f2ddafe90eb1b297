"""Kinds of cells, a drug on them, pictures; and the heart of DTI004 where the data are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.domains.heart.organ.small import block

from gemello.base.errors import DataError, ModelError
from gemello.domains.heart.cells.torord.model import endo, epi, mid
from gemello.domains.heart.drugs.drug import Block, Drug, Effects
from gemello.domains.heart.organ.activation import DURRER, Root, Speeds, activate, site
from gemello.domains.heart.organ.cells import Kinds, beats, mixed, with_drug
from gemello.domains.heart.organ.cloud import read_cloud, read_ecg
from gemello.domains.heart.organ.compare import correlation
from gemello.domains.heart.organ.ecg import LEADS, Ecg, from_recorded
from gemello.domains.heart.organ.geometry import enclosed, voxelise, wall_thickness
from gemello.domains.heart.organ.intervals import intervals
from gemello.domains.heart.organ.pictures import activation_chart, activation_map, coarser, lead_chart, leads_chart, surface
from gemello.domains.heart.organ.recovery import Templates
from gemello.domains.heart.organ.virtual import VirtualHeart, drug_ecg, ready
from gemello.report.svg import render

KINDS = Kinds((endo, mid, epi))


def action_potential(t: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """(cells, times) mV, of which the falling flank is at `duration` ms after the upstroke at 3 ms."""
    up = 1.0 / (1.0 + np.exp(-(t - 3.0) / 0.4))
    return -87.0 + 115.0 * up / (1.0 + np.exp((t[None] - duration[:, None]) / 12.0))


def pacer(model: Any, parameters: Any, **options: Any) -> Any:
    """A stand-in for `pace`: durations by formula, longer with less GKr; the last beat of a cell without any GKr does not end."""
    gkr = parameters["GKr"]
    t = np.arange(1, 2001) * options["trace"]
    duration = 240.0 + 60.0 * (1.0 - gkr / gkr.max())
    voltage = action_potential(t, np.where(gkr < 1e-6, 5000.0, duration))
    found = {"ead": np.zeros(len(gkr)), "repolarised": (voltage[:, -1] < -60.0).astype(float)}
    return SimpleNamespace(failed=np.zeros(len(gkr), bool), trace=SimpleNamespace(time=t, voltage=voltage), biomarkers=found)


def blocker(ic50: float = 100.0) -> Drug:
    return Drug("blocker", 10.0, Effects({"IKr": Block(ic50, 1.0)}, None))


def test_kinds() -> None:
    """GKr of mid and epi are 0.8 and 1.3 times that of endo (O'Hara 2011); IKs factors multiply, apex first."""
    p = Kinds((endo, mid, epi), (2.0, 1.0)).parameters()
    assert p["GKr"] / p["GKr"][0] == pytest.approx([1.0, 1.0, 0.8, 0.8, 1.3, 1.3])
    assert p["GKs"] / p["GKs"][1] == pytest.approx([2.0, 1.0, 2.0, 1.0, 2.8, 1.4])
    state = KINDS.initial()
    assert state.v.shape == (3,)
    with pytest.raises(ModelError, match="three models"):
        Kinds((endo, mid))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="iks"):
        Kinds((endo, mid, epi), (0.0,))


def test_a_drug_multiplies_each_kind() -> None:
    """At the IC50 half of each kind's own GKr is left, at 0 nM all of it; kinds vary fastest."""
    got = with_drug(KINDS, blocker(), [0.0, 100.0], "static")
    own = KINDS.parameters()["GKr"]
    assert got["GKr"] == pytest.approx(np.concatenate([own, 0.5 * own]))
    assert got["Gto"].shape == (6,)


def test_beats_are_split_by_concentration() -> None:
    got = beats(KINDS, blocker(), [0.0, 100.0], herg="static", pacer=pacer)
    assert len(got) == 2
    assert all(t.voltage.shape[0] == 3 for t in got)
    half = [t.time[(t.voltage[2] > -30.0) & (t.time > 0)].max() for t in got]
    assert half[1] - half[0] == pytest.approx(30.0, abs=1.5)  # 60 (1 - 1/2) ms for epi, which has the most GKr


def test_cells_that_do_not_repolarise_are_refused() -> None:
    with pytest.raises(DataError, match=r"blocker.*1e\+12 nM.*does not repolarise"):
        beats(KINDS, blocker(1e-3), [0.0, 1e12], herg="static", pacer=pacer)


def test_mixed_cells() -> None:
    """Half endo, half epi is half way in every parameter and state."""
    parameters, state = mixed(KINDS, np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]))
    own = KINDS.parameters()["GKr"]
    assert parameters["GKr"] == pytest.approx([0.5 * (own[0] + own[2]), own[0]])
    assert state["v"].shape == (2,)


@pytest.fixture(scope="module")
def small() -> VirtualHeart:
    heart = block((14, 10, 12), 2.0, 90.0)
    roots = (Root("low", "left", 0.0, 0.0, 0.0),)
    return ready(heart, KINDS, roots)


def test_delta_qt_of_a_blocker(small: VirtualHeart) -> None:
    """By the formula, action potentials become 18.5 (mid) to 30 ms (epi) longer at half the GKr, and QT by something between."""
    first, *rest = drug_ecg(small, blocker(), [100.0, 300.0], herg="static", pacer=pacer)
    assert first.delta_qt == 0.0
    assert 18.0 < rest[0].delta_qt < 30.5
    assert rest[1].delta_qt > rest[0].delta_qt
    assert len(drug_ecg(small, None, 0.0, pacer=pacer)) == 1


def test_activation_of_a_box(small: VirtualHeart) -> None:
    """It starts at the root and is over everywhere within its diagonal at the lowest speed."""
    root = site(small.heart, Root("low", "left", 0.0, 0.0, 0.0))
    assert small.activation[root] == 0.0
    diagonal = np.linalg.norm(small.heart.positions - small.heart.positions[root], axis=1).max()
    assert diagonal / 1.0 < small.activation.max() < 1.8 * diagonal / 0.48
    for bad in (Root("x", "left", 2.0, 0.0, 0.0), Root("x", "up", 0.5, 0.0, 0.0)):  # type: ignore[arg-type]
        with pytest.raises(DataError, match="no place in the heart"):
            site(small.heart, bad)
    with pytest.raises(DataError, match="speed"):
        activate(small.heart, (Root("low", "left", 0.0, 0.0, 0.0),), Speeds(along=-1.0))


def test_surface_of_a_box() -> None:
    """A 2 × 3 × 4 box has 52 faces of voxels, 104 triangles of half a square each, and 52 corners by Euler: V = F + 2."""
    mask = np.pad(np.ones((2, 3, 4), bool), 1)
    corners, triangles, behind = surface(mask, 2.0, np.zeros(3))
    assert len(triangles) == len(behind) == 104
    assert len(corners) == 54
    a, b, c = (corners[triangles[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    assert area == pytest.approx(52 * 4.0)


def test_coarser() -> None:
    mask = np.pad(np.ones((4, 4, 4), bool), 1)[1:-1, 1:-1, 1:-1]
    blocks, values = coarser(mask, np.arange(64.0), 2)
    assert blocks.shape == (2, 2, 2)
    assert blocks.all()
    assert values.mean() == pytest.approx(31.5)


def test_pictures(small: VirtualHeart) -> None:
    """They say in words what is to be seen, name all leads, and can be drawn."""
    first, second = drug_ecg(small, blocker(), [100.0], herg="static", pacer=pacer)
    chart = leads_chart([first.ecg, second.ecg], ["no drug", "100 nM"], first.intervals)
    drawn = render(chart)
    assert all(f">{lead}<" in drawn for lead in LEADS)
    assert f"QT {first.intervals.qt:.0f} ms" in drawn
    assert "100 nM" in render(lead_chart([first.ecg, second.ecg], ["no drug", "100 nM"], "V5"))
    assert "after" in activation_chart(small.heart, small.activation).description
    mesh = activation_map(small.heart, small.activation, every=1).data[0]
    assert len(mesh.i) == len(mesh.intensity) == 2 * 2 * (14 * 10 + 10 * 12 + 14 * 12)
    assert max(mesh.intensity) == pytest.approx(small.activation.max(), abs=1.0)


@pytest.fixture(scope="module")
def dti004(shared_data: Path) -> Path:
    return shared_data / "heart" / "meshes" / "DTI004_coarse"


def test_the_heart_of_dti004(dti004: Path) -> None:
    """107 mL (tetrahedra of the alpha shape) within 1 %; left wall and septum 6 to 12 mm, right 2 to 5 mm; cavities open;
    electrodes in patient axes: LA left of RA, V1 to V6 from right to left and in front of the heart."""
    cloud = read_cloud(dti004)
    heart = voxelise(cloud, 2.0)
    assert heart.volume == pytest.approx(107.2, rel=0.01)
    assert enclosed(heart.mask) == 0
    wall = wall_thickness(cloud)
    assert 6.0 < wall["left"] < 12.0
    assert 6.0 < wall["septum"] < 12.0
    assert 2.0 < wall["right"] < 5.0
    assert not set(cloud.lv_endo) & set(cloud.rv_endo)
    assert not cloud.right[cloud.lv_endo].any()
    assert cloud.electrodes[0, 0] > cloud.electrodes[1, 0]
    assert (np.diff(cloud.electrodes[4:, 0]) > 0.0).all()
    assert (cloud.electrodes[4:8, 1] < cloud.xyz[:, 1].min()).all()


def test_the_ecg_of_dti004(dti004: Path) -> None:
    """At 2 mm, with action potentials by formula: QRS in the healthy 70 to 104 ms (36,299 women, Rautaharju et al. 2013),
    upright T waves in V2 to V6, and a QRS that is like the measured one in V1, V2, V5 and V6 (correlation above 0.5)."""
    heart = voxelise(read_cloud(dti004), 2.0)
    t = np.arange(-10.0, 900.0, 1.0)
    templates = Templates(t, action_potential(t + 3.0, np.array([250.0, 310.0, 215.0])))
    virtual = ready(heart, KINDS, DURRER)
    ecg: Ecg = virtual.ecg(templates)
    found = intervals(ecg.time, ecg.leads)
    assert 70.0 < found.qrs < 104.0
    assert (found.t_height[7:] > 0.0).all()
    time, leads = read_ecg(dti004)
    measured = from_recorded(leads)
    onset = intervals(time, measured).qrs_onset
    like = correlation(ecg.time, ecg.leads, time, measured, (found.qrs_onset, onset), (0.0, 100.0))
    assert (like[[2, 3, 6, 7]] > 0.5).all()

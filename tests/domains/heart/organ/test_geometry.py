"""Hearts on voxels: shells of known volume, fields, and everything that must be refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import CM, Cloud, read_cloud, read_ecg
from gemello.domains.heart.organ.geometry import circumradius, enclosed, mean_axis, tetrahedra, volumes, voxelise, wall_thickness

INNER, OUTER, OPEN, STEP = 9.0, 15.0, 5.0, 1.5  # mm: radii of a shell, the height at which it is cut open, between nodes


def shell(seed: int = 1) -> Cloud:
    """Nodes of a spherical shell, open at the top, with fibres around the vertical axis and tm from 0 outside to 1 inside."""
    random = np.random.default_rng(seed)
    xyz = []
    for r in np.linspace(INNER, OUTER, 5):
        n = round(4 * np.pi * r**2 / (0.87 * STEP**2))
        k = np.arange(n) + 0.5  # spiral of equal areas
        z = 1.0 - 2.0 * k / n
        turn = np.pi * (1.0 + 5.0**0.5) * k
        xyz.append(r * np.column_stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z]))
    points = np.concatenate(xyz)
    points = points[points[:, 2] < OPEN] + 0.0
    radius = np.linalg.norm(points, axis=1)
    inner = np.flatnonzero(np.isclose(radius, INNER))
    sign = random.choice([-1.0, 1.0], len(points))
    fibre = sign[:, None] * around(points)
    angle = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) % 1.0
    right = points[:, 0] > 0.0
    electrodes = 60.0 * np.random.default_rng(2).standard_normal((10, 3)) + 100.0
    return Cloud(
        "shell", points, fibre, (points[:, 2] + OUTER) / (OPEN + OUTER), angle, (OUTER - radius) / (OUTER - INNER), right,
        inner[~right[inner]], inner[right[inner]], electrodes,
    )  # fmt: skip


def around(points: np.ndarray) -> np.ndarray:
    flat = np.column_stack([-points[:, 1], points[:, 0], np.zeros(len(points))])
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1e-9, flat / np.maximum(length, 1e-9), [1.0, 0.0, 0.0])


def cap(r: float) -> float:
    """Volume (mm³) of the ball of radius r below the plane z = OPEN."""
    return np.pi * (r + OPEN) ** 2 * (3 * r - (r + OPEN)) / 3


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return shell()


def test_volume_of_a_shell(cloud: Cloud) -> None:
    """The cut shell has π(…)/3 mm³ in closed form. Facets between nodes 1.5 mm apart and a ragged rim: within 6 %."""
    exact = cap(OUTER) - cap(INNER)
    heart = voxelise(cloud, 1.0)
    assert heart.volume * 1000.0 == pytest.approx(exact, rel=0.06)
    t = tetrahedra(cloud)
    assert heart.volume * 1000.0 == pytest.approx(volumes(t, cloud.xyz).sum(), rel=0.02)


def test_cavity_stays_open(cloud: Cloud) -> None:
    heart = voxelise(cloud, 1.0)
    assert enclosed(heart.mask) == 0
    centre = np.round((np.zeros(3) - heart.origin) / heart.spacing).astype(int)
    assert not heart.mask[tuple(centre)]
    closed = np.ones((5, 5, 5), bool)
    closed[2, 2, 2] = False
    assert enclosed(closed) == 1


def test_fields_between_nodes(cloud: Cloud) -> None:
    """Fibres of random sign come out along the circles (median 3°, 95 % within 10°); tm linear in the radius to 0.03."""
    heart = voxelise(cloud, 1.0)
    at = heart.positions
    angle = np.degrees(np.arccos(np.clip(np.abs((heart.fibre * around(at)).sum(1)), 0.0, 1.0)))
    away = np.hypot(at[:, 0], at[:, 1]) > 4.0  # circles have no direction on the axis
    assert np.median(angle[away]) < 3.0
    assert np.quantile(angle[away], 0.95) < 10.0
    exact = np.clip((OUTER - np.linalg.norm(at, axis=1)) / (OUTER - INNER), 0.0, 1.0)
    assert np.median(np.abs(heart.tm - exact)) < 0.03
    turn = (heart.rt - np.arctan2(at[:, 1], at[:, 0]) / (2 * np.pi) + 0.5) % 1.0 - 0.5
    assert np.abs(turn[away]).max() < 0.05  # across 0 = 1 as well


def test_a_fine_grid_agrees_with_a_coarse_one(cloud: Cloud) -> None:
    assert voxelise(cloud, 0.7).volume == pytest.approx(voxelise(cloud, 1.0).volume, rel=0.02)


def test_mean_axis_has_no_sign() -> None:
    axes = np.array([[[1.0, 0.1, 0.0], [-1.0, 0.1, 0.0]]]) / np.sqrt(1.01)
    found = mean_axis(axes, np.array([[0.5, 0.5]]))
    assert np.abs(found[0]) == pytest.approx([1.0, 0.0, 0.0], abs=1e-12)


def test_circumradius() -> None:
    """Regular tetrahedron of edge √8: radius √3. Four points of a plane: infinite."""
    corners = np.array([[[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]], float)
    assert circumradius(corners) == pytest.approx([np.sqrt(3.0), np.inf])


def test_wall_thickness(cloud: Cloud) -> None:
    thick = OUTER - INNER
    all_left = replace(cloud, tm=cloud.tm, rv_endo=cloud.rv_endo)
    tm = cloud.tm.copy()
    tm[cloud.rv_endo[:5]] = 0.0  # some septum, or there is nothing to measure to
    assert wall_thickness(replace(all_left, tm=tm))["left"] == pytest.approx(thick, rel=0.05)


def test_two_pieces_are_refused(cloud: Cloud) -> None:
    far = replace(cloud, xyz=np.where(cloud.xyz[:, :1] > 0.0, cloud.xyz + np.array([20.0, 0.0, 0.0]), cloud.xyz))
    with pytest.raises(DataError, match="do not hang together"):
        voxelise(far, 1.0)


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan, 1e-3])
def test_spacings_that_are_refused(cloud: Cloud, spacing: float) -> None:
    with pytest.raises(DataError, match="spacing"):
        voxelise(cloud, spacing)


def test_a_grid_on_which_muscle_falls_apart(cloud: Cloud) -> None:
    with pytest.raises(DataError):
        voxelise(cloud, 14.0)


def write(folder: Path, cloud: Cloud, **changed: np.ndarray) -> Path:
    """The files of a cloud."""
    tables = {
        "xyz.csv.gz": cloud.xyz / CM, "nodefield_fibre.csv.gz": cloud.fibre,
        "nodefield_ab.csv.gz": cloud.ab, "nodefield_rt.csv.gz": cloud.rt,
        "nodefield_tm.csv.gz": cloud.tm, "nodefield_rvlv_binary.csv.gz": cloud.right.astype(float),
        "boundarynodefield_lvendo.csv.gz": cloud.lv_endo + 1.0, "boundarynodefield_rvendo.csv.gz": cloud.rv_endo + 1.0,
        "electrode_xyz.csv": cloud.electrodes / CM,
    }  # fmt: skip
    for name, table in {**tables, **changed}.items():
        with gzip.open(folder / name, "wt") if name.endswith(".gz") else (folder / name).open("w") as f:
            np.savetxt(f, table, delimiter=",")
    return folder


def test_files_are_read_back(tmp_path: Path, cloud: Cloud) -> None:
    read = read_cloud(write(tmp_path, cloud))
    for name in ("xyz", "fibre", "ab", "rt", "tm", "right", "lv_endo", "rv_endo", "electrodes"):
        assert getattr(read, name) == pytest.approx(getattr(cloud, name), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("xyz.csv.gz", lambda c: c.xyz[:, :2], "2 columns, not 3"),
        ("xyz.csv.gz", lambda c: np.where(np.arange(len(c.xyz))[:, None] == 3, np.nan, c.xyz), "row 4.*not a finite number"),
        ("xyz.csv.gz", lambda c: c.xyz[[0, 0, 1, 2]], "lie on each other"),
        ("nodefield_fibre.csv.gz", lambda c: 2.0 * c.fibre, "no unit vector"),
        ("nodefield_tm.csv.gz", lambda c: c.tm[:-1], "rows for"),
        ("nodefield_ab.csv.gz", lambda c: c.ab + 0.5, "outside 0 to 1"),
        ("nodefield_rvlv_binary.csv.gz", lambda c: 0.5 * c.right, "neither 0"),
        ("boundarynodefield_lvendo.csv.gz", lambda c: c.lv_endo * 0.0, "no number of a node"),
        ("electrode_xyz.csv", lambda c: c.electrodes[:9], "9 rows for 10 electrodes"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, cloud: Cloud, name: str, change: object, words: str) -> None:
    folder = write(tmp_path, cloud, **{name: change(cloud)})  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        read_cloud(folder)


def test_a_missing_or_spoilt_file_is_refused(tmp_path: Path, cloud: Cloud) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_cloud(tmp_path)
    write(tmp_path, cloud)
    (tmp_path / "nodefield_tm.csv.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"nodefield_tm.*cannot be read"):
        read_cloud(tmp_path)
    (tmp_path / "electrode_xyz.csv").write_text("a,b,c\n")
    with pytest.raises(DataError, match=r"not a table of numbers|cannot be read"):
        read_cloud(tmp_path)
    (tmp_path / "clinical_full_ecg.csv").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match="not the eight leads"):
        read_ecg(tmp_path)

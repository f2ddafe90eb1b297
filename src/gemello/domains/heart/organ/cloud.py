"""A heart as a cloud of nodes: where they are, their fibres and coordinates, the electrodes, the ECG that was measured.

Files and traps of the biventricular cloud DTI004: SOURCES.md beside the data. Positions there are cm in patient axes (x to the
left, y to the back, z up); node numbers of the endocardial lists count from 1.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

ELECTRODES = ("LA", "RA", "LL", "RL", "V1", "V2", "V3", "V4", "V5", "V6")
RECORDED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # rows of the clinical ECG
BYTE_LIMIT = 200_000_000  # of one file, unpacked
NODE_LIMIT = 2_000_000
CM = 10.0  # mm


@dataclass(frozen=True, eq=False)
class Cloud:
    """Nodes of a heart.

    xyz: (nodes, 3) mm. fibre: (nodes, 3) unit axes, of which the sign means nothing. ab: (nodes,) 0 at the apex, 1 at the base.
    rt: (nodes,) turn around the long axis, [0, 1). tm: (nodes,) 0 at the epicardium and at the right side of the septum, 1 at
    the other endocardium. right: (nodes,) of the right ventricle. lv_endo, rv_endo: nodes of the endocardial surfaces, counted
    from 0. electrodes: (10, 3) mm in the order of ELECTRODES.
    """

    source: str
    xyz: Floats
    fibre: Floats
    ab: Floats
    rt: Floats
    tm: Floats
    right: Booleans
    lv_endo: Integers
    rv_endo: Integers
    electrodes: Floats


def read_cloud(folder: Path | str) -> Cloud:
    """The node cloud in `folder` (files as DTI004_coarse has them). Raises DataError for what is missing, malformed, not finite,
    out of range or of the wrong length."""
    folder = Path(folder)
    xyz = CM * _numbers(folder / "xyz.csv.gz", 3)
    n = len(xyz)
    if n < 4 or len(np.unique(xyz, axis=0)) < n:
        remedy = "give each node a place of its own, at least four of them"
        raise DataError("nodes are missing or lie on each other", source=str(folder / "xyz.csv.gz"), value=n, remedy=remedy)
    fibre = _of_nodes(folder / "nodefield_fibre.csv.gz", n, 3)
    length = np.linalg.norm(fibre, axis=1)
    _refuse(
        np.abs(length - 1.0) > 0.01, length, folder / "nodefield_fibre.csv.gz", "a fibre that is no unit vector", "normalise it"
    )
    ab, rt, tm, right = (_coordinate(folder / f"nodefield_{name}.csv.gz", n) for name in ("ab", "rt", "tm", "rvlv_binary"))
    _refuse(
        (right != 0.0) & (right != 1.0),
        right,
        folder / "nodefield_rvlv_binary.csv.gz",
        "neither 0 (left) nor 1 (right)",
        "give 0 or 1",
    )
    lv, rv = (_nodes(folder / f"boundarynodefield_{side}endo.csv.gz", n) for side in ("lv", "rv"))
    where = folder / "electrode_xyz.csv"
    electrodes = CM * _of_nodes(where, len(ELECTRODES), 3, what="electrodes, in the order " + " ".join(ELECTRODES))
    return Cloud(folder.name, xyz, fibre / length[:, None], ab, rt, tm, right == 1.0, lv, rv, electrodes)


def read_ecg(folder: Path | str) -> tuple[Floats, Floats]:
    """The clinical ECG of the same person: time (times,) ms and leads (8, times) mV in the order of RECORDED, one beat at 1 kHz.

    The file gives µV without naming the unit: its R wave of 1,598 in lead II can be nothing else. Raises DataError.
    """
    path = Path(folder) / "clinical_full_ecg.csv"
    table = _numbers(path, None)
    if len(table) != len(RECORDED) or table.shape[1] < 100:
        remedy = "give one row for each of " + " ".join(RECORDED)
        raise DataError("not the eight leads of a beat", source=str(path), value=str(table.shape), remedy=remedy)
    return np.arange(table.shape[1], dtype=float), 1e-3 * table


def _numbers(path: Path, width: int | None) -> Floats:
    """Table of finite numbers (rows, width) in a CSV file without a header, packed (.gz) or not."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as f:
            text = f.read(BYTE_LIMIT + 1)
        if len(text) > BYTE_LIMIT:
            raise DataError(f"more than {BYTE_LIMIT // 1_000_000} MB", source=str(path), remedy="give a coarser cloud")
        table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", ndmin=2)
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(
            f"cannot be read: {getattr(e, 'strerror', None) or e}", source=str(path), remedy="check the file"
        ) from None
    except (ValueError, UnicodeDecodeError) as e:
        raise DataError(
            f"not a table of numbers: {str(e)[:80]}", source=str(path), remedy="give numbers separated by commas"
        ) from None
    if width is not None and table.shape[1] != width:
        raise DataError(f"{table.shape[1]} columns, not {width}", source=str(path), remedy="check that it is the right file")
    if not 0 < len(table) <= NODE_LIMIT:
        raise DataError(f"not 1 to {NODE_LIMIT:,} rows", source=str(path), value=len(table), remedy="give a coarser cloud")
    _refuse(np.asarray(~np.isfinite(table).all(1)), table.sum(1), path, "not a finite number", "mend or leave out the node")
    return table


def _of_nodes(path: Path, rows: int, width: int, what: str = "nodes as in xyz.csv.gz") -> Floats:
    table = _numbers(path, width)
    if len(table) != rows:
        raise DataError(f"{len(table)} rows for {rows} {what}", source=str(path), remedy="give one row for each")
    return table


def _coordinate(path: Path, nodes: int) -> Floats:
    values = _of_nodes(path, nodes, 1)[:, 0]
    _refuse((values < -1e-6) | (values > 1.0 + 1e-6), values, path, "a coordinate outside 0 to 1", "scale it to 0 to 1")
    return np.clip(values, 0.0, 1.0)


def _nodes(path: Path, nodes: int) -> Integers:
    values = _numbers(path, 1)[:, 0]
    bad = (values != np.round(values)) | (values < 1) | (values > nodes)
    _refuse(bad, values, path, "no number of a node", f"count the nodes from 1 to {nodes}")
    return values.astype(np.int64) - 1


def _refuse(bad: Booleans, values: Floats, path: Path, problem: str, remedy: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(problem, source=str(path), row=row + 1, value=f"{values[row]:.6g}", remedy=remedy)

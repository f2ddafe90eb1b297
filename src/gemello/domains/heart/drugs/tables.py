"""Raw tables of assays, as CSV: percent block, recordings of the Milnes protocol, joint samples of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.domains.heart.drugs.drug import CHANNELS, HERG, HIGHEST, LOWEST, Binding, Block, Effects, check_channel
from gemello.domains.heart.drugs.milnes import Recording
from gemello.domains.heart.drugs.quantity import concentration, converted, head
from gemello.formats import columns

SIZE_LIMIT = 50_000_000  # bytes
MOST_SAMPLES = 100_000
POSSIBLE = (-200.0, 200.0)  # %, block
SAMPLE_UNITS = {"IC50": "nM", "h": "1", "Kmax": "1", "Ku": "1/ms", "n": "1", "halfmax": "nM^n", "Vhalf": "mV"}
BETWEEN = 3.0  # how far outside its samples a value may lie, as a factor
OTHER_NAMES = {"conc": "concentration", "units": "unit", "current": "fraction"}  # as FDA's tables have them
SAMPLE_NAMES = {"IKr": "hERG"}
BINDING = ("Kmax", "Ku", "n", "halfmax", "Vhalf")
SAMPLE_COLUMNS = (*(f"{c}_{k}" for c in (*CHANNELS, *SAMPLE_NAMES.values()) for k in ("IC50", "h")), *BINDING, "slope")
Array = NDArray[np.float64]


def block(path: Path, channel: str, mass: float | None) -> tuple[Array, Array]:
    """Concentrations (nM) and block (%) of one channel. Columns: concentration [unit] (or a column unit), block [%], and channel
    where the table has several. mass: molar, g/mol, for mass per volume."""
    table, at = _open(path, ("concentration", "block"), ("unit", "channel", "drug", "pacing", "cell"))
    keep = np.ones(len(table), bool)
    if "channel" in at:
        keep = np.array([_channel(c) == channel for c in table.cells(at["channel"]).to_list()])
        if not keep.any():
            raise DataError("no rows of it", source=path.name, column="channel", value=channel, remedy="check the names")
    drugs = set(table.cells(at["drug"]).to_list()) if "drug" in at else set()
    if len(drugs) > 1:
        raise DataError("more than one drug", source=path.name, column="drug", value=len(drugs), remedy="one file for each")
    unit = head(table.header[at["block"]])[1]
    if unit not in ("", "%"):
        raise DataError(
            "not in %", source=path.name, column=table.header[at["block"]], remedy="give 0 for none, 100 for complete block"
        )
    picked = table.rows(keep)
    y = _numbers(picked, at["block"])
    good = np.isfinite(y)  # a failed cell
    c = _concentrations(picked, at, mass)
    for name, v, low, high, remedy in (
        ("concentration", c, LOWEST, HIGHEST, "leave out rows without drug, and check the unit"),
        ("block", y, *POSSIBLE, "give 0 for none, 100 for complete block"),
    ):
        bad = good & ~((v >= low) & (v <= high))
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(f"outside {low:g} to {high:g} {'nM' if v is c else '%'}", source=path.name, row=int(picked.lines[i]),
                            column=name, value=f"{v[i]:g}", remedy=remedy)  # fmt: skip
    return c[good], y[good]


def channels_of(path: Path) -> tuple[str, ...]:
    """Channels that a block table holds, in its order. Raises DataError for one that is unknown."""
    table, at = _open(path, ("concentration", "block", "channel"), ("unit", "drug", "pacing", "cell"))
    seen = dict.fromkeys(table.cells(at["channel"]).to_list())
    return tuple(dict.fromkeys(check_channel(_channel(c), path.name) for c in seen))


def recording(path: Path, drug: str, mass: float | None) -> Recording:
    """A Milnes recording. Columns: concentration [unit], sweep, time [ms or s] since the step to 0 mV, fraction, and cell where
    the table has single cells."""
    table, at = _open(path, ("concentration", "sweep", "time", "fraction"), ("unit", "cell", "drug"))
    unit = head(table.header[at["time"]])[1]
    scale = converted(f"1 {unit}", "ms", path.name, table.header[at["time"]]) if unit else _no_unit(path, "time", "time [ms]")
    sweep, time, y = (_numbers(table, at[k]) for k in ("sweep", "time", "fraction"))
    for name, v in (("sweep", sweep), ("time", time), ("fraction", y)):
        if not np.all(np.isfinite(v)):
            raise DataError(
                "missing", source=path.name, row=int(table.lines[~np.isfinite(v)][0]), column=name, remedy="fill it in"
            )
    if np.any(sweep != np.rint(sweep)):
        raise DataError("not a whole number", source=path.name, column="sweep", remedy="number the sweeps from 1")
    cell = np.zeros(len(table), np.int64)
    if "cell" in at:
        cell = np.unique(table.cells(at["cell"]).to_list(), return_inverse=True)[1].astype(np.int64)
    return Recording(drug, _concentrations(table, at, mass), sweep.astype(np.int64), time * scale, y, cell)


def samples(path: Path, point: Effects) -> Effects:
    """Joint samples for the parameters of `point`. Columns as FDA's: INa_IC50 (nM), INa_h … and Kmax, Ku (1/ms), n, halfmax
    (nM^n), Vhalf (mV); hERG_IC50 is static block. A parameter that has no column stays at its value.

    Raises DataError where a value lies outside its samples by more than BETWEEN: they are of another fit, unit or vintage.
    """
    table, at = _open(path, (), SAMPLE_COLUMNS)
    if len(table) > MOST_SAMPLES:
        raise DataError(f"{len(table)} samples, more than {MOST_SAMPLES}", source=path.name, remedy="thin them")
    for name, i in at.items():
        unit, wanted = head(table.header[i])[1], SAMPLE_UNITS.get(name.rpartition("_")[2], "1")
        if unit not in ("", wanted):
            raise DataError(
                f"samples are in {wanted}", source=path.name, column=table.header[i], remedy="convert them, or its name"
            )
    drawn = _Drawn(path.name, {n: _sampled(table, i) for n, i in at.items() if n != "slope"}, len(table))
    blocks = {}
    for channel, b in point.block.items():
        name = channel if f"{channel}_IC50" in at else SAMPLE_NAMES.get(channel, channel)
        blocks[channel] = Block(drawn.take(f"{name}_IC50", b.ic50), drawn.take(f"{name}_h", b.h))
    binding = None
    if point.binding is not None:
        binding = Binding(*(drawn.take(k, v) for k, v in zip(BINDING, point.binding, strict=True)))
        drawn.agrees("Kmax/halfmax", point.binding.kmax / point.binding.halfmax, binding.kmax / binding.halfmax)
    drawn.finish()
    return Effects(blocks, binding)


class _Drawn:
    """Columns of samples, taken one by one."""

    def __init__(self, source: str, columns: Mapping[str, Array], count: int) -> None:
        self.source, self.columns, self.count, self.left = source, columns, count, set(columns)

    def take(self, name: str, value: float) -> Array:
        """The samples of one parameter, or its value as often where there is no column."""
        if name not in self.columns:
            return np.full(self.count, value)
        self.left.discard(name)
        if name not in ("Vhalf", "Kmax", "halfmax"):  # only the ratio of the last two is well known
            self.agrees(name, value, self.columns[name])
        return self.columns[name]

    def agrees(self, name: str, value: float, v: Array) -> None:
        """Raise DataError where the value lies outside its samples by more than BETWEEN."""
        if not v.min() / BETWEEN <= value <= v.max() * BETWEEN:
            raise DataError(
                f"the value {value:.3g} is none of its samples, {v.min():.3g} to {v.max():.3g}", source=self.source, column=name,
                remedy="give samples of the same fit, in nM and 1/ms, of the same vintage",
            )  # fmt: skip

    def finish(self) -> None:
        """Raise DataError for a file of nothing, and for columns that nobody took."""
        if not self.columns:
            raise DataError("no column of samples", source=self.source, remedy="name them INa_IC50, INa_h, Kmax, Ku …")
        if self.left:
            raise DataError(
                "samples of what the compound has no value for", source=self.source, column=", ".join(sorted(self.left)[:4]),
                remedy="give its value, or leave the column out",
            )  # fmt: skip


def _open(path: Path, needed: tuple[str, ...], known: tuple[str, ...]) -> tuple[columns.Table, dict[str, int]]:
    """The table and where its columns are, by our names."""
    if path.is_file() and path.stat().st_size > SIZE_LIMIT:
        raise DataError(f"more than {SIZE_LIMIT / 1e6:.0f} MB", source=path.name, remedy="average or thin the data")
    table = columns.read(path)
    at = {}
    for i, written in enumerate(table.header):
        name = head(written)[0]
        name = OTHER_NAMES.get(name.lower(), name)
        name = name if name in known else name.lower()
        if name in at:
            raise DataError("stands twice in the header", source=path.name, column=written, remedy="keep one")
        at[name] = i
    for name in needed:
        if name not in at:
            raise DataError("no such column", source=path.name, column=name, remedy=f"the table needs {', '.join(needed)}")
    for name in at:
        if name not in (*needed, *known):
            raise DataError(
                "unknown column",
                source=path.name,
                column=name,
                remedy=f"leave it out; known are {', '.join((*needed, *known)[:9])}",
            )
    return table, at


def _channel(name: str) -> str:
    return HERG if name.lower() == "herg" else name


def _numbers(table: columns.Table, index: int) -> Array:
    values, bad = table.numbers(index)
    if bad.any():
        i = int(np.argmax(bad))
        raise DataError("not a number", source=table.source, row=int(table.lines[i]), column=table.header[index],
                        value=table.cell(i, index), remedy="give a number, or nothing where none was measured")  # fmt: skip
    return np.asarray(values, float)


def _sampled(table: columns.Table, index: int) -> Array:
    values = _numbers(table, index)
    if not np.all(np.isfinite(values)):
        i = int(np.argmin(np.isfinite(values)))
        raise DataError(
            "missing",
            source=table.source,
            row=int(table.lines[i]),
            column=table.header[index],
            remedy="joint samples have no gaps",
        )
    return values


def _no_unit(path: Path, column: str, example: str) -> float:
    raise DataError("no unit", source=path.name, column=column, remedy=f"name the column {example}")


def _concentrations(table: columns.Table, at: Mapping[str, int], mass: float | None) -> Array:
    """Concentrations in nM, each distinct text converted once."""
    written = table.header[at["concentration"]]
    common = head(written)[1]
    units = table.cells(at["unit"]).to_list() if "unit" in at else [common] * len(table)
    if "unit" in at and common:
        raise DataError("a unit in the head and a column of units", source=table.source, column=written, remedy="keep one")
    if "unit" not in at and not common:
        raise DataError("no unit", source=table.source, column=written, remedy="name it concentration [nM], or add a column unit")
    pairs = list(zip(table.cells(at["concentration"]).to_list(), units, strict=True))
    value = {p: concentration(f"{p[0]} {p[1]}", mass, table.source, written) for p in dict.fromkeys(pairs)}
    return np.array([value[p] for p in pairs])

"""A user's own compounds: one in a YAML file, or many in a CSV file. docs/heart-drugs.md describes both.

Files come from strangers: they are small, hold no aliases and no repeated keys, and name data files only in their own folder.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, GemelloError
from gemello.base.random import generator
from gemello.domains.heart.drugs import hill, milnes, tables
from gemello.domains.heart.drugs.drug import (
    CHANNELS,
    HERG,
    HIGHEST,
    LOWEST,
    STATIC_BESIDE,
    Binding,
    Block,
    Drug,
    Effects,
    check_channel,
    check_concentration,
    warnings,
)
from gemello.domains.heart.drugs.quantity import concentration, converted, head, pure
from gemello.domains.heart.drugs.vintage import NAMES, empty
from gemello.formats import columns, yamlfile

MOST = 1_000  # compounds of a file
KEYS = ("name", "cmax", "molar_mass", "vintage", "channels", "herg", "samples", "data")
HILL_KEYS, HERG_KEYS = ("ic50", "hill", "data"), ("Kmax", "Ku", "n", "EC50", "halfmax", "Vhalf", "data")
NO_BLOCK = ("none", "no block")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """drugs: in the order of the file. rejected: (name or row, reason) of compounds that cannot be used."""

    drugs: tuple[Drug, ...]
    rejected: tuple[tuple[str, str], ...] = ()


def read(path: Path | str, *, seed: int = 0, draws: int = 2000, refits: int = 100, strict: bool = True) -> Reading:
    """Compounds of a .yaml (one) or .csv file (one in each row).

    Raw tables that a compound names are fitted on the way: draws joint draws, refits bootstrap refits of dynamic hERG, from
    `seed`. strict: raise the first fault of any compound; else leave that compound out and list it (CSV). Raises DataError.
    """
    path = Path(path)
    for option, value in (("draws", draws), ("refits", refits)):
        if not 1 <= value <= 100_000:
            raise DataError("not a number of draws", column=option, value=value, remedy="give 1 to 100000")
    fitting = _Fitting(path.parent, seed, draws, refits)
    if path.suffix.lower() in (".yaml", ".yml"):
        return Reading((_compound(yamlfile.read(path, example="name: and cmax:, one compound a file"), path.name, fitting),))
    if path.suffix.lower() != ".csv":
        raise DataError("unknown kind of file", source=path.name, value=path.suffix, remedy="give a .yaml or a .csv file")
    yamlfile.check_file(path)
    found: list[Drug] = []
    rejected = []
    for place, values in _rows(columns.read(path)):
        try:
            drug = _compound(values, place, fitting)
            if drug.name in {d.name for d in found}:
                raise DataError("a compound of that name is there already", source=place, value=drug.name, remedy="rename one")
            found.append(drug)
        except GemelloError as e:
            if strict:
                raise
            rejected.append((str(values.get("name") or place), str(e)))
    if not found:
        raise DataError("no compound that can be used", source=path.name, remedy=rejected[0][1] if rejected else "add rows")
    return Reading(tuple(found), tuple(rejected))


# ---- files to nested texts -----------------------------------------------------------------------------------------
def _rows(table: columns.Table) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Place and nested texts of each row of a CSV file of compounds; the unit of a column's head goes to its cells."""
    if len(table) > MOST:
        raise DataError(f"{len(table)} compounds, more than {MOST}", source=table.source, remedy="split the file")
    heads = [head(h) for h in table.header]
    allowed = ["name", "cmax", "molar_mass", "vintage", "samples", *(f"hERG_{k}" for k in HERG_KEYS[:-1])]
    allowed += [f"{c}_{k}" for c in CHANNELS for k in ("IC50", "h")]
    for written, (name, _) in zip(table.header, heads, strict=True):
        if name not in allowed:
            raise DataError(
                "unknown column", source=table.source, column=written, remedy=_meant(name, allowed, "columns")
            )  # fmt: skip
        if [n for n, _ in heads].count(name) > 1:
            raise DataError("stands twice in the header", source=table.source, column=written, remedy="keep one, with its unit")
    for i in range(len(table)):
        values: dict[str, Any] = {"channels": {}, "herg": {}}
        for j, (name, unit) in enumerate(heads):
            cell = table.cell(i, j)
            if cell in columns.MISSING:
                continue
            text = f"{cell} {unit}" if unit and cell.lower() not in NO_BLOCK else cell
            place, _, key = name.rpartition("_")
            if place == "hERG":
                values["herg"][key] = text
            elif place in CHANNELS:
                entry = values["channels"].setdefault(place, {})
                entry["ic50" if key == "IC50" else "hill"] = text
            else:
                values[name] = text
        for channel, entry in values["channels"].items():
            if entry.get("ic50", "").lower() in NO_BLOCK:
                values["channels"][channel] = "none"
        if not values["herg"]:
            del values["herg"]
        yield f"{table.source} row {int(table.lines[i])}", values


# ---- nested texts to a drug ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Fitting:
    """How raw tables are fitted: where they lie, the seed, how many draws and bootstrap refits."""

    folder: Path
    seed: int
    draws: int
    refits: int

    def file(self, name: str, source: str) -> Path:
        """A data file beside the compound's file."""
        path = self.folder / name
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no disk can hold
            inside = False
        if not inside:
            raise DataError(
                "not in the folder of the compound's file", source=source, column="data", value=name, remedy="put it there"
            )
        if not yamlfile.is_file(path):
            raise DataError("no such file", source=source, column="data", value=name, remedy=f"put it into {self.folder}")
        return path


def _compound(values: Mapping[str, Any], place: str, fitting: _Fitting) -> Drug:
    _only(values, KEYS, place)
    name = _name(values, place)
    mass = converted(_text(values, "molar_mass", place), "g/mol", place, "molar_mass") if "molar_mass" in values else None
    if mass is not None and not 10.0 <= mass <= 1e6:
        raise DataError("no molar mass of a drug", source=place, column="molar_mass", value=mass, remedy="give it in g/mol")
    if "cmax" not in values:
        raise DataError("no Cmax", source=place, column="cmax", remedy="give the free therapeutic concentration: cmax: 33 nM")
    cmax = concentration(_text(values, "cmax", place), mass, place, "cmax")
    vintage = _text(values, "vintage", place) if "vintage" in values else ""
    if vintage and vintage not in NAMES:
        raise DataError("no such vintage", source=place, column="vintage", value=vintage, remedy=f"use one of {', '.join(NAMES)}")
    block, drawn, notes = _channels(values, mass, place, fitting)
    binding, herg_drawn, herg_notes = _herg(values, name, mass, place, fitting)
    if not block and binding is None and not values.get("channels"):  # block may be known to be none
        raise DataError("no channel", source=place, remedy="give channels, or herg; INa: none says that no block was seen")
    point = Effects(block, binding)
    samples = _joint(point, drawn, herg_drawn, fitting, name)
    if "samples" in values:
        if samples is not None:
            raise DataError("samples beside raw tables", source=place, column="samples", remedy="give the one or the other")
        samples = tables.samples(fitting.file(*_samples_file(values["samples"], vintage, place)), point)
    if binding is not None:
        notes += _static(values.get("channels", {}), block, place)
    missing = _absent(values, vintage or NAMES[0], binding)
    notes += [*herg_notes, *_fixed(point, samples)]
    if missing:
        told = ", ".join("hERG" if c == HERG else c for c in missing)
        notes.append(f"nothing given on {told}: taken as not blocked")
    return Drug(name, cmax, point, samples, None, vintage, (*warnings(point), *notes), missing)


def _channels(
    values: Mapping[str, Any], mass: float | None, place: str, fitting: _Fitting
) -> tuple[dict[str, Block], dict[str, Block], list[str]]:
    """Best block, draws and notes of each channel."""
    given = _mapping(values.get("channels", {}), place, "channels")
    raw: dict[str, Path] = {}
    if "data" in values:  # one table of all channels
        shared = fitting.file(_text(values, "data", place), place)
        raw = dict.fromkeys(tables.channels_of(shared), shared)
        both = sorted(set(raw) & set(given))
        if both:
            raise DataError(f"{', '.join(both)} in data and under channels", source=place, remedy="give the one or the other")
    block: dict[str, Block] = {}
    drawn: dict[str, Block] = {}
    notes: list[str] = []
    for channel, entry in {**given, **raw}.items():
        check_channel(channel, place)
        if isinstance(entry, str) and entry.lower() in NO_BLOCK:
            continue
        file = raw[channel] if channel in raw else _raw(entry, channel, place, fitting)
        if file is not None:
            data = tables.block(file, channel, mass)
            fitted = hill.fit(*data, draws=fitting.draws, seed=fitting.seed, source=f"{file.name} {channel}")
            block[channel], drawn[channel] = fitted.point, fitted.draws
            notes += [f"{channel}: {n}" for n in fitted.notes]
        else:
            where = f"channels {channel}"
            ic50 = concentration(_text(entry, "ic50", place, where), mass, place, f"{where} ic50")
            if 0.0 < ic50 < LOWEST:
                check_concentration(ic50, place, f"{where} ic50")
            block[channel] = Block(ic50, pure(_text(entry, "hill", place, where), place, f"{where} hill"))
    return block, drawn, notes


def _raw(entry: Any, channel: str, place: str, fitting: _Fitting) -> Path | None:
    """The raw table that a channel names, None where it gives values."""
    where = f"channels {channel}"
    entry = _mapping(entry, place, where)
    _only(entry, HILL_KEYS, f"{place}, {where}")
    if "data" not in entry:
        return None
    _alone(entry, place, where)
    return fitting.file(_text(entry, "data", place), place)


def _herg(
    values: Mapping[str, Any], name: str, mass: float | None, place: str, fitting: _Fitting
) -> tuple[Binding | None, Binding | None, list[str]]:
    """Best dynamic hERG parameters, draws and notes."""
    if "herg" not in values:
        return None, None, []
    entry = _mapping(values["herg"], place, "herg")
    _only(entry, HERG_KEYS, f"{place}, herg")
    if "data" in entry:
        _alone(entry, place, "herg")
        recording = tables.recording(fitting.file(_text(entry, "data", place), place), name, mass)
        fitted = milnes.fit(recording, fitting.seed).bootstrap(fitting.refits)
        return fitted.point, fitted.draws, [f"hERG: {n}" for n in fitted.notes]
    number = lambda key: pure(_text(entry, key, place, "herg"), place, f"herg {key}")  # noqa: E731
    n = number("n")
    if ("EC50" in entry) == ("halfmax" in entry):
        raise DataError(
            "give EC50 or halfmax", source=place, column="herg", remedy="EC50: 530 nM, or halfmax: its n-th power in nM^n"
        )
    if "EC50" in entry:
        ec50 = concentration(_text(entry, "EC50", place, "herg"), mass, place, "herg EC50")
        if not (ec50 > 0 and 0 < n < 20):
            raise DataError("EC50 or n not above 0", source=place, column="herg", value=f"{ec50:g}, {n:g}", remedy="check them")
        check_concentration(ec50, place, "herg EC50")
        halfmax = ec50**n
    else:
        halfmax = number("halfmax")
        if n > 0 and halfmax > 0 and not math.log10(LOWEST) <= math.log10(halfmax) / n <= math.log10(HIGHEST):
            raise DataError(
                f"EC50 would be 1e{math.log10(halfmax) / n:.0f} nM", source=place, column="herg halfmax", value=f"{halfmax:g}",
                remedy="halfmax is EC50 to the power of n, in nM^n; check it and n",
            )  # fmt: skip
    ku = converted(_text(entry, "Ku", place, "herg"), "1/ms", place, "herg Ku")
    vhalf = converted(_text(entry, "Vhalf", place, "herg"), "mV", place, "herg Vhalf")
    return Binding(number("Kmax"), ku, n, halfmax, vhalf), None, []


def _joint(point: Effects, drawn: Mapping[str, Block], herg: Binding | None, fitting: _Fitting, name: str) -> Effects | None:
    """Draws of all parts together (the assays are independent); what was given as values stays at them."""
    if not drawn and herg is None:
        return None
    n = fitting.draws
    same = lambda part: (np.full(n, v) for v in part)  # noqa: E731
    block = {c: drawn[c] if c in drawn else Block(*same(b)) for c, b in point.block.items()}
    if point.binding is None:
        return Effects(block, None)
    if herg is None:
        return Effects(block, Binding(*same(point.binding)))
    which = generator(fitting.seed, "joint", name).integers(0, len(herg.kmax), n)
    return Effects(block, Binding(*(np.asarray(v)[which] for v in herg)))


def _static(given: Mapping[str, Any], block: Mapping[str, Block], place: str) -> list[str]:
    """Words on static hERG beside dynamic hERG. Raises DataError where the one says that there is no block."""
    if HERG in given and HERG not in block:
        raise DataError(
            f"{HERG} has none, and herg gives block of it",
            source=place,
            column="channels",
            remedy="leave out the one or the other",
        )
    return [STATIC_BESIDE] if HERG in block else []


def _fixed(point: Effects, samples: Effects | None) -> Iterator[str]:
    """Words on what is given as a value while other parts have samples."""
    if samples is None:
        return
    still = [c for c, b in samples.block.items() if np.ptp(b.ic50) == 0.0]
    still += ["dynamic hERG"] if samples.binding is not None and np.ptp(samples.binding.ku) == 0.0 else []
    if still:
        yield f"no uncertainty given on {', '.join(still)}: the intervals are too narrow"


def _absent(values: Mapping[str, Any], vintage: str, binding: Binding | None) -> tuple[str, ...]:
    """Channels that the vintage counts and the file does not mention."""
    named = set(values.get("channels", {})) | (set(CHANNELS) if "data" in values else set())
    missing = [c for c in empty(vintage).channels if c not in named]
    if binding is None and HERG not in named:
        missing.append(HERG)
    return tuple(missing)


# ---- entries -------------------------------------------------------------------------------------------------------
def _only(values: Mapping[str, Any], allowed: tuple[str, ...], place: str) -> None:
    for key in values:
        if key not in allowed:
            raise DataError("unknown key", source=place, column=str(key)[:40], remedy=_meant(str(key), list(allowed), "keys"))


def _meant(name: str, allowed: list[str], what: str) -> str:
    low = {a.lower(): a for a in allowed}
    close = [low[c] for c in difflib.get_close_matches(name.lower()[:60], list(low), n=2, cutoff=0.6)]
    shown = allowed if len(allowed) < 12 else [*allowed[:10], "…"]
    return f"did you mean {' or '.join(close)}?" if close else f"the {what} are {', '.join(shown)}"


def _mapping(value: Any, place: str, column: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError("not a set of keys", source=place, column=column, value=value, remedy="write {ic50: 2.9 uM, hill: 1.2}")
    return value


def _text(values: Mapping[str, Any], key: str, place: str, where: str = "") -> str:
    column = f"{where} {key}".strip()
    if key not in values:
        raise DataError("missing", source=place, column=column, remedy=f"give {key}")
    value = values[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError("not one value", source=place, column=column, remedy="write one number or word")
    return value.strip()


def _name(values: Mapping[str, Any], place: str) -> str:
    name = _text(values, "name", place)
    if len(name) > 80 or any(unicodedata.category(c)[0] == "C" for c in name):
        raise DataError("not a name", source=place, column="name", value=name, remedy="use at most 80 letters, digits and signs")
    return name


def _alone(entry: Mapping[str, Any], place: str, where: str) -> None:
    if len(entry) > 1:
        raise DataError("data beside values", source=place, column=where, remedy="give the table to be fitted, or its values")


def _samples_file(entry: Any, vintage: str, place: str) -> tuple[str, str]:
    """Name of the samples' file and the place, after a look at the vintage that they say they are of."""
    if isinstance(entry, str):
        return entry, place
    entry = _mapping(entry, place, "samples")
    _only(entry, ("file", "vintage"), f"{place}, samples")
    theirs = _text(entry, "vintage", place, "samples") if "vintage" in entry else vintage
    if theirs != vintage:
        raise DataError(
            f"samples of vintage {theirs} for values of {vintage or 'none'}", source=place, column="samples",
            remedy="samples, values and thresholds must be of one vintage",
        )  # fmt: skip
    return _text(entry, "file", place, "samples"), place

"""A vintage: drugs measured and fitted together, with the thresholds that belong to them. Vintages are never mixed.

Channels that count differ too: the laboratory-specific vintage of 2020 applies Hill block to INa, INaL and ICaL only, although
its files hold other channels for some drugs.
"""

from __future__ import annotations

import csv
import io
import math
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemello.base.errors import DataError
from gemello.base.reference import rows
from gemello.domains.heart.drugs.drug import HERG, Binding, Block, Drug, Effects, warnings

NAMES = ("lab2020", "validation2018", "master2017")
MEMBER_LIMIT, ARCHIVE_LIMIT, MEMBERS = 5_000_000, 100_000_000, 500  # bytes, bytes, files
_MISSING = ("", "NA", "NaN", "0")  # IC50 0: not fitted


class Logit(NamedTuple):
    """Proportional odds on the torsade metric score x (C/F): P(at least intermediate) = expit(intermediate + slope·x),
    P(high) = expit(high + slope·x)."""

    intermediate: float
    high: float
    slope: float


@dataclass(frozen=True)
class Vintage:
    """drugs: by name. channels: those with Hill block. thresholds: of the torsade metric score (mean qNet at 1 to 4 Cmax, C/F):
    high below the first, low from the second on; None where none were published with these parameters. logit: the classifier
    that they come from, or None."""

    name: str
    drugs: Mapping[str, Drug]
    channels: tuple[str, ...]
    thresholds: tuple[float, float] | None
    logit: Logit | None
    source: str

    def __post_init__(self) -> None:
        for d in self.drugs.values():
            if d.vintage != self.name:
                raise self._foreign(d)

    def __getitem__(self, name: str) -> Drug:
        if name not in self.drugs:
            raise DataError("no such drug", source=f"vintage {self.name}", value=name, remedy=f"it has {', '.join(self.drugs)}")
        return self.drugs[name]

    def adopt(self, drug: Drug) -> Drug:
        """`drug` as one to be judged by this vintage's thresholds: its own vintage must be this one, or be given as none.

        Raises DataError for a drug of another vintage, or one with block of a channel that this vintage leaves out.
        """
        if drug.vintage not in ("", self.name):
            raise self._foreign(drug)
        extra = sorted(set(drug.point.block) - {*self.channels, HERG})
        if extra:
            raise DataError(
                f"vintage {self.name} knows no block of {', '.join(extra)}", source=f"drug {drug.name}",
                remedy=f"its thresholds hold for block of {', '.join(self.channels)} and dynamic hERG; leave the others out",
            )  # fmt: skip
        return replace(drug, vintage=self.name)

    def _foreign(self, drug: Drug) -> DataError:
        return DataError(
            f"belongs to vintage {drug.vintage or 'none'}, not to {self.name}", source=f"drug {drug.name}",
            remedy="thresholds, parameters and samples must be of one vintage; fit the data anew, or judge it by its own",
        )  # fmt: skip

    @classmethod
    def read(cls, folder: Path, name: str = "lab2020", samples: bool = True) -> Vintage:
        """Vintage `name` from the heart's reference data at `folder`; without `samples` in a tenth of the time."""
        readers = {"lab2020": _lab2020, "validation2018": _validation2018, "master2017": _master2017}
        if name not in readers:
            raise DataError("no such vintage", column="vintage", value=name, remedy=f"use one of {', '.join(NAMES)}")
        cipa = folder / "cipa"
        if not cipa.is_dir():
            raise DataError("no folder cipa", source=str(folder), remedy="give the folder of the heart's reference data")
        return replace(empty(name), drugs={d.name: d for d in readers[name](cipa, samples)})


def empty(name: str) -> Vintage:
    """A vintage without its drugs: what is needed to judge a new one by its thresholds. Raises DataError for an unknown name."""
    if name not in NAMES:
        raise DataError("no such vintage", column="vintage", value=name, remedy=f"use one of {', '.join(NAMES)}")
    return {
        "lab2020": Vintage(
            "lab2020", {}, ("INa", "INaL", "ICaL"), (0.0536, 0.0683), Logit(20.01199509307, 15.665426847338, -292.539547635619),
            "FDA/CiPA, branch Lab_Specific_Validation_Calibration_2020: 28 drugs, 2,000 joint samples, chantest_qNettraining",
        ),
        "validation2018": Vintage(
            "validation2018", {}, ("INa", "INaL", "ICaL", "Ito", "IKs", "IK1"), (0.0579, 0.0689), None,
            "Li 2019, Clin Pharmacol Ther 105:466: tables of 12 training and 16 validation drugs (manual patch clamp)",
        ),
        "master2017": Vintage(
            "master2017", {}, ("INa", "INaL", "ICaL", "Ito", "IKs", "IK1"), None, None,
            "FDA/CiPA, branch master (Chang 2017, Front Physiol 8:917): 12 training drugs",
        ),
    }[name]  # fmt: skip


# ---- the three readers ---------------------------------------------------------------------------------------------
def _lab2020(cipa: Path, samples: bool) -> Iterator[Drug]:
    about = {r["drug"]: r for r in rows(cipa / "newCiPA_lab2020.csv")}
    channels = {c: c for c in empty("lab2020").channels} | {"hERG": HERG}
    draws = read_archive(cipa / "uncertainty_samples_lab2020.tar.gz") if samples else {}
    for r in rows(cipa / "herg_dynamic_28_lab2020.csv"):
        drug = r["drug"]
        hill = rows(cipa / "hill_manual_28" / f"{drug}_IC50_optimal_lab2020.csv")[0]
        joint = None
        if samples:
            block = _drawn(draws, f"chantest_Hill_fitting_results_{drug}_IC50_samples.csv")
            herg = _drawn(draws, f"hERG_fitting_results_{drug}_boot_pars.csv")
            joint = Effects(_blocks(block, channels), Binding(*(herg[k] for k in ("Kmax", "Ku", "n", "halfmax", "Vhalf"))))
        point = Effects(_blocks(_numbers(hill), channels), _binding(r))
        yield _drug(drug, about[drug], "therapeutic", "CiPA", point, "lab2020", joint)


def _validation2018(cipa: Path, samples: bool) -> Iterator[Drug]:
    manual = {r["drug"]: r for r in rows(cipa / "newCiPA_validation2018.csv")}
    for r in rows(cipa / "li2017_li2019_published_28drug_parameters.csv"):
        hill = _numbers({k.removesuffix("_nM"): v for k, v in r.items() if k not in ("drug", "set")})
        herg = _numbers({"hERG_IC50": manual[r["drug"]]["wendyhERGIC50"], "hERG_h": manual[r["drug"]]["wendyhERGh"]})
        block = _blocks({**hill, **herg}, {c: c for c in empty("validation2018").channels} | {"hERG": HERG})
        doubt = ("EC50^n flagged as doubtful in the table's source",) if r["drug"] == "disopyramide" else ()
        point = Effects(block, _binding({**r, "halfmax": r["EC50n"]}))
        yield _drug(r["drug"], r, "Cmax_free_nM", "risk_class", point, "validation2018", notes=doubt)


def _master2017(cipa: Path, samples: bool) -> Iterator[Drug]:
    about = {r["drug"]: r for r in rows(cipa / "CiPA_training_drugs.csv")}
    manual = {r["drug"]: r for r in rows(cipa / "Li2017_IC50.csv")}
    for r in rows(cipa / "herg_dynamic_12_master2017.csv"):
        drug = r["drug"]
        hill = rows(cipa / "hill_manual_28" / f"{drug}_IC50_optimal_master2017.csv")[0]
        herg = {k: manual[drug][k] for k in ("hERG_IC50", "hERG_h")}
        channels = {c: c for c in empty("master2017").channels} | {"hERG": HERG}
        point = Effects(_blocks(_numbers({**hill, **herg}), channels), _binding(r))
        yield _drug(drug, about[drug], "therapeutic", "CiPA", point, "master2017")


def _drug(
    name: str, about: Mapping[str, str], cmax: str, risk: str, point: Effects, vintage: str,
    samples: Effects | None = None, notes: tuple[str, ...] = (),
) -> Drug:  # fmt: skip
    return Drug(name, float(about[cmax]), point, samples, int(about[risk]), vintage, (*warnings(point), *notes))


def _numbers(cells: Mapping[str, str]) -> dict[str, float]:
    return {k: math.nan if v in _MISSING else float(v) for k, v in cells.items()}


def _blocks(values: Mapping[str, Any], channels: Mapping[str, str]) -> dict[str, Block]:
    """Block of each channel that was fitted. channels: name in the file to our name."""
    found = {}
    for theirs, ours in channels.items():
        ic50, h = values.get(f"{theirs}_IC50"), values.get(f"{theirs}_h")
        if ic50 is not None and h is not None and not np.all(np.isnan(ic50)):
            found[ours] = Block(ic50, h)
    return found


def _binding(cells: Mapping[str, str]) -> Binding:
    return Binding(*(float(cells[k]) for k in ("Kmax", "Ku", "n", "halfmax", "Vhalf")))


# ---- joint samples ------------------------------------------------------------------------------------------------
def read_archive(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """CSV files of an archive (.tar.gz) by name, each as columns of numbers. Nothing is written to disk; other members, links
    and paths are not followed. Raises DataError for more than MEMBERS files or ARCHIVE_LIMIT bytes."""
    found: dict[str, dict[str, np.ndarray]] = {}
    total = 0
    try:
        with tarfile.open(path, "r|gz") as archive:
            for count, member in enumerate(archive):
                total += member.size
                if count >= MEMBERS or member.size > MEMBER_LIMIT or total > ARCHIVE_LIMIT:
                    raise DataError("the archive is too large", source=path.name, remedy="give the samples of 28 drugs at most")
                file = archive.extractfile(member) if member.isfile() and member.name.endswith(".csv") else None
                if file is not None:
                    found[Path(member.name).name] = table(file.read().decode(), Path(member.name).name)
    except (OSError, tarfile.TarError, UnicodeDecodeError, EOFError) as e:
        raise DataError(f"cannot be read: {e}", source=path.name, remedy="give a .tar.gz of CSV files") from None
    return found


def table(text: str, source: str) -> dict[str, np.ndarray]:
    """Columns of a CSV text of numbers, NA being NaN. Raises DataError."""
    header = next(csv.reader(io.StringIO(text)), [])
    if not header or len(set(header)) < len(header):
        raise DataError("no header, or a name twice in it", source=source, remedy="name each column once in the first line")
    try:
        body = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2, converters=_cell, encoding=None)
    except ValueError as e:
        raise DataError(f"not a table of numbers: {e}", source=source, remedy="give numbers, or NA") from None
    if body.shape[1] != len(header):
        raise DataError("rows of another length than the header", source=source, remedy="one value for each name")
    return {name: body[:, i] for i, name in enumerate(header)}


def _cell(text: str) -> float:
    return math.nan if text.strip() in ("NA", "") else float(text)


def _drawn(draws: Mapping[str, Mapping[str, np.ndarray]], name: str) -> Mapping[str, np.ndarray]:
    if name not in draws:
        raise DataError("not in the archive of samples", source=name, remedy="use the archive of the vintage's 28 drugs")
    return draws[name]

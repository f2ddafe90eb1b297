"""Reader of concentration-QTc data sets: one row per subject, treatment and time, with concentration and ECG intervals.

Columns are found by name (those of cqtkit and the usual ones of ADEG and ADPC), or by a mapping of roles to names. Rows of a file
keep their line, so that every error can say where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import data_hash
from gemello.base.units import factor
from gemello.formats import columns
from gemello.formats.columns import Table, find

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]

ROLES: dict[str, tuple[str, ...]] = {
    "ID": ("ID", "USUBJID", "SUBJID", "SUBJECT"),
    "TREATMENT": ("TRTG", "TREATMENT", "TRTA", "TRT01A", "TRT", "ARM"),
    "DOSE": ("DOSE", "DOSEA"),
    "TIME": ("NTLD", "NRRLT", "NTPD", "TIME"),
    "CONC": ("CONC", "PCSTRESN"),
    "QTCF": ("QTCF",),
    "QTCFBL": ("QTCFBL", "BASE"),
    "QT": ("QT",),
    "RR": ("RR",),
    "CONCU": ("CONCU", "PCSTRESU"),
}
REQUIRED = ("ID", "TREATMENT", "TIME", "CONC")
PLACEBO = ("placebo", "pbo", "vehicle")
POSSIBLE = {"QTCF": (200.0, 800.0), "QTCFBL": (200.0, 800.0), "QT": (150.0, 1000.0), "RR": (250.0, 3000.0)}  # ms
HIGHEST = 1e12  # of a concentration, whatever its unit
DISAGREE = 5.0  # ms between the file's QTcF and QT/(RR/1 s)^(1/3) from which on one of them is wrong


@dataclass(frozen=True, eq=False)
class Study:
    """A concentration-QTc study of one drug and placebo; arrays are (records,), in the order of the file.

    treatment: as in the file; active: where it is not placebo. dose: NaN where the file has none. time: h after dose, nominal.
    conc: in `unit`, 0 under placebo. qtcf, baseline, qt, rr: ms (qt, rr NaN where missing). crossover: whether subjects had
    both. columns: role to name in the file. notes: what a reader should know.
    """

    source: str
    drug: str
    unit: str
    subject: Texts
    treatment: Texts
    active: NDArray[np.bool_]
    dose: Floats
    time: Floats
    conc: Floats
    qtcf: Floats
    baseline: Floats
    qt: Floats
    rr: Floats
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def change(self) -> Floats:
        """(records,) ΔQTcF, ms: from that period's baseline."""
        return self.qtcf - self.baseline

    @property
    def times(self) -> Floats:
        """Nominal times, h, in order."""
        return np.unique(self.time)

    @property
    def crossover(self) -> bool:
        """Whether any subject had both drug and placebo."""
        return bool(set(self.subject[self.active].tolist()) & set(self.subject[~self.active].tolist()))

    @property
    def hash(self) -> str:
        """Of subjects, times, concentrations and intervals."""
        return data_hash(
            {"subject": self.subject, "time": self.time, "conc": self.conc, "qtcf": self.qtcf, "baseline": self.baseline}
        )

    def __len__(self) -> int:
        return len(self.time)

    def rows(self, keep: NDArray[np.bool_]) -> Study:
        """The records where `keep`."""
        arrays = ("subject", "treatment", "active", "dose", "time", "conc", "qtcf", "baseline", "qt", "rr")
        return replace(self, **{a: getattr(self, a)[keep] for a in arrays})


def read(
    path: Path | str, *, columns: Mapping[str, str] | None = None, unit: str | None = None, treatment: str | None = None
) -> Study:
    """The study in a CSV file.

    columns: role to the name that the file has for it, where it is none of `ROLES` (`{"CONC": "PLASMA"}`). unit: of the
    concentration, where the file has no column of it; or the unit to convert it to. treatment: the active one to analyse beside
    placebo, for a file with several.

    Without QTCF it is QT/(RR/1000 ms)^(1/3); without a baseline it is the mean of the rows at times of 0 or less of each subject
    and treatment. Raises DataError with row, column, value and remedy.
    """
    table = _table(path)
    at = _heads(table, columns or {})
    cells = _Cells(table, at)
    subject, label = cells.text("ID"), cells.text("TREATMENT")
    time, qt, rr = cells.number("TIME"), cells.number("QT", required=False), cells.number("RR", required=False)
    dose = cells.number("DOSE", required=False)
    active = _active(cells, label, dose)
    conc = _concentrations(cells, active, time)
    qtcf = _qtcf(cells, qt, rr)
    chosen = _chosen(cells, label, active, treatment)
    arm = np.array([f"{t} {d:g}" for t, d in zip(label.tolist(), dose.tolist(), strict=True)])  # each dose has its own period
    baseline, post = _baseline(cells, subject, arm, time, qtcf)
    keep = (~active | (label == chosen)) & post
    for which, what in ((active, chosen), (~active, "placebo")):
        if not (keep & which).any():
            raise DataError(f"no row of {what} at a time above 0 h", source=table.source, column=table.header[at["TIME"]],
                            remedy="give times in h after the dose")  # fmt: skip
    _unique(cells, subject, arm, time, keep)
    conc, name = _in_unit(cells, conc, active & keep, unit)
    used = {role: table.header[i] for role, i in at.items()}
    out = Study(table.source, chosen, name, subject, label, active, dose, time, conc, qtcf, baseline, qt, rr, used, cells.notes())
    return out.rows(keep)


# ---- columns -----------------------------------------------------------------------------------------------------------
def _table(path: Path | str) -> Table:
    return columns.read(path)


def _heads(table: Table, given: Mapping[str, str]) -> dict[str, int]:
    unknown = [r for r in given if r.upper() not in ROLES]
    if unknown:
        raise DataError("plays no role here", column=unknown[0], remedy=f"use one of {', '.join(ROLES)}")
    chosen = {r.upper(): n for r, n in given.items()}
    out: dict[str, int] = {}
    for role, names in ROLES.items():
        if role in chosen:
            i = find(table.header, chosen[role])
            if i is None:
                raise DataError(
                    f"no such column, to be read as {role}", source=table.source, column=chosen[role],
                    remedy=f"the file has {', '.join(table.header[:30])}",
                )  # fmt: skip
            out[role] = i
            continue
        found = [i for n in names if (i := find(table.header, n)) is not None]
        if found:
            out[role] = found[0]
    missing = [r for r in REQUIRED if r not in out]
    missing += ["QTCF"] if "QTCF" not in out and not {"QT", "RR"} <= out.keys() else []
    if missing:
        also = ", or QT and RR" if missing[0] == "QTCF" else ""
        raise DataError(
            f"no such column{also}; one of {', '.join(ROLES[missing[0]])} is looked for", source=table.source, column=missing[0],
            remedy=f"map it to one of the file's: {', '.join(table.header[:30])}",
        )  # fmt: skip
    return out


class _Cells:
    """Columns by role; every fault names the row."""

    def __init__(self, table: Table, at: Mapping[str, int]) -> None:
        self.table, self.at = table, at
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        self._notes.append(text)

    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def has(self, role: str) -> bool:
        return role in self.at

    def text(self, role: str) -> Texts:
        out = np.array(self.table.cells(self.at[role]).to_list(), dtype=str)
        self.fail(np.isin(out, columns.MISSING), role, "is missing", "give a value in every row")
        # 1001.0 and 1001 are one subject
        return np.array([t[:-2] if t.endswith(".0") and t[:-2].isdigit() else t for t in out.tolist()], dtype=str)

    def number(self, role: str, required: bool = True) -> Floats:
        if role not in self.at:
            return np.full(len(self.table), np.nan)
        v, bad = self.table.numbers(self.at[role])
        self.fail(bad, role, "is not a number", "give a number, or leave the cell empty")
        if required:
            self.fail(np.isnan(v), role, "is missing", "give a number, or leave the row out")
        if role in POSSIBLE:
            low, high = POSSIBLE[role]
            self.fail(
                (v < low) | (v > high), role, f"outside {low:g} to {high:g} ms", "give intervals in ms; leave out artefacts"
            )
        return v

    def fail(self, bad: NDArray[np.bool_], role: str, problem: str, remedy: str) -> None:
        """DataError at the first row where `bad`."""
        if not bad.any():
            return
        i = int(np.argmax(bad))
        name = self.table.header[self.at[role]] if role in self.at else role
        value = self.table.cell(i, self.at[role]) if role in self.at else None
        raise DataError(problem, source=self.table.source, row=int(self.table.lines[i]), column=name, value=value, remedy=remedy)


# ---- meaning -----------------------------------------------------------------------------------------------------------
def _active(cells: _Cells, label: Texts, dose: Floats) -> NDArray[np.bool_]:
    named = np.array([any(w in t.lower() for w in PLACEBO) for t in label.tolist()])
    if cells.has("DOSE"):
        cells.fail(dose < 0, "DOSE", "a negative dose", "give 0 for placebo")
        cells.fail(named & (dose > 0), "DOSE", "placebo with a dose", "give placebo dose 0, or name the treatment")
        cells.fail(~named & (dose == 0), "TREATMENT", "dose 0 of a treatment that is not placebo", "call it Placebo")
    if not named.any():
        raise DataError(
            "no placebo rows: ΔΔQTcF needs them", source=cells.table.source, column=cells.table.header[cells.at["TREATMENT"]],
            remedy="add the placebo rows; a treatment with 'placebo' in its name is taken as such",
        )  # fmt: skip
    if named.all():
        raise DataError("placebo only", source=cells.table.source, remedy="add the rows of a drug")
    return np.asarray(~named, bool)


def _concentrations(cells: _Cells, active: NDArray[np.bool_], time: Floats) -> Floats:
    conc = cells.number("CONC", required=False)
    cells.fail(conc < 0, "CONC", "a negative concentration", "give 0 below the limit of quantification, or the measured value")
    cells.fail(conc > HIGHEST, "CONC", "is no concentration", "give what was measured, and its unit")
    cells.fail(~active & (conc > 0), "CONC", "a concentration under placebo", "correct the treatment or the concentration")
    cells.fail(
        active & (time > 0) & np.isnan(conc), "CONC", "no concentration beside this ECG",
        "give it (0 below the limit of quantification), or leave the row out",
    )  # fmt: skip
    return np.where(np.isnan(conc), 0.0, conc)


def _qtcf(cells: _Cells, qt: Floats, rr: Floats) -> Floats:
    """Fridericia 1920: QT/(RR/1 s)^(1/3)."""
    own = qt / np.cbrt(rr / 1000.0)
    if not cells.has("QTCF"):
        cells.fail(np.isnan(own), "QT" if np.isnan(qt).any() else "RR", "is missing, and there is no QTCF", "give QT and RR")
        cells.note("QTcF is computed from QT and RR (Fridericia)")
        return own
    given = cells.number("QTCF")
    off = np.abs(given - own) > DISAGREE
    cells.fail(
        off, "QTCF", f"differs by more than {DISAGREE:g} ms from QT/(RR/1000 ms)^(1/3)",
        "see that it is Fridericia's correction and of the same ECG; without a QTCF column it is computed",
    )  # fmt: skip
    return given


def _chosen(cells: _Cells, label: Texts, active: NDArray[np.bool_], treatment: str | None) -> str:
    """Name of the active treatment to analyse."""
    names = list(dict.fromkeys(label[active].tolist()))
    column = cells.table.header[cells.at["TREATMENT"]]
    if treatment is None:
        if len(names) > 1:
            raise DataError(
                f"{len(names)} active treatments ({', '.join(names)[:200]})", source=cells.table.source, column=column,
                remedy="choose one of them; doses of one drug share one treatment and differ in DOSE",
            )  # fmt: skip
        return str(names[0])
    near = [n for n in names if n.lower() == treatment.lower()]
    if not near:
        raise DataError(
            "no such active treatment", source=cells.table.source, column=column, value=treatment,
            remedy=f"the file has {', '.join(names)}",
        )  # fmt: skip
    return str(near[0])


def _baseline(cells: _Cells, subject: Texts, arm: Texts, time: Floats, qtcf: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Baseline of each row, and which rows are after the dose."""
    post = time > 0
    period = np.array([f"{s}\0{t}" for s, t in zip(subject.tolist(), arm.tolist(), strict=True)])
    if cells.has("QTCFBL"):
        out = cells.number("QTCFBL")
        for p in np.unique(period):
            here = period == p
            first = out[np.argmax(here)]
            cells.fail(
                here & (np.abs(out - first) > 1e-6), "QTCFBL", "changes within one subject and treatment",
                "give one baseline for each subject and period",
            )  # fmt: skip
        if (~post).any():
            cells.note(f"{int((~post).sum())} rows at times of 0 h or less are left to the baseline")
        return out, post
    out = np.full(len(time), np.nan)
    for p in np.unique(period):
        here = period == p
        if (here & ~post).any():
            out[here] = qtcf[here & ~post].mean()
    cells.fail(
        np.isnan(out), "TIME", "no row at a time of 0 or less for this subject and treatment, and no baseline column",
        "give the baseline as QTCFBL, or rows before the dose",
    )  # fmt: skip
    cells.note("baseline is the mean of the rows at times of 0 h or less of each subject and treatment")
    return out, post


def _unique(cells: _Cells, subject: Texts, arm: Texts, time: Floats, keep: NDArray[np.bool_]) -> None:
    seen: set[tuple[str, str, float]] = set()
    twice = np.zeros(len(time), bool)
    for i in np.flatnonzero(keep):
        key = (str(subject[i]), str(arm[i]), float(time[i]))
        twice[i] = key in seen
        seen.add(key)
    cells.fail(twice, "TIME", "a second row of this subject, treatment and time", "average replicate ECGs first")


def _in_unit(cells: _Cells, conc: Floats, active: NDArray[np.bool_], unit: str | None) -> tuple[Floats, str]:
    """Concentrations in one unit. A file's own column of units is believed; without one, `unit` is."""
    if not cells.has("CONCU"):
        if unit is None:
            raise DataError(
                "the unit of the concentration is not given", source=cells.table.source,
                column=cells.table.header[cells.at["CONC"]], remedy="say it, such as ng/mL, or add a column CONCU",
            )  # fmt: skip
        if not _concentration(unit):
            raise DataError("is not a unit of concentration", column="unit", value=unit, remedy="use one such as ng/mL or nmol/L")
        return conc, unit
    own = np.array(cells.table.cells(cells.at["CONCU"]).to_list(), dtype=str)
    cells.fail(active & np.isin(own, columns.MISSING), "CONCU", "no unit beside a concentration", "give the unit")
    wanted = unit or str(own[active][0])
    scale = np.ones(len(conc))
    for u in np.unique(own[active]):
        here = active & (own == u)
        cells.fail(
            here & (not _concentration(str(u))), "CONCU", "is not a unit of concentration", "use one such as ng/mL or nmol/L"
        )
        try:
            scale[here] = factor(str(u), wanted, "CONCU")
        except DataError:
            cells.fail(here, "CONCU", f"cannot be turned into {wanted}", "give all concentrations in units of one kind")
    return conc * scale, wanted


def _concentration(unit: str) -> bool:
    """Whether pint knows the unit as mass or amount by volume."""
    if unit[:1] in "±+-0123456789":  # pint would take a number before it
        return False
    for like in ("g/L", "mol/L"):
        try:
            factor(unit, like, "CONCU")
        except DataError:
            continue
        return True
    return False

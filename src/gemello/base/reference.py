"""Reference data for `validate` and the tests: where they lie (outside the package, never copied into it), and checks on them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Check = dict[str, Any]


def reference_data(area: str) -> Path | None:
    """Folder of reference data for one area, or None where there is none on this machine.

    GEMELLO_DATA names the folder that holds the areas; without it, `shared/data` is looked for beside this file's parents
    and beside the working folder's.
    """
    chosen = os.environ.get("GEMELLO_DATA")
    here = (*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents)
    roots = [Path(chosen)] if chosen else [p / "shared" / "data" for p in here]
    return next((r / area for r in roots if (r / area).is_dir()), None)


def check(name: str, value: float, reference: float, tolerance: float, source: str, relative: bool = False) -> Check:
    """One row; a relative tolerance is stated as the absolute one that it means."""
    limit = tolerance * abs(reference) if relative else tolerance
    passed = bool(abs(value - reference) <= limit)  # NaN never passes
    return {
        "check": name,
        "value": float(value),
        "reference": float(reference),
        "tolerance": limit,
        "source": source,
        "passed": passed,
    }


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, as text."""
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers; "." and nothing are NaN."""
    table = rows(path)

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if r[name] in (".", "") else float(r[name]) for r in table])

    return {name: column(name) for name in table[0]}


def checks_of(area: str, folder: Path | None, parts: Mapping[str, Callable[[Path], Iterator[Check]]]) -> Iterator[Check]:
    """The checks of all parts (by what they are about), one at a time. Where an area's data are missing (folder None) a row for
    each part says so in `ran`, and does not pass."""
    for name, part in parts.items():
        if folder is None:
            why = f"no reference data; set GEMELLO_DATA to the folder that holds {area}/"
            row = dict.fromkeys(("value", "reference", "tolerance"))
            yield {"check": f"{name}: not run", **row, "source": why, "passed": False, "ran": False}
        else:
            yield from part(folder)

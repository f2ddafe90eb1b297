"""The 28 reference drugs of CiPA as this program scores them: `reference_lab2020.csv`, made by `authorities.risk` and held
against FDA's data by `validate`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Reference:
    """A reference drug: known class; score of the best values and median and 95 % interval over `samples` joint samples, C/F;
    mean class probabilities of the classifier fitted without it."""

    drug: str
    risk: int
    score: float
    median: float
    low: float
    high: float
    left_out: tuple[float, float, float]
    samples: int


@cache
def reference(vintage: str = "lab2020") -> tuple[Reference, ...]:
    """The reference drugs of a vintage; none where the program has not scored it."""
    path = HERE / f"reference_{vintage}.csv"
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as f:
        table = list(csv.DictReader(line for line in f if not line.startswith("#")))
    return tuple(_row({k: v for k, v in r.items() if k != "drug"}, r["drug"]) for r in table)


def _row(cells: dict[str, str], drug: str) -> Reference:
    v = {k: float(c) for k, c in cells.items()}
    left_out = (v["p_low"], v["p_intermediate"], v["p_high"])
    return Reference(drug, int(v["class"]), v["score"], v["median"], v["low"], v["high"], left_out, int(v["samples"]))


def write(path: Path, found: Sequence[Reference], remark: str) -> None:
    """Write reference drugs as `reference` reads them. remark: how they were made, one line."""
    with path.open("w", newline="", encoding="utf-8") as f:
        f.write(f"# {remark}\n")
        out = csv.writer(f, lineterminator="\n")
        out.writerow(("drug", "class", "score", "median", "low", "high", "p_low", "p_intermediate", "p_high", "samples"))
        for r in found:
            numbers = [f"{v:.6f}" for v in (r.score, r.median, r.low, r.high)]
            out.writerow((r.drug, r.risk, *numbers, *(f"{p:.5f}" for p in r.left_out), r.samples))

"""Protocols for tests: a table and sections become files, and are analysed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from gemello.trial import protocol as protocols
from gemello.trial.analyse import Result, analyse

TWO: dict[str, Any] = {"column": "arm", "control": "c", "active": ["t"]}


def write(folder: Path, table: pl.DataFrame | None, *, subject: str = "id", data: str = "trial.csv", **sections: Any) -> Path:
    """The file of a protocol, its data beside it (table None: they are there). where, after: of its data."""
    if table is not None:
        table.write_csv(folder / data)
    read = {"file": data, "subject": subject}
    read |= {"where": sections.pop("where")} if "where" in sections else {}
    read |= {"after_randomisation": sections.pop("after")} if "after" in sections else {}
    content = {"schema": "gemello-trial-analysis/1", "title": "a trial", "data": read, "arms": TWO, **sections}
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def run(folder: Path, table: pl.DataFrame | None, **sections: Any) -> Result:
    """The analysis of it."""
    return analyse(protocols.read(write(folder, table, **sections)))


def estimand(summary: str = "mean difference", **events: Any) -> dict[str, Any]:
    """An estimand with a summary and intercurrent events."""
    said = {"treatment": "t against c", "population": "all", "variable": "y", "summary": summary}
    return said | ({"events": events} if events else {})


def simple(n: int = 120, seed: int = 3) -> pl.DataFrame:
    """One row a subject: id, arm, x (baseline), y, off (0/1, in both arms), site."""
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(50, 10, n), np.resize(["c", "t"], n)
    y = 0.8 * x + 3.0 * (arm == "t") + rng.normal(0, 6, n)
    return pl.DataFrame({
        "id": np.arange(n), "arm": arm, "x": x.round(3), "y": y.round(3), "off": (rng.random(n) < 0.2).astype(int),
        "site": rng.permutation(np.resize(["a", "b"], n)),
    })  # fmt: skip


def repeated(n: int = 80, seed: int = 5) -> pl.DataFrame:
    """Three visits a subject: id, arm, x, visit, y, off (0/1), when (week), of which some subjects leave."""
    rng = np.random.default_rng(seed)
    one = simple(n, seed)
    off = rng.random(n) < 0.3
    when = np.where(off, rng.choice([5.0, 9.0], n), np.nan)
    rows = []
    for week in (4, 8, 12):
        y = one["y"].to_numpy() + 0.1 * week + rng.normal(0, 4, n)
        gone = (week == 12) & (rng.random(n) < 0.15)
        rows.append(one.select("id", "arm", "x").with_columns(
            pl.Series("visit", [f"week {week}"] * n), pl.Series("y", np.where(gone, np.nan, y)).fill_nan(None),
            pl.Series("off", off.astype(int)), pl.Series("when", when).fill_nan(None),
        ))  # fmt: skip
    return pl.concat(rows)

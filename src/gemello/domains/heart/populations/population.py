"""A population of cells as a result: parameters, markers and weights of each, how it came about, to and from files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.populations import weights as weighting

GROUPS = {"parameters": "parameter:", "markers": "marker:", "state": "state:"}  # of the class, and prefix in a file
WEIGHT = "weight"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Population:
    """Cells of one model, paced. parameters: values that differ from the model's table, (cells,), in its units;
    markers: of the last beat, (cells,); state: of each cell at the end of it, (cells,) by state; weights: (cells,), of sum 1.

    sampled: number of candidates that the cells were accepted from. low, high: range of the factors. sex: pooled, female or male.
    """

    model: str
    parameters: dict[str, Floats]
    markers: dict[str, Floats]
    state: dict[str, Floats]
    weights: Floats
    sampled: int
    low: float
    high: float
    cycle_length: float
    provenance: Provenance
    sex: str = "pooled"

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(self.weights.size)

    @property
    def acceptance(self) -> float:
        """Share of the candidates that was accepted."""
        return self.cells / self.sampled

    @property
    def effective(self) -> float:
        """Effective number of cells under the weights (Kish)."""
        return weighting.effective(self.weights)

    def quantile(self, marker: str, q: Any) -> Floats:
        """Weighted quantiles of a marker."""
        return weighting.quantile(self.markers[marker], self.weights, np.asarray(q, float))

    def mean(self, marker: str) -> tuple[float, float]:
        """Weighted mean of a marker and its Monte Carlo error."""
        return weighted_mean(self.markers[marker], self.weights)

    def start(self, model: CellModel) -> Any:
        """State of `model` with entries (cells,)."""
        return model.state_type(**self.state)

    def of(self, model: CellModel) -> CellModel:
        """`model`, if it is the population's. Raises DataError."""
        if model.name != self.model:
            raise DataError("another cell", source="population", value=model.name, remedy=f"use {self.model}")
        return model

    def take(self, which: NDArray[np.int64]) -> Population:
        """These cells, weighted alike (which: drawn by weight) or by what their weights are to each other (which: unique)."""

        def pick(values: dict[str, Floats]) -> dict[str, Floats]:
            return {n: v[which] for n, v in values.items()}

        unique = len(np.unique(which)) == len(which)
        w = self.weights[which] if unique else np.ones(len(which))
        parts = (pick(d) for d in (self.parameters, self.markers, self.state))
        return replace(self, **dict(zip(GROUPS, parts, strict=True)), weights=w / w.sum())  # type: ignore[arg-type]

    # ---- files -----------------------------------------------------------------------------------------------------
    def frame(self) -> Any:
        """One row for each cell (polars)."""
        import polars as pl  # noqa: PLC0415  (only where a table is wanted)

        columns = {p + n: v for group, p in GROUPS.items() for n, v in getattr(self, group).items()}
        return pl.DataFrame({**columns, WEIGHT: self.weights})

    def save(self, path: Path | str) -> Path:
        """Write a .parquet or .csv, and beside it PATH.json with what concerns all cells. Raises DataError for another kind."""
        path = Path(path)
        frame = self.frame()
        if path.suffix == ".parquet":
            frame.write_parquet(path)
        elif path.suffix == ".csv":
            frame.write_csv(path)
        else:
            raise DataError("unknown kind of file", source=path.name, value=path.suffix, remedy="write a .parquet or a .csv")
        about = {n: getattr(self, n) for n in ("model", "sampled", "low", "high", "cycle_length", "sex")}
        text = json.dumps({**about, "provenance": asdict(self.provenance)}, indent=1)
        beside(path).write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path | str) -> Population:
        """Read what `save` wrote. Raises DataError where a file is not there or not of that kind."""
        import polars as pl  # noqa: PLC0415

        path = Path(path)
        for p in (path, beside(path)):
            if not p.is_file():
                raise DataError("no such file", source=str(p), remedy="save the population there, both files")
        try:
            about = json.loads(beside(path).read_text(encoding="utf-8"))
            frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
            groups: dict[str, Any] = {
                group: {n.removeprefix(p): frame[n].to_numpy().astype(float) for n in frame.columns if n.startswith(p)}
                for group, p in GROUPS.items()
            }
            stamp = Provenance(**about.pop("provenance"))
            return cls(**groups, weights=frame[WEIGHT].to_numpy().astype(float), provenance=stamp, **about)
        except (pl.exceptions.PolarsError, KeyError, TypeError, ValueError) as e:
            raise DataError(f"not a population: {str(e)[:100]}", source=path.name, remedy="give a file that save wrote") from None


def beside(path: Path) -> Path:
    """The file with what concerns all cells."""
    return path.with_name(path.name + ".json")


def weighted_mean(values: Floats, weights: Floats) -> tuple[float, float]:
    """Weighted mean over the finite values, and its standard error; NaN where there is none."""
    here = np.isfinite(values)
    if not np.any(weights[here] > 0):
        return float("nan"), float("nan")
    w = weights[here] / weights[here].sum()
    mean = float(w @ values[here])
    return mean, float(np.sqrt(np.sum(w**2 * (values[here] - mean) ** 2)))

"""The body as a table: organs, how they are joined, and how their volumes and blood flows follow from weight and sex."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

from gemello.base.errors import ModelError

ROUTES = ("systemic", "portal", "liver", "lung", "blood")
_BLOOD = ("arterial", "venous")


@dataclass(frozen=True)
class Organ:
    """One row: volumes in L and blood flows as parts of the cardiac output, (woman, man) of reference.

    route: where its blood comes from and goes to. `systemic` arterial to venous, `portal` arterial to liver, `liver` arterial
    (the flow given) and portal to venous, `lung` venous to arterial, `blood` is arterial or venous blood itself.
    """

    name: str
    route: Literal["systemic", "portal", "liver", "lung", "blood"]
    volume: tuple[float, float]
    flow: tuple[float, float]


@dataclass(frozen=True)
class Reference:
    """Subjects of reference, (woman, man): body weight in kg, cardiac output in L/h, which grows with weight^exponent; source."""

    weight: tuple[float, float]
    cardiac_output: tuple[float, float]
    exponent: float
    source: str


@dataclass(frozen=True)
class Body:
    """Organs and subjects of reference. renal: the kidney eliminates; oral: there is a gut lumen to absorb from."""

    table: tuple[Organ, ...]
    reference: Reference
    renal: bool = True
    oral: bool = True

    @classmethod
    def read(cls, path: Path, reference: Reference, *, renal: bool = True, oral: bool = True) -> Body:
        """Body from a CSV file with masses (g), densities (kg/L) and flows (% of cardiac output). Raises ModelError."""
        with path.open(newline="", encoding="utf-8") as f:
            rows = [_organ(r, f"{path.name} row {i}") for i, r in enumerate(csv.DictReader(f), start=2)]
        body = cls(tuple(rows), reference, renal, oral)
        for sex in (0, 1):
            total = sum(o.flow[sex] for o in body.table if o.route in ("systemic", "portal", "liver"))
            if abs(total - 1.0) > 1e-9:
                raise ModelError(f"{path.name}: flows add up to {total:.6g} of the cardiac output; they must make 1")
        return body

    @cached_property
    def organs(self) -> tuple[str, ...]:
        """Organs in order, without blood."""
        return tuple(o.name for o in self.table if o.route != "blood")

    def on(self, route: str) -> tuple[str, ...]:
        """Organs of this route."""
        return tuple(o.name for o in self.table if o.route == route)

    @cached_property
    def fed(self) -> tuple[str, ...]:
        """Organs that arterial blood reaches: all but the lung."""
        return tuple(o.name for o in self.table if o.route in ("systemic", "portal", "liver"))

    @cached_property
    def units(self) -> dict[str, str]:
        """Individual parameters of the body, and their units."""
        volumes = {f"V_{o.name.upper()}": "L" for o in self.table}
        return volumes | {f"Q_{n.upper()}": "L/h" for n in self.fed}

    def scaled(self, weight: Any, man: Any, factor: Any) -> dict[str, Any]:
        """Volumes (L) and arterial flows (L/h) at this weight (kg) of a man (1) or woman (0), cardiac output times `factor`."""
        pick = lambda pair: jnp.where(man > 0.5, pair[1], pair[0])  # noqa: E731
        size = weight / pick(self.reference.weight)
        output = factor * pick(self.reference.cardiac_output) * size**self.reference.exponent
        volumes = {f"V_{o.name.upper()}": pick(o.volume) * size for o in self.table}
        return volumes | {f"Q_{o.name.upper()}": pick(o.flow) * output for o in self.table if o.name in self.fed}


def composition(path: Path) -> dict[str, dict[str, float]]:
    """Tissue composition by organ and constituent (parts of the tissue's volume; mg/g and ratios where the column says so)."""
    with path.open(newline="", encoding="utf-8") as f:
        return {r["organ"]: {k: float(v) for k, v in r.items() if k not in ("organ", "source")} for r in csv.DictReader(f)}


def _organ(row: dict[str, str], where: str) -> Organ:
    name, route = row["organ"], row["route"]
    if route not in ROUTES or (route == "blood") != (name in _BLOOD):
        raise ModelError(
            f"{where}: organ {name!r} with route {route!r}; use {', '.join(ROUTES)}, blood for {' and '.join(_BLOOD)}"
        )
    try:
        density = float(row["density_kg_per_L"])
        volume = tuple(float(row[f"mass_{sex}_g"]) / 1000.0 / density for sex in ("female", "male"))
        flow = tuple(float(row[f"flow_{sex}_percent"]) / 100.0 for sex in ("female", "male"))
    except (KeyError, ValueError) as e:
        raise ModelError(f"{where}: {e}; give masses in g, densities in kg/L and flows in percent") from None
    return Organ(name, route, (volume[0], volume[1]), (flow[0], flow[1]))  # type: ignore[arg-type]

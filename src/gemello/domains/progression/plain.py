"""Variables as plain numbers and words, for the files of generators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gemello.base.errors import DataError
from gemello.model.generator import Array, Variable


def variables_to_list(variables: Sequence[Variable]) -> list[dict[str, Any]]:
    """A bound that there is not is None."""
    bound = lambda v: float(v) if np.isfinite(v) else None  # noqa: E731
    return [
        {"name": v.name, "kind": v.kind, "role": v.role, "unit": v.unit, "levels": list(v.levels), "lower": bound(v.lower),
         "upper": bound(v.upper)}
        for v in variables
    ]  # fmt: skip


def variables_from_list(data: Sequence[Mapping[str, Any]]) -> tuple[Variable, ...]:
    """The variables of `variables_to_list`."""
    free = lambda v, none: none if v is None else float(v)  # noqa: E731
    return tuple(
        Variable(d["name"], d["kind"], d["role"], d["unit"], tuple(map(float, d["levels"])), free(d["lower"], -np.inf),
                 free(d["upper"], np.inf))
        for d in data
    )  # fmt: skip


def check_file(data: Mapping[str, Any], kind: str, version: str) -> None:
    """DataError unless `data` says that it holds a generator of this kind and version."""
    if not isinstance(data, Mapping) or data.get("kind") != kind:
        found = data.get("kind") if isinstance(data, Mapping) else type(data).__name__
        raise DataError(f"no generator of kind {kind}", column="kind", value=found, remedy="give the file that to_dict made")
    if data.get("version") != version:
        raise DataError("another version", column="version", value=data.get("version"), remedy=f"train anew with {version}")


def numbers(value: Any, *shape: int) -> Array:
    """An array of this shape, of finite numbers. Raises ValueError for another: NumPy would stretch a part that is too short."""
    out = np.array(value, float)
    if out.shape != shape or not np.all(np.isfinite(out)):
        found, wanted = (" x ".join(map(str, n)) or "one" for n in (out.shape, shape))
        raise ValueError(f"{found} numbers where {wanted} finite ones belong")
    return out


def check_names(variables: Sequence[Variable], **used: Iterable[str]) -> None:
    """ValueError unless the names used in a role ("any" for a variable of any role) are those of variables of that role."""
    for role, names in used.items():
        known = {v.name for v in variables if role in ("any", v.role)}
        lost = [n for n in names if n not in known]
        if lost:
            raise ValueError(f"no variable {str(lost[0])[:40]} ({role})")

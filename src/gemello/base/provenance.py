"""Where a result comes from: the model, its parameters, the data, the seed and the software. Every result carries one."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError
from gemello.base.random import check_seed
from gemello.base.version import __version__


@runtime_checkable
class _Hashed(Protocol):
    def hash(self) -> str: ...


@runtime_checkable
class Described(Protocol):
    """What provenance asks of a model."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def parameters(self) -> Any: ...  # has hash() -> str


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from. Empty strings and a seed of None: nothing of the kind was used.

    Two results with equal `identity()` came from the same question; their numbers agree bit for bit where `platform`,
    `jax` and the device agree too.
    """

    model: str = ""
    model_version: str = ""
    parameter_hash: str = ""
    data_hash: str = ""
    seed: int | None = None
    gemello: str = ""
    jax: str = ""
    numpy: str = ""
    python: str = ""
    platform: str = ""
    created: str = ""  # UTC, ISO 8601, to the second

    @classmethod
    def collect(
        cls,
        model: Described | None = None,
        *,
        parameters: _Hashed | None = None,
        data: str | Mapping[str, Any] | Sequence[Any] | None = None,
        seed: int | None = None,
    ) -> Provenance:
        """Provenance of a result made now.

        model: has `name`, `version` and `parameters`; parameters: a table in place of the model's own;
        data: arrays (see `data_hash`), or a hash made before; seed: checked. Raises DataError.
        """
        table = parameters if parameters is not None or model is None else model.parameters
        return cls(
            model=model.name if model is not None else "",
            model_version=model.version if model is not None else "",
            parameter_hash=table.hash() if table is not None else "",
            data_hash=data if isinstance(data, str) else "" if data is None else data_hash(data),
            seed=None if seed is None else check_seed(seed),
            gemello=__version__,
            jax=_version("jax"),
            numpy=_version("numpy"),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def to_dict(self) -> dict[str, str | int | None]:
        """Plain values by field name, ready for JSON."""
        return asdict(self)

    def identity(self) -> Provenance:
        """The same without the time of creation: what must be equal for results to be comparable."""
        return replace(self, created="")


def data_hash(arrays: Mapping[str, Any] | Sequence[Any]) -> str:
    """16 hexadecimal digits that depend on names, shapes and values, not on memory layout, precision of storage or order of
    a mapping's names. Equal numbers hash equally as int8 or int64, float32 or float64; 0.0 and −0.0 agree, and so do all
    NaNs. An array holds numbers, booleans, times or text (None is allowed among text). DataError for anything else.
    """
    named = sorted(arrays.items()) if isinstance(arrays, Mapping) else [(str(i), a) for i, a in enumerate(arrays)]
    total = hashlib.sha256()
    for name, array in named:
        kind, shape, content = _canonical(str(name), np.asarray(array))
        for part in (str(name).encode(), kind.encode(), repr(shape).encode(), content):
            total.update(len(part).to_bytes(8, "little"))  # lengths keep neighbours from running into each other
            total.update(part)
    return total.hexdigest()[:16]


def _canonical(name: str, a: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    if a.dtype.kind == "f":
        a = a.astype("<f8") + 0.0  # −0.0 becomes 0.0
        return "float", a.shape, np.where(np.isnan(a), np.nan, a).astype("<f8").tobytes()
    if a.dtype.kind in "iu":
        if a.dtype.kind == "u" and a.size and int(a.max()) >= 2**63:
            return "large", a.shape, a.astype("<u8").tobytes()
        return "int", a.shape, a.astype("<i8").tobytes()
    if a.dtype.kind == "b":
        return "bool", a.shape, a.astype("u1").tobytes()
    if a.dtype.kind in "Mm":
        return f"time {a.dtype.kind}", a.shape, a.astype(f"<{a.dtype.kind}8[ns]").astype("<i8").tobytes()
    if a.dtype.kind in "UOT":
        return "text", a.shape, b"".join(_text(name, v) for v in a.ravel().tolist())
    raise DataError(f"cannot be hashed as {a.dtype}", column=name, remedy="give numbers, booleans, times or text")


def _text(name: str, value: object) -> bytes:
    if value is None:
        return b"\xff" * 8
    if not isinstance(value, str):
        raise DataError("not text in a column of text", column=name, value=value, remedy="give one kind of value in a column")
    encoded = value.encode()
    return len(encoded).to_bytes(8, "little") + encoded


@cache
def _version(package: str) -> str:
    """Installed version, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

"""A model file: a model as a short TOML text of equations and a parameter table. docs/model-files.md is its guide.

The file is hostile until it is read: its size and the length of its lines are limited, its expressions are never run, and
each thing wrong is one ModelError: file, section, name, what is wrong, remedy.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from gemello.base.errors import ModelError
from gemello.base.units import parsed
from gemello.model import sections
from gemello.model.dimensions import written
from gemello.model.equations import Maker, check, has_unit_literals
from gemello.model.fields import Fields, check_name
from gemello.model.textmodel import Declared, LinearTextModel, TextModel

LARGEST = 1_000_000  # bytes
LONGEST_LINE = 2_000  # characters: the TOML reader takes a time that grows as the square of a key's length
TOP = (
    "name", "version", "time", "method", "tolerances", "card", "covariates", "parameters", "covariances", "definitions",
    "individual", "states", "ports", "outputs",
)  # fmt: skip
METHODS = ("auto", "expm", "tsit5", "rodas5p")
LITERALS = "numbers in the equations carry units of their own, which were checked when the file was read"


def load(path: Path | str) -> TextModel | LinearTextModel:
    """The model in the file `path`; the same object as long as the texts do not change. Raises ModelError."""
    path = Path(path)
    return parse_model(read_text(path), path.name, path.parent)


def parse_model(text: str, where: str = "model", folder: Path | None = None) -> TextModel | LinearTextModel:
    """The model in a text. where: what messages call it; folder: where a parameter table beside it lies. Raises ModelError."""
    top = Fields(where, _toml(text, where))
    top.only(TOP)
    beside = top.values.get("parameters")
    table = read_text(sections.beside(beside, folder, where)) if isinstance(beside, str) else ""
    return _model(where, text, table, folder)


def read_text(path: Path) -> str:
    """Text of a file of at most `LARGEST` bytes. Raises ModelError."""
    try:
        if not path.is_file():
            raise ModelError(f"no file {str(path)!r}; give the path of a file that is there")
        with path.open("rb") as f:
            raw = f.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ModelError(f"{path.name}: larger than {LARGEST:,} bytes; a model file is a short text")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ModelError(f"{path.name}: byte {e.start} is no UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as e:  # a NUL in the name
        raise ModelError(f"{path.name}: cannot be read: {getattr(e, 'strerror', None) or e}; look at its path") from None


@lru_cache(maxsize=8)
def _toml(text: str, where: str) -> dict[str, Any]:
    for k, line in enumerate(text.splitlines(), start=1):
        if len(line) > LONGEST_LINE:
            raise ModelError(
                f'{where}: line {k} has {len(line)} characters, at most {LONGEST_LINE} are allowed; break it with """'
            )
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ModelError(f"{where}: too deeply nested; a model file has sections and entries only") from None
    except ValueError as e:  # TOMLDecodeError, and whole numbers of too many digits
        raise ModelError(f"{where}: not TOML: {' '.join(str(e).split())[:200]}; see docs/model-files.md") from None


@lru_cache(maxsize=64)
def _model(where: str, text: str, table: str, folder: Path | None) -> TextModel | LinearTextModel:
    """One model for one text, so that its compiled programs are found again. table: the text of the table beside it."""
    top = Fields(where, _toml(text, where))
    name, version, time = check_name(top.text("name"), f"{where}: name"), top.text("version"), top.text("time")
    if parsed(time, f"{where}: time").dimensionality != parsed("s", "").dimensionality:
        raise ModelError(f"{where}: time is in {time}, which is no time; give h, day, min or the like")
    card = sections.card(top.section("card"))
    covariates = sections.covariates(top.section("covariates", {}))
    parameters = sections.parameters(top, folder)
    states = {n: f.text("unit") for n, f in top.section("states").entries()}
    ports = sections.ports(top.section("ports", {}), states)
    e = sections.equations(top, time, parameters, {c.name: c.unit for c in covariates}, states, ports)
    sections.check_residuals(top.section("outputs"), e)
    check(e)
    units = {c.name: c.unit for c in covariates} | {r.name: r.unit for r in parameters}
    units |= {n: q.unit_text or written(e.individuals[n]) for n, q in e.individual.items()}
    maker = Maker(e)
    programs = maker.programs()
    declared = Declared(
        name,
        f"{version}+{hashlib.sha256(text.encode()).hexdigest()[:12]}",  # provenance must tell equations apart
        time,
        states,
        sections.outputs(top.section("outputs"), maker),
        ports,
        covariates,
        {n: units[n] for n in e.individuals},
        tuple(n for n, f in top.section("states").entries() if f.flag("accumulator", False)),
        parameters,
        card,
        LITERALS if has_unit_literals(e) else "",
        _method(top, linear=programs.matrix is not None),
        _tolerances(top),
    )
    return (TextModel if programs.matrix is None else LinearTextModel)(declared, programs)


def _method(top: Fields, *, linear: bool) -> str:
    method = top.text("method", "auto")
    if method not in METHODS:
        raise ModelError(f"{top.where}: method {method[:40]!r}; use one of {', '.join(METHODS)}, or leave it out")
    if method == "expm" and not linear:
        raise ModelError(
            f"{top.where}: method expm needs derivatives linear in the states, without time, signals and constants; leave it out"
        )
    return method


def _tolerances(top: Fields) -> tuple[float, float]:
    relative, absolute = top.numbers("tolerances", 2, (1e-6, 1e-8))
    if not (1e-14 <= relative <= 0.1 and 0 < absolute < float("inf")):
        raise ModelError(
            f"{top.where}: tolerances [{relative:g}, {absolute:g}]; give a relative one from 1e-14 to 0.1 and one above 0"
        )
    return relative, absolute

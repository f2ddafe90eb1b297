"""The sections of a model file: card, covariates, parameters, covariances, ports, equations, outputs."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemello.base.errors import ModelError
from gemello.base.units import check_unit, parsed
from gemello.model.card import Card
from gemello.model.contract import Covariate, Output, Port, Residual
from gemello.model.dimensions import demand_unit, pure
from gemello.model.equations import PREDICTION, Equation, Equations, Maker, PortParameter
from gemello.model.expression import parse, renamed
from gemello.model.fields import Fields, check_name
from gemello.model.parameters import Parameter, ParameterTable

CARD = {
    "question": "Question", "valid_range": "Valid range", "licence": "Licence of sources", "known_failures": "Known failures",
    "references": "References",
}  # fmt: skip
PORT_PARAMETERS = ("bioavailability", "lag", "duration", "rate")
STANDARD = ("additive", "proportional", "exponent")
FORMS = ("combined1", "combined2", "lognormal")


# ---- declarations ------------------------------------------------------------------------------------------------------
def card(section: Fields) -> Card:
    """[card]: a title and the five sections of a card."""
    section.only(("title", *CARD))
    return Card(section.text("title"), {heading: section.text(key).strip() for key, heading in CARD.items()})


def covariates(section: Fields) -> tuple[Covariate, ...]:
    """[covariates]: the ranges of the population that the model was built on, and what is possible."""
    return tuple(_covariate(n, f) for n, f in section.entries())


def _covariate(name: str, f: Fields) -> Covariate:
    f.only(("unit", "lower", "upper", "reference", "possible", "categorical"))
    unit = f.text("unit")
    check_unit(unit, f.where)
    categories = f.numbers("categorical", None, ()) or None
    ends = (min(categories), max(categories)) if categories else (None, None)
    end = lambda key, k: f.number(key) if ends[k] is None else f.number(key, ends[k])  # noqa: E731
    lower, upper = end("lower", 0), end("upper", 1)
    reference = f.number("reference")
    possible = f.numbers("possible", 2, (min(categories), max(categories)) if categories else (0.0, math.inf))
    if not possible[0] <= lower <= reference <= upper <= possible[1]:
        raise ModelError(
            f"{f.where}: possible [{possible[0]:g}, {possible[1]:g}], lower {lower:g}, reference {reference:g}, upper {upper:g} "
            "are not in order; the reference lies within lower and upper, and these within possible"
        )
    if categories and reference not in categories:
        raise ModelError(f"{f.where}: reference {reference:g} is none of the categories {list(categories)}; give one of them")
    return Covariate(name, unit, lower, upper, reference, (possible[0], possible[1]), categories)


def parameters(top: Fields, folder: Path | None) -> ParameterTable:
    """[parameters], in the file or in a table beside it, with [covariances]; OMEGA must be positive definite."""
    source = top.values.get("parameters")
    if isinstance(source, str):
        rows = _beside_rows(beside(source, folder, top.where))
    else:
        rows = tuple(_parameter(n, f) for n, f in top.section("parameters").entries())
    table = ParameterTable(rows)
    section = top.section("covariances", {})
    pairs = dict(_covariances(section, table))
    table = dataclasses.replace(table, covariances=pairs)
    _check_omega(table, section.where)
    return table


def _check_omega(table: ParameterTable, where: str) -> None:
    """Raise ModelError unless the correlations of those that covary are positive definite."""
    paired = [n for n in table.eta_names if any(n in pair for pair in table.covariances)]
    for n in paired:
        if table[n].variance == 0:
            raise ModelError(f"{where}: {n} has a covariance but no variance; give its variance in [parameters]")
    keep = [table.eta_names.index(n) for n in paired]
    omega = np.array(table.omega())[np.ix_(keep, keep)] if paired else np.eye(1)
    size = np.sqrt(np.diag(omega))
    smallest = float(np.linalg.eigvalsh(omega / np.outer(size, size)).min())
    if smallest < 1e-9:
        raise ModelError(
            f"{where}: OMEGA is not positive definite (smallest eigenvalue of its correlations {smallest:.2g}); a covariance "
            "must be smaller than the root of the product of its two variances, and all must go together"
        )


def beside(name: str, folder: Path | None, where: str) -> Path:
    """The table beside a model file: a plain name that ends in .csv. Raises ModelError."""
    if folder is None or not name.lower().endswith(".csv") or Path(name).name != name or "\\" in name:
        raise ModelError(
            f"{where}: parameters {name[:60]!r}; give the name of a CSV file in the same folder, or a section [parameters]"
        )
    return folder / name


def _beside_rows(path: Path) -> tuple[Parameter, ...]:
    try:
        rows = ParameterTable.read(path).rows
    except csv.Error as e:
        raise ModelError(f"{path.name}: not CSV: {e}; save it as a plain CSV file") from None
    for r in rows:
        check_name(r.name, path.name)
        if not math.isfinite(r.value):
            raise ModelError(f"{path.name} {r.name}: value {r.value:g}; give a finite number")
    return rows


def _parameter(name: str, f: Fields) -> Parameter:
    kinds = {k.name: k.type for k in dataclasses.fields(Parameter) if k.name != "name"}
    f.only(tuple(kinds))
    get: dict[str, Callable[[str], Any]] = {"float": f.number, "str": f.text, "bool": lambda k: f.flag(k, True)}
    given = {k: get[str(kind)](k) for k, kind in kinds.items() if k in f or k in ("value", "unit")}
    if not math.isfinite(given["value"]):
        raise ModelError(f"{f.where}: value {given['value']:g}; give a finite number")
    if given.get("distribution") == "logitnormal":
        given.setdefault("upper", 1.0)
    try:
        return Parameter(name, **given)
    except ModelError as e:
        words = str(e).removeprefix(f"parameter {name}: ")
        hint = "; give lower, which is 0 by default" if given["value"] < 0 and "lower" not in given else ""
        raise ModelError(f"{f.where}: {words}{hint}") from None


def _covariances(section: Fields, table: ParameterTable) -> Iterator[tuple[tuple[str, str], float]]:
    seen = set()
    for key in section.values:
        pair = tuple(part.strip() for part in key.split(","))
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ModelError(f'{section.where}: {key[:60]!r} is no pair; write it like "CL,V" = 0.03')
        for n in pair:
            if n not in table.eta_names:
                raise ModelError(
                    f"{section.where} {key}: {n} does not vary between subjects; those that do: {', '.join(table.eta_names)}"
                )
        if frozenset(pair) in seen:
            raise ModelError(f"{section.where} {key}: given twice; keep one")
        seen.add(frozenset(pair))
        value = section.number(key)
        if not math.isfinite(value):
            raise ModelError(f"{section.where} {key}: {value:g}; give a finite number")
        yield (pair[0], pair[1]), value


def ports(section: Fields, states: Mapping[str, str]) -> tuple[Port, ...]:
    """[ports], numbered in their order."""
    return tuple(_port(n, f, states) for n, f in section.entries())


def _port(name: str, f: Fields, states: Mapping[str, str]) -> Port:
    kind = f.text("kind", "dose")
    if kind == "signal":
        f.only(("kind", "unit"))
        return Port(name, f.text("unit"), "signal")
    if kind != "dose":
        raise ModelError(f"{f.where}: kind {kind[:40]!r}; use dose (the default) or signal")
    f.only(("kind", "state", "unit", *PORT_PARAMETERS))
    state = f.text("state")
    if state not in states:
        raise ModelError(f"{f.where}: no state {state[:40]!r}; the states are {', '.join(states)}")
    unit = f.text("unit", states[state])
    demand_unit(parsed(unit, f.where), parsed(states[state], f.where), f"{f.where}, unit")
    return Port(name, unit, "dose", state, **{k: f.text(k) for k in PORT_PARAMETERS if k in f})


# ---- expressions -------------------------------------------------------------------------------------------------------
def equations(
    top: Fields,
    time: str,
    table: ParameterTable,
    covariates: Mapping[str, str],
    states: Mapping[str, str],
    ports: tuple[Port, ...],
) -> Equations:
    """All expressions of the file, with the units of all names."""
    section, out = top.section("states"), top.section("outputs")
    if not states:
        raise ModelError(f"{section.where}: no states; give one, with its unit and derivative")
    for _, f in section.entries():
        f.only(("unit", "derivative", "initial", "accumulator"))
        f.text("derivative")
    at = parsed(time, "")
    return Equations(
        place=top.where,
        time=at,
        theta={n: parsed(table[n].unit, "") for n in table.theta_names},
        residual={n: parsed(table[n].unit, "") for n in table.residual_names},
        covariates={n: parsed(u, "") for n, u in covariates.items()},
        states={n: parsed(u, f"{section.where} {n}") for n, u in states.items()},
        signals={q.name: parsed(q.unit, f"{top.where} [ports] {q.name}") for q in ports if q.kind == "signal"},
        varying=tuple(r.name for r in table if r.distribution != "none"),
        definitions=_group(top.section("definitions", {})),
        individual=_group(top.section("individual", {})),
        derivative=_of_states(section, "derivative"),
        initial=_of_states(section, "initial"),
        outputs=_group(out, outputs=True),
        deviations={
            n: Equation(w, renamed(parse(r.text("sd"), w), n, PREDICTION), _unit(f))
            for n, f, r, w in _residuals(out)
            if "sd" in r
        },
        port_parameters=tuple(_port_parameters(f"{top.where} [ports]", ports, at)),
        used_residuals=frozenset(r.text(k) for _, _, r, _ in _residuals(out) for k in STANDARD if k in r),
    )


def _unit(f: Fields) -> Any:
    return parsed(f.text("unit"), f.where)


def _group(section: Fields, *, outputs: bool = False) -> dict[str, Equation]:
    """Entries { is = expression, unit = unit }; a plain text is the expression alone, whose unit is then inferred."""
    found = {}
    for n, f in section.entries(None if outputs else "is"):
        f.only(("is", "unit", "residual") if outputs else ("is", "unit"))
        declared = outputs or "unit" in f
        found[n] = Equation(
            f.where, parse(f.text("is"), f.where), _unit(f) if declared else None, f.text("unit") if declared else ""
        )
    if outputs and not found:
        raise ModelError(f"{section.where}: no outputs; give what can be measured")
    return found


def _of_states(section: Fields, key: str) -> dict[str, Equation]:
    places = {n: f"{f.where}, {key}" for n, f in section.entries()}
    return {n: Equation(places[n], parse(f.text(key), places[n])) for n, f in section.entries() if key in f}


def _residuals(section: Fields) -> Iterator[tuple[str, Fields, Fields, str]]:
    """Output, its fields, those of its residual error, and the place of the latter."""
    for n, f in section.entries():
        if "residual" in f:
            r = f.section("residual")
            where = f"{f.where}, residual"
            yield n, f, Fields(where, r.values), where


def _port_parameters(where: str, ports: tuple[Port, ...], time: Any) -> Iterator[PortParameter]:
    for q in ports:
        unit = parsed(q.unit, f"{where} {q.name}")
        wanted = {"bioavailability": pure(), "lag": time, "duration": time, "rate": unit / time}
        for key in PORT_PARAMETERS:
            if (name := getattr(q, key)) is not None:
                yield PortParameter(f"{where} {q.name}, {key}", name, wanted[key])


# ---- residual errors ---------------------------------------------------------------------------------------------------
def check_residuals(section: Fields, e: Equations) -> None:
    """Raise ModelError for a residual error of no known form, of parameters that are none, or whose units do not balance."""
    for output, _, r, _ in _residuals(section):
        r.only((*STANDARD, "form", "sd"))
        beside_sd = [k for k in (*STANDARD, "form") if k in r]
        if "sd" in r and beside_sd:
            raise ModelError(f"{r.where}: sd beside {', '.join(beside_sd)}; give one or the other")
        if "sd" not in r:
            _check_standard(r, e, e.outputs[output].unit)


def _check_standard(r: Fields, e: Equations, unit: Any) -> None:
    form = r.text("form", "combined2")
    if form not in FORMS:
        raise ModelError(f"{r.where}: form {form[:40]!r}; use one of {', '.join(FORMS)}, or sd = an expression")
    used = {k: r.text(k) for k in STANDARD if k in r}
    if not used.keys() & {"additive", "proportional"}:
        raise ModelError(f"{r.where}: names no parameter; give additive, proportional, both, or sd = an expression")
    wanted = {"additive": pure() if form == "lognormal" else unit, "proportional": pure(), "exponent": pure()}
    for key, n in used.items():
        if n not in e.residual:
            known = ", ".join(e.residual) or "none"
            raise ModelError(f"{r.where}: {key} {n[:40]!r} is no parameter of kind residual; those are: {known}")
        if not ("exponent" in used and key == "proportional"):  # whose unit then depends on the exponent's value
            demand_unit(e.residual[n], wanted[key], f"{r.where}, {n}")


def outputs(section: Fields, maker: Maker) -> tuple[Output, ...]:
    """[outputs], with their residual errors."""
    residuals = {}
    for n, _, r, _ in _residuals(section):
        if "sd" in r:
            sd, used = maker.deviation(n)
            residuals[n] = Residual(sd=sd, parameters=used)
        else:
            names = {k: r.text(k) for k in STANDARD if k in r}
            residuals[n] = Residual(form=r.text("form", "combined2"), **names)  # type: ignore[arg-type]
    return tuple(Output(n, f.text("unit"), residuals.get(n)) for n, f in section.entries())

"""What `assimilate` and `optimise` share: twins of the subjects of a data set, numbers and grids from the command line."""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import output
from gemello.cli.options import numbers_and_names
from gemello.cli.simulate import read

if TYPE_CHECKING:
    from gemello.model.contract import Model
    from gemello.model.population import PopulationParameters
    from gemello.model.schedule import Schedule, Subject
    from gemello.twin.mixture import Mixture
    from gemello.twin.twin import Twin

Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A population parameter's value.")]
FitFile = Annotated[Path | None, typer.Option("--fit", metavar="FIT.json", help="Population from gemello fit -o FIT.json.")]
Draws = Annotated[int, typer.Option(min=100, max=100_000, help="Draws of the posterior.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
PriorWeight = Annotated[
    float, typer.Option(metavar="W", help="Weight of the population beside the levels, above 0, at most 1; below 1 flattens it.")
]
HalfLife = Annotated[
    float | None, typer.Option(metavar="TIME", help="Time in which a level loses half its weight, counted back from the newest.")
]
Drift = Annotated[
    float | None,
    typer.Option(metavar="VARIANCE", help="Let parameters drift: variance that each eta gains per day between levels."),
]
Models = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Further models, by commas, to be averaged with MODEL by how well they fit.")
]
ModelWeights = Annotated[
    str | None, typer.Option(metavar="NUMBERS", help="What each model weighs before the levels, MODEL first; by default alike.")
]


@dataclass(frozen=True)
class How:
    """How data become twins, as the command line says."""

    set_: list[str]
    fit: Path | None
    units: list[str]
    column: list[str]
    observed: list[str]
    draws: int
    seed: int
    prior_weight: float = 1.0
    half_life: float | None = None
    drift: float | None = None


def twins_of(say: Any, model_name: str, data: Path, who: str | None, how: How) -> tuple[Model, tuple[Twin, ...]]:
    """The model, and a twin for each subject (or the one asked for) that has assimilated its data."""
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

    use_cpu_devices()
    from gemello.model import registry  # noqa: PLC0415
    from gemello.twin.twin import assimilate_subjects  # noqa: PLC0415

    model = registry.get(model_name)
    values, bind = numbers_and_names(how.set_)
    if bind:
        raise DataError(
            "is not a number", column="--set", value=next(iter(bind.values())), remedy="a twin's population is numbers"
        )
    parameters = population_of(model, values, how.fit)
    dataset = read(model, data, how.column, how.units, {}, how.observed)
    subjects = [s for s in dataset.subjects if who is None or s.id == who]
    if not subjects:
        raise DataError("no such subject", source=str(data), column="--id", value=who, remedy="give an ID of the file")
    say(f"Assimilating {len(subjects)} subject{'s' if len(subjects) > 1 else ''}")
    options = {"prior_weight": how.prior_weight, "half_life": how.half_life, "drift": how.drift}
    if how.drift is not None:
        return model, tuple(_in_turn(model, parameters, s, how, options) for s in subjects)
    return model, assimilate_subjects(model, parameters, subjects, draws=how.draws, seed=how.seed, **options)


def _in_turn(model: Model, parameters: PopulationParameters, subject: Subject, how: How, options: dict[str, Any]) -> Twin:
    """A twin whose levels come one period after another."""
    from gemello.twin.twin import new_twins  # noqa: PLC0415

    twin = new_twins(model, parameters, [subject.id], draws=how.draws, seed=how.seed)[0]
    for piece in periods(subject.schedule, hours(model, 24.0)):
        twin = twin.assimilate(piece, draws=how.draws, seed=how.seed, **options)
    return twin


def periods(s: Schedule, length: float) -> list[Schedule]:
    """The records cut after each group of levels that lie within `length` of the group's first."""
    ends: list[float] = []
    first = -math.inf
    for t in s.time[s.measured]:
        if t >= first + length:
            first = float(t)
            ends.append(first)
        ends[-1] = float(t)
    if not ends:
        return [s]
    edges = [-math.inf, *ends[:-1], math.inf]
    cut = [s.take((s.time > a) & (s.time <= b)) for a, b in pairwise(edges)]
    return [c for c in cut if len(c)]


def subject_of(
    say: Any, model_name: str, data: Path, who: str | None, how: How, models: str | None, weights: str | None
) -> tuple[Model, Twin | Mixture]:
    """The one subject's twin, or the average of its twins under several models."""
    names = [model_name, *(n.strip() for n in (models or "").split(",") if n.strip())]
    if weights is not None and len(names) == 1:
        raise DataError("weights of one model", column="--model-weights", value=weights, remedy="give --models, too")
    if len(names) > 1 and (how.set_ or how.fit):
        raise DataError("belongs to one model", column="--set or --fit", remedy="average models with their own tables")
    found = [twins_of(say, n, data, who, how) for n in names]
    model, twins = found[0]
    if len(twins) > 1:
        raise DataError(
            "the file has several subjects", column="--id", remedy=f"choose one of {', '.join(t.id for t in twins[:8])}"
        )
    if len(names) == 1:
        return model, twins[0]
    from gemello.twin.mixture import average  # noqa: PLC0415

    return model, average([t[0] for _, t in found], None if weights is None else numbers(weights, "--model-weights"))


def population_of(
    model: Model, values: dict[str, float], fit: Path | None, bind: Mapping[str, str] | None = None
) -> PopulationParameters:
    """The table's with these values, or the fit's. bind: parameters that columns hold now, as some may have done in the fit."""
    from gemello.model.population import PopulationParameters  # noqa: PLC0415

    if fit is None:
        return PopulationParameters.of(model, values)
    try:
        if fit.stat().st_size > 50_000_000:
            raise ValueError("larger than 50 MB")
        said = json_format.loads(fit.read_text(encoding="utf-8"))
        if said["model"] != model.name:
            raise ValueError(f"a fit of {said['model']}")
        theta = {k: float(v) for k, v in said["theta"].items()} | values
        sigma = {k: float(v) for k, v in said["sigma"].items()}
        matrix = [[float(v) for v in row] for row in said["omega"]["matrix"]]
        etas = tuple(str(e) for e in said["omega"]["etas"])
        bound = {str(k): str(v) for k, v in said.get("bound", {}).items()}
        occasion = {str(k): float(v) for k, v in said.get("occasion", {}).items()}
        lost = {*model.parameters.theta_names, *model.parameters.residual_names} - {*theta, *sigma}
        if lost:
            raise ValueError(f"it lacks {', '.join(sorted(lost))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(
            f"not a fit of {model.name} ({e})", source=str(fit), column="--fit", remedy="give what gemello fit -o wrote"
        ) from None
    unsaid = [f"{n}={c}" for n, c in bound.items() if n not in values and n not in (bind or {})]
    if unsaid:
        raise DataError(f"the fit read {unsaid[0].partition('=')[0]} from a column, so its estimates hold with that only",
                        source=str(fit), column="--set", remedy=f"give --set {unsaid[0]}, or a number")  # fmt: skip
    if etas != model.parameters.eta_names:
        raise DataError("other etas than the model's", source=str(fit), column="--fit", remedy="fit anew with this version")
    source = f"fit {fit.name}"
    if said.get("converged") is not True:
        source += f", which did not converge ({said.get('message') or 'no word of it'})"
        output.note(f"{source}: what follows rests on it")
    return PopulationParameters.of(model, {**theta, **sigma}, matrix, source=source, occasion=occasion)


def number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError("is not a number", column=option, value=text, remedy="give a number") from None
    if not math.isfinite(value):
        raise DataError("is not a finite number", column=option, value=text, remedy="give a number")
    return value


def numbers(text: str, option: str) -> list[float]:
    return [number(t, option) for t in text.split(",")]


def grid(text: str, option: str = "--times") -> list[float]:
    """FROM:TO:STEP (both ends included) or a list."""
    parts = text.split(":")
    if len(parts) == 1:
        return numbers(text, option)
    if len(parts) != 3:
        raise DataError("is not FROM:TO:STEP", column=option, value=text, remedy="write it like 250:3000:250")
    first, last, step = (number(p, option) for p in parts)
    if not (step > 0 and last >= first and (last - first) / step <= 10_000):
        raise DataError("is not a grid", column=option, value=text, remedy="give FROM <= TO, STEP above 0, at most 10,000 steps")
    return [round(first + k * step, 9) for k in range(int((last - first) / step + 1e-9) + 1)]


def hours(model: Model, count: float) -> float:
    from gemello.base.units import factor  # noqa: PLC0415

    return count * factor("h", model.time_unit, "time")


def horizon(twin: Twin, grid: list[float] | None, plan: Schedule | None = None, until: float | None = None) -> list[float]:
    """Times of a forecast: those asked for, or 200 steps with every dose and end of an infusion, until 24 h after the record."""
    if grid is not None:
        return grid
    from gemello.twin.timing import all_times  # noqa: PLC0415

    end = twin.record.last + hours(twin.model, 24.0) if until is None else until
    events = [all_times(s) for s in (twin.record.schedule, plan) if s is not None and len(s)]
    return sorted({*(end * k / 200 for k in range(201)), *(float(t) for e in events for t in e if t <= end)})

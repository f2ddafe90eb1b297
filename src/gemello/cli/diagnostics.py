"""`gemello vpc`, `npde`, `bootstrap` and `covariates`: what is done around a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError
from gemello.cli import curve, output
from gemello.cli.options import numbers_and_names, pairs
from gemello.cli.simulate import Column, Data, Json, ModelName, Observed, Set, UnitsOption, read

if TYPE_CHECKING:
    from gemello.formats.nonmem import Dataset
    from gemello.inference.covariates import Step
    from gemello.inference.result import Fit
    from gemello.model.contract import Model
    from gemello.model.effects import Effect
    from gemello.model.population import PopulationParameters

FitFile = Annotated[Path | None, typer.Option("--fit", metavar="FIT.json", help="Population from gemello fit -o FIT.json.")]
Seed = Annotated[int, typer.Option(help="Seed of what is drawn.")]
Number = Annotated[int, typer.Option("--replicates", max=100_000, help="Data sets to simulate.")]
Html = Annotated[Path | None, typer.Option("-o", "--output", metavar="OUT.html", help="Where to write a page with the figures.")]
Estimate = Annotated[str | None, typer.Option(help="Names to estimate, by commas; the table's choice by default.")]
Omega = Annotated[str | None, typer.Option(help="diagonal, full, or blocks such as CL+V,KA; the table's choice by default.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (vpc, npde, bootstrap, covariates):
        app.command(command.__name__)(command)


# ---- predictive checks ---------------------------------------------------------------------------------------------
def vpc(
    model_name: ModelName,
    data: Data,
    fit: FitFile = None,
    set_: Set = [],  # noqa: B006  (typer copies it)
    replicates: Number = 1000,
    seed: Seed = 1,
    corrected: Annotated[bool, typer.Option("--corrected", help="Correct by prediction (Bergstrand et al. 2011).")] = False,
    by: Annotated[str, typer.Option(help='Axis: "time" or "after dose".')] = "time",
    bins: Annotated[str, typer.Option(help="auto, nominal, quantile, jenks, or edges by commas.")] = "auto",
    number: Annotated[int | None, typer.Option("--bins-number", help="How many bins, at most.")] = None,
    percentiles: Annotated[str, typer.Option(help="Percentiles to show, by commas.")] = "5,50,95",
    stratify: Annotated[str | None, typer.Option(metavar="COL", help="One panel for each value of this column.")] = None,
    limit: Annotated[float | None, typer.Option(help="Lower limit of quantification; by default what the data say.")] = None,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    out: Html = None,
    json: Json = False,
) -> None:
    """Visual predictive check: percentiles of the data beside those of data simulated from a population.

    The population is the fit's, or the parameter table's with what --set says.
    """
    shares = [p / 100 for p in _numbers(percentiles, "--percentiles")]
    rule: Any = bins if bins in ("auto", "nominal", "quantile", "jenks") else _numbers(bins, "--bins")
    with _simulated(model_name, data, fit, set_, replicates, seed, stratify, (column, units, observed), out) as (
        model,
        parts,
        target,
    ):
        from gemello.inference.vpc import vpc as check  # noqa: PLC0415

        how: Any = {"by": by, "bins": rule, "number": number, "percentiles": shares, "stratify": stratify, "limit": limit}
        found = check(model, parts[0], corrected=corrected, **how)
    if target is not None:
        _page(target, model, parts[1], vpcs=found)
    if json:
        output.to_json([v.to_dict() for v in found])
        return
    for v in found:
        rows: list[tuple[Any, ...]] = []
        for k in range(len(v.centre)):
            cells = [
                c
                for p in v.percentiles
                for c in (float(p.observed[k]), f"{p.low[k]:.4g} to {p.high[k]:.4g}" + " *" * bool(p.outside[k]))
            ]
            rows.append((float(v.centre[k]), int(v.count[k]), *cells))
        heads = [h for p in v.percentiles for h in (f"{100 * p.p:g} %", f"{100 * v.level:g} % simulated")]
        where = f", {v.stratum}" if v.stratum else ""
        output.table((f"{v.axis} ({v.axis_unit})", "values", *heads), rows, f"{v.output} ({v.unit}){where}")
        n, of = v.outside
        error = max((float(e) for p in v.percentiles for e in p.error if math.isfinite(e)), default=float("nan"))
        print(f"\n{n} of {of} percentiles of the data lie outside (*), {(1 - v.level) * of:.1f} are expected to; "
              f"{v.replicates} data sets, seed {v.seed}, Monte Carlo error up to {error:.2g} {v.unit}")  # fmt: skip


def npde(
    model_name: ModelName,
    data: Data,
    fit: FitFile = None,
    set_: Set = [],  # noqa: B006
    replicates: Number = 1000,
    seed: Seed = 1,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    table: Annotated[Path | None, typer.Option(metavar="OUT.csv", help="Where to write NPDE of every value.")] = None,
    out: Html = None,
    json: Json = False,
) -> None:
    """Normalised prediction distribution errors: standard normal if the population describes the data."""
    csv = output.check_targets((table, out), sources=[data])[0]
    with _simulated(model_name, data, fit, set_, replicates, seed, None, (column, units, observed), out) as (
        model,
        parts,
        target,
    ):
        from gemello.inference.npde import npde as check  # noqa: PLC0415

        found = check(model, parts[0])
    if csv is not None:
        _csv(csv, found.columns())
    if target is not None:
        _page(target, model, parts[1], npde=found)
    if json:
        output.to_json(found.to_dict())
        return
    several = {"all values": found.tests, **found.by_output} if len(found.by_output) > 1 else found.by_output
    heads = ("output", "values", "mean", "SE", "variance", "SE", "p mean", "p variance", "p normality", "p all")
    fields = ("values", "mean", "mean_se", "variance", "variance_se", "p_mean", "p_variance", "p_normality", "p_global")
    output.table(heads, [(k, *(getattr(t, f) for f in fields)) for k, t in several.items()])
    print(f"\n{found.replicates} data sets, seed {found.seed}; Monte Carlo error of the mean {found.tests.mean_error:.2g}, "
          f"of the variance {found.tests.variance_error:.2g}")  # fmt: skip
    for text in found.notes:
        output.note(text)


@contextmanager
def _simulated(
    model_name: str, data: Path, fit: Path | None, set_: list[str], number: int, seed: int, stratify: str | None,
    reading: tuple[list[str], list[str], list[str]], out: Path | None,
) -> Any:  # fmt: skip
    """Model, (replicates, population) and where to write; the work inside goes on under the same progress line."""
    from gemello.base.random import check_seed  # noqa: PLC0415

    target = output.check_target(out, sources=[data]) if out is not None else None
    check_seed(seed)
    values, bind = numbers_and_names(set_)
    with output.progress("Reading") as say:
        model, dataset = _read(model_name, data, reading, bind, [stratify] if stratify else [])
        from gemello.inference.observed import replicates  # noqa: PLC0415

        population = _population(model, values, fit, bind)
        told = lambda done, of: say(f"Simulating: {done} of {of} data sets")  # noqa: E731
        yield (
            model,
            (replicates(model, population, dataset.subjects, number, seed=seed, bind=bind, progress=told), population),
            target,
        )


# ---- bootstrap -----------------------------------------------------------------------------------------------------
def bootstrap(
    model_name: ModelName,
    data: Data,
    method: Annotated[str, typer.Option(help="fo, foce, focei or laplace.")] = "focei",
    samples: Annotated[int, typer.Option(max=100_000, help="Samples to draw and fit.")] = 200,
    seed: Seed = 1,
    kind: Annotated[
        str, typer.Option(help="nonparametric (subjects drawn anew) or parametric (data simulated anew).")
    ] = "nonparametric",
    stratify: Annotated[str | None, typer.Option(metavar="COL", help="Draw within groups of subjects by this column.")] = None,
    set_: Set = [],  # noqa: B006
    estimate: Estimate = None,
    omega: Omega = None,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.json", help="Where to write every sample's estimates.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FIT.html", help="Where to write a report of the fit with its bootstrap.")
    ] = None,
    json: Json = False,
) -> None:
    """Fit a model, then fit it again to samples of its subjects: percentile intervals of the estimates."""
    if samples < 20:
        raise DataError("too few samples", column="--samples", value=samples, remedy="give 200 or more for intervals")
    targets = output.check_targets((out, report), sources=[data])
    start, bind = numbers_and_names(set_)
    with curve.fitting("Reading", method) as (say, told):
        model, dataset = _read(model_name, data, (column, units, observed), bind, [stratify] if stratify else [], quarantine=True)
        from gemello.inference.bootstrap import bootstrap as resample  # noqa: PLC0415
        from gemello.inference.population import fit as estimates  # noqa: PLC0415

        say(f"Fitting {model.name} to {len(dataset)} subjects by {method.upper()}")
        found = estimates(
            model, dataset.subjects, method, start=start, bind=bind, estimate=_names(estimate), omega=_blocks(omega),
            excluded=dataset.excluded, notes=dataset.notes, report=told,
        ).check()  # fmt: skip
        step = max(samples // 20, 1)
        tell = lambda i, fine, of: None if i % step else say(f"Bootstrap: {i} of {of} samples, {fine} converged")  # noqa: E731
        how: Any = {"kind": kind, "stratify": stratify, "bind": bind, "progress": tell}
        done = resample(model, found, dataset.subjects, samples, seed=seed, **how)
        summary = done.to_dict()
    _write(targets[0], summary)
    if targets[1] is not None:
        _fit_page(targets[1], found, model, dataset, bind, bootstrap=done)
    if json:
        output.to_json({k: v for k, v in summary.items() if k != "values"})
        return
    rows = [(n, r["estimate"], r["bias"], r["se"], r["low"], r["high"]) for n, r in summary["estimates"].items()]
    output.table(("parameter", "estimate", "bias", "SE", "2.5 %", "97.5 %"), rows)
    print(f"\n{summary['successful']} of {summary['samples']} samples converged; {kind}, {method.upper()}, seed {seed}")
    for text in done.notes:
        output.note(text)


# ---- covariates ----------------------------------------------------------------------------------------------------
def covariates(
    model_name: ModelName,
    data: Data,
    effect: Annotated[
        list[str],
        typer.Option(
            "--effect",
            metavar="PAR:COV[:FORM[:CENTRE]]",
            help="Candidates; lists by commas, such as CL,V:WT,AGE:power,linear. "
            "Forms: power, linear, exponential, hockey-stick, categorical; power by default, categorical for few values.",
        ),
    ] = [],  # noqa: B006
    method: Annotated[str, typer.Option(help="fo, foce, focei or laplace.")] = "focei",
    forward: Annotated[float, typer.Option(help="p-value below which an effect is taken in.")] = 0.05,
    backward: Annotated[float, typer.Option(help="p-value above which an effect is taken out again.")] = 0.01,
    set_: Set = [],  # noqa: B006
    estimate: Estimate = None,
    omega: Omega = None,
    units: UnitsOption = [],  # noqa: B006
    column: Column = [],  # noqa: B006
    observed: Observed = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.json", help="Where to write the search as JSON.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FIT.html", help="Where to write a report of the last model.")] = None,
    json: Json = False,
) -> None:
    """Search stepwise for covariate effects by likelihood-ratio tests: forward, then backward."""
    targets = output.check_targets((out, report), sources=[data])
    start, bind = numbers_and_names(set_)
    asked = _effects(effect)
    names = list(dict.fromkeys(c for _, c, _, _ in asked))
    with output.progress("Reading") as say:
        model, dataset = _read(model_name, data, (column, units, observed), bind, names, quarantine=True)
        from gemello.inference.covariates import stepwise  # noqa: PLC0415

        base = _registered(model_name)
        found = stepwise(
            base, dataset.subjects, _candidates(asked, dataset), method=method, forward=forward, backward=backward, start=start,
            estimate=_names(estimate), omega=_blocks(omega), bind=bind, units={c.name: c.unit for c in model.covariates},
            progress=say, report=lambda s: say(_told(s)),
        )  # fmt: skip
    _write(targets[0], found.to_dict())
    if targets[1] is not None:
        _fit_page(targets[1], found.final, found.model, dataset, bind, covariates=found)
    if json:
        output.to_json(found.to_dict())
        return
    rows = [(f"{s.direction} {s.number}", s.label, s.objective, s.drop, s.df, s.p, _decision(s)) for s in found.steps]
    output.table(("step", "effect", "objective", "drop", "df", "p", ""), rows)
    chosen = ", ".join(f"{e.parameter} ~ {e.covariate} ({e.form})" for e in found.effects) or "none"
    print(f"\neffects found: {chosen}; objective {found.base.objective:.4f} before, {found.final.objective:.4f} after")
    output.table(
        ("parameter", "estimate", "standard error"), [(n, found.final.estimates[n], found.final.se[n]) for n in found.final.names]
    )
    for text in found.cautions:
        output.note(text)


def _told(s: Step) -> str:
    what = f"{s.direction} {s.number}, {s.label}: objective {s.objective:.3f}, drop {s.drop:.3f}, p {s.p:.3g}"
    return f"{what} {_decision(s)}".rstrip()


def _decision(s: Step) -> str:
    if not s.converged:
        return "did not converge"
    return {(True, "forward"): "taken in", (True, "backward"): "taken out", (False, "backward"): "kept"}.get(
        (s.chosen, s.direction), ""
    )


def _effects(given: Sequence[str]) -> list[tuple[str, str, str, float | None]]:
    """Parameter, covariate, form ("" for the default) and centre of each candidate."""
    if not given:
        raise DataError("no candidates", column="--effect", remedy="give some, such as --effect CL,V:WT,AGE")
    out = []
    for text in given:
        parts = [p.strip() for p in text.split(":")]
        if not 2 <= len(parts) <= 4 or not all(parts):
            raise DataError(
                "is not of the form PAR:COV[:FORM[:CENTRE]]", column="--effect", value=text, remedy="write it like CL:WT:power:70"
            )
        centre = _numbers(parts[3], "--effect")[0] if len(parts) == 4 else None
        forms = parts[2].split(",") if len(parts) > 2 else [""]
        out += [
            (p.strip(), c.strip(), f.strip(), centre) for p in parts[0].split(",") for c in parts[1].split(",") for f in forms
        ]
    return out


def _candidates(asked: Sequence[tuple[str, str, str, float | None]], dataset: Dataset) -> list[Effect]:
    from gemello.model.effects import Effect  # noqa: PLC0415

    def form(name: str) -> str:
        values = {float(v) for s in dataset.subjects for v in s.schedule.columns[name]}
        return "categorical" if len(values) <= 3 else "power" if min(values) > 0 else "linear"

    return [Effect(p, c, f or form(c), centre) for p, c, f, centre in asked]  # type: ignore[arg-type]


# ---- what all share ------------------------------------------------------------------------------------------------
def _registered(name: str) -> Model:
    from gemello.model import registry  # noqa: PLC0415

    return registry.get(name)


def _read(
    name: str, data: Path, reading: tuple[list[str], list[str], list[str]], bind: dict[str, str], extra: Sequence[str],
    quarantine: bool = False,
) -> tuple[Model, Dataset]:  # fmt: skip
    """The model, with the further columns that are wanted as covariates, and its data."""
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415
    from gemello.model.effects import with_columns  # noqa: PLC0415

    use_cpu_devices()
    columns, units, observed = reading
    said = pairs(units, "--units", "DV=ng/mL")
    model = with_columns(_registered(name), {c: said.get(c, "1") for c in extra})
    dataset = read(model, data, columns, units, bind, observed, quarantine=quarantine)
    if not len(dataset):
        raise DataError("no subject's data can be used", source=str(data), remedy="mend what is named above")
    return model, dataset


def _population(model: Model, values: dict[str, float], fit: Path | None, bind: dict[str, str]) -> PopulationParameters:
    from gemello.cli.patient import population_of  # noqa: PLC0415

    return population_of(model, values, fit, bind)


def _numbers(text: str, option: str) -> list[float]:
    try:
        out = [float(t) for t in text.split(",")]
    except ValueError:
        out = [math.nan]
    if not all(map(math.isfinite, out)):
        raise DataError("is not a list of numbers", column=option, value=text, remedy="write it like 5,50,95")
    return out


def _names(text: str | None) -> list[str] | None:
    return [n.strip() for n in text.split(",") if n.strip()] if text else None


def _blocks(text: str | None) -> Any:
    return text if text is None or text in ("diagonal", "full") else [[n.strip() for n in b.split("+")] for b in text.split(",")]


def _write(target: Path | None, said: Mapping[str, Any]) -> None:
    if target is not None:
        output.write_whole(target, lambda p: p.write_text(output.json_text(said), encoding="utf-8"))


def _csv(target: Path, columns: Mapping[str, Any]) -> None:
    import polars as pl  # noqa: PLC0415

    output.write_whole(target, lambda p: pl.DataFrame(dict(columns)).fill_nan(None).write_csv(p))


def _page(target: Path, model: Model, population: Any, **checks: Any) -> None:
    from gemello.report.fit_section import Checks  # noqa: PLC0415
    from gemello.report.page import checks_report  # noqa: PLC0415

    output.write_whole(target, lambda p: checks_report(model, Checks(**checks), path=p, population=population.source))


def _fit_page(target: Path, found: Fit, model: Model, dataset: Dataset, bind: dict[str, str], **checks: Any) -> None:
    from gemello.report.fit_section import Checks  # noqa: PLC0415
    from gemello.report.page import fit_report  # noqa: PLC0415

    kept = [s for s in dataset.subjects if s.id in found.ids]
    output.write_whole(target, lambda p: fit_report(found, model, kept, path=p, bind=bind, checks=Checks(**checks)))

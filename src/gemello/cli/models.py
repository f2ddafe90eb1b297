"""`gemello models`: which models there are, and what one says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemello.base.errors import DataError, GemelloError
from gemello.cli import output

if TYPE_CHECKING:
    from gemello.model.contract import Model


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("models")(show)


def show(
    name: Annotated[
        str | None, typer.Argument(help="A model, to show all of it; or FILE.toml, or path/file.py:name.", metavar="[MODEL]")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the checks that every model must pass; it takes a minute.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models, or show one with its states, ports, outputs, parameters and covariates.

    Exit status 1 if one of the checks of --check fails.
    """
    from gemello.model import registry  # noqa: PLC0415

    if check:
        if name is None:
            raise DataError("needs a model", column="--check", remedy="write gemello models MODEL --check")
        _check(name, json)
        return
    if name is not None:
        model = registry.get(name)
        output.to_json(describe(name, model)) if json else _show_one(name, model)
        return
    rows = []
    with output.progress("Loading models"):
        for n in registry.models():
            try:
                rows.append(describe(n, registry.get(n)))
            except GemelloError as e:  # one broken model must not hide the others
                rows.append({"name": n, "error": str(e)})
    if json:
        output.to_json(rows)
        return
    output.table(
        ("model", "outputs", "question"),
        [(r["name"], _outputs(r), r.get("error") or _first_question(r["question"])) for r in rows],
    )
    print("\ngemello models NAME shows all of one.")


def _check(name: str, json: bool) -> None:
    from gemello.model import registry  # noqa: PLC0415

    model = registry.get(name)
    from gemello.model.conformance import conformance  # noqa: PLC0415

    done = []
    with output.progress(f"Checking {model.name}") as say:
        for outcome in conformance(model):
            say(f"Checking {model.name}: {outcome.name}")
            done.append(outcome)
    if json:
        output.to_json([{"check": c.name, "passed": c.passed, "detail": c.detail} for c in done])
    else:
        output.table(("check", "passed", "detail"), [(c.name, c.passed, c.detail) for c in done])
    if not all(c.passed for c in done):
        raise typer.Exit(1)


def _outputs(row: dict[str, Any]) -> str:
    return ", ".join(f"{o['name']} ({o['unit']})" for o in row.get("outputs", ()))


def _first_question(text: str) -> str:
    head, mark, _ = text.partition("?")
    return head + mark


def describe(name: str, model: Model) -> dict[str, Any]:
    """Everything that a model says about itself, as plain values."""
    card = getattr(model, "card", None)
    sections = {k: " ".join(v.split()) for k, v in card.sections.items()} if card else {}
    return {
        "name": name,
        "version": model.version,
        "title": card.title if card else "",
        "question": sections.get("Question", ""),
        "time_unit": model.time_unit,
        "states": [{"name": n, "unit": u} for n, u in model.states.items()],
        "ports": [{"number": k, "name": q.name, "unit": q.unit, "kind": q.kind} for k, q in enumerate(model.ports, start=1)],
        "outputs": [{"name": o.name, "unit": o.unit, "measured": o.residual is not None} for o in model.outputs],
        "parameters": [
            {
                "name": p.name, "value": p.value, "unit": p.unit, "lower": p.lower, "upper": p.upper, "kind": p.kind,
                "distribution": p.distribution, "variance": p.variance, "source": p.source, "description": p.description,
            }
            for p in model.parameters
        ],
        "covariates": [
            {"name": c.name, "unit": c.unit, "lower": c.lower, "upper": c.upper, "reference": c.reference}
            for c in model.covariates
        ],
        "method": model.default_method(),
        "card": sections,
    }  # fmt: skip


def _show_one(name: str, model: Model) -> None:
    d = describe(name, model)
    print(f"{name} {d['version']} {d['title']}".rstrip(), d["question"], "", sep="\n")
    print(f"time in {d['time_unit']}, solved by {d['method']}")
    print(f"states     {_listed(d['states'])}")
    ports = [f"{q['number']} {q['name']} ({q['unit']}, {q['kind']})" for q in d["ports"]]
    covariates = [f"{c['name']} ({c['unit']}, {c['lower']:g} to {c['upper']:g})" for c in d["covariates"]]
    print(f"ports      {', '.join(ports) or 'none'}")
    print(f"outputs    {_listed(d['outputs'])}")
    print(f"covariates {', '.join(covariates) or 'none'}\n")
    rows = [
        (p["name"], float(p["value"]), p["unit"], _spread(p), p["kind"], p["description"], p["source"]) for p in d["parameters"]
    ]
    output.table(("parameter", "value", "unit", "between subjects", "kind", "description", "source"), rows)
    for heading in ("Valid range", "Known failures"):
        if d["card"].get(heading):
            print(f"\n{heading}: {d['card'][heading]}")


def _listed(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{r['name']} ({r['unit']})" for r in rows)


def _spread(p: dict[str, Any]) -> str:
    return "" if p["distribution"] == "none" else f"{p['distribution']}, variance {p['variance']:g}"

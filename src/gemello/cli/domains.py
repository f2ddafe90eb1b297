"""`gemello validate`, `benchmark` and `demo`: a domain's own figures, made now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gemello.base.errors import GemelloError, ModelError
from gemello.cli import output

CHECK = ("check", "value", "reference", "tolerance", "source", "passed")
CASE = ("case", "ours", "peer", "peer_version", "unit", "ratio", "bar")
Domain = Annotated[str, typer.Argument(help="A domain, such as pharmacology.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("validate")(validate)
    app.command("benchmark")(benchmark)
    app.command("demo")(demo)


def validate(domain: Domain, json: Json = False) -> None:
    """Hold a domain's models against outside authorities, now. Exit status 1 if a check fails or cannot be run."""
    rows = _collect(f"Validating {domain}", lambda: _to_the_end(_part(domain, "validate").checks()), CHECK)
    failed = [r["check"] for r in rows if not r["passed"] and r.get("ran", True)]
    unrun = [r["source"] for r in rows if not r.get("ran", True)]
    if json:
        output.to_json(rows)
    else:
        output.table(CHECK, [[r[k] for k in CHECK] for r in rows])
        ran = len(rows) - len(unrun)
        print(f"\n{ran - len(failed)} of {ran} checks passed{'; failed: ' + ', '.join(failed) if failed else ''}")
        if unrun:
            print(f"{len(unrun)} not run: {'; '.join(dict.fromkeys(unrun))}")
    raise typer.Exit(1 if failed or unrun else 0)


def benchmark(domain: Domain, json: Json = False) -> None:
    """Time a domain's models beside named peers, in one run on this machine."""
    rows = _collect(f"Timing {domain}", lambda: _part(domain, "benchmark").cases(), CASE)
    if json:
        output.to_json(rows)
    else:
        output.table(CASE, [[r[k] for k in CASE] for r in rows])


def demo(
    domain: Annotated[str, typer.Argument(help="A domain.")] = "pharmacology",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write; a name of its own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 20,
) -> None:
    """Show a domain at work on data that come with it: fit, twin, forecast, decision and a report, whose path is printed."""
    target = output.check_target(out) if out is not None else None
    with output.progress(f"Demo of {domain}") as say:
        path, summary = _part(domain, "demo").run(output=target, seed=seed, progress=say)
    print("\n".join((*summary, f"Report: {path.resolve()}")))


def _part(domain: str, part: str) -> Any:
    from gemello.model import registry  # noqa: PLC0415

    module = registry.domain(domain, part)
    from gemello.engine.lanes import use_cpu_devices  # noqa: PLC0415

    use_cpu_devices()
    return module


def _to_the_end(checks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The checks; where one raises or is interrupted (Ctrl-C), a failed check that says so, so that those made before are not
    lost."""
    last = "the start"
    try:
        for row in checks:
            last = row.get("check", last)
            yield row
    except (GemelloError, KeyboardInterrupt) as e:
        why = str(e) if isinstance(e, GemelloError) else "interrupted"
        stopped = dict.fromkeys(CHECK) | {"check": f"stopped after: {last}", "source": why, "passed": False}
        yield stopped


def _collect(title: str, rows: Callable[[], Iterable[dict[str, Any]]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """All rows, told one by one on standard error as they come. rows: gives them; it imports the domain first."""
    out: list[dict[str, Any]] = []
    with output.progress(title) as say:
        for row in rows():
            missing = [k for k in keys if k not in row]
            if missing:
                raise ModelError(f"{title}: row {len(out) + 1} has no {', '.join(missing)}; each row needs {', '.join(keys)}")
            out.append({k: row[k] for k in keys} | row)  # what else a row says (the first call, errors) goes into the JSON
            say(f"{title}: {len(out)} done, last {row[keys[0]]}")
    if not out:
        raise ModelError(f"{title}: nothing came back; the domain has no rows to show")
    return out

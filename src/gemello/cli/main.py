"""The command `gemello`. Each group of commands has a file of its own; heavy packages are imported when a command runs.

Exit status: 0 done, 1 the equations or an estimation failed, a check of `validate` failed, or a bug; 2 input that cannot
be used. An error is one line on standard error.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from gemello.base.errors import GemelloError
from gemello.base.version import __version__
from gemello.cli import diagnostics, domains, fit, models, output, simulate, twin
from gemello.cli.groups import Commands

app = typer.Typer(
    name="gemello",
    cls=Commands,
    help="Digital twins in biology and medicine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
models.add_to(app)
simulate.add_to(app)
fit.add_to(app)
diagnostics.add_to(app)
twin.add_to(app)
domains.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gemello {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Digital twins in biology and medicine: a model plus what one subject's data say about it."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in SystemExit, whose code is the exit status."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = output.show_warning
            status = typer.main.get_command(app).main(arguments, prog_name="gemello", standalone_mode=False, obj=output)
        sys.stdout.flush()
    except GemelloError as e:
        _end(f"error: {e}", e.exit_status, e)
    except typer.TyperException as e:  # the command line itself: an unknown option, a missing argument
        context = getattr(e, "ctx", None)
        path = context.command_path if context is not None else "gemello"
        _end(f"error: {e.format_message().rstrip('.')}; see {path} --help", e.exit_code, e)
    except (KeyboardInterrupt, typer.Abort):
        _end("error: stopped", 130)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as e:
        what = f"{type(e).__name__}: {e}"
        _end(f"bug: {what}; please report it (GEMELLO_DEBUG=1 shows where it happened)", 1, e)
    sys.exit(status if isinstance(status, int) else 0)


def _end(line: str, status: int, cause: BaseException | None = None) -> None:
    output.clear()
    if cause is not None and os.environ.get("GEMELLO_DEBUG", "") not in ("", "0"):
        import traceback  # noqa: PLC0415

        traceback.print_exception(cause, file=sys.stderr)
    print("gemello:", " ".join(line.split()), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()

"""What commands print: progress and notes on standard error, results on standard output; files appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gemello.base.errors import DataError

_running: list[Any] = []  # spinners on the screen


# ---- progress ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the elapsed time on standard error while something runs; gives a function that changes the words.

    Where standard error is no terminal, each change of the words is one line, so that logs show how far a run is.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda words: print(f"{words} …", file=sys.stderr, flush=True)
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(text)
        running(bar)
        try:
            yield lambda words: bar.update(task, description=words)
        finally:
            finished(bar)


def running(display: Any) -> None:
    """Something with `stop` is on the screen from now on."""
    _running.append(display)


def finished(display: Any) -> None:
    """It is gone again."""
    if display in _running:
        _running.remove(display)


def clear() -> None:
    """Take spinners off the screen, before a last word."""
    while _running:
        _running.pop().stop()


def note(text: str) -> None:
    """A line on standard error."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line on standard error, without the place in our code."""
    print(f"gemello: warning: {' '.join(str(message).split())}", file=file or sys.stderr)


# ---- results -----------------------------------------------------------------------------------------------------------
def to_json(value: Any, *, compact: bool = False) -> None:
    """Print as JSON. Numbers that are not finite become null, which JSON can hold."""
    print(json_text(value, compact=compact))


def json_text(value: Any, *, compact: bool = False) -> str:
    """As JSON; numbers that are not finite become null."""
    return json.dumps(_plain(value), indent=None if compact else 1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # NumPy and JAX, scalars too
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print a table; numbers to the right. Where standard output is no terminal it is as wide as it needs, up to 160."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    body = [list(r) for r in rows]
    out = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for k, name in enumerate(columns):
        numeric = any(isinstance(r[k], float | int) and not isinstance(r[k], bool) for r in body)
        out.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for r in body:
        out.add_row(*(v if isinstance(v, Text) else Text(_word(v)) for v in r))
    console = Console()
    if not console.is_terminal:
        console = Console(width=min(160, console.measure(out, options=console.options.update(width=10_000)).maximum))
    console.print(out)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


# ---- files -------------------------------------------------------------------------------------------------------------
def check_target(path: Path, *, sources: Sequence[Path] = ()) -> Path:
    """Raise DataError now if `path` could not be written later; returns it with links followed. sources: must not be hit."""
    try:
        path = path.resolve()
        problem, remedy = _unusable(path, sources)
        if not problem:
            with _beside(path).open("x"):
                pass
            _beside(path).unlink()
    except (OSError, RuntimeError, ValueError) as e:  # a loop of links, a NUL in the name
        problem, remedy = f"cannot be written: {getattr(e, 'strerror', None) or e}", "give a path that you may write to"
    if problem:
        raise DataError(problem, source=str(path), column="-o", remedy=remedy)
    return path


def check_targets(paths: Sequence[Path | None], *, sources: Sequence[Path] = ()) -> list[Path | None]:
    """`check_target` of each that is given; no two may be one file."""
    out = [None if p is None else check_target(p, sources=sources) for p in paths]
    given = [p for p in out if p is not None]
    for k, p in enumerate(given):
        if p in given[:k]:
            raise DataError(
                "two things are to be written to it", source=str(p), column="-o", remedy="give each a path of its own"
            )
    return out


def _unusable(path: Path, sources: Sequence[Path]) -> tuple[str, str]:
    """What is wrong with a path to write to, and the remedy; empty where nothing is."""
    if path.is_dir():
        return "is a folder", "give the path of a file"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}", "make it first"
    if path.exists() and not path.is_file():
        return "is not an ordinary file", "give another path, or - for standard output"
    if path.exists() and any(s.exists() and path.samefile(s) for s in sources):
        return "is the data set itself", "give another path"
    if path.exists() and not os.access(path, os.W_OK):
        return "is read-only", "give another path"
    return "", ""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)` beside `path`, then renamed: nobody ever sees half a file. Raises DataError where the disk refuses."""
    part = _beside(path)
    try:
        write(part)
        os.replace(part, path)
    except OSError as e:
        raise DataError(
            f"cannot be written: {e.strerror or e}", source=str(path), remedy="give another path or make room"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{os.getpid()}.part")

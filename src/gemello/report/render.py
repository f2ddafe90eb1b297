"""A template with words becomes one HTML file that needs nothing else. Two forms: `base.html`, a paper with contents and charts
that can be hovered over; `sheet.html`, one or two printed pages. A template of another package extends one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from gemello.base.errors import DataError
from gemello.base.version import __version__
from gemello.report.words import number


def write(
    template: str, words: Mapping[str, Any], path: Path | str, *, package: str = "gemello.report", interactive: bool = False
) -> Path:
    """Write `template` of `package` (in its folder `templates`) with `words`; returns the path. Every word is escaped.

    interactive: bring plotly inline (about 5 MB), for a template that extends base.html. Raises DataError where the file
    cannot be written.
    """
    script = ""
    if interactive:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415  (reads 5 MB)

        script = get_plotlyjs().replace("</script", "<\\/script")
    text = _environment(package).get_template(template).render(version=__version__, plotly=script, **words)
    return write_whole(Path(path), text)


@cache
def _environment(package: str) -> Environment:
    loaders = [PackageLoader(p, "templates") for p in dict.fromkeys((package, "gemello.report"))]
    out = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    out.filters["number"] = number
    return out


def write_whole(path: Path, text: str) -> Path:
    """Write beside `path`, then rename: nobody ever sees half a file. Raises DataError where that cannot be."""
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise DataError(
            f"cannot be written: {e.strerror or e}", source=str(path), remedy="give a path that you may write to"
        ) from None
    return path

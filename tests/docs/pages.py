"""Pages of the documentation whose blocks run in order and print what stands below them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path


def run(page: str, fences: Iterable[tuple[str, str, str]]) -> int:
    """Write the files and run the Python of a page in the working folder; how many printed outputs were compared.

    fences: language, file name and text of each block, in order.
    """
    names: dict[str, object] = {}
    shown, compared = "", 0
    for language, file, text in fences:
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, page, "exec"), names)
            shown = out.getvalue()
        elif language == "text":
            assert shown == text
            compared += 1
    return compared

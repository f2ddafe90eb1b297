"""Pages of the documentation whose blocks run in order and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Fence = tuple[str, str, str]  # language, file name and text of a block


def page(name: str) -> tuple[str, list[Fence]]:
    """The text of a page in docs/, and its blocks in order."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return text, re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(name: str, fences: Iterable[Fence]) -> int:
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
                exec(compile(text, name, "exec"), names)
            shown = out.getvalue()
        elif language == "text":
            assert shown == text
            compared += 1
    return compared

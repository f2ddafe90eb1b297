"""Numbers and units as words, the same everywhere in a report."""

from __future__ import annotations

import math
import re
from html import escape


def number(v: float | None, digits: int = 4) -> str:
    """`digits` significant digits without trailing zeros; a dash where there is no number."""
    if v is None or not math.isfinite(v):
        return "–"
    if v == 0:
        return "0"
    if 1e-4 <= abs(v) < 1e6:
        text = f"{v:.{max(digits - 1 - math.floor(math.log10(abs(v))), 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{v:.{digits - 1}e}"
    return text.replace("-", "−")


def percent(p: float, digits: int = 0) -> str:
    """A probability in percent; never rounded to 0 % or 100 % unless it is."""
    if not math.isfinite(p):
        return "–"
    least = 10.0**-digits
    v = 100.0 * p
    if 0 < v < least / 2:
        return f"under {least:g} %"
    if 100 - least / 2 < v < 100:
        return f"over {100 - least:g} %"
    return f"{v:.{digits}f} %"


def axis(what: str, unit: str) -> str:
    """Title of an axis with its unit."""
    return what if unit in ("1", "") else f"{what} ({unit})"


def with_unit(v: float, unit: str, digits: int = 4) -> str:
    """A number with its unit."""
    return number(v, digits) if unit in ("1", "") else f"{number(v, digits)} {unit}"


def sentence(words: str) -> str:
    """A remark as a sentence: a capital at its start, a full stop at its end."""
    return f"{words[0].upper()}{words[1:]}."


def plural(n: int, noun: str) -> str:
    """A count with its noun."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def markdown(text: str) -> str:
    """Paragraphs, lists of `-` and `code` of a Markdown text as HTML; everything else is escaped and shown as it is."""
    out: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        items: list[str] = []
        plain: list[str] = []
        for line in block.splitlines():
            if re.match(r"\s*[-*] ", line):
                items.append(re.sub(r"^\s*[-*] ", "", line))
            elif items:
                items[-1] += " " + line.strip()
            else:
                plain.append(line.strip())
        out += [f"<p>{_inline(' '.join(plain))}</p>"] if plain else []
        out += ["<ul>" + "".join(f"<li>{_inline(i)}</li>" for i in items) + "</ul>"] if items else []
    return "".join(out)


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))

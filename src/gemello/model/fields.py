"""Typed access to the sections of a TOML text, with messages that name file, section, entry and field."""

from __future__ import annotations

import difflib
import keyword
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gemello.base.errors import ModelError

MOST_ENTRIES = 1_000  # of one section

_MISSING: Any = object()
# control characters, and those that change the direction of writing: a text could show other than it says
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)


def check_name(name: str, where: str) -> str:
    """`name`, if it can be one: letters, digits and _, beginning with a letter. Raises ModelError."""
    if not _IDENTIFIER.fullmatch(name) or keyword.iskeyword(name):
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise ModelError(
            f"{where}: {shown!r} is no name; use letters, digits and _, beginning with a letter, and no word of Python"
        )
    return name


class Fields:
    """A table of a TOML text. `where` is its place in words."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where, self.values = where, values

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def only(self, allowed: Sequence[str]) -> None:
        """Raise ModelError for a key that is not one of these."""
        for key in self.values:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=2, cutoff=0.6)
                remedy = f"did you mean {' or '.join(close)}?" if close else f"the keys are {', '.join(allowed)}"
                raise ModelError(f"{self.where}: unknown key {key[:40]!r}; {remedy}")

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A text that is not empty and holds no control characters."""
        value = self._get(key, default, lambda v: isinstance(v, str) and bool(v.strip()), "a text in quotes")
        if found := _CONTROL.search(value):
            raise ModelError(f"{self.where}: {key} holds the control character {found[0]!r}; take it out")
        return value

    def number(self, key: str, default: Any = _MISSING) -> float:
        """A number; infinite is allowed, NaN is not."""
        return float(self._get(key, default, _is_number, "a number"))

    def numbers(self, key: str, count: int | None, default: Any = _MISSING) -> tuple[float, ...]:
        """A list of `count` numbers (None: one or more)."""
        right = lambda v: isinstance(v, list) and (len(v) == count or (count is None and v)) and all(map(_is_number, v))  # noqa: E731
        value = self._get(
            key, default, right, "a list of numbers" if count is None else f"a list of {count} numbers, such as [0, 1]"
        )
        return value if value is default else tuple(map(float, value))

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        """A list of texts; one text stands for a list of one."""
        right = lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(x, str) and x.strip() for x in v))  # noqa: E731
        value = self._get(key, default, right, "a list of texts")
        return value if value is default else (value,) if isinstance(value, str) else tuple(value)

    def choice(self, key: str, allowed: Sequence[str], default: Any = _MISSING) -> str:
        """One of some words."""
        return str(self._get(key, default, lambda v: v in allowed, f"one of {', '.join(allowed)}"))

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, default, lambda v: isinstance(v, bool), "true or false")

    def section(self, key: str, default: Mapping[str, Any] | None = None) -> Fields:
        """A table under this key, with entries of the user's own names or fields."""
        value = self._get(key, _MISSING if default is None else default, lambda v: isinstance(v, dict), f"a section [{key}]")
        return Fields(f"{self.where} [{key}]", value)

    def entries(self, short: str | None = None) -> Iterator[tuple[str, Fields]]:
        """Names and their fields; a text instead of a table stands for the field `short` alone, where that is allowed."""
        if len(self.values) > MOST_ENTRIES:
            raise ModelError(f"{self.where}: {len(self.values)} entries; at most {MOST_ENTRIES} are allowed")
        for name, value in self.values.items():
            where = f"{self.where} {check_name(name, self.where)}"
            if short is not None and isinstance(value, str):
                value = {short: value}  # noqa: PLW2901
            if not isinstance(value, dict):
                remedy = f"{name} = {{ {short or 'unit'} = ... }}"
                raise ModelError(f"{where}: is {_words(value)}, where a table is needed; write it like {remedy}")
            yield name, Fields(where, value)

    def _get(self, key: str, default: Any, right: Any, wanted: str) -> Any:
        value = self.values.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                near = difflib.get_close_matches(key, self.values, n=1, cutoff=0.6)
                raise ModelError(f"{self.where}: no {key}; add it" + (f" (is it {near[0]!r}?)" if near else f": {wanted}"))
            return default
        if not right(value):
            raise ModelError(f"{self.where}: {key} is {_words(value)}; give {wanted}")
        return value


def _is_number(v: Any) -> bool:
    if isinstance(v, bool) or not isinstance(v, int | float):
        return False
    try:
        return not math.isnan(float(v))
    except OverflowError:
        return False


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:40] + "…"

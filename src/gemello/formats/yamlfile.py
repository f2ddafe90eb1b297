"""A YAML file as nested mappings. Files come from strangers: they are small, hold no aliases, no tags and no repeated keys."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from gemello.base.errors import DataError

SIZE_LIMIT = 1_000_000  # bytes


def read(path: Path | str, *, typed: bool = False, example: str = "") -> dict[str, Any]:
    """The mapping that a file holds. typed: numbers, true/false and null become such (dates stay texts); else every scalar is a
    text. example: how such a file begins, for the error of a file without keys. Raises DataError."""
    path = Path(path)
    check_file(path)
    import yaml  # type: ignore[import-untyped, import-not-found]  # noqa: PLC0415  (only for such files)

    try:
        content = yaml.load(path.read_bytes().decode("utf-8-sig"), Loader=_loader(typed))
    except OSError as e:
        raise DataError(f"cannot be read: {e.strerror or e}", source=path.name, remedy="check its permissions") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text", source=path.name, remedy="save the file in UTF-8") from None
    except RecursionError:
        raise DataError("nested too deeply", source=path.name, remedy="see the documentation for the form") from None
    except (yaml.YAMLError, ValueError, TypeError) as e:
        raise DataError(f"not YAML: {' '.join(str(e).split())[:160]}", source=path.name, remedy="correct it there") from None
    if not isinstance(content, dict):
        raise DataError("no keys", source=path.name, remedy=f"begin with {example or 'key: value'}")
    return content


def check_file(path: Path) -> None:
    """DataError unless `path` is a file of at most SIZE_LIMIT bytes."""
    if not is_file(path):
        raise DataError("no such file", source=str(path), remedy="check the path")
    if path.stat().st_size > SIZE_LIMIT:
        size = f"{path.stat().st_size / 1e6:.1f} MB is more than {SIZE_LIMIT / 1e6:.0f} MB"
        raise DataError(size, source=path.name, remedy="keep data in files of their own and name them there")


def is_file(path: Path) -> bool:
    """Whether it is one; a name that no disk can hold is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def beside(path: Path, name: str, place: str) -> Path:
    """The file `name` that stands in the YAML file `path` at `place`: beside it or below, or an absolute path as it is. Raises
    DataError where it leads out of the folder, or there is none."""
    found = Path(name)
    if not found.is_absolute():
        if ".." in found.parts:
            raise DataError(
                f"leaves the folder of {path.name}", source=path.name, column=place, value=name,
                remedy="put the file beside it, or give its absolute path",
            )  # fmt: skip
        found = path.parent / found
    if not is_file(found):
        raise DataError("no such file", source=path.name, column=place, value=name, remedy="check the path")
    return found


def name_of(value: Any) -> str:
    """An arm, a visit, a person or a level as text: 1, 1.0 and "1" are the same."""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.15g}" if isinstance(value, int | float) else str(value).strip()


@cache
def _loader(typed: bool) -> Any:
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader if typed else yaml.BaseLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"an alias in line {self.peek_event().start_mark.line + 1}; write the value out")
            if getattr(self.peek_event(), "tag", None) not in (None, "!"):
                raise yaml.YAMLError(f"a tag in line {self.peek_event().start_mark.line + 1}; leave it out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(k, deep=True) for k, _ in node.value]
            twice = next((k for i, k in enumerate(keys) if k in keys[:i]), None)
            if twice is not None:
                raise yaml.YAMLError(f"the key {str(twice)[:40]!r} stands twice; keep one")
            return super().construct_mapping(node, deep)

    if typed:  # 2026-11-24 is a text to us, and so is 12:30 (YAML 1.1 makes a base-60 number of it)
        drop = ("tag:yaml.org,2002:timestamp",)
        Loader.yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in pairs if tag not in drop]
            for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
    return Loader

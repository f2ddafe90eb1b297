"""The front door against reality: table, block for type checkers, `__all__`, `dir()` and what is behind each name."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import gemello

ROOT = Path(__file__).resolve().parents[1]
HOMES: dict[str, str] = gemello._HOMES  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(HOMES))
def test_each_name_is_what_its_home_calls_so(name: str) -> None:
    value = getattr(gemello, name)
    assert value is getattr(import_module(HOMES[name]), name)
    assert value.__doc__
    assert getattr(value, "__module__", HOMES[name]) == HOMES[name], "give the module that defines the name"


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(gemello.__file__).read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, f"write `{alias.name} as {alias.name}`, or it is private to type checkers"
            seen[alias.name] = statement.module
    assert seen == HOMES


def test_all_and_dir_list_every_name() -> None:
    assert set(gemello.__all__) == {"__version__", *HOMES}
    assert len(gemello.__all__) == len(set(gemello.__all__))
    assert set(gemello.__all__) <= set(dir(gemello))


def test_star_import_gives_every_name() -> None:
    namespace: dict[str, object] = {}
    exec("from gemello import *", namespace)
    assert set(gemello.__all__) <= set(namespace)


def test_no_name_is_hidden_by_a_subpackage() -> None:
    # importing gemello.model sets gemello's attribute `model`, so that a public name `model` would change its meaning
    assert {m.name for m in pkgutil.iter_modules(gemello.__path__)} & set(HOMES) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'gemello' has no attribute 'Twni'"):
        gemello.Twni  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(gemello, "nothing")


def test_names_load_when_asked_for() -> None:
    loaded = "print('gemello.model.contract' in sys.modules)"
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nimport gemello\n{loaded}\ngemello.Model\n{loaded}"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["False", "True"]


def test_the_version_is_written_once_and_told_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert f"## {gemello.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

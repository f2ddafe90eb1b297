"""docs/model-files.md: its files, commands and messages, run in their order in an empty folder; and it names every key."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

from gemello.cli.main import main
from gemello.model import modelfile, sections
from gemello.model.expression import FUNCTIONS, LOGIC
from gemello.model.parameters import DISTRIBUTIONS, KINDS, Parameter

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "model-files.md").read_text(encoding="utf-8")


class Fence(NamedTuple):
    language: str
    files: list[str]
    text: str


FENCES = [
    Fence(language, names.split(), text)
    for language, names, text in re.findall(r"^```([\w-]+)([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
]


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, files, text in FENCES:
        if language == "toml-change":
            old, new = text.splitlines()
            before = Path(files[1]).read_text(encoding="utf-8")
            assert before.count(old) == 1
            Path(files[0]).write_text(before.replace(old, new), encoding="utf-8")
        elif files:
            Path(files[0]).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, "model-files.md", "exec"), {})
        else:
            assert language == "console"
            for line, expected in re.findall(r"^\$ gemello (.*)\n((?:[^$].*\n)*)", text, re.MULTILINE):
                with pytest.raises(SystemExit) as e:
                    main(shlex.split(line))
                shown = "".join(capsys.readouterr())
                assert int(e.value.code or 0) == (2 if "error:" in expected else 0), shown
                assert expected in shown
                commands += 1
    assert commands == 7


@pytest.mark.parametrize(
    "names",
    [
        modelfile.TOP, modelfile.METHODS, tuple(sections.CARD), sections.PORT_PARAMETERS, sections.STANDARD, sections.FORMS,
        KINDS, DISTRIBUTIONS, tuple(f.name for f in fields(Parameter) if f.name != "name"),
    ],
)  # fmt: skip
def test_it_names_every_key(names: tuple[str, ...]) -> None:
    listed = PAGE.split("## Everything a file may hold")[1]
    missing = [n for n in names if f"`{n}`" not in listed and f"`[{n}]`" not in listed]
    assert not missing


def test_it_names_every_function() -> None:
    table = PAGE.split("## Expressions")[1].split("##")[0]
    words = set(re.findall(r"[a-z]\w*", " ".join(re.findall(r"`([^`]*)`", table))))
    assert {*FUNCTIONS, *LOGIC} <= words

"""Locked generators: every change is seen, hostile files are data errors, scores read nothing from after randomisation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from gemello.base.errors import DataError, RefusalError
from gemello.domains.progression import lock, registry
from gemello.domains.progression.latent_time.generator import LatentTime
from gemello.domains.progression.mixed.generator import Mixed
from gemello.model.generator import Array, Generator, History, Trajectories, Variable

VARIABLES = (
    Variable("y", "continuous", "longitudinal"),
    Variable("age", "continuous", "baseline"),
    Variable("death", "event", "event"),
)


@dataclass(frozen=True)
class Straight(Generator):
    """y + slope · time: a generator that a reader can check by hand."""

    slope: float
    bound: float = np.inf
    kind: ClassVar[str] = "straight"
    version: ClassVar[str] = "1"
    variables: tuple[Variable, ...] = VARIABLES
    time_unit: str = "week"

    @classmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        return cls(0.1)

    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        again = {k: np.broadcast_to(v, (draws, *v.shape)) for k, v in self.expected(seen, times).items()}
        return Trajectories(seen.persons, times, again, seed=seed)

    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        last = np.full(len(seen), np.nan)
        last[seen.person] = seen.values["y"]
        return {"y": last[:, None] + self.slope * times}

    def check(self, seen: History) -> Mapping[str, str]:
        return {p: "too old" for p, a in zip(seen.persons, seen.baseline["age"], strict=True) if a > 90}

    def to_dict(self) -> dict[str, Any]:
        return {"slope": self.slope, "bound": self.bound}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        if not isinstance(data["slope"], float):
            raise DataError("no slope")
        return cls(data["slope"], data["bound"])


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "GENERATORS", {**registry.GENERATORS, "straight": f"{__name__}:Straight"})
    monkeypatch.setattr(lock, "import_module", lambda name: __import__("sys").modules[name])


def history(n: int = 40) -> History:
    rng = np.random.default_rng(3)
    return History(
        VARIABLES, tuple(f"p{i}" for i in range(n)), {"age": rng.normal(60, 8, n)}, np.repeat(np.arange(n), 2),
        np.tile([0.0, 12.0], n),
        {"y": rng.normal(20, 5, 2 * n)}, {"death": np.full(n, 30.0)}, {"death": rng.uniform(size=n) < 0.3}, time_unit="week",
    )  # fmt: skip


@pytest.fixture
def locked(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "generator.json"
    return path, lock.write(Straight(0.1), path, history=history(), seed=4, options={"a": 1}, scores={"rmse": 4.5})


def test_what_is_written_is_read(locked: tuple[Path, str]) -> None:
    path, digest = locked
    made = lock.read(path, digest)
    assert made.generator == Straight(0.1)  # the infinite bound too
    assert made.hash == digest
    assert len(digest) == 64
    assert (made.provenance["persons"], made.provenance["rows"], made.provenance["seed"]) == (40, 80, 4)
    assert made.provenance["scores"] == {"rmse": 4.5}
    assert made.provenance["data_hash"] == lock.history_hash(history())
    assert made.provenance["data_hash"] != lock.history_hash(history(41))
    assert {c.name for c in made.validity.covariates} == {"y", "age"}


@hypothesis.given(at=st.integers(0, 10**6), to=st.integers(32, 126))
def test_every_changed_byte_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, to: int) -> None:
    folder = tmp_path_factory.mktemp("lock")
    path = folder / "g.json"
    lock.write(Straight(0.25), path, history=history(), seed=1)
    text = bytearray(path.read_bytes())
    at %= len(text)
    hypothesis.assume(text[at] != to)
    text[at] = to
    path.write_bytes(text)
    with pytest.raises(DataError):
        lock.read(path)


def test_changes_that_keep_the_content_are_seen(locked: tuple[Path, str]) -> None:
    path, _ = locked
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data, indent=1))
    with pytest.raises(DataError, match="lock is broken: bytes differ"):
        lock.read(path)


def test_another_content_names_both_hashes(locked: tuple[Path, str]) -> None:
    path, digest = locked
    text = path.read_text().replace('"slope":0.1', '"slope":0.2')
    path.write_text(text)
    with pytest.raises(DataError, match=f"the file says {digest}, its content has ") as e:
        lock.read(path)
    assert "\n" not in str(e.value)


def test_another_generator_than_the_trials_is_refused(locked: tuple[Path, str], tmp_path: Path) -> None:
    _, digest = locked
    other = lock.write(Straight(0.2), tmp_path / "other.json", history=history(), seed=4)
    assert other != digest
    with pytest.raises(RefusalError, match=f"refers to generator {digest}, this file is {other}"):
        lock.read(tmp_path / "other.json", digest)


def _relocked(path: Path, **changes: Any) -> None:
    """A file with an intact hash around a changed content: what a hostile writer makes."""
    data = {k: v for k, v in json.loads(path.read_text()).items() if k != "sha256"} | changes
    path.write_bytes(lock.canonical({**data, "sha256": lock._digest(data)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "os:system"}, {"kind": ["neural"]}, {"kind": "neural"}, {"version": "0"},
        {"generator": {"slope": "x", "bound": 1}},
        {"generator": []}, {"generator": {"slope": {"$": "now"}, "bound": 1}},
        {"generator": {"slope": {"$": "nan"}, "bound": 1}},
        {"validity": {}}, {"validity": None}, {"schema": "x"},
        {"schema_version": 1}, {"provenance": {"$": []}},
    ],
)  # fmt: skip
def test_hostile_contents_are_data_errors(locked: tuple[Path, str], changes: dict[str, Any]) -> None:
    path, _ = locked
    _relocked(path, **changes)
    with pytest.raises(DataError):
        lock.read(path)


def _shortened(value: Any, count: list[int]) -> Any:
    """The same, one of its lists (the count[0]-th of two entries or more) without its last; count[0] < 0: there is one."""
    if isinstance(value, dict):
        return {k: _shortened(v, count) for k, v in value.items()}
    if not isinstance(value, list):
        return value
    count[0] -= len(value) > 1
    return [_shortened(v, count) for v in (value[:-1] if count[0] == -1 and len(value) > 1 else value)]


@pytest.mark.parametrize("kind", [Mixed, LatentTime])
def test_a_list_cut_short_in_a_file_locked_anew_is_a_data_error_or_forecasts(tmp_path: Path, kind: type[Generator]) -> None:
    """Of every list in the file of a trained generator in turn (40 of them at most)."""
    made = kind.train(history(), seed=1)
    path = tmp_path / "g.json"
    lock.write(made, path, history=history(), seed=1)
    data = json.loads(path.read_text())
    refused = 0
    for k in range(40):
        count = [k]
        changed = _shortened(data["generator"], count)
        if count[0] >= 0:
            break
        _relocked(path, generator=changed)
        try:
            lock.read(path)
        except DataError:
            refused += 1
    assert refused > 0.5 * k


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_files_that_are_none_are_data_errors(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(DataError, match="x"):
        lock.read(tmp_path / "x")


def test_no_file_and_too_large_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        lock.read(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        lock.read(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        lock.write(Straight(1.0), tmp_path / "no" / "folder", history=history(), seed=1)
    monkeypatch.setattr(lock, "LARGEST", 100)
    (tmp_path / "big").write_bytes(b" " * 101)
    with pytest.raises(DataError, match="more than 100 bytes"):
        lock.read(tmp_path / "big")


# ---- scores ----------------------------------------------------------------------------------------------------------------
TABLE = pl.DataFrame({"id": ["a", "b", "c"], "y": [20.0, 30.0, 25.0], "age": [50.0, 60.0, 95.0]})


def test_a_score_is_the_expected_value(locked: tuple[Path, str]) -> None:
    made = lock.read(locked[0])
    np.testing.assert_allclose(made.score(TABLE, "y", 24.0), [22.4, 32.4, 27.4], rtol=1e-9)
    np.testing.assert_allclose(made.score(TABLE, "y", 24.0, person="id"), [22.4, 32.4, 27.4], rtol=1e-9)
    with pytest.raises(RefusalError, match=r"1 of 3 participants .* c: too old"):
        made.score(TABLE, "y", 24.0, person="id", outside="refuse")


def test_visits_before_randomisation_may_be_read_and_later_ones_not(locked: tuple[Path, str]) -> None:
    made = lock.read(locked[0])
    visits = pl.DataFrame({"id": ["b", "a", "b"], "week": [0.0, -1.0, -4.0], "y": [30.0, 20.0, 10.0], "age": [60.0, 50.0, None]})
    np.testing.assert_allclose(made.score(visits, "y", 10.0, person="id", time="week"), [31.0, 21.0])
    late = visits.with_columns(week=pl.Series([0.0, 0.5, -4.0]))
    with pytest.raises(RefusalError, match=r"row 2, column week: a visit at 0.5, after randomisation"):
        made.score(late, "y", 10.0, person="id", time="week")
    with pytest.raises(RefusalError, match="column y: measured at 4, after randomisation"):
        made.score(TABLE, "y", 10.0, measured={"y": 4.0})
    with pytest.raises(RefusalError, match="column death: an event is seen after randomisation"):
        made.score(TABLE.with_columns(death=1.0), "y", 10.0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (TABLE.drop("age"), "column age: no such column"), (TABLE.with_columns(age=pl.lit("old")), "column age: holds String"),
        (TABLE.with_columns(age=pl.lit(np.inf)), "infinite"), (TABLE[:0], "no rows"),
        (TABLE.with_columns(id=pl.Series(["a", "b", "a"])), "two rows of one participant"),
        (TABLE.with_columns(id=pl.Series(["a", None, "c"])), "row 2, column id: no name"),
    ],
)  # fmt: skip
def test_bad_tables(locked: tuple[Path, str], table: pl.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        lock.read(locked[0]).score(table, "y", 10.0, person="id")


def test_bad_questions(locked: tuple[Path, str]) -> None:
    made = lock.read(locked[0])
    with pytest.raises(DataError, match="no longitudinal variable 'age'"):
        made.score(TABLE, "age", 10.0)
    with pytest.raises(DataError, match="not a time after randomisation"):
        made.score(TABLE, "y", 0.0)


@hypothesis.given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_stable_scores_forget_last_bits(values: list[float]) -> None:
    x = np.array(values)
    top = np.abs(x).max()
    np.testing.assert_allclose(lock.stable(x), x, atol=1e-8 * top)
    np.testing.assert_array_equal(lock.stable(lock.stable(x)), lock.stable(x))

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.base.provenance import Provenance, data_hash
from gemello.model.parameters import Parameter, ParameterTable

TABLE = ParameterTable((Parameter("CL", 3.0, "L/h"),))


class Warfarin:
    name = "warfarin"
    version = "1"
    parameters = TABLE


def test_collect_says_model_parameters_data_seed_and_software() -> None:
    import jax

    data = {"TIME": np.array([0.0, 1.0]), "DV": np.array([0.0, 8.5])}
    p = Provenance.collect(Warfarin(), data=data, seed=np.int64(5))  # type: ignore[arg-type]
    assert (p.model, p.model_version, p.seed) == ("warfarin", "1", 5)
    assert (p.parameter_hash, p.data_hash) == (TABLE.hash(), data_hash(data))
    assert (p.jax, p.numpy, p.python) == (jax.__version__, np.__version__, platform.python_version())
    assert p.gemello
    assert abs(datetime.fromisoformat(p.created) - datetime.now(UTC)) < timedelta(minutes=5)
    assert datetime.fromisoformat(p.created).utcoffset() == timedelta(0)


def test_nothing_used_is_said_by_nothing() -> None:
    p = Provenance.collect()
    assert (p.model, p.model_version, p.parameter_hash, p.data_hash, p.seed) == ("", "", "", "", None)


def test_fitted_parameters_stand_in_for_the_models_own() -> None:
    fitted = TABLE.with_values({"CL": 2.5})
    assert Provenance.collect(Warfarin(), parameters=fitted).parameter_hash == fitted.hash() != TABLE.hash()


def test_a_hash_made_before_is_kept() -> None:
    assert Provenance.collect(data="0123456789abcdef").data_hash == "0123456789abcdef"


def test_a_bad_seed_is_refused() -> None:
    with pytest.raises(DataError, match="seed"):
        Provenance.collect(seed=-1)


def test_it_survives_json_and_cannot_be_changed() -> None:
    p = Provenance.collect(Warfarin(), seed=1)
    assert Provenance(**json.loads(json.dumps(p.to_dict()))) == p
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.seed = 2  # type: ignore[misc]


def test_identity_leaves_out_only_the_time() -> None:
    p = Provenance.collect(Warfarin(), seed=1)
    later = dataclasses.replace(p, created="2030-01-01T00:00:00+00:00")
    assert p != later
    assert p.identity() == later.identity() != Provenance.collect(Warfarin(), seed=2).identity()


def test_the_installed_version_is_the_one_reported() -> None:
    try:
        installed = metadata.version("gemello")
    except metadata.PackageNotFoundError:
        pytest.skip("gemello is not installed here, only on the path")
    assert Provenance.collect().gemello == installed


# ---- data_hash --------------------------------------------------------------------------------------------------------


def test_hash_does_not_change_between_releases_and_processes() -> None:
    assert data_hash({"ID": [1, 2], "DV": [0.5, float("nan")], "SEX": ["f", "m"]}) == "9fc03fb27bcabee4"
    src = Path(__file__).resolve().parents[2] / "src"
    code = f"import sys; sys.path.insert(0, {str(src)!r})\nfrom gemello.base.provenance import data_hash\n"
    code += "print(data_hash({'ID': [1, 2], 'DV': [0.5, float('nan')], 'SEX': ['f', 'm']}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "123"})
    assert run.stdout.strip() == "9fc03fb27bcabee4"


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=8))
def test_layout_and_precision_of_storage_do_not_matter(values: list[float]) -> None:
    a = np.array(values, dtype="<f8")
    strided = np.repeat(a, 2)[::2]
    assert len({data_hash([x]) for x in (a, a.astype("<f4"), a.astype(">f8"), strided, values)}) == 1


def test_equal_meaning_hashes_equally() -> None:
    square = np.arange(6.0).reshape(2, 3)
    assert data_hash([square]) == data_hash([np.asfortranarray(square)])
    assert data_hash([np.int8([1, 2])]) == data_hash([np.int64([1, 2])]) == data_hash([np.uint32([1, 2])])
    assert data_hash([[0.0]]) == data_hash([[-0.0]])
    assert data_hash([np.array([np.nan])]) == data_hash([-np.array([np.nan])])
    assert data_hash({"a": [1], "b": [2]}) == data_hash({"b": [2], "a": [1]})
    assert data_hash([["x", None]]) == data_hash([np.array(["x", None], dtype=object)])


DIFFERENT = [
    {"a": [1.0, 2.0]},
    {"b": [1.0, 2.0]},
    {"a": [2.0, 1.0]},
    {"a": [1, 2]},
    {"a": [[1.0, 2.0]]},
    {"a": [1.0], "b": [2.0]},
    {"a": [1.0, np.nextafter(2.0, 3.0)]},
    {"a": ["1.0", "2.0"]},
    {"a": ["1.02.0"]},
    {"a": ["1", ".02.0"]},
    {"a": ["1.0", None]},
    {"a": ["1.0", ""]},
    {"a": [True, False]},
    {"a": np.array([1, 2], dtype="M8[s]")},
    {"a": np.array([1, 2], dtype="m8[s]")},
    {"a": np.array([1, 2**64 - 2], dtype="u8")},
    {"a": np.array([1, -2])},
    {"a": []},
    {},
]


def test_different_meaning_hashes_differently() -> None:
    assert len({data_hash(d) for d in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize("column", [np.array([1j]), np.array([{"x": 1}, "y"], dtype=object), np.array([1.5, "y"], dtype=object)])
def test_what_cannot_be_hashed_is_refused_by_name(column: object) -> None:
    with pytest.raises(DataError, match=r"column DV.*; give"):
        data_hash({"DV": column})

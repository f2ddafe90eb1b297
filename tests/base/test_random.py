from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemello.base.errors import DataError
from gemello.base.random import SEED_LIMIT, check_seed, child_seed, generator

NAMES = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 10**6)), max_size=3)


@pytest.mark.parametrize("seed", [0, 7, np.int32(7), np.uint64(7), SEED_LIMIT - 1])
def test_whole_numbers_are_seeds(seed: object) -> None:
    checked = check_seed(seed)
    assert type(checked) is int
    assert checked == seed


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT, 1.0, "1", None, True, np.bool_(True), np.nan, [1]])
def test_other_things_are_refused_with_place_value_and_remedy(seed: object) -> None:
    with pytest.raises(DataError, match=r"column seed.*give a whole number from 0 to 4294967295"):
        check_seed(seed)
    with pytest.raises(DataError):
        generator(seed)  # type: ignore[arg-type]


def test_every_seed_gives_jax_the_same_key_in_both_precisions() -> None:
    import jax

    for seed in (0, 1, 2**31 - 1, 2**31, SEED_LIMIT - 1):
        single = np.asarray(jax.random.key_data(jax.random.key(seed)))
        with jax.enable_x64(True):
            double = np.asarray(jax.random.key_data(jax.random.key(seed)))
        np.testing.assert_array_equal(single, double)


@given(st.integers(0, SEED_LIMIT - 1), NAMES)
def test_same_seed_and_names_give_the_same_bits(seed: int, names: list[str | int]) -> None:
    np.testing.assert_array_equal(generator(seed, *names).integers(0, 2**63, 4), generator(seed, *names).integers(0, 2**63, 4))
    assert child_seed(seed, *names) == check_seed(child_seed(seed, *names))


def test_numbers_do_not_change_between_releases() -> None:
    # frozen when this was written: results in people's notebooks rest on them
    assert generator(1).integers(0, 1000, 4).tolist() == [473, 511, 755, 950]
    assert generator(1, "trial", "arm A", 7).integers(0, 1000, 4).tolist() == [412, 562, 487, 482]
    assert child_seed(1, "trial") == 4101176186


def test_children_differ_by_seed_name_kind_of_name_and_depth() -> None:
    asked = [(1,), (2,), (1, "a"), (1, "b"), (1, 7), (1, "7"), (1, "a", "b"), (1, "b", "a"), (1, "ab"), (1, ""), (2, "a")]
    assert len({tuple(generator(*a).integers(0, 2**63, 2)) for a in asked}) == len(asked)  # type: ignore[arg-type]
    assert len({child_seed(*a) for a in asked}) == len(asked)  # type: ignore[arg-type]


def test_children_are_uncorrelated() -> None:
    draws = np.stack([generator(3, "subject", i).standard_normal(2000) for i in range(20)])
    off_diagonal = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(2000)  # 190 correlations, each of standard error 1/sqrt(2000)
    np.testing.assert_allclose(off_diagonal.std(), 1 / np.sqrt(2000), rtol=0.25)

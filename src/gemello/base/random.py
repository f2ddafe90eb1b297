"""Seeds and random generators. Every stochastic function takes a seed; children of a seed are found by name, not by order.

A seed is a whole number from 0 to 2³²−1: JAX cuts larger ones when it runs in single precision, so that the same seed would
give other numbers there.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

SEED_LIMIT = 2**32


def check_seed(seed: object) -> int:
    """`seed` as an int; DataError unless it is a whole number from 0 to 2³²−1 (a bool is not one)."""
    try:
        value = -1 if isinstance(seed, bool | np.bool_) else operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        value = -1
    if not 0 <= value < SEED_LIMIT:
        raise DataError("not a seed", column="seed", value=seed, remedy=f"give a whole number from 0 to {SEED_LIMIT - 1}")
    return value


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator of `seed`, or of its child `names`: `generator(1, "trial", "arm A", 7)`.

    Children are independent of each other, of their parent and of the order in which they are asked for (NumPy's
    SeedSequence with 128 bits of each name as spawn key). Raises DataError where `seed` is no seed.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, names)))


class Each:
    """A stream for each of several persons, found by name: what is drawn for one is the same alone or among others."""

    def __init__(self, streams: Sequence[np.random.Generator]) -> None:
        self.streams = streams

    @classmethod
    def of(cls, persons: Sequence[str], seed: int, *names: str | int) -> Each:
        """The children of `generator(seed, *names)` by these names."""
        return cls([generator(seed, *names, p) for p in persons])

    def __getitem__(self, which: slice) -> Each:
        return Each(self.streams[which])

    def normal(self, draws: int, *shape: int) -> NDArray[np.float64]:
        """(draws, persons, *shape) standard normal."""
        return self._drawn(lambda s, size: s.standard_normal(size), draws, shape)

    def uniform(self, draws: int, *shape: int) -> NDArray[np.float64]:
        """(draws, persons, *shape) uniform from 0 to 1."""
        return self._drawn(lambda s, size: s.uniform(size=size), draws, shape)

    def _drawn(
        self, draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]], draws: int, shape: tuple[int, ...]
    ) -> NDArray[np.float64]:
        out = np.empty((draws, len(self.streams), *shape))
        for i, s in enumerate(self.streams):
            out[:, i] = draw(s, (draws, *shape))
        return out


def child_seed(seed: int, *names: str | int) -> int:
    """A seed for something that takes one (a JAX key, an outside program), by name.

    32 bits: for a few hundred tasks, not for a million subjects, where two children would sometimes agree; give those
    one `generator` or one JAX key and split it.
    """
    return int(_sequence(seed, names).generate_state(1, np.uint32)[0])


def _sequence(seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(check_seed(seed), spawn_key=tuple(word for name in names for word in _words(name)))


def _words(name: str | int) -> tuple[int, ...]:
    """128 bits of a name's hash, as four words; 7 and "7" are different names. Python's own hash() differs by process."""
    digest = hashlib.sha256(f"{'s' if isinstance(name, str) else 'i'}:{name}".encode()).digest()
    return tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))

"""The contract of a learned generator: it has learned from history how persons go on, and continues a person from what is seen.

Roles:

    history   what was observed of many persons: baseline values, visits, events, each with missing values as NaN
    seen      the same of the persons to be continued; only what was known at the time of the forecast belongs in it
    times     (T,) times of the forecast since baseline, in `time_unit`

A generator gives whole trajectories (`sample`), their conditional mean (`expected`: the prognostic score of a variable at a
time), and refuses persons outside of what it learned from (`check`). Training makes a new one; a trained one never changes, and
`to_dict` / `from_dict` carry it whole, as plain numbers and words: its file is data, not code.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

Array = NDArray[np.float64]
Kind = Literal["continuous", "ordinal", "binary", "count", "event"]
Role = Literal["baseline", "longitudinal", "event"]
MOST_DRAWS = 100_000
KINDS: tuple[Kind, ...] = ("continuous", "ordinal", "binary", "count", "event")


@dataclass(frozen=True)
class Variable:
    """One variable of a history. role: "baseline" (one value a person), "longitudinal" (a value a visit) or "event" (a time, seen
    or censored). levels: of an ordinal variable, in order (numbers). lower, upper: values that can occur (a score of 0 to 70)."""

    name: str
    kind: Kind = "continuous"
    role: Role = "longitudinal"
    unit: str = "1"
    levels: tuple[float, ...] = ()
    lower: float = -np.inf
    upper: float = np.inf


@dataclass(frozen=True)
class History:
    """Persons, in arrays. `baseline`: name -> (persons,). `person`: (visits,) number of the person of each visit, `time`:
    (visits,) since baseline, both sorted; `values`: name -> (visits,). `event_time`, `event_seen`: name -> (persons,) time of the
    event or of censoring, and whether it was seen. A longitudinal variable's baseline is its value at time 0. NaN: missing."""

    variables: tuple[Variable, ...]
    persons: tuple[str, ...]
    baseline: Mapping[str, Array]
    person: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    time: Array = field(default_factory=lambda: np.empty(0))
    values: Mapping[str, Array] = field(default_factory=dict)
    event_time: Mapping[str, Array] = field(default_factory=dict)
    event_seen: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    time_unit: str = "day"

    def __post_init__(self) -> None:
        n, v = len(self.persons), len(self.person)
        columns = {k: (a, n) for d in (self.baseline, self.event_time, self.event_seen) for k, a in d.items()}
        columns |= {k: (a, v) for k, a in self.values.items()} | {"time": (self.time, v)}
        for name, (a, size) in columns.items():
            if np.shape(a) != (size,):
                raise DataError(f"shape {np.shape(a)}", column=name, remedy=f"give {size} values")
        known = {x.name for x in self.variables}
        for name in (*self.baseline, *self.values, *self.event_time):
            if name not in known:
                raise DataError("not among the variables", column=name, remedy=f"the variables are {', '.join(sorted(known))}")
        if len(set(self.persons)) != n:
            raise DataError("two persons of the same name", column="persons", remedy="give each person one name")
        if v and (self.person.min() < 0 or self.person.max() >= n or np.any(np.diff(self.person) < 0)):
            raise DataError("visits not sorted by person", column="person", remedy="sort visits by person, then time")
        step = np.diff(self.time)[np.diff(self.person) == 0]
        if np.any(step <= 0):
            words = "two visits at one time" if np.any(step == 0) else "visits out of order"
            raise DataError(words, column="time", remedy="give each person's visits once each, in order of time")

    def __len__(self) -> int:
        return len(self.persons)

    def of_role(self, role: Role) -> tuple[Variable, ...]:
        """Variables of one role."""
        return tuple(v for v in self.variables if v.role == role)

    def take(self, which: NDArray[Any]) -> History:
        """Some persons. which: mask (persons,) or numbers, kept in the order of `persons`."""
        chosen = np.zeros(len(self), bool)
        chosen[which] = True
        visit = chosen[self.person]
        number = np.cumsum(chosen) - 1
        return replace(
            self,
            persons=tuple(p for p, c in zip(self.persons, chosen, strict=True) if c),
            baseline={k: a[chosen] for k, a in self.baseline.items()},
            person=number[self.person[visit]], time=self.time[visit], values={k: a[visit] for k, a in self.values.items()},
            event_time={k: a[chosen] for k, a in self.event_time.items()},
            event_seen={k: a[chosen] for k, a in self.event_seen.items()},
        )  # fmt: skip

    def until(self, time: float) -> History:
        """What was known at `time`: later visits are dropped, events later than it are censored there."""
        visit = self.time <= time
        seen = {k: a & (self.event_time[k] <= time) for k, a in self.event_seen.items()}
        return replace(
            self, person=self.person[visit], time=self.time[visit], values={k: a[visit] for k, a in self.values.items()},
            event_time={k: np.minimum(a, time) for k, a in self.event_time.items()}, event_seen=seen,
        )  # fmt: skip

    def at_zero(self, name: str) -> Array:
        """(persons,) the baseline value of any variable: from `baseline`, or the visit at time 0; NaN where there is none."""
        if name in self.baseline:
            return self.baseline[name]
        out = np.full(len(self), np.nan)
        here = self.time == 0
        out[self.person[here]] = self.values[name][here]
        return out


@dataclass(frozen=True)
class Trajectories:
    """Sampled futures. values: name -> (draws, persons, T); event_time: name -> (draws, persons), inf where later than the
    generator says. Draw d of every variable belongs to the same future."""

    persons: tuple[str, ...]
    times: Array
    values: Mapping[str, Array]
    event_time: Mapping[str, Array] = field(default_factory=dict)
    seed: int | None = None

    def mean(self, name: str) -> Array:
        """(persons, T) mean over draws."""
        return self.values[name].mean(axis=0)

    def quantiles(self, name: str, q: Sequence[float]) -> Array:
        """(len(q), persons, T)."""
        return np.quantile(self.values[name], q, axis=0)


def check_draws(draws: object) -> int:
    """`draws` as an int; DataError unless it is a whole number from 1 to MOST_DRAWS."""
    whole = isinstance(draws, int | np.integer) and not isinstance(draws, bool)
    if not whole or not 1 <= int(draws) <= MOST_DRAWS:  # type: ignore[call-overload]
        raise DataError("not a number of draws", column="draws", value=draws, remedy=f"give 1 to {MOST_DRAWS:,}")
    return int(draws)  # type: ignore[call-overload]


class Generator(abc.ABC):
    """What every trained generator offers."""

    kind: ClassVar[str]  # name of the method ("mixed", "latent_time", …): with it a file finds its class
    version: ClassVar[str]
    variables: tuple[Variable, ...]
    time_unit: str

    @classmethod
    @abc.abstractmethod
    def train(cls, history: History, *, seed: int, **options: Any) -> Self:
        """Learn from history. Raises DataError for a history too small or empty, persons made only of missing values."""

    @abc.abstractmethod
    def sample(self, seen: History, times: Array, *, draws: int, seed: int) -> Trajectories:
        """Futures of the persons of `seen`, given all that is in it (with measurement error: what would be measured). A person's
        draws are the same alone or among others (`base.random.Each`). Raises DataError as `check_draws`."""

    @abc.abstractmethod
    def expected(self, seen: History, times: Array) -> Mapping[str, Array]:
        """name -> (persons, T) conditional mean of each longitudinal variable (probability of a binary one); without draws where
        the method has it in closed form, else by its own fixed draws."""

    @abc.abstractmethod
    def check(self, seen: History) -> Mapping[str, str]:
        """Person -> why no forecast should be made (values outside of what was learned from). Raises DataError for a person made
        only of missing values, and for missing or unknown variables."""

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers, lists and words."""

    @classmethod
    @abc.abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The generator of `to_dict`; DataError for anything else."""

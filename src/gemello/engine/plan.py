"""What the engine needs to know before it compiles: the shape of a problem, hashable, and the table of slots.

A schedule arrives as *slots*: instants at which something happens to a lane (a bolus, the start or end of an infusion, a
reset, a record to be read out). Between two slots lies a segment without discontinuity. Segment k is shared by the lanes
of a block, its length is each lane's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

PAD, NONE, BOLUS, START, END, STEADY, STEADY_RATE, RESET, SIGNAL = range(-1, 8)


class Slots(NamedTuple):
    """Table of slots; every array is (slots, lanes), or (slots, 1) where all lanes share one schedule.

    time: nominal time (before lag). kind: one of the constants above. port: index of the port. amount: amount, or level of
    a signal. rate: >0 rate of an infusion, −2 modelled duration, −1 modelled rate, 0 bolus. interval: dosing interval of a
    steady state. add: 1 where a steady state is added to the state (SS=2). record: row of the individual parameters that
    govern the dose. epoch: number of resets before; a slot of an older epoch is void. copy: k-th earlier infusion of a
    steady state that may still run. Then `segment`: row of the individual parameters that govern the segment that ends
    here; in a dynamic plan it is found anew after sorting.
    """

    time: Any
    kind: Any
    port: Any
    amount: Any
    rate: Any
    interval: Any
    add: Any
    record: Any
    epoch: Any
    copy: Any
    segment: Any


class PortPlan(NamedTuple):
    """One port: index of its state (dose) or signal, −1 for the other; names of the individual parameters, None where unused."""

    state: int
    signal: int
    bioavailability: str | None
    lag: str | None
    duration: str | None
    rate: str | None


@dataclass(frozen=True)
class Plan:
    """Static shape of a problem: a new one is a new compiled program.

    kinds: kinds that occur. dynamic: slot times depend on parameters (lag, modelled durations), so they are sorted when
    solved. varying: individual parameters have one row per record, (records, lanes); else (lanes,). ragged: lanes differ
    in their number of slots. accumulators: indices of states without a steady state. repeats: number of different segment
    lengths where all lanes share a schedule of few (0: not so); then a linear model's flow is a matrix for each length.
    """

    kinds: frozenset[int]
    ports: tuple[PortPlan, ...]
    signals: int
    dynamic: bool
    varying: bool
    ragged: bool
    accumulators: tuple[int, ...] = ()
    method: str = "auto"
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 100_000
    repeats: int = 0


class Repeats(NamedTuple):
    """Segment lengths that recur: lengths (repeats,), and which of them each slot's segment has, (slots,)."""

    lengths: Any
    which: Any


class Solved(NamedTuple):
    """outputs: tuple of (records, lanes), one per output. failed: (lanes,) bool. failure_time: (lanes,), NaN where fine.
    states: tuple of (records, lanes). steps: (2, lanes) accepted and rejected steps (0 for exact methods)."""

    outputs: tuple[Any, ...]
    failed: Any
    failure_time: Any
    states: tuple[Any, ...]
    steps: Any

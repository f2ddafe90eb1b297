"""What a ventricular cell says beyond the contract of every model: its currents, its stimulus, how fast each state relaxes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

from gemello.model.contract import Model, Output, Port


class Stimulus(NamedTuple):
    """Square pulse at the start of each beat: amplitude in uA/uF (negative depolarises), duration in ms."""

    amplitude: float
    duration: float


class Rates(NamedTuple):
    """derivative: State, 1/ms times each state's unit. relaxation: State, 1/ms, at most 0: the diagonal of the Jacobian or an
    estimate of it, for states that an exponential step must hold (a gate: −1/τ); 0.0 where an explicit step will do.
    currents: NamedTuple of membrane currents in uA/uF, outward positive. coupled: for each of the model's
    `coupled`, M of x' = M x as rows (1/ms; the number 0.0 where there is no transition)."""

    derivative: Any
    relaxation: Any
    currents: Any
    coupled: tuple[tuple[tuple[Any, ...], ...], ...] = ()


class CellModel(Model, abc.ABC):
    """A cell. Its equations are `rates`; `derivative` and `relaxation` are parts of it."""

    time_unit = "ms"
    ports = (Port("stimulus", "uA/uF", kind="signal"),)
    method = "rush_larsen"
    unit_literals = "gate kinetics are fits in mV and ms"

    voltage: str  # state that is the membrane potential, mV
    calcium: str  # state that is the free calcium of the cytosol, mM
    stimulus: Stimulus  # the published one
    conductances: Mapping[str, str]  # current (IKr, INa, INaL, ICaL, Ito, IKs, IK1 ...) -> parameter that scales it
    coupled: tuple[tuple[str, ...], ...] = ()  # states of Markov channels, which hold one another: the diagonal alone does not do
    binding: tuple[str, ...] = ()  # parameters of a drug that binds to the hERG channel
    bound: tuple[str, ...] = ()  # states of the channel with the drug in it, and
    unbound: tuple[str, ...] = ()  # without it: occupancies, 1 together
    net: tuple[str, ...] = ("INaL", "ICaL", "Ito", "IKr", "IKs", "IK1")  # currents of qNet (Dutta 2017)

    @property
    def varied(self) -> tuple[str, ...]:
        """Parameters in which cells of one run may differ at no cost: conductances, and what a drug changes."""
        return tuple(dict.fromkeys((*self.conductances.values(), *self.binding)))

    @abc.abstractmethod
    def rates(self, t: Any, y: Any, p: Any, stimulus: Any) -> Rates:
        """Derivatives, relaxation rates and currents at state y with parameters p and stimulus (uA/uF)."""

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        """Time derivative of the state (1/ms)."""
        return self.rates(t, y, p, u.stimulus).derivative

    def relaxation(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        """Relaxation rates of the states (1/ms)."""
        return self.rates(t, y, p, u.stimulus).relaxation

    def coupling(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        """Matrices of `coupled` (1/ms)."""
        return self.rates(t, y, p, u.stimulus).coupled

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        """Membrane potential (mV) and free calcium of the cytosol (mM)."""
        return (getattr(y, self.voltage), getattr(y, self.calcium))


OUTPUTS = (Output("V", "mV"), Output("Cai", "mM"))

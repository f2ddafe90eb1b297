"""The kinds of cell of a heart as lanes of one cell model: endo, mid and epi at places from apex to base, with and without a
drug."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gemello.base.errors import DataError, ModelError
from gemello.domains.heart.cells.cell import CellModel
from gemello.domains.heart.drugs.drug import Drug
from gemello.domains.heart.drugs.effect import effect
from gemello.domains.heart.organ.cloud import Booleans, Floats
from gemello.domains.heart.organ.recovery import LAYERS, Templates, aligned
from gemello.domains.heart.pacing import pace

Values = dict[str, Floats]


@dataclass(frozen=True, eq=False)
class Kinds:
    """models: endo, mid, epi, which share their equations and differ in parameters. iks: factor on IKs at each place from apex
    to base: it is denser at the apex than at the base, about twofold in dog and man (Szentadrássy et al. 2005, Cardiovasc Res
    65:851)."""

    models: tuple[CellModel, CellModel, CellModel]
    iks: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.models) != len(LAYERS) or len({type(m) for m in self.models}) > 1:
            raise ModelError("a wall needs three models with the same equations: endo, mid, epi")
        if not self.iks or not min(self.iks) > 0.0:
            raise DataError(
                "no factors above 0", column="iks", value=self.iks, remedy="give one factor for each place, such as (1,)"
            )

    @property
    def levels(self) -> int:
        """Places from apex to base."""
        return len(self.iks)

    @property
    def count(self) -> int:
        """Kinds: layers of the wall × places."""
        return len(LAYERS) * self.levels

    def parameters(self) -> Values:
        """{name: (kinds,)} in the order of `recovery.weights`, of those in which kinds differ."""
        tables = [{r.name: r.value for r in m.parameters} for m in self.models]
        iks = self.models[0].conductances.get("IKs")
        if self.levels > 1 and iks is None:
            raise ModelError(f"{self.models[0].name} has no IKs; give one factor")
        out = {}
        for name in tables[0]:
            value = np.repeat([t[name] for t in tables], self.levels)
            if name == iks:
                value = value * np.tile(self.iks, len(LAYERS))
            if np.ptp(value) > 0.0 or (name == iks and self.iks[0] != 1.0):
                out[name] = value
        return out

    def initial(self) -> Any:
        """State with entries (kinds,): every model's own."""
        states = [_own_state(m) for m in self.models]
        columns = [np.repeat([float(s[i]) for s in states], self.levels) for i in range(len(states[0]))]
        return type(states[0])(*columns)


def with_drug(kinds: Kinds, drug: Drug | None, concentrations: ArrayLike, herg: str = "auto") -> Values:
    """{name: (concentrations × kinds,)}: kinds vary fastest. concentrations: nM; no drug: one concentration, which counts for
    nothing."""
    own = kinds.parameters()
    doses = np.atleast_1d(np.asarray(concentrations, float))
    count = kinds.count
    base = {n: np.tile(v, len(doses)) for n, v in own.items()}
    if drug is None:
        return base
    changed = effect(drug, np.repeat(doses, count), kinds.models[0], herg=herg, base=base)
    return base | changed


def beats(
    kinds: Kinds,
    drug: Drug | None = None,
    concentrations: ArrayLike = 0.0,
    *,
    herg: str = "auto",
    cycle_length: float = 1000.0,
    number: int = 100,
    step: float = 0.5,
    dtype: str = "float64",
    pacer: Callable[..., Any] = pace,
) -> list[Templates]:
    """Action potentials of all kinds at each concentration (nM), after `number` beats of `cycle_length` ms: one Templates each.

    step: ms between points. herg: as in `drugs.effect`. Raises DataError where a kind fails, does not repolarise or has early
    afterdepolarisations, for an ECG of such a beat means nothing.
    """
    doses = np.atleast_1d(np.asarray(concentrations, float))
    parameters = with_drug(kinds, drug, doses, herg)
    out = paced(kinds, parameters, len(doses), pacer, cycle_length=cycle_length, beats=number, dtype=dtype, trace=step)
    for dose, why in zip(doses, unsound(kinds, out, cycle_length), strict=True):
        if why:
            raise DataError(
                why, source="no drug" if drug is None else f"drug {drug.name}", value=f"{dose:g} nM",
                remedy="an ECG of it means nothing: take a lower concentration or a longer cycle",
            )  # fmt: skip
    return templates(out, np.ones(len(doses), bool), step)


def paced(kinds: Kinds, parameters: Values, doses: int, pacer: Callable[..., Any], **options: Any) -> Any:
    """What a pacer gives of all kinds at so many doses, kinds varying fastest, each from its own state without drug."""
    state = kinds.initial()
    return pacer(kinds.models[0], parameters, state=type(state)(*(np.tile(v, doses) for v in state)), **options)


def unsound(kinds: Kinds, out: Any, cycle_length: float) -> list[str]:
    """By dose, why no ECG can be made of what a pacer gave (lanes: doses × kinds); nothing where one can."""
    rest = np.asarray(out.trace.voltage)[:, -1] < -60.0
    ill = np.asarray(out.failed, bool) | ~rest | ~(np.asarray(out.biomarkers["repolarised"]) > 0.0)
    again = np.asarray(out.biomarkers["ead"]) > 0.0
    words = []
    for stays, rises in zip(_by_dose(kinds, ill), _by_dose(kinds, again), strict=True):
        first, second = (f"a cell ({LAYERS[int(v.argmax()) // kinds.levels]})" for v in (stays, rises))
        late = f"{first} does not repolarise within {cycle_length:g} ms"
        early = f"{second} has early afterdepolarisations, so no one beat stands for the others"
        words.append(late if stays.any() else early if rises.any() else "")
    return words


def templates(out: Any, doses: Booleans, step: float) -> list[Templates]:
    """Of what a pacer gave at some of the doses (doses,), `step` ms between points."""
    rest = out.trace.voltage[:, -1]
    time = np.concatenate([[0.0], out.trace.time])
    voltage = np.column_stack([rest, out.trace.voltage])  # a steady beat begins as it ends
    return [aligned(time, v, step) for v, well in zip(np.split(voltage, len(doses)), doses, strict=True) if well]


def _by_dose(kinds: Kinds, values: Any) -> Any:
    return values.reshape(-1, kinds.count)


def _own_state(model: CellModel) -> Any:
    p = model.individual_type(*(model.parameters[n].value for n in model.individual_type._fields))
    return model.initial(p)


def mixed(kinds: Kinds, weight: Floats) -> tuple[Values, Mapping[str, Floats]]:
    """Parameters and initial state {name: (points,)} of points with weights (points, kinds): means, for tissue whose cells are
    of one model."""
    own = kinds.parameters()
    state = kinds.initial()._asdict()
    return {n: weight @ v for n, v in own.items()}, {n: weight @ v for n, v in state.items()}

"""A drug as the channels see it: Hill block, dynamic hERG binding, therapeutic concentration, joint samples of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError

CHANNELS = ("INa", "INaL", "ICaL", "IKr", "IKs", "IK1", "Ito")
HERG = "IKr"  # the current of the hERG channel
STATIC_BESIDE = f"static block of {HERG} is used only where a cell has no dynamic hERG"
HILL_RANGE = (0.3, 5.0)  # outside of it: a warning, for few assays support such a coefficient
HILL_POSSIBLE = (0.05, 20.0)  # outside of it: refused
KT = 3.5e-5  # 1/ms, rate of trapping of a bound channel (Li 2017, Circ Arrhythm Electrophysiol 10:e004628, supplement)
LOWEST, HIGHEST = 1e-9, 1e13  # nM: concentrations outside are slips of unit
CMAX_HIGHEST = 1e9  # nM, 1 M

Array = NDArray[np.float64]


class Block(NamedTuple):
    """Hill block of one channel: fraction left = 1/(1 + (C/ic50)^h). ic50 in nM; floats, or arrays (samples,)."""

    ic50: Any
    h: Any


class Binding(NamedTuple):
    """Dynamic binding to hERG (Li 2017): rates Kmax·Ku·D^n/(D^n + halfmax) on, Ku off, D in nM.

    kmax: 1. ku: 1/ms. n: 1. halfmax: EC50^n, nM^n. vhalf: mV, of trapping. Floats, or arrays (samples,).
    """

    kmax: Any
    ku: Any
    n: Any
    halfmax: Any
    vhalf: Any

    @property
    def ec50(self) -> Any:
        """Concentration of half the greatest rate on, nM."""
        return self.halfmax ** (1.0 / self.n)


class Effects(NamedTuple):
    """Hill block by channel (IKr: static hERG, used only where no dynamic binding is) and dynamic binding, or None."""

    block: Mapping[str, Block]
    binding: Binding | None

    @property
    def samples(self) -> int:
        """Number of joint samples; 0 for one set of floats."""
        return max((np.size(v) for v in self.values() if np.ndim(v)), default=0)

    def take(self, which: Any) -> Effects:
        """These samples (indices or a slice), still joint."""

        def pick(values: Iterable[Any]) -> Iterator[Any]:
            return (np.asarray(v)[which] for v in values)

        binding = None if self.binding is None else Binding(*pick(self.binding))
        return Effects({c: Block(*pick(b)) for c, b in self.block.items()}, binding)

    def values(self) -> Iterator[Any]:
        """Every number or array of it."""
        for b in self.block.values():
            yield from b
        yield from self.binding or ()


@dataclass(frozen=True)
class Drug:
    """name. cmax: free therapeutic concentration, nM. point: best values. samples: joint draws of the same parameters, or None.
    risk: class of a reference drug (0 low, 1 intermediate, 2 high), or None. vintage: which set of measurements and fits it
    belongs to ("" : none). notes: what a reader should know (a Hill coefficient out of the usual range, an extrapolated IC50).
    unmeasured: channels of which nothing is known; they count as not blocked.
    """

    name: str
    cmax: float
    point: Effects
    samples: Effects | None = None
    risk: int | None = None
    vintage: str = ""
    notes: tuple[str, ...] = field(default=())
    unmeasured: tuple[str, ...] = ()

    @property
    def notes_where_static(self) -> tuple[str, ...]:
        """The notes, for cells in which hERG acts by its static block wherever the drug has one."""
        if HERG not in self.point.block or self.point.binding is None:
            return self.notes
        used = f"{HERG} acts here by its static block; the dynamic parameters of hERG are not used"
        return (used, *(n for n in self.notes if n != STATIC_BESIDE))

    def __post_init__(self) -> None:
        check_concentration(self.cmax, f"drug {self.name}", "Cmax", CMAX_HIGHEST)
        for part in (self.point, self.samples):
            if part is not None:
                check_effects(part, f"drug {self.name}")
        if self.point.samples or (self.samples is not None and not self.samples.samples):
            raise DataError(
                "samples for best values, or the other way round", source=f"drug {self.name}",
                remedy="give point as numbers, and samples as arrays of one length",
            )  # fmt: skip
        if self.samples is not None:
            same = set(self.samples.block) == set(self.point.block)
            if not same or (self.samples.binding is None) != (self.point.binding is None):
                raise DataError(
                    "samples of other channels than the point values",
                    source=f"drug {self.name}",
                    remedy="give samples of the same fit, one column per parameter",
                )


def check_concentration(value: float, source: str, column: str, highest: float = HIGHEST) -> float:
    """`value` (nM) if it is a possible concentration, up to `highest`; DataError otherwise."""
    if not (math.isfinite(value) and value > 0):
        raise DataError("not a positive concentration", source=source, column=column, value=value, remedy="give it above 0")
    if not LOWEST <= value <= highest:
        raise DataError(
            f"{value:g} nM is no concentration of an assay", source=source, column=column, remedy="check its unit (nM, uM, ng/mL)"
        )
    return value


def check_effects(part: Effects, source: str) -> None:
    """Raise DataError unless every channel is known, every number possible, and samples are equally many."""
    sizes = {np.shape(v) for v in part.values()}
    for channel, b in part.block.items():
        check_channel(channel, source)
        _positive(b.ic50, source, f"{channel} IC50")
        _between(b.h, *HILL_POSSIBLE, source, f"{channel} Hill coefficient")
    herg = part.binding
    if herg is not None:
        for name, v in (("Kmax", herg.kmax), ("Ku", herg.ku), ("halfmax", herg.halfmax)):
            _positive(v, source, f"hERG {name}")
        _between(herg.n, *HILL_POSSIBLE, source, "hERG n")
        _between(herg.vhalf, -500.0, 500.0, source, "hERG Vhalf")
    if len(sizes) > 1 or any(len(s) > 1 for s in sizes):
        raise DataError("unequal numbers of samples", source=source, remedy="give joint samples: one row, one value of each")


def check_channel(name: str, source: str) -> str:
    """`name` if it is one of CHANNELS; DataError with the likeliest meant otherwise."""
    if name not in CHANNELS:
        meant = SYNONYMS.get(name.lower().replace("_", "").replace(" ", "").replace("-", ""))
        hint = f"did you mean {meant}?" if meant else f"use one of {', '.join(CHANNELS)}"
        raise DataError("unknown channel", source=source, column="channels", value=name, remedy=hint)
    return name


SYNONYMS = {
    **{c.lower(): c for c in CHANNELS},
    **dict.fromkeys(("herg", "kr", "kv11.1", "kcnh2", "ikr1", "hergic50"), HERG),
    **dict.fromkeys(("nav1.5", "nav15", "na", "peaksodium", "scn5a", "fastsodium", "inafast"), "INa"),
    **dict.fromkeys(("nav1.5late", "latesodium", "nal", "inalate", "latena", "latenav1.5"), "INaL"),
    **dict.fromkeys(("cav1.2", "cav12", "cal", "ica", "ltype", "ltypecalcium", "cacna1c"), "ICaL"),
    **dict.fromkeys(("kvlqt1", "ks", "kcnq1", "kcnq1mink", "kv7.1"), "IKs"),
    **dict.fromkeys(("kir2.1", "k1", "kcnj2"), "IK1"),
    **dict.fromkeys(("kv4.3", "to", "kcnd3"), "Ito"),
}


def warnings(part: Effects) -> tuple[str, ...]:
    """Words on what is possible but unusual: Hill coefficients outside HILL_RANGE."""
    low, high = HILL_RANGE
    return tuple(
        f"{channel}: Hill coefficient {np.ravel(b.h)[0]:g} outside {low:g} to {high:g}"
        for channel, b in part.block.items()
        if np.any((np.asarray(b.h) < low) | (np.asarray(b.h) > high))
    )


def _positive(value: Any, source: str, column: str) -> None:
    v = np.asarray(value, float)
    bad = ~(np.isfinite(v) & (v > 0))
    if np.any(bad):
        raise DataError(
            "not a positive number", source=source, column=column, value=_first(v, bad),
            remedy="give it above 0, or leave the channel out where there is no block",
        )  # fmt: skip


def _between(value: Any, low: float, high: float, source: str, column: str) -> None:
    v = np.asarray(value, float)
    bad = ~((v >= low) & (v <= high))
    if np.any(bad):
        raise DataError(
            f"outside {low:g} to {high:g}", source=source, column=column, value=_first(v, bad),
            remedy="check the fit that it comes from",
        )  # fmt: skip


def _first(values: Array, bad: NDArray[np.bool_]) -> str:
    """The first bad one, in words."""
    return f"{np.ravel(values)[np.ravel(bad)][0]:.6g}"

"""Covariate effects wrapped around any model: the same equations, with some typical values multiplied by functions of covariates.

With covariate c, centre r and coefficient θ, neutral at 0, the typical value of an individual parameter is multiplied by

    power         (c / r)^θ                      linear       1 + θ (c − r)
    exponential   exp(θ (c − r))                 categorical  1 + θ_k in category k, 1 in the category of reference r
    hockey-stick  1 + θ_low (c − r) where c ≤ r, 1 + θ_high (c − r) above

which are the forms of Jonsson & Karlsson 1998 (Pharm Res 15:1463). The odds of a logit-normal parameter are multiplied, so that
it stays between 0 and 1. Coefficients of the linear forms are kept where the factor is positive over the range of the covariate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gemello.base.errors import DataError, ModelError
from gemello.model.contract import Covariate, Model
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Subject

Form = Literal["power", "linear", "exponential", "hockey-stick", "categorical"]
FORMS: tuple[Form, ...] = ("power", "linear", "exponential", "hockey-stick", "categorical")
INSIDE = 0.99  # share of the way to a factor of 0 that a coefficient may go
LARGEST = 100.0  # a factor of 101 is far enough
MOST_CATEGORIES = 20
_KEPT = ("version", "time_unit", "states", "outputs", "ports", "accumulators", "card", "unit_literals", "method", "tolerances")
_EQUATIONS = ("derivative", "propagator", "matrix", "advance")  # only those that the model has may be there


@dataclass(frozen=True)
class Effect:
    """A covariate's effect on an individual parameter.

    centre: value at which the effect is neutral (the break of a hockey-stick, the category of reference); by default the median
    of the subjects (the most frequent category), or the model's reference where no subjects are given. name: of the coefficient,
    by default `CL_WT`; further words are added where there are several (`CL_WT_low`, `CL_WT_high`, `CL_RACE_3`).
    """

    parameter: str
    covariate: str
    form: Form = "power"
    centre: float | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """Name of the coefficient, or the beginning of the names of several."""
        return self.name or f"{self.parameter}_{self.covariate}"


@dataclass(frozen=True)
class _Resolved:
    """An effect with everything known: names of its coefficients and, of a categorical one, the category of each."""

    effect: Effect
    centre: float
    names: tuple[str, ...]
    categories: tuple[float, ...]


def with_effects(
    model: Model,
    effects: Iterable[Effect],
    *,
    subjects: Sequence[Subject] | None = None,
    units: Mapping[str, str] | None = None,
) -> Model:
    """The model with these effects: the same equations, further rows of the parameter table (value 0: no effect) to be estimated.

    subjects: from whose data come centres, and ranges and categories of covariates that the model does not declare. units: of
    those covariates, by name (default 1). The same question gives the same model, so that what was compiled for it is found
    again. Raises ModelError (an unknown parameter, form or covariate, a name taken) and DataError (a column that is missing).
    """
    chosen = tuple(effects)
    seen = {e.covariate: _values(subjects, e.covariate) for e in chosen} if subjects else {}
    declared = {c.name: c for c in model.covariates}
    covariates = {n: declared.get(n) or _declare(model, n, v, units or {}, _kinds(chosen, n)) for n, v in seen.items()}
    resolved = []
    for e in chosen:
        _check(model, e)
        c = covariates.get(e.covariate) or declared.get(e.covariate)
        if c is None:
            raise ModelError(
                f"effect {e.label}: {model.name} has no covariate {e.covariate!r}; give the subjects, whose data have the column"
            )
        resolved.append(_resolve(e, c, seen.get(e.covariate)))
    rows = tuple(row for r in resolved for row in _rows(r, covariates.get(r.effect.covariate) or declared[r.effect.covariate],
                                                         seen.get(r.effect.covariate)))  # fmt: skip
    names = [r.name for r in rows]
    taken = sorted({n for n in names if n in model.parameters or n in model.individual_units() or names.count(n) > 1})
    if taken:
        raise ModelError(f"model {model.name}: the name {taken[0]} is taken; give the effect another, Effect(..., name=...)")
    new = tuple(c for n, c in covariates.items() if n not in declared)
    return _wrapped(model, tuple(resolved), rows, new)


def with_columns(model: Model, units: Mapping[str, str]) -> Model:
    """The model with further covariates that its equations do not use, by name and unit: a reader of data then keeps these
    columns."""
    declared = {c.name for c in model.covariates}
    anything = (-math.inf, math.inf)
    new = tuple(Covariate(n, u, -math.inf, math.inf, 0.0, anything) for n, u in units.items() if n not in declared)
    return _wrapped(model, (), (), new) if new else model


def _kinds(effects: Sequence[Effect], covariate: str) -> bool:
    """Whether this covariate is only used by categories."""
    return all(e.form == "categorical" for e in effects if e.covariate == covariate)


def _check(model: Model, e: Effect) -> None:
    if e.form not in FORMS:
        raise ModelError(f"effect {e.label}: form {e.form!r}; use {', '.join(FORMS)}")
    if e.parameter not in model.individual_units():
        raise ModelError(
            f"effect {e.label}: {model.name} has no individual parameter {e.parameter!r}; it has "
            f"{', '.join(model.individual_units())}"
        )
    if not e.label.isidentifier():
        raise ModelError(f"effect {e.label!r}: not a name; use letters, digits and _")


# ---- covariates ----------------------------------------------------------------------------------------------------
def _values(subjects: Sequence[Subject] | None, name: str) -> NDArray[np.float64]:
    """All values of a covariate, (records of all subjects,). Raises DataError where a subject lacks it."""
    for s in subjects or ():
        if name not in s.schedule.columns or not np.isfinite(s.schedule.columns[name]).all():
            raise DataError(
                f"subject {s.id}: the covariate is missing", column=name, remedy="add it, with a value in every record, or leave "
                "it out of the effects"
            )  # fmt: skip
    return np.concatenate([s.schedule.columns[name] for s in subjects or ()])


def _declare(model: Model, name: str, values: NDArray[np.float64], units: Mapping[str, str], categorical: bool) -> Covariate:
    """A covariate as these data show it."""
    if not name.isidentifier():
        raise ModelError(f"model {model.name}: covariate {name!r} is not a name; use letters, digits and _")
    low, high = float(values.min()), float(values.max())
    possible = (0.0 if low >= 0 else -math.inf, math.inf)
    unit = units.get(name, "1")
    if categorical:
        found, count = np.unique(values, return_counts=True)
        return Covariate(name, unit, low, high, float(found[np.argmax(count)]), possible, tuple(map(float, _few(name, found))))
    return Covariate(name, unit, low, high, float(np.median(values)), possible)


def _few(name: str, found: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(found) > MOST_CATEGORIES:
        raise ModelError(f"covariate {name}: {len(found)} different values are no categories; use a form for numbers")
    return found


# ---- coefficients --------------------------------------------------------------------------------------------------
def _resolve(e: Effect, c: Covariate, values: NDArray[np.float64] | None) -> _Resolved:
    if e.form == "categorical":
        found = np.array(c.categorical) if c.categorical else np.unique(values) if values is not None else np.zeros(0)
        if not len(found):
            raise ModelError(f"effect {e.label}: the categories of {c.name} are not known; give the subjects")
        _few(c.name, found)
        common = found[np.argmax([np.sum(values == v) for v in found])] if values is not None else c.reference
        centre = float(common if e.centre is None else e.centre)
        others = tuple(float(v) for v in found if v != centre)
        if centre not in found or not others:
            known = ", ".join(f"{v:g}" for v in found)
            raise ModelError(f"effect {e.label}: reference {centre:g} of the categories {known}; give one of several")
        names = (e.label,) if len(others) == 1 else tuple(f"{e.label}_{_word(v)}" for v in others)
        return _Resolved(e, centre, names, others)
    centre = float(e.centre if e.centre is not None else np.median(values) if values is not None else c.reference)
    low = min(c.lower, float(values.min())) if values is not None else c.lower
    if not math.isfinite(centre) or (e.form == "power" and (centre <= 0 or low <= 0)):
        raise ModelError(f"effect {e.label}: a power needs centre and values above 0 (centre {centre:g}, least {low:g})")
    names = (f"{e.label}_low", f"{e.label}_high") if e.form == "hockey-stick" else (e.label,)
    return _Resolved(e, centre, names, ())


def _word(category: float) -> str:
    return f"{category:g}".replace("-", "m").replace(".", "p").replace("+", "")


def _rows(r: _Resolved, c: Covariate, values: NDArray[np.float64] | None) -> list[Parameter]:
    """Rows of the parameter table: neutral value 0 and a range in which the factor is positive."""
    e, form = r.effect, r.effect.form
    ends = [c.lower, c.upper] + ([float(values.min()), float(values.max())] if values is not None else [])
    low, high = min(ends) - r.centre, max(ends) - r.centre
    bare = c.unit in ("1", "")
    per = "1" if form in ("power", "categorical") or bare else f"1/{c.unit}" if c.unit.isalpha() else f"1/({c.unit})"
    most = INSIDE / -low if low < 0 else math.inf  # 1 + θ low > 0
    least = -INSIDE / high if high > 0 else -math.inf
    wide = 10.0 / max(high - low, 1e-300) if math.isfinite(high - low) else math.inf
    ranges: dict[str, tuple[tuple[float, float], ...]] = {
        "power": ((-math.inf, math.inf),),
        "linear": ((least, most),),
        "exponential": ((-wide, wide),),
        "hockey-stick": (
            (LARGEST / low if low < 0 else -math.inf, most),
            (least, LARGEST / high if high > 0 else math.inf),
        ),
        "categorical": ((-INSIDE, LARGEST),) * len(r.names),
    }
    at = f"category {r.centre:g}" if form == "categorical" else f"{r.centre:g}" + ("" if bare else f" {c.unit}")
    words = {
        "power": (f"exponent of {c.name} on {e.parameter}, relative to {at}",),
        "linear": (f"relative change of {e.parameter} per {c.name} from {at}",),
        "exponential": (f"change of ln {e.parameter} per {c.name} from {at}",),
        "hockey-stick": tuple(f"relative change of {e.parameter} per {c.name}, {side} {at}" for side in ("below", "above")),
        "categorical": tuple(f"relative change of {e.parameter} where {c.name} is {k:g}, from {at}" for k in r.categories),
    }
    return [
        Parameter(n, 0.0, per, *limits, source=f"covariate effect ({form}); 0: none, to be estimated", description=text)
        for n, limits, text in zip(r.names, ranges[form], words[form], strict=True)
    ]


def coefficients(model: Model, effect: Effect) -> tuple[str, ...]:
    """Names of the coefficients that this effect has in a model made by `with_effects`. Raises ModelError where it has none."""
    for r in getattr(model, "effects", ()):
        if r.effect == effect:
            return r.names
    raise ModelError(f"model {model.name}: has no effect {effect.label}")


# ---- the model -----------------------------------------------------------------------------------------------------
def factor(r: _Resolved, theta: Any, cov: Any) -> Any:
    """What the typical value is multiplied by; elementwise."""
    c, form = getattr(cov, r.effect.covariate), r.effect.form
    k = [getattr(theta, n) for n in r.names]
    if form == "power":
        return jnp.exp(k[0] * jnp.log(c / r.centre))
    if form == "exponential":
        return jnp.exp(k[0] * (c - r.centre))
    if form == "linear":
        return 1.0 + k[0] * (c - r.centre)
    if form == "hockey-stick":
        return 1.0 + jnp.where(c <= r.centre, k[0], k[1]) * (c - r.centre)
    return 1.0 + sum(jnp.where(c == v, t, 0.0) for v, t in zip(r.categories, k, strict=True))


class _Affected(Model):
    """What all wrapped models share; `_wrapped` adds the equations that the model has."""

    def __init__(
        self, base: Model, effects: tuple[_Resolved, ...], rows: tuple[Parameter, ...], new: tuple[Covariate, ...]
    ) -> None:
        for name in _KEPT:
            setattr(self, name, getattr(base, name))
        self.base, self.effects = base, effects
        self.name = f"{base.name}+{'+'.join(r.effect.label for r in effects)}" if effects else base.name
        self.covariates = (*base.covariates, *new)
        self.individuals = dict(base.individual_units())
        self.parameters = ParameterTable((*base.parameters.rows, *rows), base.parameters.covariances)

    def typical(self, theta: Any, cov: Any) -> Any:
        base = self.base
        own = base.covariate_type(*(getattr(cov, n) for n in base.covariate_type._fields))
        p = base.typical(base.theta_type(*(getattr(theta, n) for n in base.theta_type._fields)), own)
        moved: dict[str, Any] = {}
        for r in self.effects:
            name, by = r.effect.parameter, factor(r, theta, cov)
            value = moved.get(name, getattr(p, name))
            odds = name in base.parameters and base.parameters[name].distribution == "logitnormal"
            moved[name] = value * by / (1.0 - value + value * by) if odds else value * by
        return p._replace(**moved)

    def initial(self, p: Any) -> Any:
        return self.base.initial(p)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.base.observe(t, y, p, u)

    def balance(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.base.balance(t, y, p, u)


@lru_cache(maxsize=64)
def _wrapped(base: Model, effects: tuple[_Resolved, ...], rows: tuple[Parameter, ...], new: tuple[Covariate, ...]) -> Model:
    def through(equation: str) -> Callable[..., Any]:
        return lambda self, *arguments: getattr(self.base, equation)(*arguments)

    kind = type("Affected", (_Affected,), {e: through(e) for e in _EQUATIONS if base.has(e)})
    return kind(base, effects, rows, new)

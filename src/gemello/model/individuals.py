"""From population parameters, etas and covariates to individual parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from gemello.base.errors import DataError, ModelError, UnsupportedError
from gemello.engine.lanes import precision
from gemello.model.contract import Covariate, Model
from gemello.model.schedule import OCCASION, Subject


def individual(model: Model, theta: Any, eta: Any, cov: Any, kappa: Any = ()) -> Any:
    """Individual parameters: the typical subject's, moved by eta (and kappa) as the parameter table says.

    theta, cov: NamedTuples of scalars, (lanes,) or (records, lanes). eta: sequence over `eta_names` of (lanes,). kappa: sequence
    over `occasion_names` of what each record's occasion adds, (records, lanes); empty: nothing.
    """
    p = model.typical(theta, cov)
    shift: dict[str, Any] = dict(zip(model.parameters.eta_names, eta, strict=True))
    if kappa:
        for name, k in zip(model.parameters.occasion_names, kappa, strict=True):
            shift[name] = shift.get(name, 0.0) + k
    moved = {}
    for name, e in shift.items():
        if isinstance(e, float) and e == 0.0:
            continue
        typical, kind = getattr(p, name), model.parameters[name].distribution
        if kind == "lognormal":
            moved[name] = typical * jnp.exp(e)
        elif kind == "normal":
            moved[name] = typical + e
        else:
            moved[name] = jax.nn.sigmoid(jnp.log(typical / (1.0 - typical)) + e)
    return p._replace(**moved)


def spread(p: Any, lanes: int) -> Any:
    """Entries as (lanes,) or (records, lanes)."""

    def one(v: Any) -> Any:
        v = jnp.asarray(v, jnp.result_type(float))
        return jnp.broadcast_to(v, (*v.shape[:-1], lanes))

    return jax.tree.map(one, p)


def kappas(eta: Any, occasion: Any, names: int, of: int) -> tuple[Any, ...]:
    """What each record's occasion adds to each of `of` parameters, (records, lanes), from etas (names + occasions · of, lanes) of
    which the first `names` are those between subjects; occasion: (records, lanes), counted from 0."""
    per = eta[names:].reshape(-1, of, eta.shape[-1])
    return tuple(jnp.take_along_axis(per[:, j], occasion, axis=0) for j in range(of))


def residual_sd(model: Model, output: int, f: Any, sigma: Mapping[str, Any], p: Any = None) -> Any:
    """Standard deviation of the residual error at prediction f (any shape); of ln f where the error is log-normal.

    sigma: residual parameters by name. p: individual parameters that broadcast with f, for an `sd` of the model's own.
    """
    r = model.outputs[output].residual
    if r is None:
        raise ModelError(
            f"model {model.name}: output {model.outputs[output].name} has no residual error, so it cannot be observed"
        )
    if r.sd is not None:
        try:
            return r.sd(f, p, sigma)
        except AttributeError:
            if p is not None:
                raise
            raise UnsupportedError(
                f"model {model.name}, output {model.outputs[output].name}: its residual error is a function of the individual "
                "parameters, which are not known here; use a standard form"
            ) from None
    a = sigma[r.additive] if r.additive else 0.0
    b = sigma[r.proportional] if r.proportional else 0.0
    if r.form == "lognormal":
        return jnp.sqrt(a**2 + b**2) + 0.0 * f
    size = jnp.abs(f) if r.form == "combined1" else f
    if r.exponent:
        size = jnp.maximum(jnp.abs(f), 1e-300) ** sigma[r.exponent]
    return a + b * size if r.form == "combined1" else jnp.sqrt(a**2 + (b * size) ** 2)


def measurement(model: Model, output: int, f: Any, sigma: Mapping[str, Any], noise: Any, p: Any = None) -> Any:
    """Measured value at prediction f with standard normal noise, both (any shape); arguments as `residual_sd`."""
    with precision():
        sd = np.asarray(residual_sd(model, output, f, sigma, p))
    r = model.outputs[output].residual
    return f * np.exp(sd * noise) if r is not None and r.form == "lognormal" else f + sd * noise


def covariate_arrays(model: Model, subjects: Sequence[Subject], given: Mapping[str, ArrayLike] | None = None) -> tuple[Any, bool]:
    """Covariates as a NamedTuple of (lanes,), or (records, lanes) where any changes within a subject; and whether one does.

    given: constant ones, scalars or (lanes,), by name; the others are columns of the schedules. A missing covariate, an
    impossible value or a category that is not one raises DataError with its row.
    """
    n, fixed = len(subjects), given or {}
    unknown = set(fixed) - {c.name for c in model.covariates}
    if unknown:
        known = ", ".join(c.name for c in model.covariates) or "none"
        raise ModelError(f"model {model.name}: no covariate {', '.join(sorted(unknown))}; it has {known}")
    stacked, varying = [], False
    for c in model.covariates:
        if c.name in fixed:
            columns = list(np.broadcast_to(np.asarray(fixed[c.name], float), (n,))[:, None])
        else:
            columns = [_column(s, c.name, model) for s in subjects]
        _check_possible(c, np.concatenate(columns), columns, subjects)
        varying |= _varies(columns)
        stacked.append(columns)
    return model.covariate_type(*(_stack(columns, varying) for columns in stacked)), varying


def _varies(columns: Sequence[Any]) -> bool:
    """Whether any column changes."""
    sizes = np.array([len(v) for v in columns])
    if (sizes == 1).all():
        return False
    together, start = np.concatenate(columns), np.cumsum(sizes) - sizes
    return bool((np.maximum.reduceat(together, start) > np.minimum.reduceat(together, start)).any())


def _check_possible(c: Covariate, values: Any, columns: Sequence[Any], subjects: Sequence[Subject]) -> None:
    bad = ~((values >= c.possible[0]) & (values <= c.possible[1]) & np.isfinite(values))
    if c.categorical:
        bad |= ~np.isin(values, c.categorical)
    if not bad.any():
        return
    at = int(np.argmax(bad))
    sizes = np.array([len(v) for v in columns])
    k = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
    i = at - int(sizes[:k].sum())
    allowed = f"one of {c.categorical}" if c.categorical else f"between {c.possible[0]:g} and {c.possible[1]:g} {c.unit}"
    row = int(subjects[k].schedule.row[i]) if i < len(subjects[k].schedule.row) else 0
    raise DataError(
        f"subject {subjects[k].id}: impossible covariate", row=row or None, column=c.name, value=values[at],
        remedy=f"give a value {allowed}",
    )  # fmt: skip


def bound_arrays(model: Model, bind: Mapping[str, str], subjects: Sequence[Subject]) -> tuple[dict[str, Any], bool]:
    """Parameters bound to data columns, (lanes,) or (records, lanes) by parameter name; and whether one changes in a subject."""
    for name in bind:
        if name not in model.parameters:
            raise ModelError(
                f"bind: {model.name} has no parameter {name!r}; it has {', '.join(r.name for r in model.parameters)}"
            )
    columns = {p: [_column(s, c, None) for s in subjects] for p, c in bind.items()}
    varying = any(_varies(vs) for vs in columns.values())
    return {p: _stack(vs, varying) for p, vs in columns.items()}, varying


def occasion_array(model: Model, subjects: Sequence[Subject]) -> tuple[Any, int]:
    """Occasion of each record, (records, subjects), counted from 0 in order of appearance, and the largest number of occasions of
    any subject; (None, 0) for a model without variability between occasions, or where not all subjects have the column OCC."""
    if not model.parameters.occasion_names or any(OCCASION not in s.schedule.columns for s in subjects):
        return None, 0
    found = []
    for s in subjects:
        _, first, which = np.unique(s.schedule.columns[OCCASION], return_index=True, return_inverse=True)
        found.append(np.argsort(np.argsort(first))[which])
    return _stack(found, True), 1 + max(int(v.max()) for v in found)


def _column(s: Subject, name: str, model: Model | None) -> Any:
    if name not in s.schedule.columns:
        need = f"{model.name} needs this covariate" if model else "no such column"
        raise DataError(f"subject {s.id}: {need}", column=name, remedy="add the column, with a value in every record")
    return s.schedule.columns[name]


def _stack(values: Sequence[Any], varying: bool) -> Any:
    if not varying:
        return np.array([v[0] for v in values])
    depth = max(len(v) for v in values)
    return np.stack([np.pad(v, (0, depth - len(v)), mode="edge") for v in values], axis=1)

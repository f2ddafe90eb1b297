"""Stepwise search for covariate effects (Jonsson & Karlsson 1998, Pharm Res 15:1463).

Forward: of all candidates the one with the least p-value of the likelihood-ratio test is taken in, as long as it is below the
limit (0.05). Backward: of the effects taken in the one with the greatest p-value is taken out, as long as it is above the limit
(0.01). A pair of parameter and covariate takes one effect only; where a pair has candidates of several forms, the p-values
choose.

All candidates stand in one model whose coefficients are held at 0 unless an effect is in, so that the whole search runs in one
compiled program (`refit`). The first and the last model are fitted as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from gemello.base.errors import DataError, UnsupportedError
from gemello.inference.population import fit, usable
from gemello.inference.refit import Found, Refit, refit
from gemello.inference.result import Fit
from gemello.inference.search import SEARCHED
from gemello.model.contract import Model
from gemello.model.effects import Effect, coefficients, with_effects
from gemello.model.schedule import Subject

Floats = NDArray[np.float64]
CORRELATED = 0.5  # covariates more alike than this take each other's effects
SHRUNK = 0.3
RARE = 10  # subjects; a category of fewer says little
AT_EDGE = 0.01  # share of a coefficient's range


@dataclass(frozen=True)
class Step:
    """One model that was tried. effect: taken in (forward) or out (backward). objective: of the model; drop: by how much it is
    lower than the model before (forward), or than without the effect (backward). p: of the likelihood-ratio test with `df`
    degrees of freedom. chosen: whether the search went on with it. converged: whether its search did."""

    number: int
    direction: Literal["forward", "backward"]
    effect: Effect
    objective: float
    drop: float
    df: int
    p: float
    chosen: bool
    converged: bool

    @property
    def label(self) -> str:
        return f"{self.effect.parameter} ~ {self.effect.covariate} ({self.effect.form})"


@dataclass(frozen=True, eq=False)
class Stepwise:
    """What a search found. base, final: fits of the first and the last model; model: the last one. effects: in it. steps: every
    model tried, in order. cautions: sentences that belong to the result."""

    base: Fit
    final: Fit
    model: Model
    effects: tuple[Effect, ...]
    steps: tuple[Step, ...]
    forward: float
    backward: float
    cautions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def words(e: Effect) -> dict[str, Any]:
            return {"parameter": e.parameter, "covariate": e.covariate, "form": e.form, "centre": e.centre, "name": e.label}

        rows = [
            {"number": s.number, "direction": s.direction, "effect": words(s.effect), "objective": s.objective, "drop": s.drop,
             "df": s.df, "p": s.p, "chosen": s.chosen, "converged": s.converged}
            for s in self.steps
        ]  # fmt: skip
        return {
            "base": self.base.to_dict(), "final": self.final.to_dict(), "effects": [words(e) for e in self.effects],
            "steps": rows, "forward": self.forward, "backward": self.backward, "cautions": list(self.cautions),
        }  # fmt: skip


def stepwise(
    model: Model,
    subjects: Sequence[Subject],
    candidates: Sequence[Effect],
    *,
    method: str = "focei",
    forward: float = 0.05,
    backward: float = 0.01,
    start: Mapping[str, float] | None = None,
    estimate: Sequence[str] | None = None,
    omega: str | Sequence[Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
    bind: Mapping[str, str] | None = None,
    solver: str | None = None,
    report: Callable[[Step], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Stepwise:
    """Search among `candidates` for effects that the data ask for, from `model` as it is.

    method: fo, foce, focei or laplace. start, estimate, omega, bind, solver: as in `fit`. units: of covariates that the model
    does not declare. report(step) is called with each model tried, progress(words) before what takes long. Raises DataError,
    ModelError, ConvergenceError where the first model does not converge.
    """
    if method not in SEARCHED:
        raise UnsupportedError(f"method {method!r}: the likelihood-ratio tests need {', '.join(SEARCHED)}")
    if not candidates:
        raise DataError("no candidates", column="candidates", remedy="name effects to try")
    if not (0 < forward < 1 and 0 < backward < 1):
        raise DataError(
            "p-values are between 0 and 1", column="forward", value=(forward, backward), remedy="0.05 and 0.01 are usual"
        )
    say = progress or (lambda words: None)
    options: dict[str, Any] = {"estimate": estimate, "omega": omega, "bind": bind, "solver": solver}
    kept, _ = usable(subjects)
    tried = _named(candidates)
    whole = with_effects(model, tried, subjects=kept, units=units)
    say("Fitting the model without further effects")
    base = fit(model, kept, method, start=start, **options).check()
    say(f"Compiling {len(tried)} candidates")
    names = {e: coefficients(whole, e) for e in tried}
    also = [n for e in tried for n in names[e]]
    target = refit(whole, kept, base, method=method, bind=bind, solver=solver, also=also)
    search = _Search(target, names, report)
    search.forward(forward, say)
    search.backward(backward, say)
    final_model, final = model, base
    if search.inside:
        say("Fitting the last model")
        final_model = with_effects(model, search.inside, subjects=kept, units=units)
        values = dict(zip(target.names, map(float, target.natural(search.at.x)), strict=True))
        first = {**base.theta, **base.sigma, **{k: v for k, v in values.items() if "(" in k or k in final_model.parameters}}
        wanted = None if estimate is None else [*estimate, *(n for e in search.inside for n in names[e])]
        options["estimate"] = wanted
        final = fit(final_model, kept, method, start=_inside(final_model, first), **options)
    cautions = _cautions(final_model, final, kept, search, forward, method)
    return Stepwise(base, final, final_model, tuple(search.inside), tuple(search.steps), forward, backward, cautions)


def _named(candidates: Sequence[Effect]) -> list[Effect]:
    """Candidates whose coefficients have different names: the form is added where a pair has several."""
    pairs = Counter((e.parameter, e.covariate) for e in candidates)
    words = lambda e: e.form.replace("-", "_")  # noqa: E731
    return [
        e if e.name or pairs[e.parameter, e.covariate] == 1 else replace(e, name=f"{e.label}_{words(e)}")
        for e in dict.fromkeys(candidates)
    ]


def _inside(model: Model, values: Mapping[str, float]) -> dict[str, float]:
    """Start values moved off the ends of their ranges."""
    out = {}
    for n, v in values.items():
        if n in model.parameters:
            row = model.parameters[n]
            room = 1e-3 * (row.upper - row.lower) if np.isfinite(row.upper - row.lower) else 0.0
            out[n] = float(np.clip(v, row.lower + room, row.upper - room))
        elif not n.startswith("OMEGA(") or v > 0 or len(set(n[6:-1].split(","))) == 2:
            out[n] = v
    return out


class _Search:
    """The state of a search: which effects are in, and the optimum with them."""

    def __init__(self, target: Refit, names: Mapping[Effect, tuple[str, ...]], report: Callable[[Step], None] | None) -> None:
        self.target, self.names, self.report = target, names, report
        self.inside: list[Effect] = []
        self.steps: list[Step] = []
        self.where = {e: np.isin(target.names, n) for e, n in names.items()}
        self.always = ~np.any(list(self.where.values()), axis=0)
        self.at = self._optimum(target.x0, target.etas, [])

    def _optimum(self, x: Floats, etas: Floats, effects: Sequence[Effect], hessian: Floats | None = None) -> Found:
        free = self.always | np.any([self.where[e] for e in effects], axis=0) if effects else self.always
        first = np.where(free, x, self.target.x0)
        h = self.target.hessian(first, etas, free) if hessian is None else hessian
        found = self.target.search(first, etas, h, free=free)
        if not found.converged:  # far from where the Hessian was taken
            found = self.target.search(found.x, found.etas, self.target.hessian(found.x, found.etas, free), free=free)
        return found

    def _try(self, number: int, direction: Literal["forward", "backward"], e: Effect, hessian: Floats) -> tuple[Step, Found]:
        taken_in = direction == "forward"
        effects = [*self.inside, e] if taken_in else [i for i in self.inside if i != e]
        found = self._optimum(self.at.x, self.at.etas, effects, hessian)
        drop = self.at.objective - found.objective if taken_in else found.objective - self.at.objective
        df = len(self.names[e])
        p = float(chi2.sf(max(drop, 0.0), df)) if np.isfinite(drop) else float("nan")
        return Step(number, direction, e, found.objective, drop, df, p, False, found.converged), found

    def _told(self, tried: list[tuple[Step, Found]], chosen: tuple[Step, Found] | None) -> None:
        for step, _ in tried:
            s = replace(step, chosen=True) if chosen is not None and step is chosen[0] else step
            self.steps.append(s)
            if self.report:
                self.report(s)

    def forward(self, limit: float, say: Callable[[str], None]) -> None:
        number = 0
        while True:
            pairs = {(e.parameter, e.covariate) for e in self.inside}
            left = [e for e in self.names if (e.parameter, e.covariate) not in pairs]
            if not left:
                return
            number += 1
            say(f"Forward step {number}: {len(left)} candidates")
            hessian = self.target.hessian(self.at.x, self.at.etas)
            tried = [self._try(number, "forward", e, hessian) for e in left]
            good = [t for t in tried if t[0].converged and t[0].p < limit]
            best = min(good, key=lambda t: (t[0].p, -t[0].drop)) if good else None
            self._told(tried, best)
            if best is None:
                return
            self.inside, self.at = [*self.inside, best[0].effect], best[1]

    def backward(self, limit: float, say: Callable[[str], None]) -> None:
        number = 0
        while self.inside:
            number += 1
            say(f"Backward step {number}: {len(self.inside)} effects")
            hessian = self.target.hessian(self.at.x, self.at.etas)
            tried = [self._try(number, "backward", e, hessian) for e in self.inside]
            out = [t for t in tried if t[0].converged and t[0].p > limit]
            worst = max(out, key=lambda t: (t[0].p, -t[0].drop)) if out else None
            self._told(tried, worst)
            if worst is None:
                return
            self.inside, self.at = [e for e in self.inside if e != worst[0].effect], worst[1]


# ---- cautions ------------------------------------------------------------------------------------------------------
def _cautions(
    model: Model, final: Fit, subjects: Sequence[Subject], search: _Search, limit: float, method: str
) -> tuple[str, ...]:  # fmt: skip
    first = [s for s in search.steps if s.direction == "forward" and s.number == 1]
    out = [
        f"{len(search.steps)} models were tried; were no candidate related to anything, {limit * len(first):.2g} of the "
        f"{len(first)} first ones would pass p < {limit:g} by chance: effects found by search are too large, p-values too small"
    ]
    if method == "fo":
        out.append("likelihood-ratio tests by FO have too many false positives (Wählby et al. 2001); use focei")
    lost = [s.label for s in search.steps if not s.converged]
    out += [f"did not converge and was not taken: {', '.join(dict.fromkeys(lost))}"] if lost else []
    if not final.converged:
        out.append(f"the last model did not converge: {final.message}")
    for e in search.inside:
        out += _about(model, final, subjects, e)
    tried = sorted({e.covariate for e in search.names})
    values = {c: np.array([s.schedule.columns[c][0] for s in subjects]) for c in tried}
    for i, a in enumerate(tried):
        for b in tried[i + 1 :]:
            if values[a].std() > 0 and values[b].std() > 0:
                r = float(np.corrcoef(values[a], values[b])[0, 1])
                if abs(r) > CORRELATED:
                    out.append(f"{a} and {b} are correlated ({r:.2f}): the data hardly tell their effects apart")
    return tuple(out)


def _about(model: Model, final: Fit, subjects: Sequence[Subject], e: Effect) -> list[str]:
    out = []
    for n in coefficients(model, e):
        row, v = model.parameters[n], final.theta[n]
        width = row.upper - row.lower
        if np.isfinite(width) and min(v - row.lower, row.upper - v) < AT_EDGE * width and e.form != "categorical":
            out.append(
                f"{n} is at the end of its range ({v:.3g} of [{row.lower:.3g}, {row.upper:.3g}]): another form would do better"
            )
    shrunk = final.shrinkage.get(e.parameter, 0.0)
    if shrunk > SHRUNK:
        out.append(f"shrinkage of {e.parameter} is {100 * shrunk:.0f} %: the data say little about it of each subject")
    if e.form == "categorical":
        values, count = np.unique([s.schedule.columns[e.covariate][0] for s in subjects], return_counts=True)
        for v, c in zip(values, count, strict=True):
            if c < RARE:
                out.append(f"only {c} subjects have {e.covariate} {v:g}")
    return out

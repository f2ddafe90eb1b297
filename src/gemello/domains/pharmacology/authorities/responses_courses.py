"""The equations of the pharmacodynamic and mechanistic models once more, in NumPy from the papers, solved by SciPy at rtol 1e-11.

They share nothing with the models but the numbers of the parameter tables, and serve as their authority for whole courses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from gemello.domains.pharmacology.responses import MODELS
from gemello.model import registry
from gemello.model.schedule import Schedule
from gemello.model.simulate import simulate

Slope = Callable[[float, Any, Mapping[str, float], float], list[float]]  # (t, y, parameters, level of the signal)


class Dose(NamedTuple):
    """An amount into the state `state` (its port's number is `port`), at once or over `duration`."""

    time: float
    port: int
    state: int
    amount: float
    duration: float = 0.0


class Course(NamedTuple):
    """What is given, until when, and the state before it; `levels`: those of a signal port and the times from which they hold."""

    slope: Slope
    before: Callable[[Mapping[str, float]], list[float]]
    end: float
    doses: tuple[Dose, ...] = ()
    levels: tuple[tuple[float, float], ...] = ()
    values: Mapping[str, float] = {}
    method: str = "DOP853"


# ---- right-hand sides ------------------------------------------------------------------------------------------------
def _oral(y: Any, p: Mapping[str, float]) -> list[float]:
    return [-p["KA"] * y[0], p["KA"] * y[0] - p["CL"] / p["V"] * y[1]]


def _link(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    return [*_oral(y, p), p["KE0"] * (y[1] / p["V"] - y[2])]


def _indirect(number: int) -> Slope:
    def slope(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
        c = y[1] / p["V"]
        factor = 1 - p["IMAX"] * c / (p["IC50"] + c) if number < 3 else 1 + p["SMAX"] * c / (p["SC50"] + c)
        gain, loss = (factor, 1.0) if number in (1, 3) else (1.0, factor)
        return [*_oral(y, p), p["KIN"] * gain - p["KOUT"] * loss * y[2]]

    return slope


def _turnover(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    c = max(y[1] / p["V"], 0.0)
    drug = p["EMAX"] * c ** p["GAMMA"] / (p["EC50"] ** p["GAMMA"] + c ** p["GAMMA"])
    return [*_oral(y, p), p["KOUT"] * p["E0"] * (1 + drug) - p["KOUT"] * y[2]]


def _warfarin(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    c = y[1] / p["V"]
    return [*_oral(y, p), p["KOUT"] * p["E0"] * (1 - p["EMAX"] * c / (p["EC50"] + c)) - p["KOUT"] * y[2]]


def _friberg(linear: bool) -> Slope:
    def slope(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
        a1, a2, prol, t1, t2, t3, circ = y
        c, k = a1 / p["V1"], 4 / p["MTT"]
        drug = p["SLOPE"] * c if linear else p["EMAX"] * c / (p["EC50"] + c)
        out, back = p["Q"] / p["V1"] * a1, p["Q"] / p["V2"] * a2
        feedback = (p["CIRC0"] / circ) ** p["GAMMA"]
        grown = k * prol * (1 - drug) * feedback - k * prol
        return [
            -p["CL"] * c - out + back,
            out - back,
            grown,
            k * prol - k * t1,
            k * t1 - k * t2,
            k * t2 - k * t3,
            k * t3 - k * circ,
        ]

    return slope


def _simeoni(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    x1, x2, x3, x4 = y[2:]
    w, c = x1 + x2 + x3 + x4, y[1] / p["V"]
    growth = p["LAMBDA0"] * x1 / (1 + (p["LAMBDA0"] / p["LAMBDA1"] * w) ** p["PSI"]) ** (1 / p["PSI"])
    hit, k1 = p["K2"] * c * x1, p["K1"]
    return [*_oral(y, p), growth - hit, hit - k1 * x2, k1 * x2 - k1 * x3, k1 * x3 - k1 * x4]


def _claret(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    return [p["KL"] * y[0] - p["KD"] * np.exp(-p["LAMBDA"] * t) * level * y[0]]


def _hiv(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    target, infected, virus, spoilt = y
    new = (1 - level * p["E_RT"]) * p["K"] * virus * target
    budded = p["N"] * p["DELTA"] * infected
    return [
        p["LAMBDA"] - p["D"] * target - new,
        new - p["DELTA"] * infected,
        (1 - level * p["E_PI"]) * budded - p["C"] * virus,
        level * p["E_PI"] * budded - p["C"] * spoilt,
    ]


def _set_point(p: Mapping[str, float]) -> list[float]:
    target = p["C"] / (p["K"] * p["N"])
    infected = (p["LAMBDA"] - p["D"] * target) / p["DELTA"]
    return [target, infected, p["N"] * p["DELTA"] * infected / p["C"], 0.0]


def _tmdd(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    """Mager & Jusko 2001 in concentrations of V1: kel, kpt and ktp from the clearances."""
    depot, drug, tissue, target, bound = y[0], y[1] / p["V1"], y[2], y[3] / p["V1"], y[4] / p["V1"]
    kel, kpt, ktp = p["CL"] / p["V1"], p["Q"] / p["V1"], p["Q"] / p["V2"]
    drug_ = p["KA"] * depot / p["V1"] - (kel + kpt) * drug + ktp * tissue / p["V1"] - p["KON"] * drug * target + p["KOFF"] * bound
    target_ = p["KSYN"] - p["KDEG"] * target - p["KON"] * drug * target + p["KOFF"] * bound
    bound_ = p["KON"] * drug * target - (p["KOFF"] + p["KINT"]) * bound
    v = p["V1"]
    return [-p["KA"] * depot, v * drug_, kpt * y[1] - ktp * tissue, v * target_, v * bound_]


def _qss(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    """Gibiansky 2008 in concentrations of V1, with the root as the paper has it."""
    depot, total, tissue, target = y[0], y[1] / p["V1"], y[2], y[3] / p["V1"]
    kss, v = p["KSS"], p["V1"]
    free = 0.5 * ((total - target - kss) + np.sqrt((total - target - kss) ** 2 + 4 * kss * total))
    share = target * free / (kss + free)
    total_ = p["KA"] * depot / v - (p["CL"] + p["Q"]) / v * free + p["Q"] / p["V2"] * tissue / v - p["KINT"] * share
    target_ = p["KSYN"] - p["KDEG"] * target - (p["KINT"] - p["KDEG"]) * share
    return [-p["KA"] * depot, v * total_, p["Q"] * free - p["Q"] / p["V2"] * tissue, v * target_]


def _metabolite(t: float, y: Any, p: Mapping[str, float], level: float) -> list[float]:
    depot, parent, tissue, metabolite = y
    out, back = p["Q"] / p["V1"] * parent, p["Q"] / p["V2"] * tissue
    lost = p["CL"] / p["V1"] * parent
    return [-p["KA"] * depot, p["KA"] * depot - lost - out + back, out - back, p["FM"] * lost - p["CLM"] / p["VM"] * metabolite]


# ---- courses ---------------------------------------------------------------------------------------------------------
_ORAL = (Dose(0.0, 1, 0, 100.0), Dose(24.0, 1, 0, 100.0), Dose(36.0, 2, 1, 60.0, 5.0))
_MOUSE = (Dose(8.0, 1, 0, 0.5), Dose(12.0, 1, 0, 0.5), Dose(16.0, 2, 1, 0.5, 1.0))
_BODY = (Dose(0.0, 2, 1, 150.0), Dose(20.0, 1, 0, 100.0), Dose(40.0, 2, 1, 60.0, 0.5))
_CELLS = lambda p: [0.0, 0.0, *[p["CIRC0"]] * 5]  # noqa: E731
_REST = lambda p: [0.0, 0.0, p["KIN"] / p["KOUT"]]  # noqa: E731
_E0 = lambda p: [0.0, 0.0, p["E0"]]  # noqa: E731

COURSES: dict[str, Course] = {
    "effect_compartment": Course(_link, lambda p: [0.0, 0.0, 0.0], 72.0, _ORAL),
    **{f"indirect_{i}": Course(_indirect(i), _REST, 72.0, _ORAL) for i in (1, 2, 3, 4)},
    "turnover_emax": Course(_turnover, _E0, 72.0, _ORAL),
    "myelosuppression": Course(_friberg(True), _CELLS, 800.0, (Dose(0.0, 1, 0, 400.0, 3.0), Dose(504.0, 1, 0, 400.0, 3.0))),
    "myelosuppression_emax": Course(_friberg(False), _CELLS, 800.0, (Dose(0.0, 1, 0, 400.0, 24.0), Dose(504.0, 1, 0, 99.0))),
    "tumour_simeoni": Course(_simeoni, lambda p: [0.0, 0.0, p["W0"], 0.0, 0.0, 0.0], 40.0, _MOUSE, values={"K2": 6.29}),
    "tumour_claret": Course(_claret, lambda p: [p["Y0"]], 40.0, levels=((0.0, 0.8), (9.0, 0.0), (14.0, 0.5))),
    "hiv_dynamics": Course(_hiv, _set_point, 120.0, levels=((2.0, 1.0), (30.0, 0.0), (70.0, 0.5))),
    "tmdd_full": Course(_tmdd, lambda p: [0, 0, 0, p["V1"] * p["KSYN"] / p["KDEG"], 0], 70.0, _BODY, method="Radau"),
    "tmdd_qss": Course(_qss, lambda p: [0, 0, 0, p["V1"] * p["KSYN"] / p["KDEG"]], 70.0, _BODY, method="Radau"),
    "warfarin_pkpd": Course(_warfarin, _E0, 200.0, (Dose(0.0, 1, 0, 100.0), Dose(96.0, 2, 1, 20.0, 5.0)), values={"ALAG1": 0.0}),
    "parent_metabolite": Course(_metabolite, lambda p: [0.0] * 4, 72.0, _ORAL),
}


def solved(course: Course, p: Mapping[str, float], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(states, times) by SciPy; between any two changes of what is given on its own."""
    stops = {0.0, course.end, *(t for t, _ in course.levels)}
    stops |= {d.time for d in course.doses} | {d.time + d.duration for d in course.doses}
    y, out = np.array(course.before(p), float), []
    for start, end in zip(sorted(stops), sorted(stops)[1:], strict=False):
        for d in course.doses:
            y[d.state] += d.amount if d.duration == 0 and d.time == start else 0.0
        rates = np.zeros(len(y))
        for d in course.doses:
            rates[d.state] += d.amount / d.duration if d.duration and d.time <= start < d.time + d.duration else 0.0
        level = next((v for t, v in reversed(course.levels) if t <= start), 0.0)
        inside = times[(times > start) & (times <= end)]

        def slope(t: float, v: Any, r: Any = rates, at: float = level) -> Any:
            return np.asarray(course.slope(t, v, p, at)) + r

        found = solve_ivp(slope, (start, end), y, course.method, t_eval=np.r_[inside, end], rtol=1e-11, atol=1e-12)
        if not found.success:
            raise RuntimeError(found.message)
        out.append(found.y[:, : len(inside)])
        y = found.y[:, -1].copy()
    return np.concatenate(out, axis=1)


def schedule(course: Course, times: NDArray[np.float64]) -> Schedule:
    """The same for gemello; an event at 0 that does nothing, because a subject begins at its first record."""
    out = Schedule.of(0.0, evid=2).observe(times)
    for d in course.doses:
        out = out.dose(d.time, d.amount, port=d.port, duration=d.duration)
    for t, level in course.levels:
        out = out.signal(t, level, port=1)
    return out


def errors(names: tuple[str, ...] = tuple(COURSES)) -> Iterator[tuple[str, float]]:
    """For each model the largest error of any state at rtol 1e-7, in parts of that state's largest value."""
    for name in names:
        course, model = COURSES[name], registry.get(MODELS[name])
        times = np.linspace(0.0, course.end, 61)[1:] + 0.0137  # off the changes
        times = times[times < course.end]
        p = {r.name: r.value for r in model.parameters} | dict(course.values)
        plan = schedule(course, times).covariates(**{c.name: c.reference for c in model.covariates})
        got = simulate(model, plan, dict(course.values), states=True, rtol=1e-7, atol=1e-9).check()
        seen = plan.evid == 0
        ours = np.stack([v[0][seen] for v in got.states.values()])
        want = solved(course, p, times)
        size = np.abs(want).max(axis=1)
        yield name, float((np.abs(ours - want).max(axis=1) / np.where(size > 0, size, 1.0)).max())

"""Solvers against SciPy at tight tolerances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.integrate import solve_ivp

from gemello.base.reference import Check, check
from gemello.domains.pharmacology.target_mediated.model import tmdd
from gemello.domains.pharmacology.two_compartment.model import oral as pk2_oral
from gemello.model.schedule import Schedule
from gemello.model.simulate import simulate


def solvers() -> Iterator[Check]:
    """Adaptive solvers at rtol 1e-6 against SciPy at 1e-11."""
    times = np.linspace(0.0, 56.0, 113)
    p = {q.name: q.value for q in tmdd.parameters}
    got = simulate(tmdd, Schedule().dose(0, 50.0 * p["V"]).observe(times), method="rodas5p", states=True).check()
    individual = tmdd.individual_type(*(p[n] for n in tmdd.individual_type._fields))
    y0 = [float(np.asarray(v)) for v in tmdd.initial(individual)]
    y0[0] += 50.0 * p["V"]
    slope = lambda t, y: [float(v) for v in tmdd.derivative(t, tmdd.state_type(*y), individual, ())]  # noqa: E731
    tight = solve_ivp(slope, (0, 56), y0, "Radau", t_eval=times, rtol=1e-11, atol=1e-12).y
    for k, name in enumerate(tmdd.states):
        wrong = np.abs(got.states[name][0, -len(times) :][1:] - tight[k][1:]).max() / np.abs(tight[k]).max()
        yield check(f"tmdd by rodas5p: {name}, largest error over its maximum", wrong, 0.0, 1e-5, "SciPy Radau, rtol 1e-11")
    plan = Schedule().dose(0, 100, every=24, times=7).observe(np.arange(169.0))
    exact = simulate(pk2_oral, plan, outputs=["cp"]).outputs["cp"]
    stepped = simulate(pk2_oral, plan, outputs=["cp"], method="tsit5").check().outputs["cp"]
    wrong = np.abs(stepped - exact).max() / exact.max()
    yield check(
        "pk2_oral by tsit5: cp, largest error over its maximum",
        wrong,
        0.0,
        1e-5,
        "closed form (itself checked against SciPy expm)",
    )

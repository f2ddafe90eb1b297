"""The peers that `benchmark` runs beside gemello: the same two problems, written as their users would write them.

Nothing here imports JAX or gemello's engine at the top: RoadRunner's worker processes import this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def numpy_closed_form(p: dict[str, Floats], dose: float, every: float, doses: int, times: Floats) -> Floats:
    """(subjects, times) concentration of a 2-compartment oral model after `doses` equal doses: vectorised NumPy.

    A state of three exponentials is carried from dose to dose, so every output costs three exponentials a subject and no
    more (superposing the doses would cost up to `doses` times as many).
    """
    ka, k, k12, k21 = p["KA"], p["CL"] / p["V1"], p["Q"] / p["V1"], p["Q"] / p["V2"]
    total = k + k12 + k21
    alpha = 0.5 * (total + np.sqrt(total**2 - 4 * k * k21))
    beta = k * k21 / alpha
    scale = ka * dose / p["V1"]
    weight = np.stack([
        scale * (k21 - alpha) / ((ka - alpha) * (beta - alpha)),
        scale * (k21 - beta) / ((ka - beta) * (alpha - beta)),
        scale * (k21 - ka) / ((alpha - ka) * (beta - ka)),
    ])  # fmt: skip
    rates = np.stack([alpha, beta, ka])
    decay = np.exp(-rates * every)
    carried, out = np.zeros_like(weight), np.empty((len(ka), len(times)))
    for d in range(doses):
        carried = carried + weight
        here = (times >= d * every) & ((times < (d + 1) * every) | (d == doses - 1))
        since = times[here] - d * every
        c = carried[0][:, None] * np.exp(-rates[0][:, None] * since)
        c += carried[1][:, None] * np.exp(-rates[1][:, None] * since)
        c += carried[2][:, None] * np.exp(-rates[2][:, None] * since)
        out[:, here] = c
        carried = carried * decay
    return out


def diffrax_two_compartments(
    dose: float, every: float, doses: int, times: Floats, rtol: float, atol: float
) -> Callable[..., Any]:
    """Compiled function of (KA, CL, V1, Q, V2), each (subjects,) -> (subjects, times) by diffrax Tsit5 under vmap.

    One solve for each dosing interval, in a scan; outputs equally spaced, the same number in each interval.
    """
    import diffrax as dx  # noqa: PLC0415  (an extra)
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    def slope(t: Any, y: Any, a: Any) -> Any:
        ka, cl, v1, q, v2 = a
        flow = q * (y[1] / v1 - y[2] / v2)
        return jnp.stack([-ka * y[0], ka * y[0] - cl / v1 * y[1] - flow, flow])

    inside = jnp.asarray(times[(times > 0) & (times <= every)])
    control = dx.PIDController(rtol=rtol, atol=atol)

    def one(*a: Any) -> Any:
        def interval(y: Any, _: Any) -> Any:
            y = y.at[0].add(dose)
            s = dx.diffeqsolve(
                dx.ODETerm(slope), dx.Tsit5(), 0.0, every, None, y, args=a, saveat=dx.SaveAt(ts=inside),
                stepsize_controller=control, max_steps=None,
            )  # fmt: skip
            return s.ys[-1], s.ys[:, 1] / a[2]

        _, c = jax.lax.scan(interval, jnp.zeros(3), None, length=doses)
        return jnp.concatenate([jnp.zeros(1), c.reshape(-1)])

    return jax.jit(jax.vmap(one))


def diffrax_target_mediated(times: Floats, rtol: float, atol: float) -> Callable[..., Any]:
    """Compiled function of (initial, KEL, KON, KOFF, KINT, KSYN, KDEG) -> free drug (subjects, times) by Kvaerno5 under vmap."""
    import diffrax as dx  # noqa: PLC0415  (an extra)
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    def slope(t: Any, y: Any, a: Any) -> Any:
        kel, kon, koff, kint, ksyn, kdeg = a
        bind = kon * y[0] * y[1] - koff * y[2]
        return jnp.stack([-kel * y[0] - bind, ksyn - kdeg * y[1] - bind, bind - kint * y[2]])

    def one(first: Any, *a: Any) -> Any:
        y = jnp.stack([first, a[4] / a[5], jnp.zeros_like(first)])
        s = dx.diffeqsolve(
            dx.ODETerm(slope), dx.Kvaerno5(), 0.0, float(times[-1]), None, y, args=a, saveat=dx.SaveAt(ts=jnp.asarray(times)),
            stepsize_controller=dx.PIDController(rtol=rtol, atol=atol), max_steps=None,
        )  # fmt: skip
        return s.ys[:, 0]

    return jax.jit(jax.vmap(one))


# ---- libRoadRunner -------------------------------------------------------------------------------------------------
_NAMES = ("KEL", "KON", "KOFF", "KINT", "KSYN", "KDEG")
_REACTIONS = {
    "elimination": (["L"], [], "KEL*L"),
    "binding": (["L", "R"], ["LR"], "KON*L*R - KOFF*LR"),
    "internalisation": (["LR"], [], "KINT*LR"),
    "synthesis": ([], ["R"], "KSYN"),
    "degradation": (["R"], [], "KDEG*R"),
}
_worker: Any = None


def _build() -> Any:
    import roadrunner  # noqa: PLC0415  (an extra)

    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_ERROR)
    rr = roadrunner.RoadRunner()
    rr.addCompartment("c", 1.0, False)
    for s in ("L", "R", "LR"):
        rr.addSpeciesConcentration(s, "c", 0.0, False, False, "", False)
    for n in _NAMES:
        rr.addParameter(n, 1.0, False)
    for i, (name, (left, right, law)) in enumerate(_REACTIONS.items()):
        rr.addReaction(name, left, right, law, i == len(_REACTIONS) - 1)
    return rr


def _start(rtol: float, atol: float) -> None:
    global _worker  # noqa: PLW0603  (one compiled model in each worker process)
    _worker = _build()
    _worker.integrator.relative_tolerance, _worker.integrator.absolute_tolerance = rtol, atol


def _ready(_: int) -> None:
    time.sleep(0.2)  # long enough that each worker answers


def _run(task: tuple[Floats, Floats, int, float]) -> Floats:
    first, p, points, end = task
    out, model = np.empty((len(first), points)), _worker.model
    for i in range(len(first)):
        _worker.reset()
        for n, v in zip(_NAMES, p[:, i], strict=True):
            model[n] = v
        model["[L]"], model["[R]"], model["[LR]"] = first[i], p[4, i] / p[5, i], 0.0
        out[i] = np.asarray(_worker.simulate(0.0, end, points, ["[L]"]))[:, 0]
    return out


class RoadRunner:
    """TMDD in `processes` worker processes of libRoadRunner (CVODE, LLVM), models compiled before any timing."""

    def __init__(self, rtol: float, atol: float, processes: int = 2) -> None:
        self.processes = processes
        self.pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start, initargs=(rtol, atol))
        list(self.pool.map(_ready, range(processes * 2)))  # every worker has started before anything is timed

    def __call__(self, first: Floats, p: Floats, times: Floats) -> Floats:
        """Free drug (subjects, times); times equally spaced from 0."""
        parts = np.array_split(np.arange(len(first)), self.processes * 4)
        tasks = [(first[k], p[:, k], len(times), float(times[-1])) for k in parts]
        return np.concatenate(list(self.pool.map(_run, tasks)))

    def close(self) -> None:
        self.pool.shutdown()

"""The slab of Niederer et al. 2011 against two other programs' activation times, at three spacings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gemello.base.reference import Check, check, rows
from gemello.domains.heart.tissue import niederer

SPACINGS = (0.5, 0.2, 0.1)
STEP = 0.005
POINTS = tuple(f"P{k}" for k in range(2, 10))


def checks(folder: Path, spacings: tuple[float, ...] = SPACINGS) -> Iterator[Check]:
    """P8 at each spacing; its convergence in spacing and step; all points at the finest. Cells in float32: see the last row."""
    published = _published(folder / "meshes" / "niederer_reference_activation.csv")
    low, high = sorted(p["P8"] for p in published)
    source = f"Niederer 2011 slab by P1 finite elements (fenicsx-beat) and finite volumes (cardiacFoam) at dx 0.1, dt {STEP} ms"
    found = {h: niederer.activation(h, STEP)[0] for h in spacings}
    for h in spacings:
        yield check(
            f"slab, P8 activation at dx {h:g}, dt {STEP:g} ms (ms)",
            found[h]["P8"],
            0.5 * (low + high),
            0.5 * (high - low),
            source,
        )
    last = found[spacings[-1]]
    for name in POINTS:
        a, b = sorted(p[name] for p in published)
        # two other programs are no error bar: half a millisecond beyond them is allowed
        yield check(
            f"slab, {name} activation at dx {spacings[-1]:g} (ms)", last[name], 0.5 * (a + b), 0.5 * (b - a) + 0.5, source
        )
    coarse = found[spacings[0]]["P8"]
    middle = found[spacings[1]]["P8"]
    yield check(
        f"slab, P8 from dx {spacings[1]:g} to {spacings[2]:g} (ms)", last["P8"] - middle, 0.0, 0.5 * abs(middle - coarse),
        "converging: at most half of the change before",
    )  # fmt: skip
    near, far = (niederer.activation(spacings[0], dt)[0]["P8"] for dt in (2.0 * STEP, 4.0 * STEP))
    yield check(
        f"slab, dx {spacings[0]:g}: P8 from dt {2 * STEP:g} to {STEP:g} ms (ms)",
        coarse - near,
        0.0,
        0.1,
        "converging in the step",
    )
    yield check(
        f"slab, dx {spacings[0]:g}: P8 from dt {4 * STEP:g} to {2 * STEP:g} ms (ms)",
        near - far,
        0.0,
        0.2,
        "converging in the step",
    )
    double = niederer.activation(spacings[0], STEP, dtype="float64")[0]["P8"]
    yield check(f"slab, dx {spacings[0]:g}: P8 in float32 less float64 (ms)", coarse - double, 0.0, 0.01, "the same equations")


def _published(file: Path) -> list[dict[str, float]]:
    """Activation times (ms) of both programs at their finest spacing, with the step of this module."""
    at = [r for r in rows(file) if float(r["dx_mm"]) == 0.1 and float(r["dt_ms"]) == STEP]
    return [{n: float(r[n]) for n in (*POINTS, "P1")} for r in at]

"""auto: Tsit5 and Rodas5P by turns, for the whole block, from estimates of h·ρ (ρ: spectral radius of the Jacobian).

Tsit5 gives way when its steps lie at the border of its stability region, for which h·ρ is estimated from the last two
stages, which share their time (L. F. Shampine; Hairer & Wanner, Solving ODEs II, eq. IV.2.26). Rodas5P gives way when
h·‖J‖ says that Tsit5 would be stable with the same step. A change needs several steps that agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from gemello.engine.solvers import rodas5p, tsit5
from gemello.engine.solvers.stages import Array

#: h·ρ above which a Tsit5 step counts as stiff (just inside the stability region), and steps needed to change.
STIFF, STIFF_STEPS = 3.0, 10
#: h·‖J‖ below which a Rodas5P step counts as mild, and steps needed to change back.
MILD, MILD_STEPS = 2.0, 5


def explicit_radius(step: tsit5.Step, h: Array, scale: Sequence[Array]) -> Array:
    """h·ρ of each lane (lanes,) from a Tsit5 step: change of slope over change of state, both over the error scale."""
    info = jnp.finfo(h.dtype)  # type: ignore[no-untyped-call]
    rise = run = jnp.zeros_like(h)
    for k1, k0, y1, y0, s in zip(step.slope, step.inner_slope, step.y, step.inner_y, scale, strict=True):
        rise = jnp.maximum(rise, jnp.abs(k1 - k0) / s)
        run = jnp.maximum(run, (jnp.abs(y1 - y0) + 100 * float(info.eps) * jnp.abs(y1)) / s)  # rounding alone must not look stiff
    return h * rise / jnp.maximum(run, float(info.tiny))


def implicit_radius(step: rodas5p.Step, h: Array, scale: Sequence[Array]) -> Array:
    """Bound of h·ρ of each lane (lanes,) at a Rodas5P step."""
    return h * jacobian_norm(step.jacobian, scale)


def jacobian_norm(jacobian: Sequence[Sequence[Array | None]], scale: Sequence[Array]) -> Array:
    """Bound of ρ of each lane (lanes,): the smaller of the row-sum and column-sum norms of the scaled Jacobian."""
    n = len(scale)
    inverse = [1 / s for s in scale]
    rows = [jnp.zeros_like(scale[0])] * n
    columns = [jnp.zeros_like(scale[0])] * n
    for i in range(n):
        for j in range(n):
            v = jacobian[i][j]
            if v is not None:
                size = jnp.abs(v) * (scale[j] * inverse[i]) if i != j else jnp.abs(v)
                rows[i], columns[j] = rows[i] + size, columns[j] + size
    worst_row, worst_column = rows[0], columns[0]
    for r, c in zip(rows[1:], columns[1:], strict=True):
        worst_row, worst_column = jnp.maximum(worst_row, r), jnp.maximum(worst_column, c)
    return jnp.minimum(worst_row, worst_column)

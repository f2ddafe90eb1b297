"""Closed-form propagators of linear mammillary kinetics: 1, 2 or 3 compartments, with or without an absorption depot.

The disposition (central and peripheral amounts) obeys y' = A y + r with exp(A t) = sum_i G_i exp(-lambda_i t): the rate
constants lambda_i and the matrices G_i depend on parameters alone and are computed once. Everything that a segment adds,
a zero-order input or absorption from a depot, is a divided difference of two exponentials,

    dd(a, b, t) = (exp(-b t) - exp(-a t)) / (a - b) = integral of exp(-a s) exp(-b (t - s)) over s in [0, t],

which stays finite and smooth where a = b ("flip-flop" confluence). The only cost of a segment is one exponential for each
compartment. Amounts in mg, time in h, volumes in L are usual; any consistent set will do.

Sources: Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, ch. 1-2 and app. B; Bertrand & Mentré, Mathematical expressions
of the pharmacokinetic and pharmacodynamic models implemented in the Monolix software, 2008; Dubois, Bertrand & Mentré,
Mathematical expressions of the pharmacokinetic and pharmacodynamic models implemented in the PFIM software, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient

Array = Any  # scalar or (lanes,)
Propagator = Callable[[Any, Any, Any], Any]

SERIES = tuple((-1.0) ** n / math.factorial(n + 1) for n in range(9))  # of (1 - exp(-x))/x about 0
# Below this |x| the series stands in. There it is exact to 1e-16 (2nd derivative: 1e-14), while above it the difference
# of exponentials loses 1/x, 1/x² and 1/x³ in the value and its two derivatives, 2e-12 at worst.
SERIES_BELOW = 0.05
TINY = 1e-30  # a gap of rate constants that is nothing in float32 or float64


class Constants(NamedTuple):
    """What a linear model is made of: clearance CL, central volume V1, peripheral (Q, V) pairs, absorption rate constant.

    Units: L/h, L, (L/h, L) and 1/h or any consistent set. `absorption` is None where there is no depot.
    """

    clearance: Array
    volume: Array
    peripheral: tuple[tuple[Array, Array], ...] = ()
    absorption: Array | None = None


class Disposition(NamedTuple):
    """exp(A t) = sum_i weights[i] exp(-rates[i] t); weights[i][a][b] is what b at time 0 leaves in a, central first."""

    rates: tuple[Array, ...]
    weights: tuple[tuple[tuple[Array, ...], ...], ...]


class Gap(NamedTuple):
    """a - b and its reciprocal (1 where a = b), the part of a divided difference that time does not touch."""

    value: Array
    inverse: Array


def gap(a: Array, b: Array) -> Gap:
    """The gap of two rate constants; safe to differentiate where they are equal."""
    value = a - b
    return Gap(value, 1.0 / jnp.where(jnp.abs(value) < TINY, 1.0, value))


def divided_difference(g: Gap, exp_a: Array, exp_b: Array, t: Array) -> Array:
    """dd(a, b, t) from the gap a - b, exp(-a t) and exp(-b t). Right in value and two derivatives at and near a = b."""
    x = g.value * t
    near = jnp.abs(x) < SERIES_BELOW
    x = jnp.where(near, x, 0.0)
    series: Array = SERIES[-1]
    for c in SERIES[-2::-1]:
        series = series * x + c
    return jnp.where(near, exp_b * t * series, (exp_b - exp_a) * g.inverse)


def dd(a: Array, b: Array, t: Array) -> Array:
    """(exp(-b t) - exp(-a t))/(a - b), and t exp(-a t) where a = b."""
    return divided_difference(gap(a, b), jnp.exp(-a * t), jnp.exp(-b * t), t)


# ---- disposition ---------------------------------------------------------------------------------------------------
def disposition(c: Constants) -> Disposition:
    """Rate constants and weights for 0, 1 or 2 peripheral compartments. Raises ValueError for more."""
    k10 = c.clearance / c.volume
    k = [(q / c.volume, q / v) for q, v in c.peripheral]
    if not k:
        return Disposition((k10,), (((1.0,),),))
    if len(k) == 1:
        return two_compartments(k10, *k[0])
    if len(k) == 2:
        return three_compartments(k10, *k[0], *k[1])
    raise ValueError(f"{len(k)} peripheral compartments: the closed form has at most 2; use the matrix exponential")


def two_compartments(k10: Array, k12: Array, k21: Array) -> Disposition:
    """Bertrand & Mentré 2008, section 1.2, written without cancellation.

    With d = k10 + k12 - k21 the root of the discriminant is h = sqrt(d² + 4 k12 k21), a sum of squares; the smaller rate
    constant comes from the product k10 k21 and the smaller weight from the product of the weights, k12 k21/h².
    """
    difference, product = k10 + k12 - k21, k12 * k21
    square = difference * difference + 4.0 * product
    nothing = square < TINY * TINY  # no flow at all: both rate constants 0
    difference = jnp.where(nothing, 1.0, difference)
    h = jnp.sqrt(jnp.where(nothing, 1.0, square))
    fast = 0.5 * (k10 + k12 + k21 + jnp.where(nothing, 0.0, h))
    slow = k10 * k21 / jnp.where(nothing, 1.0, fast)
    forward = difference >= 0
    sum_ = h + jnp.where(forward, difference, -difference)
    large, small = 0.5 * sum_ / h, 2.0 * product / (h * sum_)
    in_fast, in_slow = jnp.where(forward, large, small), jnp.where(forward, small, large)
    out, back = k12 / h, k21 / h
    return Disposition((fast, slow), (((in_fast, -back), (-out, in_slow)), ((in_slow, back), (out, in_fast))))


def three_compartments(k10: Array, k12: Array, k21: Array, k13: Array, k31: Array) -> Disposition:
    """Residues of (s I - A)^-1 at s = -lambda_i (Gibaldi & Perrier 1982, app. B), for all 9 pairs of compartments.

    The rate constants are distinct as long as both intercompartmental clearances are positive, also where k21 = k31.
    """
    roots = cubic_roots(
        k10 + k12 + k21 + k13 + k31,
        k10 * (k21 + k31) + k21 * k31 + k12 * k31 + k13 * k21,
        k10 * k21 * k31,
    )
    leaving = k10 + k12 + k13
    weights = []
    for i, x in enumerate(roots):
        a, b = (r for j, r in enumerate(roots) if j != i)
        scale = 1.0 / ((a - x) * (b - x))
        p1, p2, p3 = leaving - x, k21 - x, k31 - x
        cofactors = (
            (p2 * p3, k21 * p3, k31 * p2),
            (k12 * p3, p1 * p3 - k13 * k31, k12 * k31),
            (k13 * p2, k13 * k21, p1 * p2 - k12 * k21),
        )
        weights.append(tuple(tuple(scale * x for x in row) for row in cofactors))
    return Disposition(roots, tuple(weights))


def cubic_roots(a2: Array, a1: Array, a0: Array) -> tuple[Array, Array, Array]:
    """The real roots of x³ - a2 x² + a1 x - a0, largest first, where all three are real, distinct and not negative.

    The largest comes from the trigonometric formula and Newton steps, the others from the deflated quadratic. Two more
    Newton steps from that constant start carry the derivatives: exact to the third order, by quadratic convergence.
    """

    def newton(x: Array, b2: Array, b1: Array, b0: Array) -> Array:
        slope = (3.0 * x - 2.0 * b2) * x + b1
        return x - (((x - b2) * x + b1) * x - b0) / jnp.where(slope == 0.0, 1.0, slope)

    b2, b1, b0 = (stop_gradient(a) for a in (a2, a1, a0))
    spread = jnp.sqrt(jnp.maximum(b2 * b2 - 3.0 * b1, TINY))
    cosine = (b2 * (2.0 * b2 * b2 - 9.0 * b1) + 27.0 * b0) / (2.0 * spread**3)
    large = (b2 + 2.0 * spread * jnp.cos(jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / 3.0)) / 3.0
    for _ in range(3):
        large = newton(large, b2, b1, b0)
    product = b0 / large
    total = (b1 - product) / large
    middle = 0.5 * (total + jnp.sqrt(jnp.maximum(total * total - 4.0 * product, 0.0)))
    starts = (large, middle, product / middle)
    first, second, third = (newton(newton(x, a2, a1, a0), a2, a1, a0) for x in starts)
    return first, second, third


# ---- propagation ---------------------------------------------------------------------------------------------------
def propagator(c: Constants) -> Propagator:
    """(dt, y, rates) -> y after dt, for states in the order (depot,) central, peripheral..., auc.

    y and rates are NamedTuples of (lanes,) arrays of one type, dt is (lanes,) and not negative; zero-order rates may enter
    any state. A rate that is the Python number 0 costs nothing. auc is the area under central/volume and comes from the mass
    balance, (amount before + input - amount after)/clearance: its rounding error is about 1e-16 of the amount on board
    divided by the clearance, hence relatively 1e-16/(fraction eliminated in dt), and it is NaN where the clearance is 0.
    """
    d = disposition(c)
    ka = c.absorption
    from_zero = [gap(x, 0.0) for x in d.rates]
    from_depot = [] if ka is None else [gap(ka, x) for x in d.rates]
    depot_from_zero = gap(0.0 if ka is None else ka, 0.0)
    per_clearance = 1.0 / c.clearance

    def body_after(dt: Array, body: list[Array], feed: list[Array], released: Array, exp_ka: Array) -> list[Array]:
        """Disposition after dt: decay, constant inputs `feed`, and `released`·exp(-ka t) into the centre."""
        modes = []
        for i, x in enumerate(d.rates):
            decay = jnp.exp(-x * dt)
            mode = [decay * v for v in body]
            if any(present(r) for r in feed):
                held = divided_difference(from_zero[i], decay, 1.0, dt)
                mode = [m + held * r if present(r) else m for m, r in zip(mode, feed, strict=True)]
            if from_depot:
                mode[0] = mode[0] + released * divided_difference(from_depot[i], exp_ka, decay, dt)
            modes.append(mode)
        return [
            sum(w * v for g, mode in zip(d.weights, modes, strict=True) for w, v in zip(g[a], mode, strict=True))
            for a in range(len(body))
        ]

    def advance(dt: Array, y: Any, rates: Any) -> Any:
        *amounts, auc = y
        *inputs, auc_rate = rates
        if ka is None:
            after = body_after(dt, amounts, inputs, 0.0, 1.0)
        else:
            # A constant input r to the depot reaches the centre as r - r exp(-ka t): a constant and a smaller depot.
            (depot, *body), (depot_rate, *feed) = amounts, inputs
            exp_ka = jnp.exp(-ka * dt)
            released, left = ka * depot, depot * exp_ka
            if present(depot_rate):
                left = left + depot_rate * divided_difference(depot_from_zero, exp_ka, 1.0, dt)
                released, feed[0] = released - depot_rate, feed[0] + depot_rate
            after = [left, *body_after(dt, body, feed, released, exp_ka)]
        entered = sum(r for r in inputs if present(r)) * dt
        auc = auc + (sum(amounts) - sum(after) + entered) * per_clearance
        if present(auc_rate):
            auc = auc + auc_rate * dt
        return type(y)(*after, auc)

    return advance


def present(rate: Any) -> bool:
    """False for the Python number 0, which says when the program is built that nothing enters."""
    return not (isinstance(rate, int | float) and rate == 0)

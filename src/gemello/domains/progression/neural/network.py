"""Small nets: two hidden layers, trained in JAX by Adam with decoupled weight decay, one net a fold, each stopped by its own
fold.

Adam: Kingma & Ba 2015, algorithm 1; decoupled decay: Loshchilov & Hutter 2019, algorithm 2. Forecasts run in NumPy, so that a
trained net needs no JAX and a reloaded one gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gemello.base.random import generator
from gemello.domains.progression.neural.mixture import Mixture
from gemello.model.generator import Array

COMPONENTS = 3
SMALLEST = 0.08  # of a component's standard deviation, in units of the linear model's
Loss = Callable[[Any, Any], Any]  # (outputs (rows, out), batch of arrays) -> (rows,)


@dataclass(frozen=True)
class Nets:
    """An ensemble: w1 (M, d, h), b1 (M, h), w2 (M, h, h), b2 (M, h), w3 (M, h, out), b3 (M, out)."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array
    w3: Array
    b3: Array

    def __call__(self, x: Array) -> Array:
        """(M, n, out). x: (n, d)."""
        return np.stack([
            np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3
            for w1, b1, w2, b2, w3, b3 in zip(self.w1, self.b1, self.w2, self.b2, self.w3, self.b3, strict=True)
        ])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain lists by name."""
        return {k: v.tolist() for k, v in self.__dict__.items()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Nets:
        """The nets of `to_dict`."""
        return cls(**{k: np.array(v, float) for k, v in d.items()})


@dataclass(frozen=True)
class Recipe:
    """How nets are trained. hidden: units of a layer. steps: at most, each on `batch` rows. rate: of learning. decay: of weights,
    a step, relative to the rate. every: steps between looks at the held-out fold. noise: added to the inputs."""

    hidden: int = 24
    steps: int = 500
    batch: int = 512
    rate: float = 1.5e-3
    decay: float = 0.05
    every: int = 10
    noise: float = 0.1


def train(
    x: Array, data: Mapping[str, Array], loss: Loss, bias: Array, weight: Array, fold: NDArray[np.int64], *, seed: int,
    recipe: Recipe,
) -> Nets:  # fmt: skip
    """One net a fold. x: (n, d). data: arrays (n, …) that `loss` reads. bias: (out,) or (folds, out) outputs to
    start from, which must not have seen the fold. weight: (n,)."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    m, d, h, out = int(fold.max()) + 1, x.shape[1], recipe.hidden, bias.shape[-1]
    rng = generator(seed, "nets")
    start = (
        rng.normal(size=(m, d, h)) / np.sqrt(max(d, 1)), np.zeros((m, h)),
        rng.normal(size=(m, h, h)) / np.sqrt(h), np.zeros((m, h)),
        np.zeros((m, h, out)), np.array(np.broadcast_to(bias, (m, out))),
    )  # fmt: skip
    looks = max(recipe.steps // recipe.every, 1)
    batch = min(recipe.batch, len(x))
    outside = [np.flatnonzero(fold != k) for k in range(m)]
    rows = np.stack([rng.choice(o, size=(looks, recipe.every, batch)) for o in outside], 2)
    keys = rng.integers(0, 2**31, size=(looks, recipe.every))
    held = np.stack([(fold == k) * weight for k in range(m)])

    def forward(p: Any, v: Any) -> Any:
        return jnp.tanh(jnp.tanh(v @ p[0] + p[1]) @ p[2] + p[3]) @ p[4] + p[5]

    def objective(p: Any, v: Any, b: Any, w: Any) -> Any:
        return jnp.sum(w * loss(forward(p, v), b)) / (jnp.sum(w) + 1e-12)

    def score(p: Any, w: Any, v: Any, b: Any) -> Any:
        return objective(p, v, b, w)

    decayed = (1.0, 0.0, 1.0, 0.0, 1.0, 0.0)

    def step(carry: Any, at: Any, full: Any) -> Any:
        p, first, second, t = carry
        index, key, rate = at
        v, b, w = full
        noise = recipe.noise * jax.random.normal(jax.random.key(key), (m, batch, d))
        take = jax.vmap(lambda p, i, e: jax.grad(objective)(p, v[i] + e, {k: a[i] for k, a in b.items()}, w[i]))
        g = take(p, index, noise)
        norm = jnp.sqrt(sum(jnp.sum(a * a, axis=tuple(range(1, a.ndim))) for a in g))
        g = jax.tree.map(lambda a: a / jnp.maximum(norm, 1.0).reshape((m,) + (1,) * (a.ndim - 1)), g)
        first = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, first, g)
        second = jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b * b, second, g)
        t = t + 1
        p = tuple(
            a - rate * ((f / (1 - 0.9**t)) / (jnp.sqrt(s / (1 - 0.99**t)) + 1e-8) + recipe.decay * c * a)
            for a, f, s, c in zip(p, first, second, decayed, strict=True)
        )
        return (p, first, second, t), None

    def look(carry: Any, at: Any, full: Any, aside: Any) -> Any:
        inner, best, lowest = carry
        inner, _ = jax.lax.scan(lambda c, a: step(c, a, full), inner, at)
        now = jax.vmap(score, in_axes=(0, 0, None, None))(inner[0], aside, full[0], full[1])
        better = now < lowest
        best = jax.tree.map(lambda a, b: jnp.where(better.reshape((m,) + (1,) * (a.ndim - 1)), a, b), inner[0], best)
        return (inner, best, jnp.where(better, now, lowest)), None

    @jax.jit
    def run(p: Any, rows: Any, keys: Any, rates: Any, full: Any, aside: Any) -> Any:
        zero = jax.tree.map(jnp.zeros_like, p)
        lowest = jax.vmap(score, in_axes=(0, 0, None, None))(p, aside, full[0], full[1])
        carry = ((p, zero, zero, jnp.zeros(())), p, lowest)
        return jax.lax.scan(lambda c, a: look(c, a, full, aside), carry, (rows, keys, rates))[0][1]

    rates = recipe.rate * 0.5 * (1 + np.cos(np.pi * np.arange(looks * recipe.every) / (looks * recipe.every)))
    with jax.enable_x64(True):
        full = (jnp.asarray(x), {k: jnp.asarray(v) for k, v in data.items()}, jnp.asarray(weight))
        best = run(start, rows, keys, rates.reshape(looks, recipe.every), full, held)
        return Nets(*(np.asarray(a, float) for a in best))


# ---- what the outputs mean -------------------------------------------------------------------------------------------------
def outputs(m: Mixture) -> Array:
    """(J·3K,) outputs that mean mixtures (J, K)."""
    middle, half = _range()
    log_sd = np.clip((np.log(m.sd) - middle) / half, -0.999, 0.999)
    parts = np.log(m.weight), 4 * np.arctanh(np.clip(m.mean / 4, -0.999, 0.999)), middle + half * np.arctanh(log_sd)
    return np.stack(parts, 1).reshape(-1)


def mixtures(out: Array, variables: int) -> Mixture:
    """Outputs (..., variables · 3K) as mixtures (..., variables, K)."""
    o = out.reshape(*out.shape[:-1], variables, 3, COMPONENTS)
    return Mixture(special.softmax(o[..., 0, :], -1), 4 * np.tanh(o[..., 1, :] / 4), np.exp(_bounded(o[..., 2, :], np.tanh)))


def _range() -> tuple[float, float]:
    low, high = float(np.log(SMALLEST)), float(np.log(4.0))
    return (low + high) / 2, (high - low) / 2


def _bounded(log_sd: Any, tanh: Any) -> Any:
    middle, half = _range()
    return middle + half * tanh((log_sd - middle) / half)


def mixture_loss(variables: int, discrete: NDArray[np.bool_]) -> Loss:
    """Negative log likelihood of standardised residuals `r`, or of the intervals `low`..`high` for discrete variables; `seen`
    weighs each (rows, variables)."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    def loss(out: Any, b: Any) -> Any:
        o = out.reshape(*out.shape[:-1], variables, 3, COMPONENTS)
        w = jax.nn.log_softmax(o[..., 0, :], -1)
        mean, log_sd = 4 * jnp.tanh(o[..., 1, :] / 4), _bounded(o[..., 2, :], jnp.tanh)
        sd = jnp.exp(log_sd)
        z = (b["r"][..., None] - mean) / sd
        density = jax.scipy.special.logsumexp(w - 0.5 * z * z - log_sd, -1) - 0.5 * np.log(2 * np.pi)
        inside = jax.scipy.special.ndtr((b["high"][..., None] - mean) / sd) - jax.scipy.special.ndtr(
            (b["low"][..., None] - mean) / sd
        )
        chance = jnp.log(jnp.sum(jnp.exp(w) * inside, -1) + 1e-9)
        return -jnp.sum(b["seen"] * jnp.where(discrete, chance, density), -1)

    return loss


def hazard_loss(out: Any, b: Any) -> Any:
    """Negative log likelihood of a piecewise-constant hazard: `seen` event, log `exposure` with the linear part in it."""
    import jax.numpy as jnp  # noqa: PLC0415

    shift = 2 * jnp.tanh(out[..., 0] / 2)
    return jnp.exp(b["offset"] + shift) - b["seen"] * (b["offset"] + shift)

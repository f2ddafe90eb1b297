"""Markov chains of the etas of every subject given its data and the population: SAEM's simulation step, for one block of lanes.

Kernels (Kuhn & Lavielle 2005, Comput Stat Data Anal 49:1020, section 4): from the prior; a random walk of each component; a
random walk along the covariance that a subject's own chains have shown so far (Haario, Saksman & Tamminen 2001, Bernoulli 7:223);
and independent of where the chain is, from their mean and covariance, a little wider (as Karimi, Lavielle & Moulines 2020,
Comput Stat Data Anal 141:123, do from the mode). Step sizes of a subject follow its rate of acceptance, by less and less (Andrieu
& Thoms 2008, Stat Comput 18:343), so that the chains keep their distribution.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gemello.inference.likelihood import Block, Population, Prior

FROM_PRIOR, ALONG, INDEPENDENT = 1, 2, 2  # kernels of each kind in a round, besides one for each component
WIDER = 1.2  # standard deviations of the independent kernel beside those shown
ONE_WANTED, ALONG_WANTED = 0.44, 0.27  # rates of acceptance (Roberts & Rosenthal 2001, Stat Sci 16:351)
MEMORY = 0.03  # least weight of a round in the running mean and covariance of a subject's chains


class Chains(NamedTuple):
    """Chains of one block (or, with one more axis in front, of all). φ = h + η are individual parameters on their transformed
    scale, of which h is the centre. Chain c of lane b is lane c · block + b.

    eta: (etas, chains · block). value: data objective there, (chains · block,). scale: log step sizes (etas + 1, block), the
    last that along the covariance. mean (etas, block), covariance (etas, etas, block): of φ so far, forgetting.
    """

    eta: Any
    value: Any
    scale: Any
    mean: Any
    covariance: Any


def start(omega: Any, height: Any, chains: int) -> Chains:
    """Chains of all blocks at etas 0, with the prior's covariance (etas, etas). height: h, (blocks, etas, block)."""
    blocks, etas, block = height.shape
    step = np.concatenate([0.5 * np.log(np.diag(omega)), [math.log(2.4 / math.sqrt(max(etas, 1)))]])
    return Chains(
        np.zeros((blocks, etas, chains * block)),
        np.full((blocks, chains * block), np.inf),
        np.broadcast_to(step[None, :, None], (blocks, etas + 1, block)).copy(),
        np.asarray(height),
        np.broadcast_to(omega[None, :, :, None], (blocks, etas, etas, block)).copy(),
    )


def move(block: Block, pop: Population, w: Prior, c: Chains, height: Any, key: Any, gain: Any) -> Chains:
    """One round of all kernels. block: the data with its lanes repeated for each chain. height: h, (etas, block). gain: of the
    step sizes."""
    n, lanes = height.shape
    chains = c.eta.shape[1] // lanes
    root = jnp.linalg.cholesky(pop.omega)
    along = jnp.linalg.cholesky(jnp.moveaxis(c.covariance, -1, 0) + 1e-6 * pop.omega)  # (block, etas, etas)
    back = jax.scipy.linalg.solve_triangular(along, jnp.broadcast_to(jnp.eye(n), along.shape), lower=True)
    middle = (c.mean - height)[:, None, :]
    apart = lambda v: v.reshape(n, chains, lanes)  # noqa: E731
    finite = lambda v: jnp.where(jnp.isfinite(v), v, jnp.inf)  # noqa: E731
    objective = lambda e: finite(block.data_objective(block.predict(pop, e)))  # noqa: E731
    quadratic = lambda e: jnp.einsum("il,ij,jl->l", e, w.precision, e)  # noqa: E731
    distance = lambda e: jnp.sum(jnp.einsum("bij,jcb->icb", back, apart(e) - middle) ** 2, axis=0).reshape(-1) / WIDER**2  # noqa: E731

    def kernel(carry: Any, here: Any) -> Any:
        eta, value, square, scale = carry
        kind, key = here  # −1: from the prior; k < etas: component k; etas: along the covariance; etas + 1: independent
        one, two = jax.random.split(key)
        z, step = jax.random.normal(one, (n, chains, lanes), eta.dtype), jnp.exp(scale)
        single = jnp.where(jnp.arange(n)[:, None, None] == kind, step[:n, None, :] * z, 0.0)
        shaped = jnp.einsum("bij,jcb->icb", along, z)
        trial = jnp.where(kind < 0, jnp.einsum("ij,jcb->icb", root, z), apart(eta) + single)
        trial = jnp.where(kind == n, apart(eta) + step[n] * shaped, trial)
        trial = jnp.where(kind > n, middle + WIDER * shaped, trial).reshape(n, -1)
        new_value, new_square = objective(trial), quadratic(trial)
        change = 0.5 * (value - new_value) + jnp.where(kind < 0, 0.0, 0.5 * (square - new_square))
        change = change + jnp.where(kind > n, 0.5 * (distance(trial) - distance(eta)), 0.0)
        take = jnp.log(jax.random.uniform(two, value.shape, eta.dtype)) < change
        rate = jnp.mean(take.reshape(chains, lanes), axis=0)
        moved = gain * (rate - jnp.where(kind < n, ONE_WANTED, ALONG_WANTED))
        scale = scale + jnp.where(jnp.arange(n + 1)[:, None] == kind, moved, 0.0)
        choose = lambda a, b: jnp.where(take, a, b)  # noqa: E731
        return (choose(trial, eta), choose(new_value, value), choose(new_square, square), scale), None

    kinds = jnp.array([-1] * FROM_PRIOR + list(range(n)) + [n] * ALONG + [n + 1] * INDEPENDENT)
    first = (c.eta, objective(c.eta), quadratic(c.eta), c.scale)
    (eta, value, _, scale), _ = jax.lax.scan(kernel, first, (kinds, jax.random.split(key, len(kinds))))
    return c._replace(eta=eta, value=value, scale=scale)


def remember(c: Chains, phi: Any, age: Any, share: Any) -> Chains:
    """Chains of all blocks with mean and covariance moved towards φ (blocks, etas, chains, block), by less with age."""
    weight = jnp.maximum(1.0 / (age + 1.0), MEMORY) * share
    gap = phi - c.mean[:, :, None, :]
    spread = jnp.einsum("kicb,kjcb->kijb", gap, gap) / phi.shape[2]
    mean = c.mean + weight * (jnp.mean(phi, axis=2) - c.mean)
    return c._replace(mean=mean, covariance=c.covariance + weight * (spread - c.covariance))

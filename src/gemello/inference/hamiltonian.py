"""The no-U-turn sampler on many chains at once, each at its own pace.

Hoffman & Gelman 2014 (JMLR 15:1593) with the multinomial choice of a state and the U-turn criterion of Betancourt 2017
(arXiv:1701.02434, appendix A.4), in its iterative form, which keeps one state of each size of subtree (Phan, Pradhan &
Jankowiak 2019, arXiv:1912.11554, appendix A). One turn of the loop is one leapfrog step of every chain: each is at its own
place in its own tree, so no chain waits for another's deep tree (design/nuts.md). Chains are lanes, the last axis of every
array.

A position q is a set of common coordinates x and of groups of coordinates z; the metric (`Metric`) lets each group follow x.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

MOST_LOST = 1000.0  # energy error that ends a trajectory as divergent (Stan's)
GAMMA, T0, KAPPA = 0.05, 10.0, 0.75  # dual averaging (Hoffman & Gelman 2014, section 3.2.1)

Density = Callable[[Any, Any, Any], tuple[Any, Any]]  # (shared, own, q (dimension, chains)) -> log density, gradient


class Metric(NamedTuple):
    """q = A ξ with ξ of about unit covariance: x = root ξx and z_s = follow_s x + own_s ξz_s.

    root (x, x, chains), follow (groups, size, x, chains), own (groups, size, size, chains).
    """

    root: Any
    follow: Any
    own: Any

    def parts(self, v: Any) -> tuple[Any, Any]:
        n = self.root.shape[0]
        return v[:n], v[n:].reshape(*self.own.shape[:2], v.shape[-1])

    def push(self, v: Any) -> Any:
        """A v."""
        vx, vz = self.parts(v)
        x = jnp.sum(self.root * vx, axis=1)
        z = jnp.sum(self.follow * x, axis=2) + jnp.sum(self.own * vz[:, None], axis=2)
        return jnp.concatenate([x, z.reshape(len(v) - len(x), v.shape[-1])])

    def pull(self, g: Any) -> Any:
        """A' g."""
        gx, gz = self.parts(g)
        x = gx + jnp.sum(self.follow * gz[:, :, None], axis=(0, 1))
        z = jnp.sum(self.own * gz[:, :, None], axis=1)
        return jnp.concatenate([jnp.sum(self.root * x[:, None], axis=0), z.reshape(len(g) - len(x), g.shape[-1])])


class Step(NamedTuple):
    """Dual averaging of the log step size, (chains,) each."""

    log: Any
    mean: Any
    error: Any
    count: Any
    centre: Any


def first_step(size: Any) -> Step:
    """Dual averaging that starts at these step sizes (chains,)."""
    log = jnp.log(size)
    return Step(log, log, jnp.zeros_like(log), jnp.zeros_like(log), jnp.log(10.0) + log)


def tuned(s: Step, accepted: Any, target: float) -> Step:
    """After one more transition (Hoffman & Gelman 2014, algorithm 5)."""
    count = s.count + 1.0
    weight = 1.0 / (count + T0)
    error = (1.0 - weight) * s.error + weight * (target - accepted)
    log = s.centre - jnp.sqrt(count) / GAMMA * error
    fade = count**-KAPPA
    return Step(log, fade * log + (1.0 - fade) * s.mean, error, count, s.centre)


class Edge(NamedTuple):
    """A state of a trajectory: position, log density, A'·gradient and momentum of ξ, (dimension, chains); logp (chains,)."""

    q: Any
    logp: Any
    slope: Any
    p: Any


class Tree(NamedTuple):
    """Trajectory so far: its ends, the state chosen, the sum of momenta and of weights, the energy at the start; then the
    subtree that grows (chosen, momenta, weight, the momenta kept for its U-turns), and how far it is."""

    left: Edge
    right: Edge
    chosen: Edge
    momenta: Any
    weight: Any
    energy: Any
    sub: Edge
    sub_momenta: Any
    sub_weight: Any
    kept: Any  # (depths, dimension, chains) momentum at the start of a subtree
    kept_momenta: Any  # (depths, dimension, chains) sum of momenta there
    depth: Any
    leaf: Any
    forward: Any
    accepted: Any
    steps: Any


class Draws(NamedTuple):
    """Results of a chunk: q (transitions, chains, dimension); logp, accepted, steps, depth, diverged (transitions, chains)."""

    q: Any
    logp: Any
    accepted: Any
    steps: Any
    depth: Any
    diverged: Any


def _where(c: Any, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda u, v: jnp.where(c, u, v), a, b)


def _turned(first: Any, last: Any, momenta: Any) -> Any:
    """Whether a (sub)trajectory between these momenta, (..., dimension, chains), has turned; of the sum, half of each end's
    is left out."""
    inner = momenta - 0.5 * (first + last)
    return (jnp.sum(inner * first, axis=-2) <= 0) | (jnp.sum(inner * last, axis=-2) <= 0)


def _sprout(start: Edge, forward: Any, kept: Any) -> Tree:
    """A trajectory of one state."""
    zero = jnp.zeros_like(start.logp)
    count = jnp.zeros(zero.shape, jnp.int32)
    energy = 0.5 * jnp.sum(start.p**2, axis=0) - start.logp
    none = jnp.full_like(zero, -jnp.inf)
    return Tree(
        start, start, start, start.p, zero, energy, start, jnp.zeros_like(start.p), none, kept, kept, count, count, forward, zero,
        count,
    )  # fmt: skip


def _grow(t: Tree, new: Edge, luck: Any, deepest: int) -> tuple[Tree, Any, Any]:
    """The tree after one more leaf; whether its trajectory ends, and whether it diverged. luck: (3, chains) uniform."""
    gain = t.energy - 0.5 * jnp.sum(new.p**2, axis=0) + new.logp
    gain = jnp.where(jnp.isfinite(gain), gain, -jnp.inf)
    diverged = gain < -MOST_LOST
    weight = jnp.logaddexp(t.sub_weight, gain)
    sub = _where(luck[0] < jnp.exp(gain - jnp.where(jnp.isfinite(weight), weight, 0.0)), new, t.sub)
    momenta = jnp.where(t.leaf == 0, 0.0, t.sub_momenta) + new.p
    # a leaf of even number begins subtrees, one of odd number ends as many as it has trailing ones in binary
    level = jnp.arange(deepest)[:, None]
    top = jax.lax.population_count(t.leaf >> 1)
    ended = jax.lax.population_count(t.leaf ^ (t.leaf + 1)) - 1
    turns = _turned(t.kept, new.p, momenta - t.kept_momenta + t.kept)
    turned = jnp.any(turns & (level <= top) & (level > top - ended), axis=0)
    begins = (level == top) & (t.leaf % 2 == 0)
    kept = jnp.where(begins[:, None], new.p, t.kept)
    kept_momenta = jnp.where(begins[:, None], momenta, t.kept_momenta)
    left, right = _where(t.forward, t.left, new), _where(t.forward, new, t.right)
    # the subtree is whole, or of no use
    lost = turned | diverged
    whole = (t.leaf + 1 >= (1 << t.depth)) & ~lost
    take = whole & (luck[1] < jnp.exp(jnp.minimum(weight - t.weight, 0.0)))
    total = jnp.where(whole, t.momenta + momenta, t.momenta)
    depth = jnp.where(whole, t.depth + 1, t.depth)
    ends = lost | (whole & (_turned(left.p, right.p, total) | (depth >= deepest)))
    grown = Tree(
        left, right, _where(take, sub, t.chosen), total, jnp.where(whole, jnp.logaddexp(t.weight, weight), t.weight), t.energy,
        sub, momenta, jnp.where(whole, -jnp.inf, weight), kept, kept_momenta, depth, jnp.where(whole, 0, t.leaf + 1),
        jnp.where(whole, luck[2] < 0.5, t.forward), t.accepted + jnp.minimum(jnp.exp(gain), 1.0), t.steps + 1,
    )  # fmt: skip
    return grown, ends, diverged


class Walk(NamedTuple):
    """State of the loop. done: transitions, turns: leapfrog steps, both (chains,); first: nothing has been evaluated yet."""

    tree: Tree
    step: Step
    done: Any
    turns: Any
    first: Any
    out: Draws


@lru_cache(maxsize=64)
def program(density: Density, chunk: int, deepest: int) -> Any:
    """Program for `map_blocks`: at most `chunk` transitions of every chain.

    shared: `target` (density's own), `count` of transitions wanted, `tune` (whether the step size is adapted), `accept` wanted.
    block: `own` (density's own), q, key (2, chains) uint32, metric, step. Gives Draws (chains first), the Step, and the log
    density at the start where no transition is wanted.
    """

    def run(shared: Any, block: Any) -> Any:
        metric, key = block["metric"], jax.random.wrap_key_data(block["key"].T)
        size, chains = block["q"].shape
        each = jnp.arange(chains)
        move = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 0), (chunk + 1, size)), out_axes=1)(key)
        chance = jax.vmap(lambda k, i: jax.random.uniform(jax.random.fold_in(k, i), (3,)), out_axes=1)

        def leap(t: Tree, size: Any) -> Edge:
            from_ = _where(t.forward, t.right, t.left)
            h = jnp.where(t.forward, size, -size)
            p = from_.p + 0.5 * h * from_.slope
            q = from_.q + h * metric.push(p)
            logp, gradient = density(shared["target"], block["own"], q)
            slope = metric.pull(gradient)
            return Edge(q, logp, slope, p + 0.5 * h * slope)

        def body(w: Walk) -> Walk:
            alive = (w.done < shared["count"]) & ~w.first
            size = jnp.where(alive, jnp.exp(jnp.where(shared["tune"], w.step.log, w.step.mean)), 0.0)
            luck = chance(key, w.turns + 1)
            new = leap(w.tree, size)  # of no length at first: that is where the density at the start is found, so that the
            grown, ends, diverged = _grow(w.tree, new, luck, deepest)  # program holds the density once
            ends = ends & alive
            accepted, chosen = grown.accepted / grown.steps, _where(w.first, new, grown.chosen)
            row = jnp.where(ends, w.done, chunk)  # the row `chunk` does not exist: nothing is written
            seen = Draws(chosen.q.T, chosen.logp, accepted, grown.steps, grown.depth, diverged)
            out = jax.tree.map(lambda o, v: o.at[row, each].set(v, mode="drop"), w.out, seen)
            step = _where(ends & shared["tune"], tuned(w.step, accepted, shared["accept"]), w.step)
            done = w.done + ends
            fresh = _sprout(chosen._replace(p=move[done, each].T), luck[2] < 0.5, w.tree.kept)
            tree = _where(ends | w.first, fresh, _where(alive, grown, w.tree))
            return Walk(tree, step, done, w.turns + 1, jnp.zeros_like(w.first), out)

        none = jnp.zeros((chunk, chains))
        whole, zero = none.astype(jnp.int32), jnp.zeros(chains, jnp.int32)
        still = jnp.zeros_like(block["q"])
        start = Edge(block["q"], none[0], still, still)
        tree = _sprout(start, zero == 0, jnp.zeros((deepest, size, chains)))
        out = Draws(jnp.zeros((chunk, chains, size)), none, none, whole, whole, none.astype(bool))
        walk = Walk(tree, block["step"], zero, zero, jnp.asarray(True), out)
        walk = jax.lax.while_loop(lambda w: w.first | jnp.any(w.done < shared["count"]), body, walk)
        return jax.tree.map(lambda v: jnp.moveaxis(v, 1, 0), walk.out), walk.step, walk.tree.chosen.logp

    return run

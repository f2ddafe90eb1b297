"""How fast are the adaptive methods on blocks of lanes in lockstep, and what do their details bring?

Two problems, 1,024 subjects each, as in the first prototype: two compartments with oral doses (not stiff; 7 days, hourly
output, a dose every 12 h) and target-mediated disposition (stiff; 56 days, 225 outputs), rtol 1e-6.

These figures are those of the first engine, one step size for a block and a stop at each output; `own_pace.md` beside this file
tells what has changed since. The script runs on the engine as it is now.

Results (blocks of 64 lanes, float64; CPU time of one thread of a busy machine, prototype and engine in the same process):

    two compartments   prototype Tsit5 2.9 us/step, 1005 steps   engine tsit5 3.1-3.3 us, 992 steps   auto 3.6-3.8 us, 992 steps
    target-mediated    prototype Rodas5P 5.7-5.9 us, 1507 steps  engine rodas5p 5.5-5.9 us, 1503 steps  auto 6.3-6.5 us, 1523

So the engine is level with the prototype: Tsit5 about 5 to 10 % slower in all, Rodas5P level to 3 % faster. In blocks of 256
lanes Rodas5P is 13 % faster (18.4 against 21.1 us) but Tsit5 needs 17-21 us where the prototype needs 9.8; why is open.

- XLA on CPU repeats the arithmetic of a step in each of its results; `stages.together` ends that. Rodas5P's loop on the
  second problem: 833 array operations and 5.5 us, but 2,196 and 9.5 us with it taken out of lu.py alone. Tsit5 gains little
  (3.0 against 3.2 us, within the noise). Concatenation instead: Tsit5 7.0 us. A plain barrier goes before the merging.
- Steps stretched by up to 5 % to end the segment (1 % before): 4 % fewer steps on both. Only 1 to 2 % of the steps are
  rejected, so a PI controller was not tried.

Run:  python design/adaptive_methods.py [devices] [lanes per block] [methods]
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gemello.engine import adaptive

SUBJECTS = 1024


class Problem(NamedTuple):
    name: str
    rhs: Any  # (t, y, p) -> dy
    y0: tuple[np.ndarray, ...]
    p: tuple[np.ndarray, ...]
    times: np.ndarray
    dose: Any  # (y, i) -> y before interval i


def problems() -> list[Problem]:
    rng = np.random.default_rng(0)

    def draw(*typical: float) -> tuple[np.ndarray, ...]:
        return tuple(v * np.exp(0.3 * rng.standard_normal(SUBJECTS)) for v in typical)

    def two_compartments(t: Any, y: Any, p: Any) -> Any:
        gut, central, outer = y
        ka, cl, v1, q, v2 = p
        return -ka * gut, ka * gut - (cl + q) / v1 * central + q / v2 * outer, q / v1 * central - q / v2 * outer

    def target_mediated(t: Any, y: Any, p: Any) -> Any:
        free, target, bound = y
        kel, kon, koff, kint, ksyn, kdeg = p
        binding = kon * free * target - koff * bound
        return -kel * free - binding, ksyn - kdeg * target - binding, binding - kint * bound

    p = draw(1.0, 5.0, 30.0, 4.0, 60.0)
    oral = Problem(
        "two compartments, oral", two_compartments, (np.zeros(SUBJECTS),) * 3, p, np.arange(169.0),
        lambda y, i: (y[0] + 100.0 * (i % 12 == 0), *y[1:]),
    )  # fmt: skip
    p = draw(0.15, 90.0, 0.5, 2.0, 1.0, 0.5)
    y0 = (draw(50.0)[0], p[4] / p[5], np.zeros(SUBJECTS))
    return [oral, Problem("target-mediated disposition", target_mediated, y0, p, np.linspace(0.0, 56.0, 225), lambda y, i: y)]


def solve(problem: Problem, method: str, y: Any, p: Any, rtol: float, atol: float) -> Any:
    """Trajectories (times, states, lanes) of one block and its final control."""
    times = jnp.asarray(problem.times)
    lanes = y[0].shape[0]

    def interval(carry: Any, i: Any) -> Any:
        y, control = carry
        y = problem.dose(y, i)
        t0, t1 = jnp.full(lanes, times[i]), jnp.full(lanes, times[i + 1])
        y, control = adaptive.advance(
            lambda t, y: problem.rhs(t, y, p), t0, t1 - t0, y, control, method=method, rtol=rtol, atol=atol, max_steps=10_000
        )
        return (y, control), jnp.stack(y)

    (_, control), out = jax.lax.scan(interval, (y, adaptive.start(lanes, times.dtype)), jnp.arange(len(times) - 1))
    return out, control


def measure(problem: Problem, method: str, devices: int, block: int, rtol: float = 1e-6, atol: float = 1e-8) -> np.ndarray:
    mesh = jax.make_mesh((devices,), ("devices",))
    spec = PartitionSpec("devices")

    def blocks(y: Any, p: Any) -> Any:
        cut = jax.tree.map(lambda x: x.reshape(-1, block), (y, p))
        out, control = jax.lax.map(lambda a: solve(problem, method, *a, rtol, atol), cut)
        return jnp.moveaxis(out, -1, 1).reshape((-1, *out.shape[1:3])), (
            control.switches,
            control.accepted.max(),
            control.rejected.max(),
        )

    run = jax.jit(jax.shard_map(blocks, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    args = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec)), (problem.y0, problem.p))
    clock, best = time.perf_counter(), float("inf")
    out, counts = jax.block_until_ready(run(*args))
    first = time.perf_counter() - clock
    for _ in range(7):
        clock = time.perf_counter()
        jax.block_until_ready(run(*args))
        best = min(best, time.perf_counter() - clock)
    switches, accepted, rejected = (np.asarray(c) for c in counts)
    print(
        f"{problem.name}, {method}, {block} lanes: first {first:.2f} s, then {best:.4f} s = {SUBJECTS / best:,.0f} subjects/s; "
        f"accepted {accepted.mean():.0f}, rejected {rejected.mean():.0f}, switches {switches.max()}, "
        f"{1e6 * best * devices / (accepted + rejected).sum():.1f} us/step", flush=True
    )  # fmt: skip
    return np.asarray(out)


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    block = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    methods = sys.argv[3].split(",") if len(sys.argv) > 3 else ["tsit5", "rodas5p", "auto"]
    jax.config.update("jax_num_cpu_devices", devices)
    with jax.enable_x64(True):
        for problem in problems():
            exact = measure(problem, "rodas5p", devices, block, 1e-10, 1e-12) if "check" in methods else None
            for method in methods:
                if method not in adaptive.METHODS or (method == "tsit5" and problem.name.startswith("target")):
                    continue
                out = measure(problem, method, devices, block)
                if exact is not None:
                    error = np.abs(out - exact) / (1e-8 + 1e-6 * np.abs(exact))
                    print(f"    error over tolerance: {error.max():.2f}")


if __name__ == "__main__":
    main()

"""Blocks of lanes, devices, precision and the compile cache: everything that touches JAX's settings is here."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

CPU_BLOCK = 128  # adaptive methods: the busiest lane sets the work of its block, and stages stay in the cache
EXACT_BLOCK = 2560  # exact methods: no step to share, and few kernels to start
GPU_BLOCK = 16_384


@contextlib.contextmanager
def precision(dtype: str = "float64") -> Iterator[None]:
    """Context in which arrays have this precision; nothing global stays changed."""
    _persistent_cache()
    with jax.enable_x64(dtype == "float64"):
        yield


@cache
def _persistent_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless the user has chosen a folder or GEMELLO_CACHE=off."""
    chosen = os.environ.get("GEMELLO_CACHE", "")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None or chosen.lower() == "off":
        return
    from platformdirs import user_cache_dir  # noqa: PLC0415  (only at the first solve)

    folder = Path(chosen or user_cache_dir("gemello")) / "jax"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def use_cpu_devices(number: int | None = None) -> None:
    """Ask for one JAX device per core. Only works before JAX has started; later it warns once and goes on with what there is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = number or cores
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        if len(jax.devices()) < wanted:
            warnings.warn(f"JAX already runs with {len(jax.devices())} device(s); gemello uses those", stacklevel=2)


def default_block(lanes: int, adaptive: bool) -> int:
    """Lanes that share a step: small on a CPU, where a block should stay in the cache; large on a GPU."""
    if jax.default_backend() != "cpu":
        return min(GPU_BLOCK, _power(lanes))
    share = -(-lanes // len(jax.devices()))  # no device idle while there are lanes
    if adaptive or share <= EXACT_BLOCK:
        return min(CPU_BLOCK if adaptive else EXACT_BLOCK, _power(share))
    even = -(-share // -(-share // EXACT_BLOCK))  # equal blocks, so that few lanes are only there to fill up
    return -(-even // 64) * 64


def _power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


@lru_cache(maxsize=256)
def _program(fn: Callable[[Any, Any], Any], devices: int) -> Any:
    def queue(shared: Any, blocks: Any) -> Any:
        return jax.lax.map(lambda b: fn(shared, b), blocks)

    # on a CPU the older emitters make kernels of a few lanes that are half again as fast (design/adaptive_methods.py)
    options = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else None
    if devices == 1:
        return jax.jit(queue, compiler_options=options)
    mesh = jax.make_mesh((devices,), ("devices",), devices=jax.devices()[:devices])
    spec = PartitionSpec("devices")
    return jax.jit(
        jax.shard_map(queue, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec, check_vma=False),
        compiler_options=options,
    )


class Cut(NamedTuple):
    """Arrays cut into blocks, (blocks, ..., block), already on the devices."""

    tree: Any
    lanes: int
    block: int
    devices: int


def cut(tree: Any, lanes: int, block: int) -> Cut:
    """Leaves (..., lanes) as blocks, shared out to the devices; the last lane is repeated to fill up."""
    blocks = -(-lanes // block)
    devices = min(len(jax.devices()), blocks)
    blocks += -blocks % devices
    fill = blocks * block - lanes

    def one(v: Any) -> Any:
        v = np.asarray(v)
        if fill:
            v = np.concatenate([v, np.repeat(v[..., -1:], fill, axis=-1)], axis=-1)
        return np.ascontiguousarray(np.moveaxis(v.reshape(*v.shape[:-1], blocks, block), -2, 0))

    tree = jax.tree.map(one, tree)
    if devices > 1:
        mesh = jax.make_mesh((devices,), ("devices",), devices=jax.devices()[:devices])
        tree = jax.device_put(tree, NamedSharding(mesh, PartitionSpec("devices")))
    return Cut(tree, lanes, block, devices)


def map_blocks(fn: Callable[[Any, Any], Any], shared: Any, blocks: Cut, *, axis: int = 0) -> Any:
    """`fn(shared, one block)` for all blocks: one after another on each device, devices side by side.

    fn: a function that lives as long as the process (programs are kept by it). shared: arrays that all blocks see whole.
    fn gets leaves (..., block) and returns leaves whose axis `axis`, 0 or -1, is the block's lanes; so does the result, NumPy
    arrays (lanes, ...) or (..., lanes).
    """
    out = _program(fn, blocks.devices)(shared, blocks.tree)
    return jax.tree.map(lambda v: _join(v, blocks, axis), out)


def _join(v: Any, blocks: Cut, axis: int) -> np.ndarray[Any, Any]:
    """(blocks, ...) on the devices to one array without the lanes that filled up."""
    if axis == 0:
        return np.asarray(v).reshape(-1, *v.shape[2:])[: blocks.lanes]
    joined = np.empty((*v.shape[1:-1], v.shape[0], v.shape[-1]), v.dtype)
    for shard in v.addressable_shards:  # read in place, so that each number is copied once
        joined[..., shard.index[0], :] = np.moveaxis(np.asarray(shard.data), 0, -2)
    return joined.reshape(*joined.shape[:-2], -1)[..., : blocks.lanes]

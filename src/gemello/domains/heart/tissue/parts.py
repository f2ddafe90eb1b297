"""How the nodes of a tissue and the places of its box are shared out to the devices and cut into blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from gemello.domains.heart.tissue.program import AXIS

CPU_BLOCK = 1024  # nodes whose states stay in the cache while their cells take a step
LEAST = 256  # nodes below which a device more does not pay


@dataclass(frozen=True)
class Parts:
    """devices that share the work; block of nodes; nodes in the list and places in the box, and both filled up to equal parts."""

    devices: int
    block: int
    listed: int
    places: int
    listed_full: int
    places_full: int

    @staticmethod
    def of(nodes: int, places: int, reach: int) -> Parts:
        """A division in which no part is shorter than `reach`, since each borrows that many places from the parts beside it."""
        if jax.default_backend() != "cpu":
            return Parts(1, places if nodes == places else nodes, nodes, places, nodes, places)
        devices = max(1, min(len(jax.devices()), nodes // LEAST, places // max(reach, 1)))
        share = -(-nodes // devices)
        block = min(CPU_BLOCK, -(-share // 2))  # two blocks at least: of one XLA would make no loop
        full = lambda n: devices * block * max(2, -(-n // (devices * block)))  # noqa: E731
        return Parts(devices, block, nodes, places, full(nodes), full(places))

    def nodes(self, v: NDArray[Any], fill: float | None = None) -> Any:
        """(..., nodes) on the devices, filled up by the last node or by `fill`."""
        more = self.listed_full - self.listed
        if more:
            tail = np.repeat(v[..., -1:], more, axis=-1) if fill is None else np.full((*v.shape[:-1], more), fill, v.dtype)
            v = np.concatenate([v, tail], axis=-1)
        return self._put(v, PartitionSpec(*[None] * (v.ndim - 1), AXIS))

    def weights(self, weights: NDArray[Any], at: NDArray[np.int64]) -> Any:
        """Weights (k, nodes) of nodes at the places `at` (nodes,), as (blocks, k, block) on the devices."""
        wide = np.zeros((len(weights), self.places_full), weights.dtype)
        wide[:, at] = weights
        block = self.block if jax.default_backend() == "cpu" else self.places_full
        return self._put(np.ascontiguousarray(np.moveaxis(wide.reshape(len(weights), -1, block), 1, 0)), PartitionSpec(AXIS))

    def indices(self, at: NDArray[np.int64]) -> dict[str, Any]:
        """`into`: for each place its node; `back`: for each node its place. Nothing where both are alike."""
        if self.listed == self.places:
            return {}
        into, back = np.zeros(self.places_full, np.int32), np.zeros(self.listed_full, np.int32)
        into[at] = np.arange(self.listed)
        back[: self.listed] = at
        back[self.listed :] = at[-1]
        return {"into": self._put(into, PartitionSpec(AXIS)), "back": self._put(back, PartitionSpec(AXIS))}

    def _put(self, v: NDArray[Any], spec: PartitionSpec) -> Any:
        if self.devices == 1:
            return jax.device_put(v)
        mesh = jax.make_mesh((self.devices,), (AXIS,), devices=jax.devices()[: self.devices])
        return jax.device_put(v, NamedSharding(mesh, spec))

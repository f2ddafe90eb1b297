"""The monodomain heart: its tensors, and a small bar against the eikonal equation."""

from __future__ import annotations

import numpy as np
import pytest
from tests.domains.heart.organ.small import block

from gemello.base.errors import DataError
from gemello.domains.heart.cells.torord.model import endo, epi, mid
from gemello.domains.heart.organ.activation import Root
from gemello.domains.heart.organ.cells import Kinds
from gemello.domains.heart.organ.monodomain import conducting, solve, tuned
from gemello.domains.heart.organ.virtual import VirtualHeart, ready

ROOTS = (Root("corner", "left", 0.0, 0.0, 0.0),)


@pytest.fixture(scope="module")
def bar() -> VirtualHeart:
    return ready(block((24, 4, 4), 1.0, 80.0), Kinds((endo, mid, epi)), ROOTS)


def test_conductivities(bar: VirtualHeart) -> None:
    """Fibres along x: xx is the value along, yy and zz across, the layer within 1.5 mm the same in all directions."""
    tensors = conducting(bar, (0.3, 0.1, 0.7), 1.5).tensors
    deep = bar.heart.lv_depth > 1.6
    assert tensors[deep] == pytest.approx(np.broadcast_to(np.diag([0.3, 0.1, 0.1]), (deep.sum(), 3, 3)))
    assert tensors[~deep] == pytest.approx(np.broadcast_to(0.7 * np.eye(3), ((~deep).sum(), 3, 3)))


def test_a_bar_is_activated_as_the_eikonal_equation_says(bar: VirtualHeart) -> None:
    """A wave runs 24 mm. Conductivities are tuned on a cable within 3 %; front curvature, the stimulated ball (2 mm) and the
    first-order eikonal grid leave up to 20 % of the last time. Every voxel fires, the far end last, and nothing has recovered
    after 45 ms."""
    got = solve(bar, 45.0, roots=ROOTS)
    assert np.isfinite(got.activation).all()
    assert np.isnan(got.repolarisation).all()
    assert got.activation.max() == pytest.approx(bar.activation.max(), rel=0.2)
    assert np.corrcoef(got.activation, bar.activation)[0, 1] > 0.97
    assert got.ecg.leads.shape == (12, len(got.ecg.time))
    assert np.abs(got.ecg.leads[:, 0]).max() == 0.0
    assert np.abs(got.ecg.leads).max() > 0.0


def test_refusals() -> None:
    with pytest.raises(DataError, match="not above 0"):
        tuned(endo, 1.0, -0.5)

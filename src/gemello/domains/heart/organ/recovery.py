"""Potential of every voxel in the reaction–eikonal manner: the action potential of its kind of cell, started when the wave
arrives.

V(x, t) = Σ_k w_k(x) A_k(t − T(x)), with kinds k of cell (layer of the wall × place between apex and base) and weights w that
sum to 1. In tissue neighbours share current, and repolarisation differs less than between single cells: weights are blurred by
a Gaussian of `blur` mm. What that neglects is measured against the monodomain heart (monodomain.py). Idea: Neic et al. 2017, J
Comput Phys 346:191 (reaction–eikonal without diffusion, RE−).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.signal import fftconvolve

from gemello.base.errors import DataError
from gemello.domains.heart.organ.cloud import Floats
from gemello.domains.heart.organ.ecg import Ecg, twelve_leads
from gemello.domains.heart.organ.geometry import Heart

LAYERS = ("endo", "mid", "epi")


class Templates(NamedTuple):
    """Action potentials of one beat: time (times,) ms in equal steps, voltage (kinds, times) mV, 0 being the upstroke through 0
    mV."""

    time: Floats
    voltage: Floats


class Heterogeneity(NamedTuple):
    """epi, mid: shares of the wall from outside; the rest is endo (60, 45 and 60 of 165 cells across the wall, O'Hara et al.
    2011, PLoS Comput Biol 7:e1002061, text S1). blur: mm, standard deviation: √(2 D τ), D = 0.02 mm²/ms across the wall, τ =
    100 ms of repolarisation."""

    epi: float = 60 / 165
    mid: float = 45 / 165
    blur: float = 2.0


def weights(heart: Heart, levels: int = 1, heterogeneity: Heterogeneity = Heterogeneity()) -> Floats:  # noqa: B008
    """(voxels, 3 · levels) weights of the kinds of cell: endo, mid, epi at each of `levels` places from apex to base (layer by
    layer).

    Between levels weights are linear in ab; a single level is the same from apex to base. Raises DataError.
    """
    epi, mid, blur = heterogeneity
    if levels < 1 or min(epi, mid) < 0.0 or epi + mid > 1.0 or blur < 0.0:
        remedy = "give shares from 0 to 1, a blur of 0 mm or more, and at least one level"
        raise DataError("impossible layers", value=(*heterogeneity, levels), remedy=remedy)
    border = [heart.tm > epi + mid, (heart.tm > epi) & (heart.tm <= epi + mid), heart.tm <= epi]
    layer = np.stack([_blurred(heart, b.astype(float), blur) for b in border], 1)
    place = heart.ab * (levels - 1)
    level = np.maximum(1.0 - np.abs(place[:, None] - np.arange(levels)), 0.0)
    out: Floats = (layer[:, :, None] * level[:, None, :]).reshape(len(place), -1)
    return out / out.sum(1, keepdims=True)


def aligned(time: Floats, voltage: Floats, step: float = 1.0) -> Templates:
    """Templates of action potentials (kinds, times) that each start with a rest and cross 0 mV upwards once or more.

    The first crossing becomes time 0, the rest before it stays for 10 ms. Raises DataError for one that never crosses.
    """
    voltage = np.atleast_2d(voltage)
    up = (voltage[:, :-1] < 0.0) & (voltage[:, 1:] >= 0.0)
    if voltage.shape[1] != len(time) or not up.any(1).all():
        dead = np.flatnonzero(~up.any(1)) if voltage.shape[1] == len(time) else "the times"
        raise DataError("no action potential: never crosses 0 mV", column="voltage", value=dead, remedy="give beats that fire")
    i = up.argmax(1)
    k = np.arange(len(voltage))
    low, high = voltage[k, i], voltage[k, i + 1]
    cross = time[i] - low / (high - low) * (time[i + 1] - time[i])
    grid = np.arange(-10.0, time[-1] - cross.max() + 1e-9, step)
    return Templates(grid, np.stack([np.interp(grid + c, time, v) for c, v in zip(cross, voltage, strict=True)]))


def electrocardiogram(activation: Floats, weight: Floats, templates: Templates, field: Floats) -> Ecg:
    """The 12 leads of activation times (voxels,), weights (voxels, kinds), templates and lead field (electrodes, voxels).

    Voxels that start in the same step are added before the convolution with their template, so a whole ECG costs milliseconds.
    Time 0 is the first activation; potentials count from those before it. Raises DataError where shapes do not match.
    """
    kinds, times = templates.voltage.shape
    if weight.shape != (len(activation), kinds) or field.shape[1] != len(activation):
        value = f"{weight.shape} weights, {kinds} templates, {field.shape} field, {len(activation)} voxels"
        raise DataError(
            "shapes do not match", value=value, remedy="use weights and field of the same heart, one template per kind"
        )
    step = templates.time[1] - templates.time[0]
    place = (activation - activation.min()) / step
    bins = int(place.max()) + 2
    low = place.astype(np.int64)
    part = place - low
    total = np.zeros((len(field), bins + times - 1))
    rise = templates.voltage - templates.voltage[:, :1]
    for k in range(kinds):
        w = field * weight[:, k]
        source = np.stack([np.bincount(low, e * (1.0 - part), bins) + np.bincount(low + 1, e * part, bins) for e in w])
        total += fftconvolve(source, rise[k : k + 1], axes=1)
    clock = templates.time[0] + step * np.arange(times)  # the tail would miss the template's own end
    return Ecg(clock, twelve_leads(total[:, :times]))


def _blurred(heart: Heart, values: Floats, blur: float) -> Floats:
    """Gaussian mean over the muscle only."""
    if blur == 0.0:
        return values
    grid = heart.on_grid(values, 0.0)
    width = blur / heart.spacing
    top = ndimage.gaussian_filter(grid, width, mode="constant")
    below = ndimage.gaussian_filter(heart.mask.astype(float), width, mode="constant")
    out: Floats = (top[heart.mask] / below[heart.mask]).astype(float)
    return out

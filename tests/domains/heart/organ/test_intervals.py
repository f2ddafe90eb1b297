"""QRS, QT and QTcF of waves whose intervals are known."""

from __future__ import annotations

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.organ.intervals import fridericia, intervals, qrs, t_end

TIME = np.arange(0.0, 700.0, 1.0)


def beat(onset: float = 50.0, width: float = 90.0, t_peak: float = 320.0, t_sd: float = 25.0, sign: float = 1.0) -> np.ndarray:
    """Twelve leads: one period of a sine as QRS, a Gaussian as T wave of `sign`, other sizes from lead to lead."""
    since = np.clip((TIME - onset) / width, 0.0, 1.0)
    spike = np.sin(2 * np.pi * since)
    wave = 0.3 * sign * np.exp(-0.5 * ((TIME - t_peak) / t_sd) ** 2)
    size = np.linspace(0.7, 1.3, 12)[:, None]
    return size * (spike + wave) + 0.05


def test_qrs_of_a_sine() -> None:
    """The wave starts and ends with a jump of its slope: within 3 ms at a step of 1 ms."""
    first, last = qrs(TIME, beat())
    assert first == pytest.approx(50.0, abs=3.0)
    assert last == pytest.approx(140.0, abs=3.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("peak", "sd"), [(320.0, 25.0), (380.0, 40.0)])
def test_tangent_to_a_gaussian(peak: float, sd: float, sign: float) -> None:
    """The steepest tangent of a Gaussian meets 0 at mean + 2 SD: within 2 ms with the smoothing over 5 ms, whichever way it
    points."""
    found = t_end(TIME, 0.3 * sign * np.exp(-0.5 * ((TIME - peak) / sd) ** 2))
    assert found[0] == pytest.approx(peak, abs=1.0)
    assert found[1] == pytest.approx(peak + 2 * sd, abs=2.0)
    assert found[2] == pytest.approx(0.3 * sign, rel=0.02)


def test_qt_of_a_beat() -> None:
    """QT = mean + 2 SD − onset, on a baseline that is not 0; QTcF of RR 640 ms by hand."""
    found = intervals(TIME, beat(), 640.0)
    assert found.qt == pytest.approx(320.0 + 50.0 - 50.0, abs=5.0)
    assert found.qt_median == pytest.approx(found.qt, abs=1.0)
    assert found.qtcf == pytest.approx(found.qt / 0.640 ** (1 / 3))
    assert fridericia(400.0, 1000.0) == 400.0


def test_qt_follows_the_t_wave() -> None:
    """A T wave 30 ms later is a QT 30 ms longer, within 1 ms."""
    assert intervals(TIME, beat(t_peak=350.0)).qt - intervals(TIME, beat()).qt == pytest.approx(30.0, abs=1.0)


def test_small_t_waves_do_not_count() -> None:
    leads = beat()
    leads[4] = leads[4] - 0.3 * np.linspace(0.7, 1.3, 12)[4] * np.exp(-0.5 * ((TIME - 320.0) / 25.0) ** 2)
    found = intervals(TIME, leads)
    assert np.isnan(found.t_end[4])
    assert np.isfinite(np.delete(found.t_end, 4)).all()


def test_refusals() -> None:
    with pytest.raises(DataError, match="flat leads"):
        intervals(TIME, np.zeros((12, len(TIME))))
    with pytest.raises(DataError, match="twelve leads"):
        intervals(TIME, np.zeros((8, len(TIME))))
    with pytest.raises(DataError, match="ends with the QRS complex"):
        intervals(TIME[:160], beat()[:, :160])
    with pytest.raises(DataError, match="no T wave ends"):
        intervals(TIME[:330], beat()[:, :330])

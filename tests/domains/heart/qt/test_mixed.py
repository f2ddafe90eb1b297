"""REML and Kenward-Roger: against nlme's published fit, exact results of balanced designs, and statsmodels on the real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.authorities import qt as authority
from gemello.domains.heart.qt import records
from gemello.domains.heart.qt.mixed import reml


def test_growth_data_as_nlme_prints_them() -> None:
    """Pinheiro & Bates 2000: 16.7611 (0.7752), 0.660185 (0.0713); SDs 2.3270, 0.2264, correlation −0.609; 1.3100."""
    m = authority.growth()
    assert m.effect("intercept").value == pytest.approx(16.7611, abs=1e-4)
    assert m.effect("intercept").se == pytest.approx(0.7752461, abs=1e-6)
    assert np.sqrt(np.diag(m.random)) == pytest.approx([2.3270341, 0.2264278], abs=1e-5)
    assert m.random[0, 1] / np.sqrt(m.random[0, 0] * m.random[1, 1]) == pytest.approx(-0.609, abs=5e-4)
    assert m.residual**0.5 == pytest.approx(1.3100399, abs=1e-5)
    for row in authority.orthodont():
        assert row["passed"], row


def test_a_balanced_growth_curve_is_a_t_test_of_slopes() -> None:
    """Laird & Ware 1982: with one design for all subjects, the mean slope has the standard error and the degrees of freedom of
    the subjects' own least-squares slopes."""
    y = np.array(authority.BOYS + authority.GIRLS, float)
    own = np.polyfit([8.0, 10.0, 12.0, 14.0], y.T, 1)[0]
    slope = authority.growth().effect("age")
    assert slope.value == pytest.approx(own.mean(), rel=1e-9)
    assert slope.se == pytest.approx(own.std(ddof=1) / np.sqrt(len(own)), rel=1e-6)
    assert slope.df == pytest.approx(len(own) - 1, rel=1e-4)


def test_a_balanced_split_plot_has_its_two_exact_degrees_of_freedom() -> None:
    """12 subjects in 2 groups, 5 records each at two conditions: between 10, within 12·5 − 12 − 1 = 47."""
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(12), 5)
    group, within = (who >= 6).astype(float), np.tile([-1.0, -0.5, 0.0, 0.5, 1.0], 12)
    y = 2.0 * rng.standard_normal(12)[who] + rng.standard_normal(60)
    x = np.stack([np.ones(60), group, within], axis=1)
    m = reml(y, x, np.ones((60, 1)), who.astype(str), ("intercept", "group", "within"))
    assert not m.singular
    assert m.effect("group").df == pytest.approx(10.0, rel=1e-4)
    assert m.effect("within").df == pytest.approx(47.0, rel=1e-4)
    means = y.reshape(12, 5).mean(axis=1)
    pooled = (means[:6].var(ddof=1) + means[6:].var(ddof=1)) / 6.0
    assert m.effect("group").se == pytest.approx(np.sqrt(pooled), rel=1e-6)


def test_scales_of_the_columns_change_nothing() -> None:
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(8), 6)
    c = rng.uniform(0.0, 3.0, 48)
    y = 1.0 + (2.0 + rng.standard_normal(8)[who]) * c + rng.standard_normal(8)[who] + 0.5 * rng.standard_normal(48)
    x = np.stack([np.ones(48), c], axis=1)
    a = reml(y, x, x, who.astype(str), ("1", "c"))
    b = reml(y, x * [1.0, 1e6], x * [1.0, 1e6], who.astype(str), ("1", "c"))
    assert b.effect("c").value * 1e6 == pytest.approx(a.effect("c").value, rel=1e-6)
    assert b.effect("c").df == pytest.approx(a.effect("c").df, rel=1e-4)
    assert b.random[1, 1] * 1e12 == pytest.approx(a.random[1, 1], rel=1e-4)
    assert b.fitted == pytest.approx(a.fitted, rel=1e-5)


def test_no_variance_between_subjects_is_said() -> None:
    y = np.array([1.0, -1.0, 1.0, -1.0] * 6) + 0.1 * np.tile([1.0, 1.0, -1.0, -1.0], 6)
    m = reml(y, np.ones((24, 1)), np.ones((24, 1)), np.repeat(np.arange(6), 4).astype(str), ("1",))
    assert m.random[0, 0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("drug", ["dofetilide", "quinidine"])
def test_the_real_files_as_statsmodels_fits_them(shared_data: Path, drug: str) -> None:
    study = records.read(shared_data / "heart" / authority.FILE.format(drug))
    for row in authority.mixed_model(drug, study):
        assert row["passed"], row


@pytest.mark.parametrize(("x", "who", "said"), [
    (np.ones((6, 2)), ["a", "b", "c"] * 2, "cannot be told apart"),
    (np.stack([np.ones(6), np.full(6, np.nan)], axis=1), ["a", "b", "c"] * 2, "not a number"),
    (np.ones((6, 1)), ["a"] * 6, "too few"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused(x: np.ndarray, who: list[str], said: str) -> None:
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    with pytest.raises(DataError, match=said):
        reml(np.arange(6.0), x, np.ones((6, 1)), np.array(who), names)

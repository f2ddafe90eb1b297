"""Variance under stratified randomisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.analysis.ancova import ancova
from gemello.trial.analysis.marginal import g_computation
from gemello.trial.analysis.stratified import saturated

HERE: dict[str, Any] = {"arm": "arm", "control": "c", "strata": "z"}
BLOCKS: dict[str, Any] = {**HERE, "randomisation": "permuted-block"}


def trial(rng: np.random.Generator, n: int = 240, strata: int = 4) -> pl.DataFrame:
    """Blocks of four within strata that move the outcome by 1.2 each; an effect that differs by stratum."""
    z, arm = np.sort(rng.integers(0, strata, n)), np.empty(n, object)
    for s in range(strata):
        here = np.flatnonzero(z == s)
        arm[here] = np.concatenate([rng.permutation(["c", "c", "t", "t"]) for _ in range(-(-len(here) // 4))])[: len(here)]
    y = 1.2 * (z - 1.5) + 0.3 * (arm == "t") * z + rng.normal(size=n)
    return pl.DataFrame({"arm": arm.astype(str), "z": z, "y": y, "b": (y > 0.5).astype(float)})


def test_standard_errors_are_those_seen_in_blocked_trials() -> None:
    """250 trials: the relative error of an SD is 0.045, so 0.15 is 3.4 of them (false alarm below 0.003 for all three)."""
    rng = np.random.default_rng(11)
    seen: dict[str, list[tuple[float, float]]] = {"means": [], "saturated": [], "log odds": []}
    plain: list[float] = []
    for _ in range(250):
        table = trial(rng)
        found = {
            "means": ancova(table, outcome="y", **BLOCKS).estimates[0],
            "saturated": saturated(table, outcome="y", **HERE)[0],
            "log odds": g_computation(table, outcome="b", **BLOCKS).contrasts("log odds ratio")[0],
        }
        plain.append(found["means"].extra["se_by"]["HC3"])
        for k, e in found.items():
            seen[k].append((e.estimate, e.se))
    ratio = {k: float(np.mean(np.array(v)[:, 1]) / np.std(np.array(v)[:, 0])) for k, v in seen.items()}
    for k, r in ratio.items():
        assert r == pytest.approx(1, abs=0.15), k
    assert np.mean(plain) / np.std(np.array(seen["means"])[:, 0]) > 1.4  # the usual standard error does not know of the blocks


def test_saturated_model_needs_no_correction() -> None:
    """With the strata in every arm's model no residual mean is left: any scheme gives the variance of simple randomisation."""
    table = trial(np.random.default_rng(3))
    by = {
        scheme: ancova(
            table, outcome="y", covariates="factor(z)", heterogeneous=True, covariance="vcovG", randomisation=scheme, **HERE
        )
        for scheme in ("simple", "permuted-block", "urn", "pocock-simon")
    }
    first = by["simple"].estimates[0]
    for m in by.values():
        assert m.estimates[0].se == pytest.approx(first.se, rel=1e-9)
        assert m.warnings == ()
    e = saturated(table, outcome="y", **HERE)[0]
    assert e.estimate == pytest.approx(first.estimate, abs=1e-12)
    assert e.se == pytest.approx(first.se, rel=0.02)  # the same limit, other divisors


def test_correction_by_hand() -> None:
    """Two arms, blocks, no covariate: n var = vcovG − Σ P(z) π(1−π) (m1(z)/π + m0(z)/(1−π))² (Bugni et al. 2018)."""
    table = trial(np.random.default_rng(5))
    simple = ancova(table, outcome="y", covariance="vcovG", **HERE).estimates[0]
    blocked = ancova(table, outcome="y", **BLOCKS).estimates[0]
    urn = ancova(table, outcome="y", randomisation="urn", **HERE).estimates[0]
    mean = table.with_columns(r=pl.col("y") - pl.col("y").mean().over("arm"))
    pi, less = float((table["arm"] == "t").mean()), 0.0
    for (_,), here in mean.group_by("z"):
        m1, m0 = (float(here.filter(pl.col("arm") == a)["r"].mean()) for a in ("t", "c"))  # type: ignore[arg-type]
        less += len(here) / len(table) * pi * (1 - pi) * (m1 / pi + m0 / (1 - pi)) ** 2
    assert simple.se**2 - blocked.se**2 == pytest.approx(less / len(table), rel=1e-9)
    assert simple.se**2 - urn.se**2 == pytest.approx(2 / 3 * less / len(table), rel=1e-9)


def test_warnings_of_schemes() -> None:
    table = trial(np.random.default_rng(5))
    assert "minimisation" in " ".join(ancova(table, outcome="y", randomisation="pocock-simon", **HERE).warnings)
    assert "takes no account" in " ".join(ancova(table, outcome="y", covariance="HC3", **BLOCKS).warnings)
    sparse = table.with_columns(z=pl.int_range(pl.len()) // 3)
    assert "have no subject: the variance is conservative" in " ".join(ancova(sparse, outcome="y", **BLOCKS).warnings)
    with pytest.raises(DataError, match="merge strata"):
        saturated(sparse, outcome="y", **HERE)

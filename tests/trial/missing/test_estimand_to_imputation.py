"""From an estimand to its analysis: each subject's own event says how what is missing after it is filled."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gemello.base.errors import DataError
from gemello.trial.estimand import Estimand, IntercurrentEvent, Treatment, Variable, apply
from gemello.trial.missing.imputation import conditional_mean, fill, impute, model_data, plan
from gemello.trial.missing.normal import maximum_likelihood
from gemello.trial.missing.visits import Visits, visits


def records(n: int = 80) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    arm = np.where(np.arange(n) % 2, "drug", "placebo")
    y = rng.normal(size=(n, 1)) + np.array([0.0, 1, 2]) * (1 + (arm == "drug"))[:, None] + rng.normal(size=(n, 3))
    y[1, 2] = y[3, 1] = y[3, 2] = y[4, 2] = np.nan
    table = {
        "id": np.repeat([f"s{i}" for i in range(n)], 3),
        "week": np.tile([4, 8, 12], n),
        "arm": np.repeat(arm, 3),
        "y": y.ravel(),
    }
    return pl.DataFrame(table).with_columns(pl.col("y").fill_nan(None))


EVENTS = pl.DataFrame({
    "id": ["s1", "s3", "s5", "s7"], "event": ["stop", "rescue", "rescue", "stop"], "time": [8.0, 4.0, 4.0, 4.0],
})  # fmt: skip


def read(strategy: str = "treatment policy", stop: str = "J2R") -> Visits:
    events = (IntercurrentEvent("stop", strategy, stop), IntercurrentEvent("rescue", "hypothetical", "MAR"))  # type: ignore[arg-type]
    asked = Estimand(Treatment("arm", "drug", "placebo"), "all", Variable("y"), events, "difference in means")
    out = apply(asked, records(), EVENTS, subject="id", time="week")
    return visits(
        out.table, subject="id", visit="week", outcome="y", arm="arm", control="placebo", event="gemello_after",
        handling="gemello_handling",
    )  # fmt: skip


def test_every_subject_has_the_handling_of_its_event() -> None:
    d = read()
    at = {s: i for i, s in enumerate(d.subjects)}
    chosen = dict(zip(d.subjects, plan(d, None), strict=True))
    assert (chosen["s1"], chosen["s3"], chosen["s5"], chosen["s7"], chosen["s4"]) == ("J2R", "MAR", "MAR", "J2R", "MAR")
    assert np.isnan(d.y[at["s5"], 1:]).all()  # hypothetical: what was seen after rescue is gone
    assert not np.isnan(d.y[at["s7"]]).any()  # treatment policy: it stays
    model = model_data(d, plan(d, None))
    assert np.isnan(model.y[at["s7"], 1:]).all()  # but does not inform a model of those on treatment
    fit = maximum_likelihood(model)
    done = fill(d, model, fit, plan(d, None), None)
    assert np.array_equal(done[at["s7"]], d.y[at["s7"]])
    own, reference = fit.mean(d), fit.mean(d, np.zeros(len(d), np.int64))
    slope = np.linalg.solve(fit.covariances[0][:2, :2], fit.covariances[0][:2, 2])
    i = at["s1"]
    assert done[i, 2] == pytest.approx(reference[i, 2] + (d.y[i, :2] - own[i, :2]) @ slope)


def test_the_analysis_runs_and_differs_from_all_at_random() -> None:
    d = read()
    mixed = conditional_mean(d, strategies=None, error="bootstrap", replicates=3)[0].estimate
    assert mixed < conditional_mean(d, strategies="MAR", error="bootstrap", replicates=3)[0].estimate
    assert np.isfinite(impute(d, 5, strategies=None, seed=1).analyse()[0].se)


def test_missing_values_that_nothing_fills_are_refused() -> None:
    with pytest.raises(DataError, match="fills nothing"):
        impute(read("while on treatment", "none"), 2, strategies=None, seed=1)

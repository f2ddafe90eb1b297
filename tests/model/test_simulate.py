"""`simulate`: shapes, names, tables, failures and refusals. Numbers are held elsewhere (timeline, nmtests, contract)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gemello.base.errors import DataError, ModelError, SolverError, UnsupportedError
from gemello.model import registry
from gemello.model.contract import Model, Output, Port
from gemello.model.parameters import Parameter, ParameterTable
from gemello.model.schedule import Schedule, Subject
from gemello.model.simulate import prepare, simulate, solve_prepared

VALUES = {"CL": 2.0, "V": 20.0}


class Explosion(Model):
    """y' = r y²: infinite at 1/(r y0) (a growing solution that no solver can follow past that time)."""

    name, version, time_unit = "explosion", "1", "h"
    states = {"y": "1"}  # noqa: RUF012
    outputs = (Output("y", "1"),)
    ports = (Port("y", "1", state="y"),)
    parameters = ParameterTable((Parameter("r", 1.0, "1/h"),))

    def derivative(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return self.state_type(p.r * y.y**2)

    def observe(self, t: Any, y: Any, p: Any, u: Any) -> Any:
        return (y.y,)


def test_one_schedule_for_many_values() -> None:
    s = Schedule().dose(0.0, 100.0).observe([1.0, 5.0])
    out = simulate(registry.get("pk1_iv"), s, {"CL": [1.0, 2.0, 4.0], "V": 20.0})
    want = 5.0 * np.exp(-np.outer([1.0, 2.0, 4.0], [0.0, 1.0, 5.0]) / 20.0)
    np.testing.assert_allclose(out.outputs["cp"], want, rtol=1e-13)
    assert (out.ids, out.units["cp"], out.time_unit, out.failures, out.states) == (("1", "2", "3"), "mg/L", "h", (), {})


def test_subjects_of_different_length() -> None:
    a, b = Schedule().dose(0.0, 100.0).observe([1.0, 5.0]), Schedule().dose(0.0, 60.0)
    out = simulate(registry.get("pk1_iv"), [Subject("a", a), Subject("b", b)], VALUES, states=True)
    assert np.isnan(out.time).tolist() == [[False] * 3, [False, True, True]]
    for v in (out.outputs["cp"], out.states["central"]):
        assert np.isnan(v).tolist() == np.isnan(out.time).tolist()
    frame = out.frame()
    assert frame["id"].to_list() == ["a", "a", "a", "b"]
    assert frame["cp"].to_list()[3] == pytest.approx(3.0)
    assert set(frame.columns) == {"id", "time", "cp", "auc"}


def test_chosen_outputs() -> None:
    out = simulate(registry.get("pk1_iv"), Schedule().dose(0.0, 1.0), VALUES, outputs=["auc"])
    assert list(out.outputs) == ["auc"]
    with pytest.raises(ModelError, match="model pk1_iv: no output 'AUC'; it has cp, auc"):
        simulate(registry.get("pk1_iv"), Schedule().dose(0.0, 1.0), VALUES, outputs=["AUC"])


def test_etas_move_the_individuals() -> None:
    m = registry.get("pk1_iv")
    assert m.parameters.eta_names == ("CL", "V")
    s = Schedule().dose(0.0, 100.0).observe(3.0)
    moved = simulate(m, s, {"CL": np.full(2, 2.0), "V": 20.0}, etas=[[0.5, -0.2], [0.0, 0.0]]).outputs["cp"]
    named = simulate(m, s, {"CL": 2.0 * np.exp([0.5, 0.0]), "V": 20.0 * np.exp([-0.2, 0.0])}).outputs["cp"]
    np.testing.assert_allclose(moved, named, rtol=1e-14)


def test_prepared_once_solved_often() -> None:
    ready = prepare(registry.get("pk1_iv"), Schedule().dose(0.0, 100.0).observe(3.0), values=VALUES)
    for clearance in (1.0, 5.0):
        got = solve_prepared(ready, {"CL": clearance, "V": 20.0}).outputs["cp"][0, 1]
        assert got == pytest.approx(5 * np.exp(-3 * clearance / 20.0), rel=1e-13)


def test_a_solution_that_ends_is_reported_with_subject_and_time_and_the_others_go_on() -> None:
    s = Schedule().dose(0.0, 1.0).observe([0.5, 2.0, 3.0])
    out = simulate(Explosion(), s, {"r": [0.1, 1.0, 0.2]})
    assert [who for who, _ in out.failures] == ["2"]
    assert 0.5 < out.failures[0][1] <= 2.0
    np.testing.assert_allclose(out.outputs["y"][[0, 2]], 1 / (1 - np.outer([0.1, 0.2], [0.0, 0.5, 2.0, 3.0])), rtol=1e-5)
    assert np.isnan(out.outputs["y"][1]).tolist() == [False, False, True, True]
    assert out.outputs["y"][1, 1] == pytest.approx(2.0, rel=1e-5)
    with pytest.raises(
        SolverError, match=r"model explosion, subject 2, time [\d.]+ h: the equations could not be solved; look at"
    ):
        out.check()


def test_refusals() -> None:
    m, s = registry.get("pk1_iv"), Schedule().dose(0.0, 1.0)
    with pytest.raises(DataError, match="no subjects; give at least one"):
        simulate(m, [])
    with pytest.raises(ModelError, match=r"parameter CL, value -1 L/h: outside \[0, inf\]; give a value inside"):
        simulate(m, s, {"CL": [1.0, -1.0]})
    with pytest.raises(ModelError, match="parameter CL, value nan"):
        simulate(m, s, {"CL": np.nan})
    with pytest.raises(ModelError, match="no parameter 'Cl'"):
        simulate(m, s, {"Cl": 1.0})
    with pytest.raises(UnsupportedError, match="method 'discrete' needs `advance`; use 'closed'"):
        simulate(m, s, method="discrete")
    with pytest.raises(UnsupportedError, match="method 'euler'"):
        simulate(m, s, method="euler")


def test_methods_of_a_model_in_order_of_exactness() -> None:
    found = {n: registry.get(n).default_method() for n in ("pk1_iv", "mm1_iv", "tmdd")}
    assert found == {"pk1_iv": "closed", "mm1_iv": "auto", "tmdd": "rodas5p"}


def test_names_become_types_that_are_shared() -> None:
    a, b = registry.get("pk1_iv"), registry.get("pk2_iv")
    assert a.output_type is b.output_type
    assert a.state_type is not b.state_type
    assert a.theta_type._fields == a.parameters.theta_names
    assert a.output_index("auc") == 1


def test_a_negative_amount_is_refused_at_a_dose_port_only() -> None:
    plan = Schedule.of([0.0, 1.0], evid=[1, 0], amount=[-2.0, 0.0], row=[2, 3])
    with pytest.raises(DataError, match=r"row 2, column AMT, value '-2.0': subject 1: amount is negative; give 0 or more"):
        simulate(registry.get("pk1_iv"), plan)


def test_a_wrong_number_of_values_or_etas_is_refused() -> None:
    model, plan = registry.get("pk1_iv"), Schedule().dose(0.0, 100.0).observe([1.0])
    people = [Subject("1", plan), Subject("2", plan)]
    with pytest.raises(ModelError, match=r"parameter CL: \(3,\) values for 2 subjects"):
        simulate(model, people, {"CL": [1.0, 2.0, 3.0]})
    with pytest.raises(ModelError, match=r"etas: shape \(3, 2\) for 2 subjects and 2 etas"):
        simulate(model, people, etas=np.zeros((3, 2)))


def test_a_steady_state_of_infusions_with_rates_that_differ() -> None:
    """R1 = 3.8 runs 26 h of every 7.35 h: the slowest subject sets how many infusions overlap."""
    model = registry.get("pk1_iv")
    plan = Schedule.of([0.0, 5.0], evid=[1, 0], amount=[100.0, 0.0], rate=[-1.0, 0.0], interval=[7.35, 0.0], steady_state=[1, 0])
    together = simulate(model, [Subject("1", plan), Subject("2", plan)], {"R1": [3.8, 40.0]}, outputs=["cp"]).check()
    for k, rate in enumerate((3.8, 40.0)):
        alone = simulate(model, plan, {"R1": rate}, outputs=["cp"]).check()
        np.testing.assert_allclose(together.outputs["cp"][k], alone.outputs["cp"][0], rtol=1e-10)

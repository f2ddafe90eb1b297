"""The E14 analysis: arithmetic of the real files, studies whose answer is known, and what must be noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind
from tests.domains.heart.qt.studies import write

from gemello.base.errors import DataError
from gemello.domains.heart.authorities import qt as authority
from gemello.domains.heart.qt import e14
from gemello.domains.heart.qt.e14 import Analysis, analyse
from gemello.domains.heart.qt.records import Study, read


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Analysis]:
    folder = shared_data / "heart"
    return {drug: analyse(read(folder / authority.FILE.format(drug))) for drug, _ in authority.DRUGS}


@pytest.mark.parametrize("drug", ["dofetilide", "quinidine"])
def test_arithmetic_of_the_files(real: dict[str, Analysis], drug: str) -> None:
    for row in authority.arithmetic(drug, real[drug].study):
        assert row["passed"], row
    a = real[drug]
    assert a.ols[0] == pytest.approx(authority.OLS[drug], abs=1e-5)
    assert not a.excluded
    assert not a.excluded_by_time


def test_what_the_two_drugs_are_known_for(real: dict[str, Analysis]) -> None:
    """Johannesen 2014: dofetilide's effect lags behind its concentration; quinidine's does not, and bends."""
    assert real["dofetilide"].hysteresis.seen
    assert not real["quinidine"].hysteresis.seen
    assert real["quinidine"].linearity.p < 0.01 < real["dofetilide"].linearity.p
    assert any("effect-compartment" in n for n in real["dofetilide"].notes)
    assert any("not linear" in n for n in real["quinidine"].notes)
    by_name = {c.name: c for c in real["dofetilide"].corrections}
    assert by_name["QTcF"].low < 0 < by_name["QTcF"].high
    assert by_name["QT"].low > 50.0  # ms/s: uncorrected QT follows RR


def test_means_by_time_are_paired_t_tests(real: dict[str, Analysis]) -> None:
    a = real["dofetilide"]
    s = a.study
    at = next(t for t in a.by_time if t.time == 2.5)
    pick = lambda m: dict(zip(s.subject[m].tolist(), s.change[m].tolist(), strict=True))  # noqa: E731
    on, off = pick(s.active & (s.time == 2.5)), pick(~s.active & (s.time == 2.5))
    ends = ttest_1samp([on[w] - off[w] for w in on], 0.0).confidence_interval(0.90)
    assert (at.low, at.high) == pytest.approx((ends.low, ends.high), rel=1e-9)


def test_a_parallel_study_has_welch_intervals(tmp_path: Path) -> None:
    a = analyse(read(write(tmp_path / "p.csv", slope=0.1, parallel=True)))
    s, at = a.study, a.by_time[1]
    assert not s.crossover
    here = s.time == at.time
    ends = ttest_ind(s.change[here & s.active], s.change[here & ~s.active], equal_var=False).confidence_interval(0.90)
    assert (at.low, at.high) == pytest.approx((ends.low, ends.high), rel=1e-9)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(write(tmp_path_factory.mktemp("flat") / "flat.csv", slope=0.0, subjects=16))


def test_a_drug_without_effect_is_cleared(flat: Study) -> None:
    a = analyse(flat)
    assert a.excluded
    assert a.excluded_by_time
    assert abs(a.predictions[0].contrast.value) < 4.0 * a.predictions[0].contrast.se
    assert not any("not linear" in n for n in a.notes)


def test_the_slope_comes_back(tmp_path: Path) -> None:
    """20 studies: the true 0.15 ms per ng/mL lies in the 90 % interval in 14 to 20 of them (false alarm 1 in 400, binomial)."""
    inside = 0
    for seed in range(20):
        m = e14.fit(read(write(tmp_path / "s.csv", slope=0.15, seed=seed))).effect("concentration")
        inside += m.low <= 0.15 <= m.high
    assert inside >= 14


def test_predictions_where_asked(flat: Study) -> None:
    a = analyse(flat, [50.0, 1e4])
    assert [p.concentration for p in a.predictions][1:] == [50.0, 1e4]
    c = a.predictions[1].contrast
    assert c.value == pytest.approx(a.intercept.value + 50.0 * a.slope.value, rel=1e-9)
    assert any("extrapolated" in n for n in a.notes)
    with pytest.raises(DataError, match="not a concentration"):
        analyse(flat, [-1.0])


def test_the_geometric_mean_of_the_largest_concentrations(flat: Study) -> None:
    tops = [flat.conc[flat.subject == s].max() for s in np.unique(flat.subject)]
    name, value = e14.geometric_cmax(flat)[0]
    assert value == pytest.approx(np.exp(np.mean(np.log(tops))))
    assert name == "geometric mean Cmax, dose 10"


def test_a_loop_has_its_sign() -> None:
    t = np.linspace(0.0, np.pi, 50)
    late, early = np.sin(t - 0.4), np.sin(t + 0.4)
    assert e14._loop(np.sin(t), late) > 0.05
    assert e14._loop(np.sin(t), early) < -0.05
    assert e14._loop(np.sin(t), 3.0 * np.sin(t)) == pytest.approx(0.0, abs=1e-9)


def test_json_has_everything(flat: Study) -> None:
    told = analyse(flat).to_dict()
    assert told["excluded"] is True
    assert set(told["fixed_effects"]) >= {"intercept", "treatment", "concentration", "baseline", "time 24 h"}
    assert len(told["by_time"]) == 6


def test_times_must_be_shared(flat: Study) -> None:
    with pytest.raises(DataError, match="no placebo record at 4 h"):
        e14.placebo_corrected(flat.rows(flat.active | (flat.time != 4.0)))


def test_doses_are_kept_apart(tmp_path: Path) -> None:
    """A second dose with twice the concentrations, in the same subjects: means by time are those of each dose alone."""
    file = write(tmp_path / "one.csv", slope=0.1)
    lines = file.read_text(encoding="utf-8").splitlines()
    more = []
    for row in lines[1:]:
        cells = row.split(",")
        if cells[1] == "Drug":
            cells[2], cells[4] = "20", f"{2.0 * float(cells[4]):.6g}"
            cells[8] = f"{float(cells[8]) + 4.0:.3f}"  # within what the check against QT and RR allows
            more.append(",".join(cells))
    file.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    study = read(file)
    a = analyse(study)
    assert [p.label for p in a.predictions] == ["geometric mean Cmax, dose 10", "geometric mean Cmax, dose 20"]
    assert a.predictions[1].concentration == pytest.approx(2.0 * a.predictions[0].concentration, rel=1e-4)
    low, high = ([t for t in a.by_time if t.dose == d] for d in (10.0, 20.0))
    assert [h.mean - k.mean for h, k in zip(high, low, strict=True)] == pytest.approx([4.0] * 6, abs=1e-9)
    assert [t.mean for t in low] == pytest.approx([t.mean for t in e14.at_times(study.rows(study.dose < 20.0))])
    assert all(t.drug == 10 for t in a.by_time)

"""`gemello heart ecg` as a command: what it prints, writes and refuses. Cells answer at once by formula; the heart is a box."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from tests.domains.heart.organ.small import block

from gemello.base.errors import DataError, GemelloError
from gemello.cli import output
from gemello.domains.heart.cells.cipa.model import cipa
from gemello.domains.heart.drugs.drug import Binding, Block, Drug, Effects
from gemello.domains.heart.organ import command, equivalent, virtual
from gemello.domains.heart.organ import study as studies
from gemello.domains.heart.organ.activation import Root
from gemello.domains.heart.organ.equivalent import LEFT, fraction_left, inverted
from gemello.domains.heart.organ.isochrones import picture, views
from gemello.domains.heart.organ.study import study

STATIC = """name: one & <b>
cmax: 100 nM
channels: {INa: {ic50: 1 uM, hill: 1}, INaL: none, ICaL: none, IKr: {ic50: 300 nM, hill: 1}}
"""
DYNAMIC = "name: two\ncmax: 100 nM\nherg: {Kmax: 100, Ku: 0.01 1/ms, n: 1, EC50: 500 nM, Vhalf: -50 mV}\n"
LIMIT = 0.2  # of GKr, below which the cell of these tests does not repolarise
AGAIN = 0.24  # of GKr, below which it has early afterdepolarisations


def duration(left: Any) -> Any:
    """ms, of a cell with this share of IKr left: 240 without block."""
    return 200.0 + 40.0 / np.asarray(left, float)


def cells(model: Any, parameters: Any, **options: Any) -> Any:
    """A stand-in for `steady`: APD90 by formula of the IKr left, of all kinds alike."""
    own = np.tile(virtual.TORORD.parameters()["GKr"], len(parameters["GKr"]) // 3)
    left = parameters["GKr"] / own
    t = 0.5 * np.arange(1, 2001)
    up = 1.0 / (1.0 + np.exp(-(t - 3.0) / 0.4))
    stays, again = left < LIMIT, (left < AGAIN) & (left >= LIMIT)
    end = np.where(stays, 5000.0, duration(left))
    v = -87.0 + 115.0 * up / (1.0 + np.exp((t[None] - end[:, None]) / 12.0))
    trace = SimpleNamespace(time=t, voltage=v)
    found = {"apd90": duration(left), "ead": again.astype(float), "repolarised": 1.0 - stays}
    return SimpleNamespace(failed=np.zeros(len(left), bool), trace=trace, biomarkers=found)


def clinic(model: Any, parameters: Any, **options: Any) -> Any:
    """A stand-in for `steady` of the CiPA cell: a bound drug leaves 1/(1 + D/EC50) of IKr."""
    left = parameters["GKr"] / cipa.parameters["GKr"].value / (1.0 + parameters["D"] / parameters["halfmax"])
    ok = left > 0.0
    return SimpleNamespace(failed=~ok, biomarkers={"apd90": duration(left), "repolarised": ok.astype(float)})


def box() -> virtual.VirtualHeart:
    return virtual.ready(block((14, 10, 12), 2.0, 90.0), virtual.TORORD, (Root("low", "left", 0.0, 0.0, 0.0),))


@pytest.fixture(scope="module")
def heart() -> virtual.VirtualHeart:
    return box()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heart: virtual.VirtualHeart) -> Path:
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    real = studies.study

    def fast(*given: Any, **options: Any) -> Any:
        return real(*given, pacer=cells, cipa_pacer=clinic, **options)

    monkeypatch.setattr(studies, "study", fast)
    monkeypatch.setattr(virtual, "prepare", lambda folder, spacing: heart)
    (tmp_path / "cloud").mkdir()
    Path("one.yaml").write_text(STATIC, encoding="utf-8")
    Path("two.yaml").write_text(DYNAMIC, encoding="utf-8")
    return tmp_path


def call(*words: str) -> None:
    """The command as the command line runs it: `context.obj` is its output."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("ecg")(command.ecg)
    app.callback()(lambda: None)
    typer.main.get_command(app).main(["ecg", *words], standalone_mode=False, obj=output)


def test_json_has_control_and_every_dose(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 100 and 300 nM, 3/4 and 1/2 of IKr are left: APD90 by the formula, QT longer by the same within 2 ms."""
    call("one.yaml", "--heart", "cloud", "--doses", "3,1", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["hERG"] == "static"
    assert [d["x_cmax"] for d in told["doses"]] == [0, 1, 3]
    assert [d["concentration_nM"] for d in told["doses"]] == [0, 100, 300]
    assert [d["IKr_left"] for d in told["doses"]] == pytest.approx([1.0, 0.75, 0.5])
    assert [d["endo_APD90_ms"] for d in told["doses"]] == pytest.approx(duration([1.0, 0.75, 0.5]))
    longer = duration([1.0, 0.75, 0.5]) - duration(1.0)
    assert [d["delta_QT_ms"] for d in told["doses"]] == pytest.approx(longer, abs=2.0)
    assert set(told["doses"][0]["leads_mV"]) >= {"I", "aVF", "V6"}
    assert told["provenance"]["seed"] is None
    assert any("INa is blocked by 23 %" in w for w in told["warnings"])


def test_a_report_without_scripts_that_escapes_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("one.yaml", "--heart", "cloud", "-o", "page.html")
    out = capsys.readouterr()
    assert "ΔQTcF ms" in out.out
    assert "page.html" in out.err
    text = Path("page.html").read_text(encoding="utf-8")
    assert len(text) < 600_000
    assert "one &amp; &lt;b&gt;" in text
    assert "<b>" not in text
    assert "<script" not in text
    assert text.count("<svg") == 3
    assert "Reaction–eikonal, not monodomain" in text
    assert "INa is blocked by" in text
    assert "Block of hERG is the compound’s static one" in text


def test_dynamic_herg_becomes_static_and_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The CiPA cell of this test has 1/(1 + D/500 nM) of its IKr left; table and report say how it was had."""
    call("two.yaml", "--heart", "cloud", "--json", "-o", "page.html")
    told = json.loads(capsys.readouterr().out)
    assert told["hERG"] == "equivalent"
    assert [d["IKr_left"] for d in told["doses"]] == pytest.approx(1.0 / (1.0 + np.arange(5) / 5.0), abs=1e-3)
    assert "replaced by a static block" in Path("page.html").read_text(encoding="utf-8")
    call("two.yaml", "--heart", "cloud")
    assert "dynamic hERG as the static block" in capsys.readouterr().err


def test_doses_with_afterdepolarisations_are_named_and_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 × Cmax leaves 0.231 of IKr."""
    call("one.yaml", "--heart", "cloud", "--doses", "1,10")
    assert "10 × Cmax (1000 nM) is not shown: a cell (endo) has early afterdepolarisations" in capsys.readouterr().err


def test_doses_that_do_not_repolarise_are_named_and_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 × Cmax leaves 0.13 of IKr, less than the 0.2 that these cells need; where no dose remains, the command refuses."""
    call("one.yaml", "--heart", "cloud", "--doses", "1,20", "-o", "page.html")
    out = capsys.readouterr()
    assert "20 × Cmax (2000 nM) is not shown: a cell (endo) does not repolarise" in out.err
    assert "20 × Cmax (2000 nM) is not shown" in Path("page.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="no dose can be shown") as e:
        call("one.yaml", "--heart", "cloud", "--doses", "20")
    assert e.value.exit_status == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none.yaml", "--heart", "cloud"), "no such file"),
        (("one.yaml", "--heart", "nowhere"), "no such folder"),
        (("one.yaml", "--heart", "cloud", "--doses", "1;2"), "--doses"),
        (("one.yaml", "--heart", "cloud", "--doses", "0,1"), "not a multiple of Cmax"),
        (("one.yaml", "--heart", "cloud", "--doses", "nan"), "not a multiple of Cmax"),
        (("one.yaml", "--heart", "cloud", "--doses", ",".join("123456789" * 3)), "too many doses"),
        (("one.yaml", "--heart", "cloud", "-o", "one.yaml"), "data set itself"),
    ],
)
def test_refusals(here: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(GemelloError, match=told) as e:
        call(*words)
    assert e.value.exit_status == 2
    assert "\n" not in str(e.value)


def test_a_folder_without_its_files_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(here)
    with pytest.raises(DataError, match=r"xyz\.csv\.gz.*cannot be read") as e:
        call("one.yaml", "--heart", "cloud")
    assert e.value.exit_status == 2
    assert "\n" not in str(e.value)


# ---- dynamic hERG as static block -----------------------------------------------------------------------------------------
def test_inversion_gives_back_what_was_left() -> None:
    """APD90 by a smooth formula: shares of IKr between the tabulated ones come back within 0.002; beyond the last, none does."""
    asked = np.array([1.0, 0.83, 0.4, 0.12])
    apd = np.concatenate([duration(LEFT), duration(asked), [duration(0.01)]])
    got = inverted(apd, 5)
    assert got[:4] == pytest.approx(asked, abs=2e-3)
    assert np.isnan(got[4])
    broken = apd.copy()
    broken[4] = np.nan  # from there on the table ends
    assert np.isnan(inverted(broken, 5)[2:]).all()


def test_drugs_without_dynamic_herg_have_no_equivalent() -> None:
    with pytest.raises(DataError, match="no dynamic hERG"):
        fraction_left(Drug("x", 1.0, Effects({"IKr": Block(1.0, 1.0)}, None)), 1.0)


def test_doses_without_an_equivalent_are_left_out(heart: virtual.VirtualHeart) -> None:
    """100 × EC50 leaves less than the 5 % to which the table reaches."""
    drug = Drug("x", 10.0, Effects({}, Binding(100.0, 0.01, 1.0, 100.0, -50.0)))
    found = study(heart, drug, [1.0, 1000.0], pacer=cells, cipa_pacer=clinic)
    assert [d.multiple for d in found.doses] == [0.0, 1.0]
    assert [(m, "CiPA" in why) for m, _, why in found.left_out] == [(1000.0, True)]


def test_a_slow_drug_leaves_the_channels_that_it_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ku of 1.8e-5/ms (dofetilide) is 55 s: over a beat the bound share hardly moves, so the equivalent static block is that,
    which the states of the channel say: within 0.01 (a table of six values of IKr)."""
    monkeypatch.setattr(equivalent, "LEFT", np.geomspace(1.0, 0.4, 6))
    drug = Drug("slow", 2.0, Effects({}, Binding(1e8, 1.79e-5, 0.9999, 1.475e8, -1.147)))
    kept: list[Any] = []

    def pacer(*given: Any, **options: Any) -> Any:
        kept.append(equivalent.steady(*given, **options))
        return kept[0]

    left = fraction_left(drug, [0.5, 1.5], pacer=pacer)
    state = kept[0].state._asdict()
    free = 1.0 - sum(np.asarray(state[n])[-2:] for n in ("IObound", "Obound", "Cbound"))
    assert 0.45 < free[1] < free[0] < 0.95
    assert left == pytest.approx(free, abs=0.01)


# ---- picture --------------------------------------------------------------------------------------------------------------
def test_views_of_a_box() -> None:
    """Front and back are the faces of least and greatest y, as a viewer has them before him."""
    small = block((3, 4, 5))
    at = small.voxels - 1
    seen = views(small, at[:, 1] * 1.0)
    assert np.nanmax(seen["front"]) == 0.0
    assert np.nanmin(seen["back"]) == 3.0
    across = views(small, at[:, 0] * 1.0)
    assert (np.diff(across["front"][2, 1:4]) > 0).all()
    assert (np.diff(across["back"][2, 1:4]) < 0).all()
    up = views(small, at[:, 2] * 1.0)
    assert up["front"][1, 1] == 4.0
    assert across["cut"].shape == (6, 5)
    drawn = picture(small, at[:, 2] * 10.0)
    assert re.search(r"within 40 ms", drawn)
    assert drawn.count("<path") == 9  # four bands from the front and from behind, one on the cut

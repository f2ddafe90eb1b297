"""Vintages: what is read, that they do not mix, and archives that are refused."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.base.reference import rows
from gemello.domains.heart.authorities.drugs import factors
from gemello.domains.heart.drugs import vintage as module
from gemello.domains.heart.drugs.drug import HERG, Binding, Block, Drug, Effects
from gemello.domains.heart.drugs.vintage import NAMES, Vintage, empty, read_archive


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "heart"


@pytest.fixture(scope="module")
def lab2020(folder: Path) -> Vintage:
    return Vintage.read(folder, "lab2020")


def test_lab2020_is_what_was_run(lab2020: Vintage, folder: Path) -> None:
    """28 drugs, Cmax in nM from `therapeutic`, Hill block of INa, INaL and ICaL, dynamic hERG, 2,000 joint samples."""
    assert len(lab2020.drugs) == 28
    for d in lab2020.drugs.values():
        assert set(d.point.block) == {"INa", "INaL", "ICaL", HERG}  # hERG: static, for cells without dynamic binding
        assert d.samples is not None
        assert d.samples.samples == 2000
    d = lab2020["dofetilide"]
    assert (d.cmax, d.risk) == (2.0, 2)
    assert d.point.binding == Binding(35.1, 1.816e-05, 1.08, 216.6, -1.0)
    assert d.point.block["INa"] == Block(710.3, 1.98)
    row = rows(folder / "cipa" / "li2019" / "chantest28_qNettraining_errors.csv")[0]
    assert lab2020.logit is not None
    assert [*lab2020.logit] == [float(row[k]) for k in ("intercept1", "intercept2", "slope")]


def test_samples_are_joint(lab2020: Vintage) -> None:
    """Row 3 of FDA's files for dofetilide: parameters of one row stay together."""
    third = lab2020["dofetilide"].samples
    assert third is not None
    third = third.take(2)
    assert third.binding is not None
    assert [*third.binding] == [13.54, 1.624e-05, 1.165, 90.45, -1.0]
    assert third.block["ICaL"] == Block(2437000.0, 1.728)
    assert third.block[HERG] == Block(18.25, 1.017)


def test_thresholds_follow_from_the_logit(lab2020: Vintage) -> None:
    """Where the most probable of three classes changes, to the digits that FDA gives: 0.0536 and 0.0683 C/F."""
    assert lab2020.logit is not None
    assert lab2020.thresholds is not None
    x = np.linspace(0.04, 0.08, 400_001)
    at_least, high = (1.0 / (1.0 + np.exp(-(i + lab2020.logit.slope * x))) for i in lab2020.logit[:2])
    modal = np.argmax([1.0 - at_least, at_least - high, high], axis=0)
    changes = x[1:][np.diff(modal) != 0]
    np.testing.assert_allclose(changes, lab2020.thresholds, atol=5e-5)


@pytest.mark.parametrize(("name", "drugs", "cisapride"), [("validation2018", 28, 9.997), ("master2017", 12, 10.22)])
def test_other_vintages(folder: Path, name: str, drugs: int, cisapride: float) -> None:
    found = Vintage.read(folder, name)
    assert len(found.drugs) == drugs
    binding = found["cisapride"].point.binding
    assert binding is not None
    assert binding.kmax == cisapride
    assert {"Ito", "IKs", "IK1"} < set(found["cisapride"].point.block)  # these vintages count them
    assert found["cisapride"].samples is None
    assert any("Hill coefficient" in n for n in found["cisapride"].notes)  # Ito: 0.2


def test_factors_of_another_group(folder: Path) -> None:
    for row in factors(folder):
        assert row["passed"], row


def test_vintages_do_not_mix(lab2020: Vintage, folder: Path) -> None:
    published = Vintage.read(folder, "validation2018")
    with pytest.raises(DataError, match="belongs to vintage validation2018, not to lab2020"):
        replace(lab2020, drugs={**lab2020.drugs, "sotalol": published["sotalol"]})
    with pytest.raises(DataError, match="belongs to vintage validation2018, not to lab2020"):
        lab2020.adopt(published["sotalol"])
    own = Drug("mine", 10.0, Effects({"INa": Block(1e3, 1.0)}, None))
    assert empty("lab2020").adopt(own).vintage == "lab2020"
    with pytest.raises(DataError, match="knows no block of Ito"):
        empty("lab2020").adopt(Drug("mine", 10.0, Effects({"Ito": Block(1e3, 1.0)}, None)))


def test_unknown_names(lab2020: Vintage, folder: Path) -> None:
    with pytest.raises(DataError, match="no such drug; it has astemizole"):
        lab2020["aspirin"]
    with pytest.raises(DataError, match="use one of lab2020, validation2018, master2017"):
        Vintage.read(folder, "lab2021")
    with pytest.raises(DataError, match="no folder cipa"):
        Vintage.read(folder / "cipa", "lab2020")
    assert {empty(n).name for n in NAMES} == set(NAMES)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Effects({"hERG": Block(1.0, 1.0)}, None), "did you mean IKr"),
        (Effects({"Nav1.5": Block(1.0, 1.0)}, None), "did you mean INa"),
        (Effects({"INa": Block(-1.0, 1.0)}, None), "not a positive number"),
        (Effects({"INa": Block(0.0, 1.0)}, None), "not a positive number"),
        (Effects({"INa": Block(np.nan, 1.0)}, None), "not a positive number"),
        (Effects({"INa": Block(1.0, 50.0)}, None), "outside 0.05 to 20"),
        (Effects({"INa": Block(np.array([1.0, 2.0]), np.array([1.0]))}, None), "unequal numbers of samples"),
        (Effects({}, Binding(0.0, 1.0, 1.0, 1.0, 1.0)), "hERG Kmax"),
    ],
)
def test_impossible_parameters(part: Effects, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Drug("mine", 1.0, part)


@pytest.mark.parametrize("cmax", [0.0, -1.0, np.nan, np.inf, 1e20])
def test_impossible_cmax(cmax: float) -> None:
    with pytest.raises(DataError, match="Cmax"):
        Drug("mine", cmax, Effects({"INa": Block(1.0, 1.0)}, None))


def _archive(path: Path, members: dict[str, bytes], link: bool = False) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        if link:
            info = tarfile.TarInfo("link.csv")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return path


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"a/../x.csv": b"p,q\n1,NA\n2,3e9\n", "notes.txt": b"no"}
    found = read_archive(_archive(tmp_path / "a.tar.gz", good, link=True))
    assert [*found] == ["x.csv"]
    np.testing.assert_array_equal(found["x.csv"]["q"], [np.nan, 3e9])
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]  # nothing was written
    for body, message in (
        (b"p,p\n1,2\n", "name twice"),
        (b"p,q\n1\n", "not a table|another length"),
        (b"p\nx\n", "not a table"),
        (b"", "no header"),
    ):
        with pytest.raises(DataError, match=message):
            read_archive(_archive(tmp_path / "b.tar.gz", {"x.csv": body}))
    (tmp_path / "c.tar.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_archive(tmp_path / "c.tar.gz")
    monkeypatch.setattr(module, "MEMBER_LIMIT", 10)
    with pytest.raises(DataError, match="too large"):
        read_archive(_archive(tmp_path / "d.tar.gz", {"x.csv": b"p\n" + b"1\n" * 10}))

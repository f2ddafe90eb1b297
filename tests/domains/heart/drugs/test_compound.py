"""A user's own compounds: both forms of file, raw tables fitted on the way, and every refusal in one line with its remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemello.base.errors import DataError
from gemello.domains.heart.drugs import compound, hill
from gemello.domains.heart.drugs.drug import Binding, Block, Drug
from gemello.domains.heart.drugs.herg import fraction
from gemello.domains.heart.drugs.quantity import concentration, split
from gemello.domains.heart.drugs.vintage import Vintage
from gemello.formats import yamlfile

GOOD = """
name: examplium
cmax: 12 ng/mL
molar_mass: 366.5 g/mol
vintage: lab2020
channels:
  INa: {ic50: 2.93 µM, hill: 1.16}
  ICaL: {ic50: 2808 nmol/L, hill: 0.65}
  INaL: none
herg: {Kmax: 5594000, Ku: 0.1719 1/s, n: 0.9374, halfmax: 1.472e8, Vhalf: -61.34 mV}
"""


def yaml(folder: Path, text: str, **options: object) -> Drug:
    path = folder / "compound.yaml"
    path.write_text(text, encoding="utf-8")
    return compound.read(path, **options).drugs[0]  # type: ignore[arg-type]


def test_a_yaml_file(tmp_path: Path) -> None:
    d = yaml(tmp_path, GOOD)
    assert (d.name, d.vintage, d.samples, d.notes) == ("examplium", "lab2020", None, ())
    assert d.cmax == pytest.approx(12e-6 / 366.5 * 1e9)  # 32.7 nM
    assert d.point.block["INa"] == Block(pytest.approx(2930.0), 1.16)
    assert d.point.block["ICaL"] == Block(pytest.approx(2808.0), 0.65)
    assert set(d.point.block) == {"INa", "ICaL"}
    assert d.point.binding is not None
    np.testing.assert_allclose(d.point.binding, (5594000, 1.719e-4, 0.9374, 1.472e8, -61.34), rtol=1e-12)


def test_ec50_is_a_concentration(tmp_path: Path) -> None:
    d = yaml(tmp_path, GOOD.replace("halfmax: 1.472e8", "EC50: 2 µM"))
    assert d.point.binding is not None
    assert d.point.binding.halfmax == pytest.approx(2000.0**0.9374)
    assert d.point.binding.ec50 == pytest.approx(2000.0)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    d = yaml(tmp_path, "name: x\ncmax: 1 nM\nchannels: {ICaL: {ic50: 3 nM, hill: 7}}")
    assert d.vintage == ""
    assert d.notes == ("ICaL: Hill coefficient 7 outside 0.3 to 5", "nothing given on INa, INaL, hERG: taken as not blocked")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cmax: 12 ng/mL\n", ""), "column cmax: no Cmax"),
        (("12 ng/mL", "12"), "no unit; write one, such as 12 nM"),
        (("12 ng/mL", "12 mV"), "'mV' is not a unit of concentration"),
        (("12 ng/mL", "12 mg"), "'mg' is not a unit of concentration"),
        (("12 ng/mL", "-12 ng/mL"), "not a positive concentration"),
        (("12 ng/mL", "12 ± 1 ng/mL"), "more than one number"),
        (("12 ng/mL", "1 1 ng/mL"), "more than one number"),
        (("12 ng/mL", "100 M"), "no concentration of an assay"),
        (("2.93 µM", "1e-20 nM"), "INa ic50: 1e-20 nM is no concentration of an assay"),
        (("halfmax: 1.472e8", "EC50: 1e12 M"), "herg EC50: 1e.21 nM is no concentration"),
        (("halfmax: 1.472e8", "halfmax: 1e-300"), "EC50 would be 1e-320 nM"),
        (("INaL: none", "INaL: none\n  IKr: none"), "IKr has none, and herg gives block of it"),
        (("name: examplium", "name: !!python/name:os.system x"), "a tag in line 2; leave it out"),
        (("INaL: none", f"INaL: {{data: {'a' * 300}.csv}}"), "no such file"),
        (("12 ng/mL", "12 g/uL"), "no concentration of an assay; check its unit"),
        (("molar_mass: 366.5 g/mol\n", ""), "without a molar mass"),
        (("366.5 g/mol", "366.5"), "molar_mass, value '366.5': no unit"),
        (("INa:", "Nav1.5:"), "unknown channel; did you mean INa"),
        (("INa:", "hERG:"), "did you mean IKr"),
        (("2.93 µM", "-2.93 µM"), "INa IC50, value '-2930.*not a positive number"),
        (("2.93 µM", "0 µM"), "not a positive number; give it above 0, or leave the channel out"),
        (("2.93 µM", "'> 30 uM'"), "a bound is no value: give the raw block table"),
        (("2.93 µM", "'2,93 uM'"), "is not a unit of concentration"),
        (("2.93 µM", ".nan uM"), "not a number with a unit"),
        (("hill: 1.16", "hill: 45"), "outside 0.05 to 20"),
        (("hill: 1.16", "hill: 1.16 nM"), "a unit where none belongs"),
        ((", hill: 1.16", ""), "INa hill: missing"),
        (("hill: 1.16", "hil: 1.16"), "unknown key; did you mean hill"),
        (("cmax", "Cmaxx"), "unknown key; did you mean cmax"),
        (("lab2020", "lab2021"), "no such vintage; use one of lab2020"),
        (("0.1719 1/s", "0.1719"), "herg Ku, value '0.1719': no unit"),
        (("0.1719 1/s", "0.1719 mV"), "is none of 1/ms"),
        (("halfmax: 1.472e8, ", ""), "give EC50 or halfmax"),
        (("n: 0.9374", "n: 0.9374, EC50: 3 nM"), "give EC50 or halfmax"),
        (("name: examplium\n", ""), "column name: missing"),
        (("examplium", "[1, 2]"), "not one value"),
        (("examplium", '"a\\nb"'), "not a name"),
        (("name: examplium", "name: examplium\nname: other"), "the key 'name' stands twice"),
        (("INa:", "ICaL:"), "the key 'ICaL' stands twice"),
        (("{ic50: 2.93 µM, hill: 1.16}", "2.93"), "not a set of keys"),
        (("INaL: none", "INaL: {data: none.csv}"), "no such file"),
        (("INaL: none", "INaL: {data: ../../etc/passwd}"), "not in the folder of the compound's file"),
        (("INaL: none", "INaL: {data: x.csv, hill: 1}"), "data beside values"),
        (("lab2020", "lab2020\nsamples: {file: s.csv, vintage: master2017}"), "of vintage master2017 for values of lab2020"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(DataError, match=message) as e:
        yaml(tmp_path, GOOD.replace(*change))
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no keys"),
        ("- a\n- b", "no keys"),
        ("name: [", "not YAML"),
        ("a: &x [1]\nb: *x", "an alias in line 2"),
        ("name: !!python/object/apply:os.system [x]", "a tag in line 1"),
        ("? [a, b]\n: c", "not YAML"),
        ("name: " + "[" * 2000, "nested too deeply|not YAML"),
        ("name: x\x00", "not YAML"),
    ],
)
def test_what_is_no_compound(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        yaml(tmp_path, text)


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such file"):
        compound.read(tmp_path / "none.yaml")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"give a .yaml or a .csv file"):
        compound.read(tmp_path / "x.json")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        compound.read(tmp_path / "x.yaml")
    monkeypatch.setattr(yamlfile, "SIZE_LIMIT", 10)
    with pytest.raises(DataError, match="keep data in files of their own"):
        yaml(tmp_path, GOOD)


def test_many_in_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text(
        "name,cmax [nM],vintage,INa_IC50 [uM],INa_h,INaL_IC50 [uM],INaL_h,IKr_IC50,IKr_h,"
        "hERG_Kmax,hERG_Ku [1/ms],hERG_n,hERG_EC50 [nM],hERG_Vhalf [mV]\n"
        "one,33,lab2020,2.9,1.2,none,,50 nM,0.92,,,,,\n"
        "two,5,lab2020,-3,1,,,,,,,,,\n"
        "three,2,,,,,,,,35,1.8e-5,1,97,-1\n"
        "one,33,lab2020,2.9,1.2,none,,50 nM,0.92,,,,,\n"
    )
    found = compound.read(path, strict=False)
    assert [d.name for d in found.drugs] == ["one", "three"]
    assert found.drugs[0].point.block == {"INa": Block(pytest.approx(2900.0), 1.2), "IKr": Block(pytest.approx(50.0), 0.92)}
    assert found.drugs[1].point.binding == Binding(35.0, 1.8e-5, 1.0, pytest.approx(97.0), -1.0)
    assert [n for n, _ in found.rejected] == ["two", "one"]
    assert "not a positive number" in found.rejected[0][1]
    assert "row 5" in found.rejected[1][1]
    with pytest.raises(DataError, match="not a positive number"):
        compound.read(path)
    path.write_text("name,cmax [nM],INa_IC50\none,33,2.9\n")
    with pytest.raises(DataError, match=r"row 2.*INa ic50.*no unit"):
        compound.read(path)
    path.write_text("name,cmax [nM],INa_IC5 [nM]\none,33,2.9\n")
    with pytest.raises(DataError, match="unknown column; did you mean INa_IC50"):
        compound.read(path)


def block_table(path: Path) -> None:
    rows = ["concentration [uM],block [%],channel"]
    for channel, ic50 in (("INa", 3.0), ("hERG", 0.05)):
        for i, c in enumerate(np.repeat([0.01, 0.1, 1.0, 10.0], 3)):
            noise = (-2.0, 0.0, 2.0)[i % 3]
            rows.append(f"{c},{hill.percent(ic50, 1.0, c) + noise:.3f},{channel}")
    path.write_text("\n".join(rows) + "\n")


def test_raw_tables_are_fitted(tmp_path: Path) -> None:
    block_table(tmp_path / "raw.csv")
    text = "name: x\ncmax: 10 nM\ndata: raw.csv\nchannels: {ICaL: {ic50: 1 uM, hill: 1}}"
    d = yaml(tmp_path, text, draws=300, seed=5)
    assert set(d.point.block) == {"ICaL", "INa", "IKr"}
    assert d.point.block["INa"].ic50 == pytest.approx(3000.0, rel=0.02)
    assert d.point.block["IKr"].ic50 == pytest.approx(50.0, rel=0.02)
    assert d.samples is not None
    assert d.samples.samples == 300
    assert np.std(d.samples.block["INa"].ic50) > 0
    assert np.all(d.samples.block["ICaL"].ic50 == d.point.block["ICaL"].ic50)
    assert "no uncertainty given on ICaL: the intervals are too narrow" in d.notes
    again = yaml(tmp_path, text, draws=300, seed=5).samples
    assert again is not None
    np.testing.assert_array_equal(d.samples.block["INa"].ic50, again.block["INa"].ic50)
    with pytest.raises(DataError, match="INa in data and under channels"):
        yaml(tmp_path, text.replace("ICaL", "INa"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concentration,block\n1,2\n", r"name it concentration \[nM\]"),
        ("concentration [mV],block\n1,2\n", "is not a unit of concentration"),
        ("block\n2\n", "no such column"),
        ("concentration [nM],block [mV]\n1,2\n", "not in %"),
        ("concentration [nM],block\n1,x\n", r"row 2.*not a number"),
        ("concentration [nM],block,drug\n1,2,a\n10,20,b\n", "more than one drug"),
        ("concentration [nM],block,channel\n1,2,IKs\n", "no rows of it"),
        ("concentration [nM],block,weight\n1,2,3\n", "unknown column"),
        ("concentration [nM],unit,block\n1,nM,3\n", "a unit in the head and a column of units"),
    ],
)
def test_raw_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ina.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        yaml(tmp_path, "name: x\ncmax: 10 nM\nchannels: {INa: {data: ina.csv}}")


def test_a_recording_is_fitted(tmp_path: Path) -> None:
    truth = Binding(50.0, 0.005, 0.95, 1e5, -90.0)
    doses = [1e3, 1e4, 1e5]
    left = fraction(truth, doses)
    points = [(k, s, t) for k in range(3) for s in range(5) for t in range(5)]
    rows = [f"{doses[k] / 1e3},{s + 1},{2 * (t + 1)},{left[k, s, 20 * t + 19]:.9f}" for k, s, t in points]
    rows.insert(0, "concentration [uM],sweep,time [s],fraction")
    (tmp_path / "milnes.csv").write_text("\n".join(rows))
    d = yaml(tmp_path, "name: x\ncmax: 1 uM\nherg: {data: milnes.csv}", refits=3, draws=20)
    assert d.point.binding is not None
    np.testing.assert_allclose(fraction(d.point.binding, doses)[:, :5], left[:, :5], atol=1e-4)
    assert d.samples is not None
    assert d.samples.binding is not None
    assert d.samples.samples == 20
    assert any(n.startswith("hERG: bootstrap of residuals") for n in d.notes)


def test_samples_of_fda_as_a_users_file(shared_data: Path, tmp_path: Path) -> None:
    """Ranolazine's samples written out by hand, under FDA's names; then with the values of another drug, and in another unit."""
    d = Vintage.read(shared_data / "heart", "lab2020")["ranolazine"]
    assert d.samples is not None
    assert d.samples.binding is not None
    assert d.point.binding is not None
    columns = {f"{c}_{k}": v for c, b in d.samples.block.items() for k, v in zip(("IC50", "h"), b, strict=True) if c != "IKr"}
    columns |= dict(zip(("Kmax", "Ku", "n", "halfmax", "Vhalf"), d.samples.binding, strict=True))
    body = "\n".join(",".join(f"{v[i]:.9g}" for v in columns.values()) for i in range(50))
    (tmp_path / "s.csv").write_text(",".join(columns) + "\n" + body + "\n")
    channels = ", ".join(f"{c}: {{ic50: {b.ic50} nM, hill: {b.h}}}" for c, b in d.point.block.items() if c != "IKr")
    b = d.point.binding
    herg = f"{{Kmax: {b.kmax}, Ku: {b.ku} 1/ms, n: {b.n}, halfmax: {b.halfmax}, Vhalf: {b.vhalf} mV}}"
    text = f"name: mine\ncmax: 1948.2 nM\nvintage: lab2020\nsamples: s.csv\nchannels: {{{channels}}}\nherg: {herg}"
    found = yaml(tmp_path, text).samples
    assert found is not None
    assert found.binding is not None
    np.testing.assert_allclose(found.binding.ku, d.samples.binding.ku[:50], rtol=1e-8)
    np.testing.assert_allclose(found.block["INa"].ic50, d.samples.block["INa"].ic50[:50], rtol=1e-8)
    with pytest.raises(DataError, match="is none of its samples"):
        yaml(tmp_path, text.replace(" nM, hill", " uM, hill"))
    with pytest.raises(DataError, match="Kmax/halfmax"):
        yaml(tmp_path, text.replace(f"halfmax: {b.halfmax}", "halfmax: 5"))
    with pytest.raises(DataError, match="samples of what the compound has no value for"):
        yaml(tmp_path, text.replace(f"\nherg: {herg}", ""))
    (tmp_path / "s.csv").write_text("Kmax\n1\n\n")
    with pytest.raises(DataError, match="is none of its samples"):
        yaml(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "mass", "nanomolar"),
    [
        ("33 nM", None, 33.0),
        ("3.3e-2 µM", None, 33.0),
        ("33 nmol/L", None, 33.0),
        ("12 ng/mL", 366.5, 32.742),
        ("1 pg/mL", 441.6, 2.2645e-3),
        ("5e-9 M", None, 5.0),
        ("7 pmol/mL", None, 7.0),
    ],
)
def test_concentrations(text: str, mass: float | None, nanomolar: float) -> None:
    assert concentration(text, mass, "here", "cmax") == pytest.approx(nanomolar, rel=1e-4)


@pytest.mark.parametrize("text", ["", "nM", "nan nM", "inf nM", "1e999 nM", "--3 nM", "one nM"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(DataError, match="not a number with a unit"):
        split(text, "here", "cmax")


def test_static_beside_dynamic_herg_is_said(tmp_path: Path) -> None:
    d = yaml(tmp_path, GOOD.replace("INaL: none", "INaL: none\n  IKr: {ic50: 50 nM, hill: 1}"))
    assert d.notes == ("static block of IKr is used only where a cell has no dynamic hERG",)
    assert d.notes_where_static == ("IKr acts here by its static block; the dynamic parameters of hERG are not used",)


def test_a_compound_without_any_block_is_one(tmp_path: Path) -> None:
    d = yaml(tmp_path, "name: x\ncmax: 1 nM\nchannels: {INa: none, INaL: none, ICaL: none, IKr: none}")
    assert (d.point.block, d.point.binding, d.notes) == ({}, None, ())


def test_a_name_that_no_disk_can_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        compound.read(tmp_path / f"{'a' * 300}.yaml")


@pytest.mark.parametrize("name", ["x^2", "xylo"])
def test_a_first_row_that_begins_as_a_compressed_file_does(tmp_path: Path, name: str) -> None:
    path = tmp_path / "many.csv"
    path.write_text(f"name,cmax [nM],INa_IC50 [uM],INa_h\n{name},1,2,1\n", encoding="utf-8")
    assert [d.name for d in compound.read(path).drugs] == [name]


def test_one_column_in_two_units_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("name,cmax [nM],INa_IC50 [uM],INa_IC50 [nM],INa_h\nx,1,2,2000,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="stands twice in the header"):
        compound.read(path)


def test_a_bad_measurement_is_named_by_its_line(tmp_path: Path) -> None:
    rows = ["concentration [uM],block [%]", "1,5", "3,", "10,20", "0,30", "100,80"]
    (tmp_path / "late.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"late.csv, row 5, column concentration, value '0'"):
        yaml(tmp_path, GOOD.replace("INaL: none", "INaL: {data: late.csv}"))


@pytest.mark.parametrize("column", ["INa_IC50 [uM]", "Vhalf [V]", "Ku [1/s]"])
def test_samples_in_another_unit_are_refused(tmp_path: Path, column: str) -> None:
    (tmp_path / "draws.csv").write_text(f"{column},n\n1,1\n2,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="samples are in"):
        yaml(tmp_path, GOOD + "samples: draws.csv\n")

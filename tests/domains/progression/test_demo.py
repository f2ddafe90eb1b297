"""The demo of the progression domain, once: what it says of new persons is within chance of what it promises."""

from __future__ import annotations

from pathlib import Path

from gemello.domains.progression import demo


def test_it_learns_forecasts_and_reports(tmp_path: Path) -> None:
    said: list[str] = []
    path, lines = demo.run(tmp_path / "report.html", seed=20, progress=said.append)
    text = path.read_text(encoding="utf-8")
    assert "<svg" in text
    assert any("Learning" in s for s in said)
    inside, total = (int(w) for w in lines[3].split(": ")[1].split(" later")[0].split(" of "))
    assert total > 150
    assert 0.8 <= inside / total <= 0.98  # 40 persons of six correlated visits: SE about 0.025

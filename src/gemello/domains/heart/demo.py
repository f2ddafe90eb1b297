"""The demo: FDA's ion-channel data of one drug, to its torsade risk and a report: `gemello demo heart`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

NAME = "gemello-heart-report.html"

#: Dofetilide as FDA's calibration of 2020 has it (github.com/FDA/CiPA, Lab_Specific_Validation_Calibration_2020): EC50 is
#: halfmax^(1/n). Free Cmax 2 nM.
DOFETILIDE = """\
name: dofetilide
cmax: 2 nM
vintage: lab2020
channels:
  INa: {ic50: 710.3 nM, hill: 1.98}
  INaL: {ic50: 18350 nM, hill: 0.505}
  ICaL: {ic50: 7.943e+09 nM, hill: 1.097}
herg: {Kmax: 35.1, Ku: 1.816e-05 1/ms, n: 1.08, EC50: 145.428 nM, Vhalf: -1 mV}
"""


def run(output: Path | None = None, seed: int = 0, progress: Callable[[str], None] | None = None) -> tuple[Path, tuple[str, ...]]:
    """Score dofetilide in the CiPA cell, write the report. Returns its path and the result in a few lines."""
    say = progress or (lambda _: None)
    say("Starting JAX")
    from gemello.domains.heart.risk import command, report  # noqa: PLC0415  (seconds: after the first word)
    from gemello.domains.heart.risk.reference import reference  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dofetilide.yaml"
        file.write_text(DOFETILIDE, encoding="utf-8")
        drugs, vintage, _ = command.read(file, None, seed)
    ((found, traces, stamp),) = command.assessed(drugs, vintage, 0, seed, say)
    path = Path(NAME) if output is None else Path(output)
    say(f"Writing {path.name}")
    report.write(
        found, drugs[0], vintage, traces, stamp, path=path, reference=reference(vintage.name), source="FDA’s calibration of 2020"
    )
    doses = [f"{d.multiple:g} x Cmax: qNet {d.qnet:.4f} C/F, APD90 {d.apd90:.0f} ms" for d in found.doses]
    return path, ("dofetilide in the CiPA cell, CL 2000 ms, steady state", *doses, *report.verdict(found))

"""Small made-up studies, as CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 24.0])
HEADER = "ID,TRTG,DOSE,NTLD,CONC,CONCU,RR,QT,QTCF,QTCFBL"


def write(path: Path, *, slope: float, subjects: int = 10, parallel: bool = False, seed: int = 1) -> Path:
    """`subjects` on drug and placebo (the same, or others): ΔΔQTcF is `slope` (ms per ng/mL) times C."""
    rng = np.random.default_rng(seed)
    rows = [HEADER]
    for i in range(subjects):
        base, peak = rng.normal(400.0, 15.0), 100.0 * np.exp(0.2 * rng.standard_normal())
        for name, dose in (("Placebo", 0.0), ("Drug", 10.0)):
            own = f"{i + 1}" if not parallel or dose == 0 else f"{i + 101}"
            baseline = base + rng.normal(0.0, 5.0)
            conc = np.where(dose > 0, peak * TIMES * np.exp(1.0 - TIMES / 2.0) / 2.0, 0.0)
            qtcf = baseline - 3.0 + 2.0 * np.cos(TIMES / 4.0) + slope * conc + 4.0 * rng.standard_normal(len(TIMES))
            rr = rng.normal(950.0, 60.0, len(TIMES))
            qt = qtcf * np.cbrt(rr / 1000.0)
            unit = "ng/mL" if dose else ""
            for k in range(len(TIMES)):
                rows.append(
                    f"{own},{name},{dose:g},{TIMES[k]:g},{conc[k]:.5g},{unit},{rr[k]:.3f},{qt[k]:.3f},{qtcf[k]:.3f},{baseline:.3f}"
                )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path

"""The virtual heart of DTI004 at 1 mm, against the person's own ECG and against healthy people.

Rautaharju et al. 2013, J Electrocardiol 46:707: 36,299 healthy women, mean and 2nd to 98th percentile. The recorded beat comes
without its heart rate, and simulated cells beat at 1 Hz. Nothing is fitted by a search, but this ECG is no independent judge
either: the speed of the endocardial layer (1.0 of 1.0, 1.2 and 1.5 mm/ms) and the isotropic lead field (rather than one that
knows the fibre) were chosen with it in view, and the bounds on correlations state what was reached. QT at 1 Hz lies below the
388 ms from which healthy women's QT begins in the same paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemello.base.reference import Check, check
from gemello.domains.heart.organ.activation import DURRER, Speeds, activate
from gemello.domains.heart.organ.cloud import Cloud, read_cloud, read_ecg
from gemello.domains.heart.organ.compare import correlation
from gemello.domains.heart.organ.ecg import LEADS, Ecg, from_recorded
from gemello.domains.heart.organ.geometry import Heart, enclosed, tetrahedra, volumes, voxelise, wall_thickness
from gemello.domains.heart.organ.intervals import Intervals, intervals
from gemello.domains.heart.organ.virtual import drug_ecg, ready

SPACING = 1.0  # mm
WOMEN = "36,299 healthy women, 2nd to 98th percentile (Rautaharju et al. 2013, J Electrocardiol 46:707)"
BEATS = 20  # from the authors' own steady state at 1 Hz


def checks(folder: Path) -> Iterator[Check]:
    """Shape, activation and ECG. folder: the heart reference data."""
    where = folder / "meshes" / "DTI004_coarse"
    cloud = read_cloud(where)
    heart = voxelise(cloud, SPACING)
    yield from shape(cloud, heart)
    yield from activation(heart)
    beat = drug_ecg(ready(heart), None, 0.0, number=BEATS)[0]
    yield from against_the_person(beat.ecg, beat.intervals, where)


def shape(cloud: Cloud, heart: Heart) -> Iterator[Check]:
    """Volume, walls, cavities, electrodes."""
    exact = float(volumes(tetrahedra(cloud), cloud.xyz).sum()) / 1000.0
    name = "DTI004 on voxels of 1 mm"
    yield check(f"{name}: volume (mL)", heart.volume, exact, 0.01, "sum of the tetrahedra of the alpha shape", relative=True)
    yield check(f"{name}: holes without a way out (voxels)", enclosed(heart.mask), 0.0, 0.0, "cavities are open at the base")
    wall = wall_thickness(cloud)
    healthy = "healthy adults: left ventricle and septum 6 to 10 mm, right ventricle 1 to 5 mm (Lang et al. 2015, JASE 28:1)"
    yield check("left ventricular wall (mm)", wall["left"], 8.0, 2.0, healthy)
    yield check("septum (mm)", wall["septum"], 8.0, 2.0, healthy)
    yield check("right ventricular wall (mm)", wall["right"], 3.0, 2.0, healthy)
    la, ra, ll, rl, *chest = cloud.electrodes
    right_way = la[0] > ra[0] and ll[0] > rl[0] and ll[2] < la[2] and (np.diff(np.array(chest)[:, 0]) > 0.0).all()
    yield check("electrodes in the order LA RA LL RL V1-V6", float(right_way), 1.0, 0.0, "x to the left, z up")
    nearest = min(float(np.linalg.norm(heart.positions - e, axis=1).min()) for e in cloud.electrodes)
    yield check("nearest electrode to muscle (mm)", nearest, 45.0, 25.0, "on the chest: 20 to 70 mm")


def activation(heart: Heart) -> Iterator[Check]:
    """Times scale as one over the speeds, those of the roots too."""
    time = activate(heart)
    twice = activate(heart, [r._replace(time=r.time / 2.0) for r in DURRER], Speeds(*(2.0 * v for v in Speeds()[:3])))
    error = float(np.abs(2.0 * twice - time).max())
    yield check("activation at twice all speeds, times 2: greatest difference (ms)", error, 0.0, 1e-3, "the eikonal equation")


def against_the_person(ecg: Ecg, found: Intervals, where: Path) -> Iterator[Check]:
    """QRS, QT, T waves, likeness."""
    time, leads = read_ecg(where)
    measured = from_recorded(leads)
    own = intervals(time, measured)
    yield check("QRS duration (ms)", found.qrs, 87.0, 17.0, WOMEN)
    person = "this person's own ECG, same measurement"
    yield check("QRS duration (ms), the person", found.qrs, own.qrs, 0.15, person, relative=True)
    yield check("QT (ms) at 1 Hz, the person at an unknown rate", found.qt, own.qt, 0.10, person, relative=True)
    upright = float(np.mean([found.t_height[LEADS.index(v)] > 0.0 for v in ("I", "II", "V2", "V3", "V4", "V5", "V6")]))
    yield check("T waves upright in I, II, V2-V6", upright, 1.0, 0.0, "AHA/ACCF/HRS 2009, Circulation 119:e241")
    start = (found.qrs_onset, own.qrs_onset)
    like = correlation(ecg.time, ecg.leads, time, measured, start, (0.0, 100.0))
    yield check("correlation of QRS, mean of V1, V2, V5, V6", float(like[[2, 3, 6, 7]].mean()), 1.0, 0.35, person)
    yield check("correlation of QRS, eight leads end to end", float(like[8]), 1.0, 0.55, person)
    all_of_it = correlation(ecg.time, ecg.leads, time, measured, start, (0.0, 400.0))
    yield check("correlation of QRS and T, eight leads end to end", float(all_of_it[8]), 1.0, 0.55, person)

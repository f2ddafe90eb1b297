"""A whole heart: its shape on voxels, how it is activated and recovers, and what electrodes on the body see of it.

`cloud` reads nodes, `geometry` makes voxels of them, `eikonal` and `activation` say when the wave arrives, `cells` and
`recovery` what happens then, `ecg` what is seen of it, `intervals` what is measured on that. `virtual.prepare` and
`virtual.drug_ecg` put them in a row: seconds on a CPU. `monodomain` solves the same heart without the short cuts, `compare` and
`pictures` are for reports.

Known limits. The body is an infinite homogeneous conductor: amplitudes are too small, in limb leads twentyfold; signs, shapes
and times are what may be read. Early sites are read off the literature, not fitted: leads that look along the septum (II, V3,
V4) differ from the person's own. QT at 1 Hz is shorter than in most healthy people (ToR-ORd's action potentials are those of
isolated cells). Drugs change repolarisation only: no widening of QRS by block of INa, no block in conduction, no arrhythmia;
cells that do not repolarise are refused. One beat of a steady row is shown, without atria.
"""

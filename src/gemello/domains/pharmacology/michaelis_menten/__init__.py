"""One or two compartments with saturable elimination (mm1_iv, mm1_oral, mm2_iv, mm2_oral)."""

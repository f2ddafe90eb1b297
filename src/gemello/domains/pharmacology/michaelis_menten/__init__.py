"""One compartment with saturable elimination (mm1_iv, mm1_oral)."""

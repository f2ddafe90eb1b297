"""Target-mediated drug disposition with a tissue compartment and a depot: full (tmdd_full) and quasi-steady-state (tmdd_qss)."""

"""Target-mediated drug disposition, full binding model (tmdd)."""

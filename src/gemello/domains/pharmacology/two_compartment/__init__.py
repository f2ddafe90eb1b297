"""Two-compartment pharmacokinetics, intravenous (pk2_iv) and oral (pk2_oral)."""

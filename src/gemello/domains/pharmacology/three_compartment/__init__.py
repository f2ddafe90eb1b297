"""Three-compartment pharmacokinetics, intravenous (pk3_iv) and oral (pk3_oral)."""

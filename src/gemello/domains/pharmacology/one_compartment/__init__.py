"""One-compartment pharmacokinetics, intravenous (pk1_iv) and oral (pk1_oral)."""

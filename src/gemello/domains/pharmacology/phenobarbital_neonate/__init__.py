"""Phenobarbital in neonates (pheno)."""

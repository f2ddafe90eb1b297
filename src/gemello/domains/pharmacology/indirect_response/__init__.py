"""Indirect responses I to IV (indirect_1 to indirect_4) and turnover with a sigmoid change of production (turnover_emax)."""

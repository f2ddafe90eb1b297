"""Effect compartment linked to one-compartment oral pharmacokinetics (effect_compartment)."""

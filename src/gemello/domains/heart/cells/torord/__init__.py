"""ToR-ORd (Tomek 2019; dynamic chloride: Tomek 2020): endo, epi, mid."""

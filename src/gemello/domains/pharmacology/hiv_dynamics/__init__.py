"""HIV in a patient: target cells, infected cells and virus, with and without treatment (hiv_dynamics)."""

"""Chemotherapy-induced myelosuppression (myelosuppression, myelosuppression_emax)."""

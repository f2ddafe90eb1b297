"""Tumour growth and its inhibition by a drug: in xenografts (tumour_simeoni) and in patients (tumour_claret)."""

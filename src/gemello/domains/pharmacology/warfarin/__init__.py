"""Warfarin after a single oral dose: pharmacokinetics (warfarin_pk), and with prothrombin complex activity (warfarin_pkpd)."""

"""The domain held against outside authorities, one file for each kind of check."""

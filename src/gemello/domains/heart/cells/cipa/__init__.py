"""The CiPA version of the O'Hara-Rudy cell."""

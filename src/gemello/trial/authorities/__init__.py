"""Outside authorities of the trial analyses, one file for each room; each recomputes and compares."""

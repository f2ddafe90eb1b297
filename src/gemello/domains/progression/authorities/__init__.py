"""Outside authorities for the figures of this domain, one file to a subject."""

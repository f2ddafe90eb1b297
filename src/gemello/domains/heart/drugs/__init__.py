"""What a drug does to the channels of a cell: its parameters by vintage, their effect, and their fit from assay data."""

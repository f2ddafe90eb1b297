"""A drug and its metabolite (parent_metabolite)."""

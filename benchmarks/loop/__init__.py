"""The living system: whether learning on pays, what its parts decide, and whether its figures are right."""

"""The living system: whether learning on pays, and whether its figures are right."""

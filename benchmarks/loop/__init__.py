"""Figures of the model that learns on: what its parts decide, against a known truth."""

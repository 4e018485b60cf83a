"""Learning on: a model is updated from what its service has heard, and replaced only where the update is better."""

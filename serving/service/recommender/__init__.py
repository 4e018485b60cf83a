"""Answers: the model server's, with what has happened since its export.

`model` asks the server, `histories` and `catalogue` hold what the store has heard, `fresh` the items that are not in
the model's index, `merging` puts both together, and `recommender` is what the interface calls.
"""

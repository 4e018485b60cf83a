"""Answers: the model server's, with what has happened since its export.

`recommender` is what the interface calls. It reads who asks (`asking`, from `histories` and `people`), finds candidates
(`candidates`: the model's by `model`, those of the fresh `tiers`, or `popular` ones), and makes a list of them
(`listing`: rules, diversity, `exploring`), which `answer_log` writes down. `following` keeps `catalogue`, `tiers` and
`histories` in step with the store.
"""

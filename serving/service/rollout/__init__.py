"""Roll-out of a new version of the model to a growing share of the people.

`settings` says how; `assignment` puts people into arms; `sequential` compares the arms at any time, `deciding` reads
the comparison; `controller` does so in a running service, with the store's roll-outs.
`serving.labels` writes the model server's configuration.
"""

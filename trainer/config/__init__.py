"""The settings of a run: one YAML file, typed and strict."""

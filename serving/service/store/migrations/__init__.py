"""Alembic's migrations of the store, one file for each revision of the schema.

A change of `schema` comes with a new file here and its name at the end of `schema.REVISIONS`. A file never imports
`schema`: it says what the tables were at its time.
"""

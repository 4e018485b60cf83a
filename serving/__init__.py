"""Babelrec's serving side: a TensorFlow Serving compatible model server and its client.

A serving machine needs no training code: nothing here imports ``trainer``. The interface is a SavedModel directory.
"""

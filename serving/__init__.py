"""Babelrec's serving side: a TensorFlow Serving compatible model server and its client.

A serving machine needs no training code: nothing here imports ``trainer``. What is handed over is a
SavedModel directory and nothing else.
"""

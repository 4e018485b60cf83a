"""Runs SavedModels through TensorFlow's C API, without TensorFlow's Python package in the process.

It is the loader that TensorFlow Serving itself uses: it supports TF1 and TF2 models, needs no import of
several seconds and 600 MB, and neither loading nor running holds the GIL.
"""

"""Predict without Python in the request path: a gRPC server in C++ in front of the one in Python.

``src/`` is compiled by ``setup.py`` if gRPC's C library, protozero and a compiler are available; everything works
without it, only slower.
"""

"""Predict without Python in a request's way: a gRPC server in C++ before the one in Python.

``src/`` is compiled by ``setup.py`` where gRPC's C library, protozero and a compiler are at hand; everything works
without it, only slower.
"""

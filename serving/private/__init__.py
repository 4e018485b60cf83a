"""What serving uses of other libraries although they don't promise to keep it: names, layouts, places of files.

A module for each library. What it needs is described by its ``INTERFACES``, which ``probe`` checks when a server
starts; ``tests/test_layers.py`` keeps the rest of serving from using more. The C++ front has the same in
``native/src/entry.h`` (gRPC) and ``native/src/tensorflow.h``.
"""

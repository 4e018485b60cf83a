"""The undocumented interfaces of other libraries that serving uses: names, layouts, locations of files.

One module per library. Its ``INTERFACES`` describe its requirements, which ``probe`` checks when a server starts;
``tests/test_layers.py`` keeps the rest of serving from using others. For the C++ front they are in
``native/src/entry.h`` (gRPC) and ``native/src/tensorflow.h``.
"""

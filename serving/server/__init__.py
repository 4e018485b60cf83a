"""A model server with TensorFlow Serving's gRPC interface, for SavedModels with any op library.

Its parts, each of which knows only those before it:

* ``operations``: configuration, access, worker processes, metrics, logs and profiles.
* ``execution``: loaded models, and the running of their signatures.
* ``api``: what clients call by gRPC.
* ``lifecycle``: watches the file system (``source``), chooses versions and their order (``policies``), loads and warms
  up (``loader``), drives versions through their states and hands out counted handles (``manager``, ``core``).
* ``rest``: the same by HTTP.
* ``flags``, ``assembly``, ``main``: the command line, what is put together for it, and the life of the process;
  ``native_predict`` hands loaded models to the C++ front.
"""

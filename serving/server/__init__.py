"""A model server with TensorFlow Serving's gRPC interface, for SavedModels with any op library.

Its parts, each of which depends only on those before it:

* ``operations``: configuration, access, worker processes, metrics, logs and profiles.
* ``execution``: loaded models, and running their signatures.
* ``api``: the gRPC API.
* ``lifecycle``: watches the file system (``source``), chooses versions and their order (``policies``), loads and warms
  up (``loader``), drives versions through their states and hands out counted handles (``manager``, ``core``).
* ``rest``: the same API over HTTP.
* ``flags``, ``assembly``, ``main``: the command line, how the parts are assembled from it, and the process lifecycle;
  ``native_predict`` passes loaded models to the C++ front.
"""

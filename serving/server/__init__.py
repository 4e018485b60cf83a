"""A model server with TensorFlow Serving's gRPC interface, for SavedModels with any op library.

The parts are those of TensorFlow Serving and meet only through their interfaces:

* ``source``: watches the file system and says which versions are aspired.
* ``policies``: which versions to aspire; in which order to load and unload.
* ``loader``: makes a servable of a version directory, warm-up included, and takes it down again.
* ``manager``: drives versions through their states and hands out counted handles.
* ``predict``, ``services``: requests to a servable, and the gRPC face of it all.
* ``flags``, ``main``: the command line and the life of the process.
"""

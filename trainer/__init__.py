"""Babelrec's training side: data, towers, training, evaluation and export.

Importing this package selects Keras 2 (``tf_keras``). The choice must be made before TensorFlow is
imported, so a process that has already loaded Keras 3 is stopped here, with a remedy.
"""

import os

from trainer._keras import require_keras_2
from trainer._version import __version__

__all__ = ["__version__"]

require_keras_2()
# TensorFlow's C++ log (no GPU, oneDNN) hides the relevant output; faults are raised as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

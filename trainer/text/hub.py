"""Import of ``tensorflow_hub`` without its deprecation warning."""

import warnings

with warnings.catch_warnings():
    # Version 0.16.1, its last, reads TensorFlow's version with setuptools' pkg_resources. setup.py keeps setuptools
    # below 81, which drops that, so users need not do anything.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    from tensorflow_hub import KerasLayer, resolve

__all__ = ["KerasLayer", "resolve"]

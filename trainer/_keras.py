"""Selects Keras 2 before TensorFlow is imported, or explains how to."""

import importlib.util
import os
import sys

_REMEDY = "Babelrec needs Keras 2 (tf_keras), because TensorFlow Recommenders subclasses it. Remedy: {}"


def require_keras_2() -> None:
    """Makes ``tf.keras`` mean Keras 2 in this process.

    Sets ``TF_USE_LEGACY_KERAS=1`` if TensorFlow is not imported yet.

    Raises:
        ImportError: ``tf_keras`` is missing, the environment asks for Keras 3, or TensorFlow was
            imported with Keras 3 before this call.
    """
    if importlib.util.find_spec("tf_keras") is None:
        raise ImportError(_REMEDY.format("`pip install 'babelrec[train]'`."))
    setting = os.environ.get("TF_USE_LEGACY_KERAS", "1")
    if setting.lower() not in ("1", "true"):
        raise ImportError(
            f"TF_USE_LEGACY_KERAS={setting!r} selects Keras 3. "
            + _REMEDY.format("`export TF_USE_LEGACY_KERAS=1`, or unset it.")
        )
    if "tensorflow" in sys.modules:
        keras_name = sys.modules["tensorflow"].keras.__name__
        # Keras 3 calls itself keras._tf_keras.keras here.
        if not keras_name.startswith("tf_keras."):
            raise ImportError(
                f"tensorflow was imported before `trainer` and uses Keras 3 ({keras_name}). "
                + _REMEDY.format("import `trainer` first, or `export TF_USE_LEGACY_KERAS=1` before Python starts.")
            )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

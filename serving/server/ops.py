"""Registers the op libraries that graphs may need beyond TensorFlow's own."""

import importlib
import logging

_LOGGER = logging.getLogger(__name__)

# Module to import -> (what to install, prefix or names of its ops as they appear in TensorFlow's errors).
_LIBRARIES = {
    "tensorflow_text": "tensorflow-text",
    "scann.scann_ops.py.scann_ops": "scann[tf]",
}
_missing: dict[str, str] = {}


def register() -> None:
    """Imports the op libraries; one that can't be imported is noted for ``remedy`` and otherwise ignored."""
    for module, package in _LIBRARIES.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # an op library built for another TensorFlow fails in many ways
            _missing[package] = f"{type(error).__name__}: {error}"
            _LOGGER.info("op library %s is not available (%s)", package, _missing[package])


def remedy(message: str) -> str:
    """What to do about a load failure with this text, or an empty string."""
    if "Op type not registered" not in message:
        return ""
    if not _missing:
        return (
            f" The op libraries that this server registers are {', '.join(_LIBRARIES.values())}; "
            "the graph needs another one."
        )
    reasons = "; ".join(f"{package} ({reason})" for package, reason in _missing.items())
    return f" These op libraries could not be imported here: {reasons}. Remedy: `pip install` them."

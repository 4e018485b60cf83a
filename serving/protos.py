"""TensorFlow Serving's messages, loaded without importing TensorFlow.

The generated modules of ``tensorflow_serving.apis`` import ``tensorflow.core...``, and importing anything
inside ``tensorflow`` runs its ``__init__``: several seconds and 600 MB that a client has no use for. The
generated modules themselves need protobuf alone. They are therefore executed straight from their files,
with an ``__import__`` of their own that resolves the two package names to files and passes everything
else on. ``sys.modules`` is not touched, so a later (or concurrent) ``import tensorflow`` is not
disturbed, and both ways yield the very same message classes, as these are keyed by descriptor.
"""

import builtins
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

_PACKAGES = ("tensorflow", "tensorflow_serving")
_roots: dict[str, str] = {}
_loaded: dict[str, ModuleType] = {}


def _path(name: str) -> str:
    top, *rest = name.split(".")
    if top not in _roots:
        spec = importlib.util.find_spec(top)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(
                f"serving needs the message definitions of the {top!r} package. Remedy: "
                "`pip install tensorflow tensorflow-serving-api`."
            )
        _roots[top] = spec.submodule_search_locations[0]
    return os.path.join(_roots[top], *rest) + ".py"


def _load(name: str) -> ModuleType:
    if name not in _loaded:
        module = ModuleType(name)
        module.__file__ = _path(name)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        _loaded[name] = module
        # The file loader keeps to the byte code that pip compiled.
        code = SourceFileLoader(name, module.__file__).get_code(name)
        assert code is not None
        exec(code, module.__dict__)
    return _loaded[name]


def _import(
    name: str,
    namespace: Mapping[str, Any] | None = None,
    local: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    if name.partition(".")[0] not in _PACKAGES:
        return builtins.__import__(name, namespace, local, fromlist, level)
    if os.path.exists(_path(name)):
        return _load(name)
    package = ModuleType(name)
    for child in fromlist:
        setattr(package, child, _load(f"{name}.{child}"))
    return package


def _module(name: str) -> Any:
    # With TensorFlow in the process already there is nothing to save.
    return importlib.import_module(name) if "tensorflow" in sys.modules else _load(name)


tensor_pb2 = _module("tensorflow.core.framework.tensor_pb2")
types_pb2 = _module("tensorflow.core.framework.types_pb2")
error_codes_pb2 = _module("tensorflow.core.protobuf.error_codes_pb2")
model_pb2 = _module("tensorflow_serving.apis.model_pb2")
predict_pb2 = _module("tensorflow_serving.apis.predict_pb2")
get_model_metadata_pb2 = _module("tensorflow_serving.apis.get_model_metadata_pb2")
get_model_status_pb2 = _module("tensorflow_serving.apis.get_model_status_pb2")

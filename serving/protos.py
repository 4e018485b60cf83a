"""TensorFlow Serving's messages, loaded without importing TensorFlow.

The generated modules of ``tensorflow_serving.apis`` import ``tensorflow.core...``, and importing anything
inside ``tensorflow`` runs its ``__init__``: several seconds and 600 MB that a client does not need. The
generated modules themselves need only protobuf. They are therefore executed straight from their files,
with a custom ``__import__`` that resolves the two package names to files and delegates everything
else. ``sys.modules`` is not touched, so a later (or concurrent) ``import tensorflow`` is unaffected,
and both ways yield the very same message classes, as these are keyed by descriptor.
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
        # The file loader uses the bytecode that pip compiled.
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


def module(name: str) -> Any:
    """A generated module of TensorFlow or TensorFlow Serving by its full name."""
    # If TensorFlow is loaded already, there is nothing to save.
    return importlib.import_module(name) if "tensorflow" in sys.modules else _load(name)


# TensorFlow
attr_value_pb2 = module("tensorflow.core.framework.attr_value_pb2")
tensor_pb2 = module("tensorflow.core.framework.tensor_pb2")
types_pb2 = module("tensorflow.core.framework.types_pb2")
function_pb2 = module("tensorflow.core.framework.function_pb2")
graph_pb2 = module("tensorflow.core.framework.graph_pb2")
op_def_pb2 = module("tensorflow.core.framework.op_def_pb2")
config_pb2 = module("tensorflow.core.protobuf.config_pb2")
error_codes_pb2 = module("tensorflow.core.protobuf.error_codes_pb2")
meta_graph_pb2 = module("tensorflow.core.protobuf.meta_graph_pb2")
saved_model_pb2 = module("tensorflow.core.protobuf.saved_model_pb2")
tensor_bundle_pb2 = module("tensorflow.core.protobuf.tensor_bundle_pb2")
example_pb2 = module("tensorflow.core.example.example_pb2")
feature_pb2 = module("tensorflow.core.example.feature_pb2")

# TensorFlow Serving: requests and answers
model_pb2 = module("tensorflow_serving.apis.model_pb2")
input_pb2 = module("tensorflow_serving.apis.input_pb2")
predict_pb2 = module("tensorflow_serving.apis.predict_pb2")
classification_pb2 = module("tensorflow_serving.apis.classification_pb2")
regression_pb2 = module("tensorflow_serving.apis.regression_pb2")
inference_pb2 = module("tensorflow_serving.apis.inference_pb2")
get_model_metadata_pb2 = module("tensorflow_serving.apis.get_model_metadata_pb2")
get_model_status_pb2 = module("tensorflow_serving.apis.get_model_status_pb2")
model_management_pb2 = module("tensorflow_serving.apis.model_management_pb2")
session_service_pb2 = module("tensorflow_serving.apis.session_service_pb2")
logging_pb2 = module("tensorflow_serving.apis.logging_pb2")
prediction_log_pb2 = module("tensorflow_serving.apis.prediction_log_pb2")
status_pb2 = module("tensorflow_serving.apis.status_pb2")
prediction_service_pb2_grpc = module("tensorflow_serving.apis.prediction_service_pb2_grpc")
model_service_pb2_grpc = module("tensorflow_serving.apis.model_service_pb2_grpc")

# TensorFlow Serving: configuration
model_server_config_pb2 = module("tensorflow_serving.config.model_server_config_pb2")
file_system_storage_path_source_pb2 = module("tensorflow_serving.config.file_system_storage_path_source_pb2")
logging_config_pb2 = module("tensorflow_serving.config.logging_config_pb2")
log_collector_config_pb2 = module("tensorflow_serving.config.log_collector_config_pb2")
platform_config_pb2 = module("tensorflow_serving.config.platform_config_pb2")

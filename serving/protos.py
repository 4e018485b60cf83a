"""TensorFlow's and TensorFlow Serving's messages, without importing TensorFlow.

The generated modules of ``tensorflow_serving.apis`` import ``tensorflow.core...``, and importing anything inside
``tensorflow`` runs its ``__init__``: several seconds and 600 MB that a client doesn't need. Where the two packages
are installed, their generated modules, which need protobuf alone, are executed straight from their files, with an
``__import__`` of their own. ``sys.modules`` is not touched, so a later (or concurrent) ``import tensorflow`` is not
affected, and both ways give the same message classes, since these are keyed by descriptor.

Where a package is not installed, as when only the client is, its messages are built from the descriptors in
``serving/proto/tensorflow.binpb``, which ``python -m serving.proto.generate`` extracts from the packages.
"""

import builtins
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from serving.private.protobuf import add_messages

DESCRIPTORS = Path(__file__).resolve().parent / "proto" / "tensorflow.binpb"
_PACKAGES = ("tensorflow", "tensorflow_serving")
_SUFFIX = "_pb2"
# Files that TensorFlow's package keeps in a folder of their own.
_VENDORED = {"xla/": "tensorflow/compiler/", "tsl/": "tensorflow/"}
_loaded: dict[str, ModuleType] = {}


@functools.cache
def _root(top: str) -> str | None:
    """Folder of an installed package; None if it is not installed or incomplete."""
    if top == "tensorflow_serving" and _root("tensorflow") is None:
        return None
    spec = importlib.util.find_spec(top)
    return spec.submodule_search_locations[0] if spec is not None and spec.submodule_search_locations else None


def _path(name: str) -> str | None:
    top, *rest = name.split(".")
    root = _root(top)
    return None if root is None else os.path.join(root, *rest) + ".py"


def _load(name: str) -> ModuleType:
    if name not in _loaded:
        path = _path(name)
        _loaded[name] = module = ModuleType(name)
        if path is None:
            _build(module)
        else:
            module.__file__ = path
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
            # The file loader uses the bytecode that pip compiled.
            code = SourceFileLoader(name, path).get_code(name)
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
    if os.path.exists(_path(name) or ""):
        return _load(name)
    package = ModuleType(name)
    for child in fromlist:
        setattr(package, child, _load(f"{name}.{child}"))
    return package


@functools.cache
def _descriptors() -> Mapping[str, Any]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    return {file.name: file for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file}


def file_of(module_name: str) -> str:
    """``tensorflow.core.framework.tensor_pb2`` -> ``tensorflow/core/framework/tensor.proto``."""
    path = module_name.removesuffix(_SUFFIX).replace(".", "/")
    for inside, folder in _VENDORED.items():
        if path.startswith(folder + inside):
            path = path.removeprefix(folder)
    return path + ".proto"


def _module_of(file: str) -> str:
    name = file.removesuffix(".proto").replace("/", ".") + _SUFFIX
    folder = next((folder for inside, folder in _VENDORED.items() if file.startswith(inside)), "")
    return folder.replace("/", ".") + name


def _build(module: ModuleType) -> None:
    """Does what protoc's generated code does, for a file of the descriptor set."""
    from google.protobuf import descriptor_pool

    file = _descriptors()[file_of(module.__name__)]
    for place, other in enumerate(file.dependency):
        name = _module_of(other)
        imported = _load(name) if name.partition(".")[0] in _PACKAGES else importlib.import_module(name)
        if place in file.public_dependency:
            public = {key: value for key, value in vars(imported).items() if not key.startswith("_")}
            module.__dict__.update(public)
    descriptor = descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    module.__dict__["DESCRIPTOR"] = descriptor
    add_messages(descriptor, module.__name__, module.__dict__)


def module(name: str) -> ModuleType:
    """A generated module of TensorFlow or TensorFlow Serving by its full name."""
    # If TensorFlow is already imported there is nothing to save.
    in_process = "tensorflow" in sys.modules and _root(name.partition(".")[0]) is not None
    return importlib.import_module(name) if in_process else _load(name)


def modules() -> Iterator[ModuleType]:
    """The modules below."""
    return (each for name, each in globals().items() if name.endswith(_SUFFIX))


if TYPE_CHECKING:
    from serving.proto.stubs import *  # noqa: F403  written by serving.proto.generate
else:
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

    # TensorFlow Serving: requests and responses
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

    # TensorFlow Serving: configuration
    model_server_config_pb2 = module("tensorflow_serving.config.model_server_config_pb2")
    file_system_storage_path_source_pb2 = module("tensorflow_serving.config.file_system_storage_path_source_pb2")
    logging_config_pb2 = module("tensorflow_serving.config.logging_config_pb2")
    log_collector_config_pb2 = module("tensorflow_serving.config.log_collector_config_pb2")
    platform_config_pb2 = module("tensorflow_serving.config.platform_config_pb2")

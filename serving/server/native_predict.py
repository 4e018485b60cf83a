"""Connects the native front: informs it of the served versions, and reads its counters."""

import logging
import threading
from collections.abc import Mapping

from serving.native.front import SUPPORTED_DTYPES, Front, NativeModel, NativeSignature
from serving.native.library import why_not
from serving.proto.session_bundle_config_pb2 import SessionBundleConfig
from serving.runtime.session import INLINE_OPTIONS
from serving.server.api.handlers import GRPC, RUNTIME
from serving.server.api.predict import spec_field
from serving.server.execution.defaults import is_row
from serving.server.execution.saved_model import SavedModelServable
from serving.server.execution.servable import Servable, Signature
from serving.server.lifecycle.core import ServerCore
from serving.server.operations.batch_metrics import native_metrics
from serving.server.operations.metric_values import Snapshot, merge
from serving.server.operations.metrics import REFUSED, Metrics
from serving.server.options import ServerOptions
from serving.tensors import to_numpy, to_proto

_LOGGER = logging.getLogger(__name__)


class NativePredict:
    """Passes to the front the models that it can run.

    It can run signatures whose requests may be batched, with inputs of known rank and tensors of the usual types,
    of models whose requests are not logged.

    Args:
        front: answers requests.
        core: where the models are.
        metrics: exports the front's counts from now on.
    """

    def __init__(self, front: Front, core: ServerCore[Servable], metrics: Metrics) -> None:
        self._front = front
        self._core = core
        self._lock = threading.Lock()
        self._models: dict[SavedModelServable, NativeModel] = {}
        self._names: set[str] = set()
        metrics.add_source(self._counted)
        core.watch(self._serve)

    def _serve(self, name: str, versions: Mapping[int, Servable]) -> None:
        """Called under the manager's lock for each change of a model's versions."""
        natives: dict[int, NativeModel | None] = {}
        if self._core.logging_config(name) is None:
            for number, servable in versions.items():
                try:
                    natives[number] = self._native(name, number, servable)
                except Exception:
                    # Python answers instead.
                    _LOGGER.exception("the native front can't run version %d of %s", number, name)
                    natives[number] = None
        self._front.serve(name, natives)
        self._names.add(name)

    def _native(self, name: str, version: int, servable: Servable) -> NativeModel | None:
        if not isinstance(servable, SavedModelServable):
            return None
        with self._lock:
            if servable not in self._models:
                signatures = _signatures(servable, name, version)
                if not signatures:
                    return None
                self._models[servable] = NativeModel(servable.session, INLINE_OPTIONS, signatures)
                servable.before_close = self._release
            return self._models[servable]

    def _release(self, servable: SavedModelServable) -> None:
        with self._lock:
            model = self._models.pop(servable, None)
        if model is not None:
            model.close()

    def _counted(self) -> Snapshot:
        open_, accepted, refused, refused_requests = self._front.arrivals()
        found: Snapshot = {
            "/babelrec/serving/grpc_open_connections": {(): open_},
            "/babelrec/serving/grpc_connection_count": {("accepted",): accepted, ("refused",): refused},
        }
        if refused_requests:
            found[REFUSED] = {("max_concurrent_requests",): refused_requests}
        for name in list(self._names):
            counts = self._front.count(name)
            if counts is None:
                continue
            part: Snapshot = {"/tensorflow/serving/request_count": {}}
            if counts.answered:
                part["/tensorflow/serving/request_count"][name, "OK"] = counts.answered
                part["/tensorflow/serving/request_latency"] = {(name, "Predict", GRPC): counts.request_latency}
                part["/tensorflow/serving/runtime_latency"] = {(name, "Predict", RUNTIME): counts.run_latency}
            if counts.refused:
                part["/tensorflow/serving/request_count"][name, "UNAVAILABLE"] = counts.refused
            part |= native_metrics(counts.queuing_latency, counts.input_rows, counts.groups)
            merge(found, part, {})
        return found


def _signatures(servable: SavedModelServable, name: str, version: int) -> dict[str, NativeSignature]:
    if servable.fills_up:
        return {}
    found = {}
    for key in servable.batched_signatures:
        signature = servable.signatures[key]
        inputs = [(alias, spec.dtype, len(spec.shape or ())) for alias, spec in signature.inputs.items()]
        outputs = [(alias, spec.dtype) for alias, spec in signature.outputs.items()]
        types = {dtype for _, dtype, _ in inputs} | {dtype for _, dtype in outputs}
        if inputs and outputs and types <= SUPPORTED_DTYPES and all(rank > 0 for _, _, rank in inputs):
            feeds, fetches = servable.tensors(key, signature.outputs)
            rows = _default_rows(signature)
            found[key] = NativeSignature(inputs, feeds, outputs, fetches, spec_field(name, version, key), rows)
    return found


def _default_rows(signature: Signature) -> dict[str, bytes]:
    """The defaults that the front can fill in, written out in full, the form it reads."""
    return {
        alias: to_proto(to_numpy(default)).SerializeToString()
        for alias, default in signature.defaults.items()
        if alias in signature.inputs and is_row(default, signature.inputs[alias])
    }


def obstacle(bundle: SessionBundleConfig, options: ServerOptions) -> str | None:
    """Why Predict must be answered in Python given the settings and this machine; None when it need not.

    Args:
        bundle: how models are loaded and run.
        options: how Predict's requests are checked and answered.
    """
    if not bundle.HasField("batching_parameters"):
        return "it needs --enable_batching"
    if bundle.enable_per_model_batching_params:
        return "it does not support --enable_per_model_batching_parameters"
    if options.enable_signature_method_name_check:
        return "it does not support --enable_signature_method_name_check"
    if options.enable_serialization_as_tensor_content:
        return "it does not support --enable_serialization_as_tensor_content"
    return why_not()

"""Handlers over a real model: what is answered, counted and logged, and how failures are reported."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.protos import config_pb2
from serving.server.api.grpc_server import GrpcServer
from serving.server.api.handlers import REST, Handlers
from serving.server.errors import StatusError
from serving.server.execution.saved_model import SavedModelServable
from serving.server.lifecycle.core import ServerCore
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader
from serving.server.lifecycle.source import StoragePath
from serving.server.lifecycle.states import ManagerState, ServableState
from serving.server.operations.metrics import Metrics
from serving.server.operations.request_log import ServerRequestLogger
from tests.serving.example_models import (
    CLASSIFY,
    REGRESS,
    OneModelCore,
    SessionServable,
    example,
    export_examples,
    input_of,
)
from tests.serving.server.operations.test_request_log import config_of, logs_in

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def servable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SavedModelServable]:
    path = export_examples(tmp_path_factory.mktemp("handlers") / "1")
    servable = SavedModelServable(path, ["serve"], config_pb2.ConfigProto())
    yield servable
    servable.close()


@pytest.fixture
def core(servable: SavedModelServable) -> OneModelCore:
    return OneModelCore("m", 3, servable)


@pytest.fixture
def handlers(core: OneModelCore) -> Handlers:
    return Handlers(core)  # type: ignore[arg-type]


def spec_of(signature: str = "", name: str = "m", version: int | None = None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    return spec


def predict_request(spec: object = None) -> Any:
    request = predict_pb2.PredictRequest(model_spec=spec or spec_of("features"))
    serialized = example(1.5, "α").SerializeToString()
    request.inputs["inputs"].CopyFrom(tf.make_tensor_proto([serialized]))
    return request


def classify_request(spec: object = None) -> Any:
    return classification_pb2.ClassificationRequest(model_spec=spec or spec_of(), input=input_of(example(1.0)))


def regress_request(spec: object = None) -> Any:
    return regression_pb2.RegressionRequest(model_spec=spec or spec_of("regress"), input=input_of(example(1.0)))


def multi_request(name: str = "m") -> Any:
    request = inference_pb2.MultiInferenceRequest(input=input_of(example(1.0), example(2.0)))
    request.tasks.add(model_spec=spec_of("scores", name), method_name=CLASSIFY)
    request.tasks.add(model_spec=spec_of("regress", name), method_name=REGRESS)
    return request


def failure(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        call(request)
    return caught.value.code, caught.value.message


def test_every_inference_method_answers(handlers: Handlers) -> None:
    predicted = handlers.predict(predict_request())
    assert predicted.model_spec == spec_of("features", version=3)
    assert tf.make_ndarray(predicted.outputs["x"]).tolist() == [1.5]
    assert tf.make_ndarray(predicted.outputs["name"]).tolist() == ["α".encode()]
    on_the_wire = handlers.predict_serialized(predict_request())
    assert predict_pb2.PredictResponse.FromString(on_the_wire) == predicted
    classified = handlers.classify(classify_request())
    assert classified.model_spec == spec_of("serving_default", version=3)
    assert [c.score for c in classified.result.classifications[0].classes] == [1.0, 2.0, 2.0]
    regressed = handlers.regress(regress_request())
    assert [r.value for r in regressed.result.regressions] == [2.5]
    first, second = handlers.multi_inference(multi_request()).results
    assert [c.score for c in first.classification_result.classifications[1].classes] == [2.0, 4.0, 3.0]
    assert [r.value for r in second.regression_result.regressions] == [2.5, 3.0]


@pytest.mark.parametrize("method", ["predict", "predict_serialized", "classify", "regress"])
def test_a_model_spec_is_needed(handlers: Handlers, method: str) -> None:
    call = getattr(handlers, method)
    request = {"classify": classify_request, "regress": regress_request}.get(method, predict_request)()
    request.ClearField("model_spec")
    assert failure(call, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.SetInParent()
    assert failure(call, request) == (INVALID, "ModelSpec has no name specified.")
    request.model_spec.name = "other"
    assert failure(call, request) == (NOT_FOUND, "Servable not found for request: Latest(other)")


def test_the_first_task_determines_the_model(handlers: Handlers) -> None:
    unnamed = (INVALID, "ModelSpec has no name specified.")
    assert failure(handlers.multi_inference, inference_pb2.MultiInferenceRequest()) == unnamed
    request = multi_request()
    request.tasks[0].ClearField("model_spec")
    assert failure(handlers.multi_inference, request) == unnamed
    assert failure(handlers.multi_inference, multi_request("other"))[0] is NOT_FOUND
    request = multi_request()
    request.tasks[1].model_spec.name = "other"
    assert failure(handlers.multi_inference, request)[1].startswith("All ModelSpecs in a MultiInferenceRequest")


def test_method_names_are_checked_only_on_request(core: OneModelCore, handlers: Handlers) -> None:
    request = regress_request(spec_of("tf2_regress"))
    assert handlers.regress(request).result.regressions[0].value == 2.5
    strict = Handlers(core, check_method_names=True)  # type: ignore[arg-type]
    code, message = failure(strict.regress, request)
    assert (code, message[:60]) == (INVALID, "Expected regression signature method_name to be tensorflow/s")


def test_requests_are_counted(handlers: Handlers) -> None:
    handlers.predict(predict_request())
    # The REST API counts its own (test_rest.py).
    handlers.predict(predict_request(), entrypoint=REST)
    failure(partial(handlers.predict, entrypoint=REST), predict_request(spec_of("nothing")))
    handlers.classify(classify_request())
    handlers.regress(regress_request())
    handlers.multi_inference(multi_request())
    failure(handlers.predict, predict_request(spec_of("nothing")))
    failure(handlers.classify, classify_request(spec_of(name="other")))
    failure(handlers.regress, regress_request(spec_of(name="other")))
    metrics = handlers.metrics
    assert metrics.request_count.read() == {
        ("m", "OK"): 4,
        ("m", "FAILED_PRECONDITION"): 1,
        ("other", "NOT_FOUND"): 2,
    }
    latencies = metrics.request_latency.read()
    assert {labels: sum(counts) for labels, (counts, _) in latencies.items()} == {
        ("m", "Predict", "GRPC"): 1,
        ("m", "Classify", "GRPC"): 1,
        ("m", "Regress", "GRPC"): 1,
        ("m", "MultiInference", "GRPC"): 1,
    }
    runs = metrics.runtime_latency.read()
    assert {labels: sum(counts) for labels, (counts, _) in runs.items()} == {
        ("m", "Predict", "TF1"): 2,
        ("m", "Classify", "TF1"): 1,
        ("m", "Regress", "TF1"): 1,
        ("m", "MultiInference", "TF1"): 1,
    }
    # The model's share is less than the total, and not zero.
    assert 0 < runs["m", "Classify", "TF1"][1] < latencies["m", "Classify", "GRPC"][1]
    assert metrics.request_example_count_total.read() == {("m",): 4}
    assert metrics.request_example_counts.read()["m",][1] == 4


def test_a_server_fault_is_an_internal_error(core: OneModelCore, caplog: pytest.LogCaptureFixture) -> None:
    core._servable = object()
    handlers = Handlers(core)  # type: ignore[arg-type]
    code, message = failure(handlers.predict, predict_request())
    assert code is grpc.StatusCode.INTERNAL
    assert "AttributeError" in message
    assert handlers.metrics.request_count.read() == {("m", "INTERNAL"): 1}
    assert "Traceback" in caplog.text


def test_metadata(handlers: Handlers, servable: SavedModelServable) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec_of(), metadata_field=["signature_def"])
    response = handlers.get_model_metadata(request)
    assert response.model_spec == spec_of(version=3)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    saved = SessionServable(servable.path).signature_defs
    assert set(signatures.signature_def) == set(saved)
    for name, definition in saved.items():
        assert signatures.signature_def[name] == definition, name


def test_metadata_errors(handlers: Handlers) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    assert failure(handlers.get_model_metadata, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.name = "m"
    assert failure(handlers.get_model_metadata, request) == (
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("weights")
    assert failure(handlers.get_model_metadata, request) == (INVALID, "Metadata field weights is not supported")


def status_request(version: int | None = None, name: str = "m") -> Any:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=spec_of(name=name, version=version))


def test_status_of_all_versions_with_their_errors(core: OneModelCore, handlers: Handlers) -> None:
    error = StatusError(NOT_FOUND, "no saved_model.pb")
    for version, state in enumerate(
        (
            ServableState(ManagerState.START),
            ServableState(ManagerState.LOADING),
            ServableState(ManagerState.AVAILABLE),
            ServableState(ManagerState.UNLOADING),
            ServableState(ManagerState.END),
            ServableState(ManagerState.END, error),
        ),
        start=1,
    ):
        core.monitor.publish("m", version, state)
    states = get_model_status_pb2.ModelVersionStatus
    expected = [
        (6, states.END, 5, "no saved_model.pb"),
        (5, states.END, 0, ""),
        (4, states.UNLOADING, 0, ""),
        (3, states.AVAILABLE, 0, ""),
        (2, states.LOADING, 0, ""),
        (1, states.START, 0, ""),
    ]

    def statuses(request: Any) -> list[tuple[int, int, int, str]]:
        return [
            (status.version, status.state, status.status.error_code, status.status.error_message)
            for status in handlers.get_model_status(request).model_version_status
            if status.HasField("status")
        ]

    assert statuses(status_request()) == expected
    assert statuses(status_request(6)) == expected[:1]
    labelled = status_request()
    labelled.model_spec.version_label = "stable"
    assert statuses(labelled) == expected


def test_status_errors(core: OneModelCore, handlers: Handlers) -> None:
    core.monitor.publish("m", 1, ServableState(ManagerState.AVAILABLE))
    call = handlers.get_model_status
    assert failure(call, get_model_status_pb2.GetModelStatusRequest()) == (INVALID, "Missing ModelSpec")
    assert failure(call, status_request(name="")) == (NOT_FOUND, "Could not find any versions of model ")
    assert failure(call, status_request(name="x")) == (NOT_FOUND, "Could not find any versions of model x")
    assert failure(call, status_request(7)) == (NOT_FOUND, "Could not find version 7 of model m")
    assert failure(call, status_request(7, "x")) == (NOT_FOUND, "Could not find version 7 of model x")


def reload_request(config: object = None, *metric_names: str) -> Any:
    return model_management_pb2.ReloadConfigRequest(config=config, metric_names=metric_names)


def test_reload_needs_a_list_of_models(handlers: Handlers) -> None:
    message = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    assert failure(handlers.reload_config, reload_request()) == (INVALID, message)
    request = reload_request()
    request.config.custom_model_config.SetInParent()
    assert failure(handlers.reload_config, request) == (INVALID, message)


def test_reload_reports_success_refusal_and_metrics(core: OneModelCore, handlers: Handlers, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    count = "/tensorflow/serving/request_count"
    response = handlers.reload_config(reload_request(config, count, "/no/such/metric"))
    assert core.config == config
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert response.HasField("status")
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [(count, 0)]
    core.refusal = StatusError(grpc.StatusCode.FAILED_PRECONDITION, "not that one")
    assert failure(handlers.reload_config, reload_request(config)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "not that one",
    )


@pytest.fixture
def logged(core: OneModelCore) -> Iterator[Handlers]:
    metrics = Metrics()
    logger = ServerRequestLogger(metrics)
    yield Handlers(core, logger, metrics)  # type: ignore[arg-type]
    logger.close()


def test_requests_are_logged_as_the_config_says(core: OneModelCore, logged: Handlers, tmp_path: Path) -> None:
    logged.predict(predict_request())
    logged.reload_config(reload_request(config_of(tmp_path)))
    requests = [predict_request(), predict_request(), classify_request(), regress_request(), multi_request()]
    responses = [
        logged.predict(requests[0]),
        predict_pb2.PredictResponse.FromString(logged.predict_serialized(requests[1])),
        logged.classify(requests[2]),
        logged.regress(requests[3]),
        logged.multi_inference(requests[4]),
    ]
    failure(logged.predict, predict_request(spec_of("nothing")))
    # The core's config may also change without the RPC, through a file that it watches.
    core.reload(config_of(tmp_path, rate=0.0), None)
    logged.predict(predict_request())
    assert logged._logger is not None
    assert logged._logger.close()
    logs = logs_in(tmp_path)
    kinds = ["predict_log", "predict_log", "classify_log", "regress_log", "multi_inference_log"]
    assert [log.WhichOneof("log_type") for log in logs] == kinds
    for log, kind, request, response in zip(logs, kinds, requests, responses, strict=True):
        assert getattr(log, kind).request == request
        assert getattr(log, kind).response == response
    signatures = [log.log_metadata.model_spec.signature_name for log in logs]
    assert signatures == ["features", "features", "serving_default", "regress", "scores"]
    assert {(log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value) for log in logs} == {("m", 3)}
    assert isinstance(logs[0], prediction_log_pb2.PredictionLog)
    assert logged.metrics.request_log_count.read() == {("m", "OK"): 5}


def test_a_config_that_cannot_be_logged_is_refused_before_it_is_in_force(
    core: OneModelCore, logged: Handlers, tmp_path: Path
) -> None:
    before = core.config
    code, message = failure(logged.reload_config, reload_request(config_of(tmp_path, kind="kafka")))
    assert code is NOT_FOUND
    assert message.startswith("Cannot find LogCollector::Factory for type: kafka")
    assert core.config is before


def test_a_watched_config_that_cannot_be_logged_does_not_stop_requests(
    core: OneModelCore, logged: Handlers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    core.reload(config_of(tmp_path, kind="kafka"), None)
    for _ in range(2):
        assert logged.predict(predict_request()).outputs
    assert caplog.text.count("Cannot find LogCollector::Factory for type: kafka") == 1


def test_end_to_end_over_grpc(tmp_path: Path) -> None:
    """Core, loader with a warm-up file, handlers and gRPC, called with TensorFlow Serving's own stubs."""
    metrics = Metrics()
    version = export_examples(tmp_path / "m" / "7")
    (version / "assets.extra").mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.CopyFrom(classify_request())
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())

    def make_loader(name: str, storage: StoragePath, config: object) -> ModelLoader:
        return ModelLoader(name, storage.version, storage.path, LoaderOptions(), metrics)

    config = config_of(tmp_path / "logs")
    config.model_config_list.config[0].base_path = str(tmp_path / "m")
    core = ServerCore(make_loader)
    logger = ServerRequestLogger(metrics)
    server = GrpcServer(Handlers(core, logger, metrics), threads=4)
    metrics.watch_states(core.monitor.all)
    try:
        core.start(config)
        port = server.listen("localhost:0")
        server.start()
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            models = model_service_pb2_grpc.ModelServiceStub(channel)
            assert tf.make_ndarray(stub.Predict(predict_request(), timeout=30).outputs["x"]).tolist() == [1.5]
            scores = stub.Classify(classify_request(), timeout=30).result.classifications[0].classes
            assert [c.score for c in scores] == [1.0, 2.0, 2.0]
            assert stub.Regress(regress_request(), timeout=30).result.regressions[0].value == 2.5
            results = stub.MultiInference(multi_request(), timeout=30).results
            assert [r.model_spec.version.value for r in results] == [7, 7]
            (status,) = models.GetModelStatus(status_request(), timeout=30).model_version_status
            assert (status.version, status.state) == (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
            for call, request, code, text in (
                (stub.Classify, classify_request(spec_of("nothing")), INVALID, "No signature was found with the name"),
                (stub.Regress, regress_request(spec_of("regress_wide")), INVALID, "Expected output Tensor shape"),
                (
                    stub.Classify,
                    classify_request(spec_of("classify_other_output")),
                    INVALID,
                    "Expected classification signature outputs",
                ),
                (stub.MultiInference, multi_request("other"), NOT_FOUND, "Servable not found for request: Latest("),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    call(request, timeout=30)
                assert caught.value.code() is code
                assert text in str(caught.value.details())
            config.model_config_list.config[0].ClearField("logging_config")
            reloaded = models.HandleReloadConfigRequest(reload_request(config), timeout=30)
            assert reloaded.status.error_code == 0
            stub.Predict(predict_request(), timeout=30)
        page = metrics.render().decode()
    finally:
        server.stop(5).wait()
        core.stop(20)
        logger.close()
    kinds = [entry.WhichOneof("log_type") for entry in logs_in(tmp_path / "logs")]
    assert kinds == ["predict_log", "classify_log", "regress_log", "multi_inference_log"]
    for line in (
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{version}",status="success"}} 1',
        f':tensorflow:serving:model_warmup_latency_count{{model_path="{version}",status="OK"}} 1',
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 5',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 3',
        ':tensorflow:serving:request_count{model_name="other",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_log_count{model_name="m",status_code="OK"} 4',
        ':babelrec:serving:model_version_state{model_name="m",version="7",state="AVAILABLE"} 1',
        ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 2',
    ):
        assert line in page.splitlines()


def test_the_remaining_time_reaches_the_model(tmp_path: Path) -> None:
    """A request whose deadline passes while the model runs fails accordingly, and is counted that way."""

    class Slow(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            end = tf.timestamp() + 20.0
            now = tf.while_loop(lambda now: now < end, lambda _: tf.timestamp(), [tf.timestamp()])[0]
            return {"outputs": tf.zeros_like(tf.strings.length(inputs), tf.float32) + tf.cast(now * 0, tf.float32)}

    module = Slow()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"regress": module.regress})
    servable = SavedModelServable(tmp_path / "1", ["serve"], config_pb2.ConfigProto())
    handlers = Handlers(OneModelCore("m", 1, servable))  # type: ignore[arg-type]
    with pytest.raises(StatusError) as caught:
        handlers.regress(regress_request(), timeout=0.5)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert handlers.metrics.request_count.read() == {("m", "DEADLINE_EXCEEDED"): 1}
    servable.close()

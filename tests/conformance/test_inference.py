"""Classify, Regress and MultiInference over gRPC.

Sources: classification.proto, regression.proto, inference.proto, input.proto, and the real server's tests of its
classifier, regressor and multi-inference runner.
"""

from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from tests.conformance.models import CLASSIFY, LABELS, PREDICT, REGRESS
from tests.conformance.server import SECONDS, Server, Target, failure

_Code = grpc.StatusCode


def example(**features: object) -> tf.train.Example:
    made = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = made.features.feature[name]
        if isinstance(values[0], float):
            feature.float_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(values)
    return made


def _fill(request: Any, examples: list[Any], context: Any = None) -> Any:
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.CopyFrom(context)
    return request


def classification(model: str, signature: str, examples: list[Any], context: object = None) -> Any:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    return _fill(request, examples, context)


def regression(model: str, signature: str, examples: list[Any], context: object = None) -> Any:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    return _fill(request, examples, context)


def multi_inference(tasks: list[tuple[str, str, str]], examples: list[Any], context: object = None) -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    return _fill(request, examples, context)


def _classes(result: Any) -> list[list[tuple[str, float]]]:
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def test_classify(server: Target) -> None:
    request = classification("half_plus_two", "classify_x_to_y", [example(x=2.0), example(x=4.0)])
    response = server.prediction.Classify(request, timeout=SECONDS)
    assert _classes(response.result) == [[("", 3.0)], [("", 4.0)]]
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("half_plus_two", "classify_x_to_y", 123)


def test_classify_labels_and_scores(server: Target) -> None:
    request = classification("labels", "", [example(x=1.0), example(x=2.0, shift=1.0)])
    response = server.prediction.Classify(request, timeout=SECONDS)
    assert _classes(response.result) == [
        list(zip(LABELS, [1.0, 2.0, 3.0, 4.0], strict=True)),
        list(zip(LABELS, [3.0, 6.0, 9.0, 12.0], strict=True)),
    ]
    request.model_spec.signature_name = "only_classes"
    response = server.prediction.Classify(request, timeout=SECONDS)
    assert _classes(response.result) == [[(label, 0.0) for label in LABELS]] * 2


def test_context_applies_to_all_examples(server: Target) -> None:
    examples = [example(x=1.0), example(x=2.0)]
    context = example(shift=10.0)
    response = server.prediction.Regress(regression("labels", "regress_flat", examples, context), timeout=SECONDS)
    assert [r.value for r in response.result.regressions] == [11.0, 12.0]
    context = example(name="été ".encode())
    examples = [example(x=1.0, count=5), example(x=1.0, count=-6)]
    response = server.prediction.Classify(classification("labels", "named", examples, context), timeout=SECONDS)
    assert _classes(response.result) == [[("été 5", 0.0)], [("été -6", 0.0)]]


def test_regress(server: Target) -> None:
    for signature, expected in (("regress_x_to_y", [3.0, 1.0]), ("regress_x_to_y2", [4.0, 2.0])):
        request = regression("half_plus_two", signature, [example(x=2.0, x2=0.0), example(x=-2.0)])
        response = server.prediction.Regress(request, timeout=SECONDS)
        assert [r.value for r in response.result.regressions] == expected
        spec = response.model_spec
        assert (spec.name, spec.signature_name, spec.version.value) == ("half_plus_two", signature, 123)


def test_regress_also_takes_a_vector(server: Target) -> None:
    request = regression("labels", "regress_flat", [example(x=2.0), example(x=3.0)])
    response = server.prediction.Regress(request, timeout=SECONDS)
    assert [r.value for r in response.result.regressions] == [2.0, 3.0]


@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_mistakes_with_examples(server: Target, method: str) -> None:
    make: Any = classification if method == "Classify" else regression
    signature = "classify_x_to_y" if method == "Classify" else "regress_x_to_y"
    call = getattr(server.prediction, method)
    code, details = failure(call, make("half_plus_two", signature, []))
    assert (code, "empty" in details) == (_Code.INVALID_ARGUMENT, True), details
    code, details = failure(call, make("half_plus_two", signature, [], example(x=1.0)))
    assert (code, "empty" in details) == (_Code.INVALID_ARGUMENT, True), details
    without_input = make("half_plus_two", signature, [])
    without_input.ClearField("input")
    assert failure(call, without_input)[0] is _Code.INVALID_ARGUMENT
    # A feature that the model needs, and one of the wrong type.
    code, details = failure(call, make("half_plus_two", signature, [example(x2=1.0)]))
    assert code is _Code.INVALID_ARGUMENT
    assert "x (data type: float) is required but could not be found" in details
    code, details = failure(call, make("half_plus_two", signature, [example(x=b"text")]))
    assert (code, "x" in details) == (_Code.INVALID_ARGUMENT, True)
    code, _ = failure(call, make("half_plus_two", signature, [example(x=[1.0, 2.0])]))
    assert code is _Code.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_mistakes_with_names(server: Target, method: str) -> None:
    make: Any = classification if method == "Classify" else regression
    call = getattr(server.prediction, method)
    examples = [example(x=1.0)]
    no_spec = make("half_plus_two", "", examples)
    no_spec.ClearField("model_spec")
    code, details = failure(call, no_spec)
    assert (code, details) == (_Code.INVALID_ARGUMENT, "Missing ModelSpec")
    assert failure(call, make("half", "", examples)) == (
        _Code.NOT_FOUND,
        "Servable not found for request: Latest(half)",
    )
    code, details = failure(call, make("half_plus_two", "nope", examples))
    assert code is _Code.INVALID_ARGUMENT
    assert details == "No signature was found with the name: nope"


def test_signatures_of_the_wrong_form(server: Target) -> None:
    # PreProcessClassification and PreProcessRegression in servables/tensorflow/classifier.cc and regressor.cc.
    examples = [example(x=1.0)]
    for model, signature, code, part in (
        ("half_plus_two", "serving_default", _Code.INVALID_ARGUMENT, "No classification inputs found"),
        ("half_plus_two", "regress_x_to_y", _Code.INVALID_ARGUMENT, "at least one of"),
        ("half_plus_two", "classify_x2_to_y3", _Code.INVALID_ARGUMENT, ""),
        ("labels", "flat", _Code.INVALID_ARGUMENT, "Expected Tensor shape: [batch_size num_classes]"),
        ("labels", "wrong_outputs", _Code.INVALID_ARGUMENT, "at least one of"),
        ("labels", "whole_scores", _Code.INVALID_ARGUMENT, "Expected scores Tensor of DT_FLOAT"),
        ("multi", "", _Code.INVALID_ARGUMENT, "Expected one input Tensor"),
    ):
        found, details = failure(server.prediction.Classify, classification(model, signature, examples))
        assert (found, part in details) == (code, True), (model, signature, found, details)
    for model, signature, code, part in (
        ("half_plus_two", "serving_default", _Code.INVALID_ARGUMENT, "No regression inputs found"),
        ("half_plus_two", "classify_x_to_y", _Code.INVALID_ARGUMENT, "No regression outputs found"),
        ("half_plus_two", "regress_x2_to_y3", _Code.INVALID_ARGUMENT, ""),
        ("labels", "regress_wide", _Code.INVALID_ARGUMENT, "either [batch_size] or [batch_size, 1]"),
        ("labels", "serving_default", _Code.INVALID_ARGUMENT, "Expected one output Tensor"),
    ):
        found, details = failure(server.prediction.Regress, regression(model, signature, examples))
        assert (found, part in details) == (code, True), (model, signature, found, details)


_REGRESS = ("half_plus_two", "regress_x_to_y", REGRESS)
_REGRESS_2 = ("half_plus_two", "regress_x_to_y2", REGRESS)
_CLASSIFY = ("half_plus_two", "classify_x_to_y", CLASSIFY)


def test_multi_inference(server: Target) -> None:
    request = multi_inference([_REGRESS, _CLASSIFY, _REGRESS_2], [example(x=2.0), example(x=4.0)])
    results = server.prediction.MultiInference(request, timeout=SECONDS).results
    assert [r.value for r in results[0].regression_result.regressions] == [3.0, 4.0]
    assert _classes(results[1].classification_result) == [[("", 3.0)], [("", 4.0)]]
    assert [r.value for r in results[2].regression_result.regressions] == [4.0, 5.0]
    for result, task in zip(results, request.tasks, strict=True):
        assert result.model_spec.name == "half_plus_two"
        assert result.model_spec.signature_name == task.model_spec.signature_name
        assert result.model_spec.version.value == 123


def test_multi_inference_with_context(server: Target) -> None:
    tasks = [("labels", "regress_flat", REGRESS), ("labels", "named", CLASSIFY)]
    request = multi_inference(tasks, [example(x=1.0, count=1)], example(shift=2.0, name=b"c"))
    first, second = server.prediction.MultiInference(request, timeout=SECONDS).results
    assert [r.value for r in first.regression_result.regressions] == [3.0]
    assert _classes(second.classification_result) == [[("c1", 0.0)]]


@pytest.mark.parametrize(
    ("tasks", "code", "part"),
    [
        ([("half_plus_two", "nope", REGRESS)], _Code.INVALID_ARGUMENT, "signature not found"),
        ([_REGRESS, ("other", "regress_x_to_y", REGRESS)], _Code.INVALID_ARGUMENT, "must access the same model name"),
        ([_REGRESS, _REGRESS], _Code.INVALID_ARGUMENT, "Duplicate evaluation of signature: regress_x_to_y"),
        ([("half_plus_two", "serving_default", PREDICT)], _Code.UNIMPLEMENTED, "Unsupported signature"),
        # Different inputs are allowed since 2.4, examples for a tensor of numbers are not.
        ([_REGRESS, ("half_plus_two", "regress_x2_to_y3", REGRESS)], _Code.INVALID_ARGUMENT, ""),
        ([("other", "regress_x_to_y", REGRESS)], _Code.NOT_FOUND, "Servable not found for request: Latest(other)"),
        ([], _Code.INVALID_ARGUMENT, ""),
    ],
    ids=["signature", "models", "twice", "predict", "inputs", "model", "none"],
)
def test_multi_inference_mistakes(
    server: Target, tasks: list[tuple[str, str, str]], code: grpc.StatusCode, part: str
) -> None:
    found, details = failure(server.prediction.MultiInference, multi_inference(tasks, [example(x=2.0, x2=2.0)]))
    assert (found, part in details) == (code, True), details


def test_multi_inference_without_input(server: Target) -> None:
    code, details = failure(server.prediction.MultiInference, multi_inference([_REGRESS], []))
    assert (code, "Input is empty" in details) == (_Code.INVALID_ARGUMENT, True), details


@pytest.mark.own_server
def test_method_names_are_checked_on_request(models: Path) -> None:
    flags = "--model_name=half_plus_two", f"--model_base_path={models / 'half_plus_two'}"
    with Server(*flags, "--enable_signature_method_name_check=true") as server:
        server.wait_until_ready()
        examples = [example(x=2.0)]
        assert failure(server.prediction.Classify, classification("half_plus_two", "regress_x_to_y", examples)) == (
            _Code.INVALID_ARGUMENT,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}",
        )
        assert failure(server.prediction.Regress, regression("half_plus_two", "classify_x_to_y", examples)) == (
            _Code.INVALID_ARGUMENT,
            f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}",
        )
        request = regression("half_plus_two", "regress_x_to_y", examples)
        assert [r.value for r in server.prediction.Regress(request, timeout=SECONDS).result.regressions] == [3.0]
        assert server.predict("half_plus_two", {"x": [2.0]})["y"].tolist() == [3.0]

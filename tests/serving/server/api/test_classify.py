"""Examples, Classify, Regress and MultiInference on a real model, against TensorFlow's own parser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving import wire
from serving.protos import config_pb2
from serving.server.api.classify import classification_result, run_classify
from serving.server.api.examples import serialized_examples
from serving.server.api.multi_inference import run_multi_inference
from serving.server.api.regress import run_regress
from serving.server.errors import StatusError
from serving.server.execution.saved_model import SavedModelServable
from serving.server.execution.servable import Servable
from tests.serving.example_models import (
    CLASSIFY,
    LABELS,
    REGRESS,
    SessionServable,
    example,
    export_examples,
    input_of,
    scores_of,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_examples(tmp_path_factory.mktemp("examples") / "1")


@pytest.fixture(scope="module", params=["the server's way", "a Python session"])
def servable(path: Path, request: pytest.FixtureRequest) -> Servable:
    if request.param == "a Python session":
        return SessionServable(path)
    return SavedModelServable(path, ["serve"], config_pb2.ConfigProto())


def classify(servable: Servable, signature: str, examples: Any, **options: Any) -> Any:
    request = classification_pb2.ClassificationRequest(input=examples)
    request.model_spec.signature_name = signature
    return run_classify(servable, "m", 3, request, **options)


def regress(servable: Servable, signature: str, examples: Any, **options: Any) -> Any:
    request = regression_pb2.RegressionRequest(input=examples)
    request.model_spec.signature_name = signature
    return run_regress(servable, "m", 3, request, **options)


def tasks_of(*tasks: tuple[str, str], examples: Any = None, name: str = "m") -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest(input=examples or input_of(example(1.0)))
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def failure(call: Any, *arguments: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        call(*arguments, **options)
    return caught.value.code, caught.value.message


INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_examples_become_one_string_tensor() -> None:
    given = [example(1.5, "α"), example(), example(name="流浪地球")]
    tensor, count = serialized_examples(input_of(*given))
    assert count == 3
    array = tf.make_ndarray(tensor)
    assert array.shape == (3,)
    assert [tf.train.Example.FromString(value) for value in array] == given


def test_a_context_is_merged_into_each_example_whose_own_features_win() -> None:
    context = example(7.0, "context")
    given = [example(1.0), example(name="own"), example(), example(2.0, "own")]
    tensor, _ = serialized_examples(input_of(*given, context=context))
    features = {"x": tf.io.FixedLenFeature([], tf.float32, -1.0), "name": tf.io.FixedLenFeature([], tf.string, "?")}
    parsed = tf.io.parse_example(tf.make_ndarray(tensor), features)
    assert parsed["x"].numpy().tolist() == [1.0, 7.0, 7.0, 2.0]
    assert parsed["name"].numpy().tolist() == [b"context", b"own", b"context", b"own"]


def test_an_empty_context_changes_nothing() -> None:
    tensor, _ = serialized_examples(input_of(example(1.0), context=example()))
    assert tf.train.Example.FromString(tf.make_ndarray(tensor)[0]) == example(1.0)


@pytest.mark.parametrize(
    "empty",
    [input_pb2.Input(), input_of(), input_of(context=example(1.0))],
    ids=["no kind", "no examples", "a context alone"],
)
def test_an_empty_input_is_refused(servable: Servable, empty: object) -> None:
    assert failure(serialized_examples, empty) == (INVALID, "Input is empty.")
    assert failure(classify, servable, "", empty) == (INVALID, "Input is empty.")
    assert failure(regress, servable, "regress", empty) == (INVALID, "Input is empty.")
    request = tasks_of(("regress", REGRESS), examples=empty)
    assert failure(run_multi_inference, servable, 1, request) == (INVALID, "Input is empty.")


def test_classes_and_scores(servable: Servable) -> None:
    values = [0.25, -3.0, 0.0]
    response, count = classify(servable, "", input_of(*map(example, values)))
    assert count == 3
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 3)
    assert response.model_spec.signature_name == "serving_default"
    got = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
    expected = [[*zip(LABELS, row, strict=True)] for row in scores_of(values).tolist()]
    assert got == expected


def test_classes_alone_and_scores_alone(servable: Servable) -> None:
    classes, _ = classify(servable, "classes", input_of(example(1.0), example(2.0)))
    assert [[(c.label, c.score) for c in row.classes] for row in classes.result.classifications] == [
        [(label, 0.0) for label in LABELS]
    ] * 2
    for signature in ("scores", "scores_and_more"):
        scores, _ = classify(servable, signature, input_of(example(1.0), example(2.0)))
        assert [[(c.label, c.score) for c in row.classes] for row in scores.result.classifications] == [
            [("", 1.0), ("", 2.0), ("", 2.0)],
            [("", 2.0), ("", 4.0), ("", 3.0)],
        ]
        assert scores.model_spec.signature_name == signature


def test_regression(servable: Servable) -> None:
    for signature in ("regress", "regress_column"):
        response, count = regress(servable, signature, input_of(example(1.0), example(-4.0), example()))
        assert [r.value for r in response.result.regressions] == [2.5, 0.0, 2.0]
        assert count == 3
        assert response.model_spec.signature_name == signature
        assert response.model_spec.version.value == 3


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("nothing", INVALID, "No signature was found with the name: nothing"),
        ("classify_two_inputs", INVALID, "Expected one input Tensor."),
        ("classify_three_outputs", INVALID, "Expected one or two output Tensors, found 3"),
        # These two have the status of PreProcessClassification in servables/tensorflow/classifier.cc since 2.4.
        ("classify_other_input", INVALID, "No classification inputs found in SignatureDef: "),
        (
            "classify_other_output",
            INVALID,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            "Signature was: ",
        ),
        ("classify_flat", INVALID, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ("classify_int_scores", INVALID, "Expected scores Tensor of DT_FLOAT. Got: DT_INT64"),
        ("classify_float_classes", INVALID, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ("classify_batch", INVALID, "Expected scores output batch size of 2. Got: 7"),
        ("classify_classes_batch", INVALID, "Expected classes output batch size of 2. Got: 7"),
        ("classify_widths", INVALID, "Tensors class and score should match in dim_size(1). Got 3 vs. 2"),
        ("classify_binary", grpc.StatusCode.INTERNAL, "classes Tensor holds text that is not UTF-8: "),
    ],
)
def test_signatures_not_for_classify(servable: Servable, signature: str, code: grpc.StatusCode, message: str) -> None:
    got_code, got = failure(classify, servable, signature, input_of(example(1.0), example(2.0)))
    assert got_code is code
    assert got.startswith(message)
    # Some messages end with a SignatureDef.
    assert got == message or message.endswith(": ")


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("nothing", INVALID, "No signature was found with the name: nothing"),
        ("regress_two_inputs", INVALID, "Expected one input Tensor."),
        ("regress_two_outputs", INVALID, "Expected one output Tensor."),
        # The status of PreProcessRegression in servables/tensorflow/regressor.cc since 2.4.
        ("regress_other_input", INVALID, "No regression inputs found in SignatureDef: "),
        ("regress_other_output", INVALID, "No regression outputs found in SignatureDef: "),
        (
            "regress_wide",
            INVALID,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,3]",
        ),
        ("regress_int", INVALID, "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
        ("regress_batch", INVALID, "Input batch size did not match output batch size: 2 vs. 7"),
    ],
)
def test_signatures_not_for_regress(servable: Servable, signature: str, code: grpc.StatusCode, message: str) -> None:
    got_code, got = failure(regress, servable, signature, input_of(example(1.0), example(2.0)))
    assert got_code is code
    assert got.startswith(message)
    # Some messages end with a SignatureDef.
    assert got == message or message.endswith(": ")


def test_method_names_are_checked_only_on_request(servable: Servable) -> None:
    one = input_of(example(1.0))
    response, _ = regress(servable, "tf2_regress", one)
    assert [r.value for r in response.result.regressions] == [2.5]
    assert failure(regress, servable, "tf2_regress", one, check_method_name=True) == (
        INVALID,
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predict",
    )
    assert failure(classify, servable, "regress", one, check_method_name=True) == (
        INVALID,
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/regress",
    )
    classify(servable, "", one, check_method_name=True)
    regress(servable, "regress", one, check_method_name=True)


def test_the_graphs_own_failure_is_passed_on(servable: Servable) -> None:
    bad = example()
    bad.features.feature["x"].bytes_list.value.append(b"text where a number belongs")
    code, message = failure(classify, servable, "", input_of(bad))
    assert code is INVALID
    assert "Data types don't match" in message


def test_multi_inference(servable: Servable) -> None:
    request = tasks_of(
        ("regress", REGRESS), ("", CLASSIFY), ("scores", CLASSIFY), examples=input_of(example(1.0), example(2.0))
    )
    response, count = run_multi_inference(servable, 5, request)
    assert count == 2
    first, second, third = response.results
    assert [r.value for r in first.regression_result.regressions] == [2.5, 3.0]
    rows = [[(c.label, c.score) for c in row.classes] for row in second.classification_result.classifications]
    assert rows == [[*zip(LABELS, row, strict=True)] for row in scores_of([1.0, 2.0]).tolist()]
    assert [c.score for c in third.classification_result.classifications[1].classes] == [2.0, 4.0, 3.0]
    assert [r.model_spec.signature_name for r in response.results] == ["regress", "serving_default", "scores"]
    assert {(r.model_spec.name, r.model_spec.version.value) for r in response.results} == {("m", 5)}


def test_the_tasks_share_the_remaining_time(servable: Servable) -> None:
    request = tasks_of(("regress", REGRESS), ("scores", CLASSIFY))
    response, _ = run_multi_inference(servable, 1, request, timeout=30.0)
    assert len(response.results) == 2
    code, _ = failure(run_multi_inference, servable, 1, request, timeout=0.0)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_tasks_may_read_different_inputs(servable: Servable) -> None:
    # TensorFlowMultiInferenceRunner::Infer in servables/tensorflow/multi_inference.cc feeds all of them since 2.4.
    request = tasks_of(
        ("regress_other_placeholder", REGRESS), ("regress", REGRESS), examples=input_of(example(3.0), example(-1.0))
    )
    response, count = run_multi_inference(servable, 1, request)
    assert count == 2
    assert [[r.value for r in result.regression_result.regressions] for result in response.results] == [
        [3.0, -1.0],
        [3.5, 1.5],
    ]


def test_multi_inference_errors(servable: Servable) -> None:
    def failed(request: object, **options: object) -> tuple[grpc.StatusCode, str]:
        return failure(run_multi_inference, servable, 1, request, **options)

    request = tasks_of(("regress", REGRESS), ("scores", CLASSIFY))
    request.tasks[1].model_spec.name = ""
    assert failed(request) == (INVALID, "Found ModelSpec with an empty model name.")
    request.tasks[1].model_spec.name = "other"
    assert failed(request) == (
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    )
    assert failed(tasks_of(("", CLASSIFY), ("serving_default", CLASSIFY))) == (
        INVALID,
        "Duplicate evaluation of signature: serving_default",
    )
    assert failed(tasks_of(("nothing", CLASSIFY))) == (
        INVALID,
        "Requested signature not found in model graph: nothing",
    )
    assert failed(tasks_of(("features", "tensorflow/serving/predict"))) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    )
    assert failed(tasks_of(("regress_two_outputs", REGRESS))) == (INVALID, "Expected one output Tensor.")
    code, message = failed(tasks_of(("tf2_regress", REGRESS)), check_method_name=True)
    assert (code, message[:30]) == (INVALID, "Expected regression signature ")


def built(classes: Sequence[Sequence[str]] | None, scores: Any, count: int) -> Any:
    """A ClassificationResult built field by field."""
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classifications = result.classifications.add()
        for column in range(len(classes[row]) if classes is not None else scores.shape[1]):
            entry = classifications.classes.add()
            if classes is not None:
                entry.label = classes[row][column]
            if scores is not None:
                entry.score = scores[row, column]
    return result


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 40), (2, 0), (1, 5000)])
@pytest.mark.parametrize("with_classes", [True, False])
@pytest.mark.parametrize("with_scores", [True, False])
def test_the_wire_form_is_that_of_messages_built_field_by_field(
    shape: tuple[int, int], with_classes: bool, with_scores: bool
) -> None:
    if not with_classes and not with_scores:
        return
    generator = np.random.default_rng(1)
    scores = generator.normal(size=shape).astype(np.float32)
    scores.ravel()[:2] = [np.inf, -0.0][: scores.size]
    classes = [
        ["" if column == 1 else "é" * (column * 37 % 500) for column in range(shape[1])] for _ in range(shape[0])
    ]
    outputs: dict[str, Any] = {}
    if with_scores:
        outputs["scores"] = tf.make_tensor_proto(scores)
    if with_classes:
        outputs["classes"] = tf.make_tensor_proto(np.array(classes, object).reshape(shape), tf.string, shape)
    got = classification_result(outputs, shape[0])
    assert got == built(classes if with_classes else None, scores if with_scores else None, shape[0])


def test_the_wire_form_of_regressions() -> None:
    values = np.array([0.0, -1.5, np.inf, 3e38, 1e-45], np.float32)
    expected = regression_pb2.RegressionResult()
    for value in values:
        expected.regressions.add(value=value)
    assert regression_pb2.RegressionResult.FromString(wire.regressions(values)) == expected
    assert wire.regressions(values[:0]) == b""


def test_a_tf2_model_classifies(tmp_path: Path) -> None:
    """``tf.saved_model.save`` writes the predict method's name regardless of the signature's purpose."""

    class Tf2(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
            return {"scores": tf.stack([x, -x], axis=1)}

    module = Tf2()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.classify})
    response, _ = classify(SessionServable(tmp_path / "1"), "", input_of(example(2.0)))
    assert [c.score for c in response.result.classifications[0].classes] == [2.0, -2.0]

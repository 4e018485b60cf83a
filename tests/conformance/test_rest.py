"""The REST API: every route, both layouts, types, errors.

Sources: api_rest.md (its examples verbatim), and the real server's tests of json_tensor and http_rest_api_handler,
which take precedence where document and binary differ (``results``).
"""

import base64
import math
from typing import Any

import pytest

from tests.conformance.models import LABELS, REGRESS
from tests.conformance.server import Answer, Target

_HALF = "/v1/models/half_plus_two"


def _predict(server: Target, model: str, signature: str, body: dict[str, Any]) -> Any:
    return server.post(f"/v1/models/{model}:predict", {"signature_name": signature} | body)


def _refused(answer: Answer, status: int = 400) -> str:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    return answer.error


def test_examples_of_the_document(server: Target) -> None:
    half = "/v1/models/half_plus_three"
    assert server.rest("GET", half).json == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert server.post(f"{half}:predict", '{"instances": [1.0,2.0,5.0]}') == {"predictions": [3.5, 4.0, 5.5]}
    body = f'{{"signature_name": "{REGRESS}", "examples": [{{"x": 1.0}}, {{"x": 2.0}}]}}'
    assert server.post(f"{half}:regress", body) == {"results": [3.5, 4.0]}
    answer = server.rest("POST", "/v1/models/half:predict", '{"instances": [1.0,5.0]}')
    assert _refused(answer, 404) == "Servable not found for request: Latest(half)"


def test_rows_and_columns_of_one_tensor(server: Target) -> None:
    for body, expected in (
        ({"instances": [2.0, 3.0]}, {"predictions": [3.0, 3.5]}),
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
        ({"instances": [{"x": 2.0}, {"x": 3.0}]}, {"predictions": [3.0, 3.5]}),
        ({"instances": [{"x": [2.0]}]}, {"predictions": [[3.0]]}),
        ({"inputs": [2.0, 3.0]}, {"outputs": [3.0, 3.5]}),
        ({"inputs": {"x": [[2.0, 3.0]]}}, {"outputs": [[3.0, 3.5]]}),
        ({"inputs": 2.0}, {"outputs": 3.0}),
        ({"inputs": {"x": 2.0}}, {"outputs": 3.0}),
        ({"signature_name": "serving_default", "instances": [3.0]}, {"predictions": [3.5]}),
        ({"signature_name": "", "instances": [3.0]}, {"predictions": [3.5]}),
    ):
        assert server.post(f"{_HALF}:predict", body) == expected, body


def test_rows_and_columns_of_several_tensors(server: Target) -> None:
    rows = [{"signal": [1, 2], "count": 2, "tag": "foo"}, {"signal": [3.5, 4], "count": -3, "tag": "日本"}]
    raw = [{"b64": base64.b64encode(text.encode()).decode()} for text in ("foo", "日本")]
    expected = [
        {"total": 42.0, "doubled": 4, "label": "foo-2", "raw_bytes": raw[0]},
        {"total": -130.5, "doubled": -6, "label": "日本--3", "raw_bytes": raw[1]},
    ]
    assert server.post("/v1/models/multi:predict", {"instances": rows}) == {"predictions": expected}
    columns = {alias: [row[alias] for row in rows] for alias in rows[0]}
    assert server.post("/v1/models/multi:predict", {"inputs": columns}) == {
        "outputs": {alias: [row[alias] for row in expected] for alias in expected[0]}
    }


def test_outputs_of_different_sizes_have_no_row_format(server: Target) -> None:
    body = {"signature_name": "two_sizes", "inputs": [1.0, 2.0]}
    assert server.post("/v1/models/multi:predict", body) == {"outputs": {"all": [1.0, 2.0], "first": [1.0]}}
    answer = server.rest("POST", "/v1/models/multi:predict", {"signature_name": "two_sizes", "instances": [1.0, 2.0]})
    assert "inconsistent batch size" in _refused(answer)
    body = {"signature_name": "scalar", "inputs": [1.0, 2.0]}
    assert server.post("/v1/models/multi:predict", body) == {"outputs": 3.0}


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("bool", [True, False]),
        ("int8", [-128, 127]),
        ("uint8", [0, 255]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("uint32", [0, 2**32 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("float32", [1, 1.5, -2e-3, 1e30]),
        ("float64", [1, 0.1, -1e-300, 1.7976931348623157e308]),
        ("string", ["", "Grüße", '日本\u2028\n"\\', "🎬"]),
    ],
)
def test_types(server: Target, signature: str, values: list[Any]) -> None:
    answer = _predict(server, "echo", signature, {"instances": values})["predictions"]
    if signature.startswith("float"):
        # The decimal digits are up to the server; the result must be the nearest single or double, or six digits.
        assert answer == pytest.approx(values, rel=1e-5)
        assert all(type(value) is float for value in answer)
    else:
        assert answer == values
        assert [type(value) for value in answer] == [type(value) for value in values]
    nested = [[[value]] for value in values]
    assert _predict(server, "echo", signature, {"inputs": nested})["outputs"] == [[[value]] for value in answer]


def test_not_a_number_and_infinity(server: Target) -> None:
    for signature in ("float32", "float64"):
        body = f'{{"signature_name": "{signature}", "instances": [NaN, Infinity, -Infinity, 3]}}'
        answer = server.rest("POST", "/v1/models/echo:predict", body)
        values = answer.json["predictions"]
        assert math.isnan(values[0])
        assert values[1:] == [math.inf, -math.inf, 3.0]
        assert b"NaN" in answer.body
        assert b"-Infinity" in answer.body


def test_binary_values(server: Target) -> None:
    binary = [bytes(range(256)), b"", b"hello"]
    encoded = [{"b64": base64.b64encode(value).decode()} for value in binary]
    # Names ending in _bytes are binary; the same values under another name are returned as text.
    assert _predict(server, "echo", "bytes", {"instances": encoded}) == {"predictions": encoded}
    assert _predict(server, "echo", "bytes", {"instances": [[item] for item in encoded]}) == {
        "predictions": [[item] for item in encoded]
    }
    assert _predict(server, "echo", "bytes", {"inputs": {"image_bytes": encoded[2]}}) == {"outputs": encoded[2]}
    assert _predict(server, "echo", "string", {"instances": encoded[1:]}) == {"predictions": ["", "hello"]}
    assert _predict(server, "echo", "length", {"instances": encoded}) == {"predictions": [256, 0, 5]}


def test_classify(server: Target) -> None:
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}, {"x": [10.0]}]}
    assert server.post(f"{_HALF}:classify", body) == {"results": [[["", 12]], [["", 7]]]}
    assert server.post(f"{_HALF}/versions/123:classify", body) == {"results": [[["", 12]], [["", 7]]]}
    assert server.post("/v1/models/labels:classify", {"examples": [{"x": 2.0}]}) == {
        "results": [[[label, 2.0 * (i + 1)] for i, label in enumerate(LABELS)]]
    }


def test_regress(server: Target) -> None:
    body = {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}
    assert server.post(f"{_HALF}:regress", body) == {"results": [42]}
    assert server.post(f"{_HALF}/versions/123:regress", body) == {"results": [42]}
    text = '{"signature_name": "regress_flat", "examples": [{"x": NaN}, {"x": Infinity}, {"x": -Infinity}]}'
    first, *others = server.post("/v1/models/labels:regress", text)["results"]
    assert math.isnan(first)
    assert others == [math.inf, -math.inf]


def test_examples_with_context(server: Target) -> None:
    body = {"signature_name": "regress_flat", "context": {"shift": 10.0}, "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert server.post("/v1/models/labels:regress", body) == {"results": [11.0, 12.0]}
    name = {"b64": base64.b64encode("é".encode()).decode()}
    body = {"signature_name": "named", "context": {"name": name}, "examples": [{"x": 1.0, "count": 3}]}
    assert server.post("/v1/models/labels:classify", body) == {"results": [[["é3", 0.0]]]}


def test_versions_and_labels(server: Target) -> None:
    base = "/v1/models/numbered"
    for path, expected in (("", 3.0), ("/versions/1", 1.0), ("/versions/2", 2.0), ("/labels/stable", 1.0)):
        assert server.post(f"{base}{path}:predict", {"instances": [0.0]}) == {"predictions": [expected]}
    escaped = "%E3%82%AB%E3%83%8A%E3%83%AA%E3%82%A2"
    assert server.post(f"{base}/labels/{escaped}:predict", {"instances": [0.0]}) == {"predictions": [3.0]}
    answer = server.rest("POST", f"{base}/versions/9:predict", {"instances": [0.0]})
    assert _refused(answer, 404) == "Servable not found for request: Specific(numbered, 9)"
    answer = server.rest("POST", f"{base}/labels/nope:predict", {"instances": [0.0]})
    assert _refused(answer) == "Unrecognized servable version label: nope"


def test_status(server: Target) -> None:
    def entry(version: int) -> dict[str, Any]:
        return {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    answer = server.rest("GET", "/v1/models/numbered")
    assert sorted(answer.json["model_version_status"], key=lambda item: item["version"]) == [
        entry(1),
        entry(2),
        entry(3),
    ]
    assert answer.headers["content-type"] == "application/json"
    assert server.rest("GET", "/v1/models/numbered/versions/2").json == {"model_version_status": [entry(2)]}
    assert _refused(server.rest("GET", "/v1/models/nope"), 404) == "Could not find any versions of model nope"
    answer = server.rest("GET", "/v1/models/numbered/versions/9")
    assert _refused(answer, 404) == "Could not find version 9 of model numbered"


def test_metadata(server: Target) -> None:
    document = server.rest("GET", f"{_HALF}/metadata").json
    assert document["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert "classify_x_to_y" in signatures
    y = signatures["serving_default"]["outputs"]["y"]
    assert (y["dtype"], signatures["serving_default"]["method_name"]) == ("DT_FLOAT", "tensorflow/serving/predict")
    x = server.rest("GET", "/v1/models/multi/versions/1/metadata").json
    x = x["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["signal"]
    assert [dim["size"] for dim in x["tensor_shape"]["dim"]] == ["-1", "2"]
    assert x["tensor_shape"]["unknown_rank"] is False
    assert server.rest("GET", "/v1/models/numbered/labels/stable/metadata").json["model_spec"]["version"] == "1"
    answer = server.rest("GET", "/v1/models/nope/metadata")
    assert _refused(answer, 404) == "Servable not found for request: Latest(nope)"


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/foo", "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("POST", "/v1/models", "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/foo:predict", "Malformed request: GET /v1/models/foo:predict"),
        ("POST", "/v1/models/foo", "Malformed request: POST /v1/models/foo"),
        ("POST", "/v1/models/foo:guess", "Malformed request: POST /v1/models/foo:guess"),
        ("GET", "/v1/models/foo/version/50:predict", "Malformed request: GET /v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/version/50:regress", "Malformed request: POST /v1/models/foo/version/50:regress"),
        (
            "POST",
            "/v1/models/foo/versions/HELLO:regress",
            "Malformed request: POST /v1/models/foo/versions/HELLO:regress",
        ),
        (
            "POST",
            f"/v1/models/foo/versions/{2**64 - 1}:regress",
            f"Failed to convert version: {2**64 - 1} to numeric.",
        ),
        (
            "POST",
            "/v1/models/foo/versions/1/labels/a:regress",
            "Malformed request: POST /v1/models/foo/versions/1/labels/a:regress",
        ),
    ],
)
def test_malformed_paths(server: Target, method: str, path: str, message: str) -> None:
    body = "{}" if method == "POST" else None
    assert _refused(server.rest(method, path, body)) == message


@pytest.mark.parametrize("path", ["/", "/index", "/statuspage", "/v2/models/half_plus_two"])
def test_paths_outside_of_the_api(server: Target, path: str) -> None:
    assert server.rest("GET", path).status == 404


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", "JSON Parse error: Invalid value"),
        ('{"instances": [1.0', "JSON Parse error"),
        (b"\xff\xfe{}", "JSON Parse error"),
        ("[1.0]", ""),
        ("{}", ""),
        ('{"signature_name": 5, "instances": [1]}', "must be a string value"),
        ('{"instances": [1], "inputs": [1]}', "Not formatted correctly"),
        ('{"instances": 1.0}', ""),
        ('{"instances": [[1,2],[3,4],[5,6,7]]}', "Expecting tensor size"),
        ('{"instances": [[1,2],[3,4],[[5,6]]]}', "Expecting shape"),
        ('{"instances": [1, [1]]}', "Expecting shape"),
        ('{"instances": [[1,2],["a", "b"]]}', "not of expected type: float"),
        ('{"instances": [null]}', "not of expected type: float"),
        ('{"instances": [true]}', "not of expected type: float"),
        ('{"instances": [{"x": 1.0}, [1.0]]}', "Expecting object but got list"),
        ('{"instances": [[1.0], {"x": 1.0}]}', "Expecting value/list but got object"),
        ('{"instances": [{"x": 1.0}, {"z": 1.0}]}', ""),
        ('{"inputs": {"z": [1.0]}}', ""),
        ('{"instances": []}', "No values in"),
        ('{"instances": [{"x": 1.0, "z": 1.0}]}', "z"),
        ('{"signature_name": "nope", "instances": [1.0]}', "nope"),
    ],
)
def test_malformed_predict_bodies(server: Target, body: str | bytes, part: str) -> None:
    assert part in _refused(server.rest("POST", f"{_HALF}:predict", body))
    assert server.post(f"{_HALF}:predict", {"instances": [1.0]}) == {"predictions": [2.5]}


@pytest.mark.parametrize(
    ("signature", "instances", "part"),
    [
        ("int32", "[1.5]", "not of expected type: int32"),
        ("int32", f"[{2**31}]", "int32"),
        ("int64", f"[{2**63}]", "int64"),
        ("uint64", "[-1]", "uint64"),
        ("bool", "[1]", "not of expected type: bool"),
        ("string", "[1]", "not of expected type: string"),
        ("string", '[{"b64": "a"}]', ""),
        ("string", '[{"b64": 5}]', ""),
    ],
)
def test_values_out_of_a_types_range(server: Target, signature: str, instances: str, part: str) -> None:
    body = f'{{"signature_name": "{signature}", "instances": {instances}}}'
    assert part in _refused(server.rest("POST", "/v1/models/echo:predict", body))


def test_numbers_are_rounded_to_the_type(server: Target) -> None:
    # AddValueToTensor in util/json_tensor.cc, since 2.5.
    body = '{"signature_name": "float32", "instances": [16777217, 0.1, 1e300, -1e39]}'
    assert server.rest("POST", "/v1/models/echo:predict", body).json == {
        "predictions": [16777216.0, 0.1, float("inf"), float("-inf")]
    }
    body = f'{{"signature_name": "float64", "instances": [{2**53 + 1}]}}'
    assert server.rest("POST", "/v1/models/echo:predict", body).json == {"predictions": [2.0**53]}


@pytest.mark.babelrec_only
def test_inputs_with_defaults_may_be_left_out(server: Target) -> None:
    # TensorFlow Serving requires all of them in JSON: FillTensorMapFromInputsMap in util/json_tensor.cc.
    path = "/v1/models/defaults:predict"
    assert server.post(path, {"inputs": {"x": [2.0, 0.0]}}) == {"outputs": [7.0, 1.0]}
    assert server.post(path, {"inputs": {"x": [2.0], "shift": 5.0}}) == {"outputs": [11.0]}
    assert server.post(path, {"instances": [{"x": 2.0}, {"x": 3.0}]}) == {"predictions": [7.0, 10.0]}
    assert "x" in _refused(server.rest("POST", path, {"inputs": {"scale": 1.0}}))


def test_text_after_the_document_is_ignored(server: Target) -> None:
    # ParseJson in util/json_tensor.cc, since 2.18.
    assert server.rest("POST", f"{_HALF}:predict", '{"instances": [1.0]} {"instances": 2').json == {
        "predictions": [2.5]
    }


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("", "The document is empty"),
        ('{"signature_name": ["hello"], "examples": [{"x": [1.0]}]}', "'signature_name' key must be a string"),
        ('{"context": [{"x": 1.0}]}', "Example must be JSON object"),
        ('{"examples": {"x": 1.0}}', "list/array"),
        ('{"examples": [[{"x": 1.0}]]}', "Example must be JSON object"),
        ('{"examples": [{"names": [10, null]}]}', "names has element with unexpected JSON type: Null"),
        ('{"examples": [{"names": [10, 10.0]}]}', "feature: names expecting type: int64"),
        ('{"examples": [{"names": [10, {"test": 10}]}]}', "names has element with unexpected JSON type: Object"),
        ('{"examples": [{"names": [[10], 20]}]}', "names has element with unexpected JSON type: Array"),
        ('{"examples": [{"names": [20, 18446744073709551603]}]}', "Only int64_t is supported"),
        ('{"examples": []}', ""),
        ("{}", ""),
    ],
)
def test_malformed_examples(server: Target, verb: str, body: str, part: str) -> None:
    assert part in _refused(server.rest("POST", f"{_HALF}:{verb}", body))


def test_failures_inside_the_model(server: Target) -> None:
    body = {"signature_name": "positive", "instances": [-1.0]}
    assert "x must be positive" in _refused(server.rest("POST", "/v1/models/multi:predict", body))
    body = {"signature_name": "read", "instances": ["/there/is/no/such/file"]}
    assert "/there/is/no/such/file" in _refused(server.rest("POST", "/v1/models/multi:predict", body), 404)


def test_empty_batch(server: Target) -> None:
    assert server.post(f"{_HALF}:predict", {"inputs": []}) == {"outputs": []}


def test_types_that_json_cannot_hold(server: Target) -> None:
    body = {"signature_name": "complex64", "instances": [1.0]}
    answer = server.rest("POST", "/v1/models/echo:predict", body)
    assert answer.status < 500
    assert "complex64" in answer.error


def test_unknown_columns_are_ignored(server: Target) -> None:
    # Not documented; json_tensor.cc looks up only the signature's inputs.
    assert server.post(f"{_HALF}:predict", {"inputs": {"x": [1.0], "z": [1.0]}}) == {"outputs": [2.5]}

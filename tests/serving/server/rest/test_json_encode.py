"""Responses as JSON: values of json_tensor_test.cc, and the exact layout of RapidJSON's PrettyWriter, by hand."""

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.protos import classification_pb2, get_model_metadata_pb2, get_model_status_pb2, regression_pb2, tensor_pb2
from serving.server.errors import StatusError
from serving.server.rest.json_decode import Format
from serving.server.rest.json_encode import (
    classification_response,
    error_response,
    metadata_response,
    predict_response,
    regression_response,
    status_response,
)
from serving.tensors import string_array, to_proto


def proto(text: str) -> Any:
    return text_format.Parse(text, tensor_pb2.TensorProto())


def strings(*values: bytes) -> Any:
    return string_array(list(values))


def tensors(**arrays: object) -> dict[str, Any]:
    return {alias: to_proto(np.asarray(array)) for alias, array in arrays.items()}


def rows(outputs: dict[str, Any]) -> str:
    return predict_response(outputs, Format.ROW).decode()


def columns(outputs: dict[str, Any]) -> str:
    return predict_response(outputs, Format.COLUMNAR).decode()


INTS = np.arange(1, 5, dtype=np.int32)


def test_rows_of_scalars_are_on_one_line() -> None:
    assert rows(tensors(y=np.array([3.5, 4, 5.5], np.float32))) == '{\n    "predictions": [3.5, 4.0, 5.5\n    ]\n}'


def test_rows_of_lists_are_on_one_line() -> None:
    array = np.arange(8).reshape(2, 2, 2)
    assert rows(tensors(y=array)) == '{\n    "predictions": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]\n    ]\n}'


def test_named_rows() -> None:
    outputs = tensors(b=INTS.reshape(2, 2), a=np.array([True, False]), c=np.zeros((2, 0), np.float32))
    assert rows(outputs) == (
        '{\n    "predictions": [\n        {\n            "a": true,\n            "b": [1, 2],\n            "c": []\n'
        '        },\n        {\n            "a": false,\n            "b": [3, 4],\n            "c": []\n'
        "        }\n    ]\n}"
    )


def test_bytes_in_rows() -> None:
    assert rows(tensors(x_bytes=strings(b"hello", b"\xff"))) == (
        '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }, {\n            "b64": "/w=="\n'
        "        }\n    ]\n}"
    )


def test_columns_are_spread_over_lines() -> None:
    assert columns(tensors(y=INTS.reshape(2, 2))) == (
        '{\n    "outputs": [\n        [\n            1,\n            2\n        ],\n        [\n            3,\n'
        "            4\n        ]\n    ]\n}"
    )
    assert columns(tensors(y=np.float64(0.1))) == '{\n    "outputs": 0.1\n}'


def test_named_columns() -> None:
    outputs = tensors(s_bytes=strings(b"\x00"), n=np.array([1], np.uint64), e=np.zeros((2, 0, 3)))
    outputs["t"] = proto('dtype: DT_STRING tensor_shape { } string_val: "\\303\\251\\n\\"/\\\\\\001"')
    assert columns(outputs) == (
        '{\n    "outputs": {\n        "e": [\n            [],\n            []\n        ],\n        "n": [\n'
        "            1\n"
        '        ],\n        "s_bytes": [\n            {\n                "b64": "AA=="\n            }\n        ],\n'
        '        "t": "é\\n\\"/\\\\\\u0001"\n    }\n}'
    )


def test_empty_batches() -> None:
    empty = tensors(y=np.zeros((0, 2), np.float32))
    assert rows(empty) == '{\n    "predictions": []\n}'
    assert columns(empty) == '{\n    "outputs": []\n}'
    two = empty | {"s": proto("dtype: DT_STRING tensor_shape { dim { size: 0 } dim { size: 1 } }")}
    assert rows(two) == '{\n    "predictions": []\n}'


def test_special_numbers() -> None:
    array = np.array([[np.nan, np.inf], [3, -np.inf]], np.float32)
    assert "[[NaN, Infinity], [3.0, -Infinity]\n" in rows(tensors(y=array))


def test_exact_integers() -> None:
    assert "[-9223372036854775808\n" in rows(tensors(y=np.array([-(2**63)])))
    assert "[18446744073709551615\n" in rows(tensors(y=np.array([2**64 - 1], np.uint64)))


def test_half_precision() -> None:
    assert "[0.5, 0.0999755859\n" in rows(tensors(y=np.array([0.5, 0.1], np.float16)))
    bfloat16 = proto("dtype: DT_BFLOAT16 tensor_shape { dim { size: 1 } } half_val: 16256")
    assert "[1.0\n" in rows({"y": bfloat16})


def test_bytes_that_are_not_utf_8_are_sent_unchanged() -> None:
    assert b'["\xff\\u0000"\n' in predict_response(tensors(s=strings(b"\xff\x00")), Format.ROW)


def test_missing_values_are_filled_in() -> None:
    filled = proto("dtype: DT_INT32 tensor_shape { dim { size: 3 } } int_val: 7")
    assert "[7, 7, 7\n" in rows({"y": filled})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        (
            {"t": proto("dtype: DT_COMPLEX64 tensor_shape { dim { size: 1 } } scomplex_val: [1, 2]")},
            "Failed to write JSON value for tensor type: complex64",
        ),
        (
            {"t": proto("dtype: DT_QINT8 tensor_shape { dim { size: 1 } } int_val: 1")},
            "Failed to write JSON value for tensor type: qint8",
        ),
        ({"t": proto("dtype: DT_INT32 int_val: 1")}, "Tensor name: t has no shape information "),
        (
            {"a": to_proto(np.zeros((2, 3))), "b": to_proto(np.zeros((1, 3)))},
            "Tensor name: b has inconsistent batch size: 1 expecting: 2",
        ),
        (
            {"a": to_proto(np.zeros((0, 3))), "b": to_proto(np.zeros((1, 3)))},
            "Tensor name: b has inconsistent batch size: 1 expecting: 0",
        ),
    ],
)
def test_tensors_that_cannot_be_written(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        predict_response(outputs, Format.ROW)
    assert str(caught.value) == f"INVALID_ARGUMENT: {message}"


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.one_of(
    hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.int64, SHAPES),
    hnp.arrays(np.bool_, SHAPES),
    hnp.arrays(np.object_, SHAPES, elements=st.text().map(str.encode)),
)


@given(ARRAYS, st.booleans())
def test_round_trips(array: Any, single: bool) -> None:
    def plain(value: object) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.decode() if isinstance(value, bytes) else value

    outputs = {"y": to_proto(array)} | ({} if single else {"other": to_proto(np.zeros(array.shape[0]))})

    def read(text: str) -> Any:
        # Nine digits are a float, not yet the double next to it.
        single_precision = array.dtype == np.float32
        return json.loads(text, parse_float=lambda digits: float(np.float32(digits) if single_precision else digits))

    wanted = plain(array.tolist())
    by_column = read(columns(outputs))["outputs"]
    assert (by_column if single else by_column["y"]) == wanted
    by_row = read(rows(outputs))["predictions"]
    assert by_row == (wanted if single else [{"y": row, "other": 0.0} for row in wanted])


@given(hnp.arrays(np.object_, SHAPES, elements=st.binary()))
def test_bytes_round_trips(array: Any) -> None:
    found: list[bytes] = []

    def hook(value: dict[str, Any]) -> Any:
        if "b64" in value:
            found.append(base64.b64decode(value["b64"]))
        return value

    document = json.loads(columns({"y_bytes": to_proto(array)}), object_hook=hook)
    assert found == array.ravel().tolist()
    assert document.keys() == {"outputs"}


def test_classifications() -> None:
    result = text_format.Parse(
        """classifications { classes { label: "car" score: 0.2 } classes { label: "\\"自行车\\"" score: 1 } }
           classifications { classes { score: nan } } classifications { }""",
        classification_pb2.ClassificationResult(),
    )
    assert classification_response(result).decode() == (
        '{\n    "results": [[["car", 0.2], ["\\"自行车\\"", 1.0]], [["", NaN]], []\n    ]\n}'
    )
    with pytest.raises(StatusError, match="Cannot convert empty ClassificationResults to JSON"):
        classification_response(classification_pb2.ClassificationResult())


def test_regressions() -> None:
    values = [0.2, math.inf, 1.0, -math.inf, math.nan]
    result = regression_pb2.RegressionResult(regressions=[regression_pb2.Regression(value=v) for v in values])
    assert (
        regression_response(result).decode() == '{\n    "results": [0.2, Infinity, 1.0, -Infinity, NaN]\n}'
    )  # closed on the same line, unlike the others
    with pytest.raises(StatusError, match="Cannot convert empty RegressionResults to JSON"):
        regression_response(regression_pb2.RegressionResult())


def test_status() -> None:
    response = text_format.Parse(
        """model_version_status { version: 123 state: AVAILABLE status { } }
           model_version_status { version: 5 state: END status { error_code: NOT_FOUND error_message: "fort" } }""",
        get_model_status_pb2.GetModelStatusResponse(),
    )
    assert status_response(response).decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  },\n  {\n   "version": "5",\n   "state": "END",\n'
        '   "status": {\n    "error_code": "NOT_FOUND",\n    "error_message": "fort"\n   }\n  }\n ]\n}\n'
    )


def test_metadata() -> None:
    signatures = text_format.Parse(
        """signature_def { key: "serving_default" value {
             inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: 2 } } } }
             outputs { key: "y" value { name: "y:0" dtype: DT_STRING tensor_shape { unknown_rank: true } } }
             method_name: "tensorflow/serving/predict" } }""",
        get_model_metadata_pb2.SignatureDefMap(),
    )
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 3
    response.metadata["signature_def"].Pack(signatures)
    text = metadata_response(response).decode()
    dims = [{"size": "-1", "name": ""}, {"size": "2", "name": ""}]
    assert json.loads(text) == {
        "model_spec": {"name": "m", "version": "3", "signature_name": ""},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {
                            "x": {
                                "name": "x:0",
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {"dim": dims, "unknown_rank": False},
                            }
                        },
                        "outputs": {
                            "y": {
                                "name": "y:0",
                                "dtype": "DT_STRING",
                                "tensor_shape": {"dim": [], "unknown_rank": True},
                            }
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }
    assert text.startswith('{\n"model_spec":{\n "name": "m",\n')
    assert '}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n' in text


def test_errors() -> None:
    assert error_response('Bad key: "key"\n') == b'{\n    "error": "Bad key: \\"key\\"\\n"\n}'
    assert error_response("lone \udcff surrogate") == b'{\n    "error": "lone \xff surrogate"\n}'

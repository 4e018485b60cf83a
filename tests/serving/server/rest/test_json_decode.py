"""JSON requests -> protos: the cases and messages of json_tensor_test.cc, and json_tensor.cc's results for others."""

import base64
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from serving.protos import classification_pb2, model_pb2, predict_pb2, regression_pb2, types_pb2
from serving.server.errors import StatusError
from serving.server.rest.json_decode import Format, predict_request
from serving.server.rest.json_defaults import Inputs
from serving.server.rest.json_examples import classification_request, regression_request
from serving.server.rest.json_text import base64_bytes, parse, value_text

INT32, INT64, FLOAT, DOUBLE = types_pb2.DT_INT32, types_pb2.DT_INT64, types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE
STRING, BOOL, UINT8 = types_pb2.DT_STRING, types_pb2.DT_BOOL, types_pb2.DT_UINT8
INTS = {"default": INT32}
FLOATS = {"default": FLOAT}
STRINGS = {"default": STRING}


def decoded(body: str | bytes, types: dict[str, int]) -> tuple[Any, Format]:
    raw = body if isinstance(body, bytes) else body.encode()
    return predict_request(raw, model_pb2.ModelSpec(name="m"), lambda spec: Inputs(types))


def refusal(body: str | bytes, types: dict[str, int]) -> str:
    with pytest.raises(StatusError) as caught:
        decoded(body, types)
    return str(caught.value)


def expected(text: str) -> Any:
    return text_format.Parse(f'model_spec {{ name: "m" }} {text}', predict_pb2.PredictRequest())


def tensor(alias: str, dtype: str, shape: list[int], values: str) -> str:
    dims = " ".join(f"dim {{ size: {size} }}" for size in shape)
    return f'inputs {{ key: "{alias}" value {{ dtype: {dtype} tensor_shape {{ {dims} }} {values} }} }}'


@pytest.mark.parametrize(
    ("body", "types", "form", "tensors"),
    [
        (
            '{"instances": [[1,2],[3,4],[5,6]]}',
            INTS,
            Format.ROW,
            tensor("default", "DT_INT32", [3, 2], "int_val: [1,2,3,4,5,6]"),
        ),
        (
            '{"instances": [1, 2.0, 3, 4, 5.003, 0.007, 0.0]}',
            FLOATS,
            Format.ROW,
            tensor("default", "DT_FLOAT", [7], "float_val: [1,2,3,4,5.003,0.007,0]"),
        ),
        (
            '{"instances": [1.0, 2, 0.662, 0, 9007199254740991]}',
            {"default": DOUBLE},
            Format.ROW,
            tensor("default", "DT_DOUBLE", [5], "double_val: [1,2,0.662,0,9007199254740991]"),
        ),
        (
            '{"instances": [ { "b64" : "aGVsbG8=" }, { "b64": "d29ybGQ=" } ]}',
            STRINGS,
            Format.ROW,
            tensor("default", "DT_STRING", [2], 'string_val: ["hello", "world"]'),
        ),
        (
            '{"instances": [ [{ "b64" : "aGVsbG8=" }], ["b64"] ]}',
            STRINGS,
            Format.ROW,
            tensor("default", "DT_STRING", [2, 1], 'string_val: ["hello", "b64"]'),
        ),
        (
            '{"instances": [{"default": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}]}',
            STRINGS,
            Format.ROW,
            tensor("default", "DT_STRING", [1, 2, 1], 'string_val: ["hello", "world"]'),
        ),
        (
            '{"instances": [{"i": [[1,2],[3,4]], "s": ["foo"], "f": [1.0, NaN], "d": [NaN]},'
            ' {"i": [[7,8],[9,0]], "s": ["bar"], "f": [2.0, Infinity], "d": [-Infinity]}]}',
            {"i": INT32, "s": STRING, "f": FLOAT, "d": DOUBLE},
            Format.ROW,
            tensor("i", "DT_INT32", [2, 2, 2], "int_val: [1,2,3,4,7,8,9,0]")
            + tensor("s", "DT_STRING", [2, 1], 'string_val: ["foo", "bar"]')
            + tensor("f", "DT_FLOAT", [2, 2], "float_val: [1, nan, 2, inf]")
            + tensor("d", "DT_DOUBLE", [2, 1], "double_val: [nan, -inf]"),
        ),
        (
            '{"inputs": {"default": [[[1,2],[3,4],[5,6]]], "unknown": 3}}',
            INTS,
            Format.COLUMNAR,
            tensor("default", "DT_INT32", [1, 3, 2], "int_val: [1,2,3,4,5,6]"),
        ),
        ('{"inputs": [[[1]]]}', INTS, Format.COLUMNAR, tensor("default", "DT_INT32", [1, 1, 1], "int_val: 1")),
        ('{"inputs": 5}', INTS, Format.COLUMNAR, tensor("default", "DT_INT32", [], "int_val: 5")),
        (
            '{"inputs": {"i": [[1]], "s": ["foo", "bar"], "b": {"b64": "aGVsbG8="}}}',
            {"i": INT32, "s": STRING, "b": STRING},
            Format.COLUMNAR,
            tensor("i", "DT_INT32", [1, 1], "int_val: 1")
            + tensor("s", "DT_STRING", [2], 'string_val: ["foo", "bar"]')
            + tensor("b", "DT_STRING", [], 'string_val: "hello"'),
        ),
        ('{"inputs": []}', FLOATS, Format.COLUMNAR, tensor("default", "DT_FLOAT", [0], "")),
        ('{"inputs": [[], []]}', STRINGS, Format.COLUMNAR, tensor("default", "DT_STRING", [2, 0], "")),
        ('{"instances": [[], []]}', INTS, Format.ROW, tensor("default", "DT_INT32", [2, 0], "")),
        (
            '{"inputs": [true, false]}',
            {"default": BOOL},
            Format.COLUMNAR,
            tensor("default", "DT_BOOL", [2], "bool_val: [true, false]"),
        ),
        (
            '{"inputs": [-9223372036854775808, 9223372036854775807]}',
            {"default": INT64},
            Format.COLUMNAR,
            tensor("default", "DT_INT64", [2], "int64_val: [-9223372036854775808, 9223372036854775807]"),
        ),
        (
            '{"inputs": [4294967295]}',
            {"default": types_pb2.DT_UINT32},
            Format.COLUMNAR,
            tensor("default", "DT_UINT32", [1], "uint32_val: 4294967295"),
        ),
        (
            '{"inputs": [18446744073709551615]}',
            {"default": types_pb2.DT_UINT64},
            Format.COLUMNAR,
            tensor("default", "DT_UINT64", [1], "uint64_val: 18446744073709551615"),
        ),
        # The small integer types are only checked against int32.
        ('{"inputs": [300]}', {"default": UINT8}, Format.COLUMNAR, tensor("default", "DT_UINT8", [1], "int_val: 300")),
        # Not in the real server.
        (
            '{"inputs": [0.1]}',
            {"default": types_pb2.DT_HALF},
            Format.COLUMNAR,
            tensor("default", "DT_HALF", [1], "half_val: 11878"),
        ),
        (
            '{"inputs": [1]}',
            {"default": types_pb2.DT_BFLOAT16},
            Format.COLUMNAR,
            tensor("default", "DT_BFLOAT16", [1], "half_val: 16256"),
        ),
        (
            '{"inputs": [65535]}',
            {"default": types_pb2.DT_UINT16},
            Format.COLUMNAR,
            tensor("default", "DT_UINT16", [1], "int_val: 65535"),
        ),
        # RapidJSON skips a byte order mark, and stops at NUL.
        ('\ufeff {"inputs": 5}\n', INTS, Format.COLUMNAR, tensor("default", "DT_INT32", [], "int_val: 5")),
    ],
)
def test_tensors(body: str, types: dict[str, int], form: Format, tensors: str) -> None:
    request, got = decoded(body, types)
    assert got is form
    assert str(request) == str(expected(tensors))


def test_the_signature_is_looked_up_by_name() -> None:
    asked: list[Any] = []

    def inputs(spec: object) -> Inputs:
        asked.append(spec)
        return Inputs(INTS)

    spec = model_pb2.ModelSpec(name="m", version_label="neu")
    request, _ = predict_request('{"signature_name": "预测", "instances": [[1,2]]}'.encode(), spec, inputs)
    assert request.model_spec == model_pb2.ModelSpec(name="m", version_label="neu", signature_name="预测")
    assert asked == [request.model_spec]
    assert spec.signature_name == ""


ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "
NAMED_ROW = "Failed to process element: {} key: {} of 'instances' list. Error: INVALID_ARGUMENT: "
ELEMENT = "Failed to process element: "


@pytest.mark.parametrize(
    ("body", "types", "message"),
    [
        ("", INTS, "JSON Parse error: The document is empty"),
        (" ", INTS, "JSON Parse error: The document is empty. at offset: 1"),
        ("instances = [1, 2]", INTS, "JSON Parse error: Invalid value. at offset: 0"),
        ('{"instances": [1,]}', INTS, "JSON Parse error: Invalid value. at offset: 17"),
        ('\ufeff{"a" 1}', INTS, "JSON Parse error: Missing a colon after a name of object member. at offset: 8"),
        (b'{"a": "\xff"}', INTS, "JSON Parse error: Invalid encoding in string. at offset: 7"),
        ('{"a": 1e400}', INTS, "JSON Parse error: Number too big to be stored in double. at offset: 6"),
        ("[" * 100_000, INTS, "JSON Parse error: Values are nested too deeply."),
        ("[1]", INTS, "JSON Value: [1] Is not object"),
        ("0.25", INTS, "JSON Value: 0.25 Is not object"),
        ("{}", INTS, "Missing 'inputs' or 'instances' key"),
        ("{}", {}, "Failed to get input map for signature: DEFAULT"),
        ('{"signature_name": "s"}', {}, "Failed to get input map for signature: s"),
        (
            '{"signature_name": 5}',
            INTS,
            "JSON Value: {\"signature_name\":5} not formatted correctly. 'signature_name' key must be a string value.",
        ),
        (
            '{"instances": 1, "inputs": 2}',
            INTS,
            'JSON Value: {"instances":1,"inputs":2} Not formatted correctly expecting '
            "only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"instances": {}}',
            INTS,
            "JSON Value: {\"instances\":{}} Excepting 'instances' to be an list/array",
        ),
        ('{"instances": []}', INTS, "JSON Value: {\"instances\":[]} No values in 'instances' array"),
        ('{"instances": [[1,2],[3,4],[5,6,7]]}', INTS, ROW.format(2) + "Expecting tensor size: 2 but got: 3"),
        ('{"instances": [[1,2],[3,4],[[5,6]]]}', INTS, ROW.format(2) + "Expecting shape [2] but got: [1,2]"),
        ('{"instances": [1, [1]]}', INTS, ROW.format(1) + "Expecting shape [] but got: [1]"),
        ('{"instances": [[], [1]]}', INTS, ROW.format(1) + "Expecting tensor size: 0 but got: 1"),
        (
            '{"instances": [[1,2],["a", "b"]]}',
            INTS,
            ROW.format(1) + 'JSON Value: "a" Type: String is not of expected type: int32',
        ),
        ('{"instances": [[1, [2]]]}', INTS, ROW.format(0) + "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"inputs": [[1], 2]}',
            INTS,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"inputs": [[1, 2], [3]]}', INTS, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": 1.5}', INTS, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ('{"inputs": 1.0}', INTS, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ('{"inputs": 2147483648}', INTS, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        (
            '{"inputs": -1}',
            {"default": types_pb2.DT_UINT32},
            "JSON Value: -1 Type: Number is not of expected type: uint32",
        ),
        (
            '{"inputs": 9223372036854775808}',
            {"default": INT64},
            "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        ('{"inputs": true}', INTS, "JSON Value: true Type: True is not of expected type: int32"),
        ('{"inputs": [true]}', FLOATS, "JSON Value: true Type: True is not of expected type: float"),
        ('{"inputs": 1}', {"default": BOOL}, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ('{"inputs": null}', STRINGS, "JSON Value: null Type: Null is not of expected type: string"),
        (
            '{"inputs": [{"b64": "aGk="}]}',
            INTS,
            'JSON Value: {"b64":"aGk="} Type: Object is not of expected type: int32',
        ),
        ('{"inputs": [{"b64": 1}]}', STRINGS, 'JSON Value: {"b64":1} not formatted correctly for base64 data'),
        ('{"inputs": [{"b64": "%"}]}', STRINGS, "Unable to base64 decode"),
        ('{"inputs": 1}', {"default": types_pb2.DT_COMPLEX64}, "Conversion of JSON Value: 1 to type: complex64"),
        (
            '{"instances": [1]}',
            {"a": INT32, "b": INT32},
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            {"a": INT32, "b": INT32},
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
            "per tensorinfo_map",
        ),
        ('{"inputs": {"b": 1}}', {"a": INT32, "b": INT32}, "Missing named input: a in 'inputs' object."),
        (
            '{"instances": [{"a": 1, "b": 2}, {"a": 1, "c": 2}]}',
            {"a": INT32, "b": INT32},
            NAMED_ROW.format(1, "c") + "JSON object: does not have named input: c",
        ),
        (
            '{"instances": [{"a": 1}]}',
            {"b": INT32, "a": INT32},
            ELEMENT + "0 of 'instances' list. JSON object: {\"a\":1} keys must be equal to: a,b",
        ),
        (
            '{"instances": [{"default": [1, 2]}, {"default": [1]}]}',
            INTS,
            NAMED_ROW.format(1, "default") + "Expecting tensor size: 2 but got: 1",
        ),
        ('{"instances": [{"default": 1}, [1]]}', INTS, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"default": 1}]}', INTS, "Expecting value/list but got object at item 1 of input list"),
        (
            '{"inputs": ' + "[" * 255 + "]" * 255 + "}",
            INTS,
            "Lists are nested too deeply: a tensor has at most 254 dimensions",
        ),
    ],
)
def test_refusals(body: str | bytes, types: dict[str, int], message: str) -> None:
    kind = "UNIMPLEMENTED" if message.startswith("Conversion") else "INVALID_ARGUMENT"
    assert refusal(body, types) == f"{kind}: {message}"


def test_quoted_json_is_one_line_and_truncated() -> None:
    # JsonValueToString in util/json_tensor.cc of TensorFlow Serving 2.20, which stops near 256 bytes.
    message = refusal(json.dumps({"instances": {"k": "é" * 1_000_000}}), INTS)
    start, end = "INVALID_ARGUMENT: JSON Value: ", "... Excepting 'instances' to be an list/array"
    assert message.startswith(start)
    assert message.endswith(end)
    quoted = message.removeprefix(start).removesuffix(end)
    assert quoted == '{"instances":{"k":"' + "é" * 118
    assert len(quoted.encode()) == 255, "half a letter more would be 256"
    deep = refusal('{"signature_name": ' + "[" * 900 + "]" * 900 + "}", INTS)
    assert deep.startswith('INVALID_ARGUMENT: JSON Value: {"signature_name":[[[[')
    assert len(deep) < 400


def test_numbers_are_rounded_to_floats_and_become_infinite_out_of_range() -> None:
    # AddValueToTensor in util/json_tensor.cc uses RapidJSON's GetFloat and GetDouble unchanged since 2.5.
    largest = 340282346638528859811704183484516925440
    numbers = f"[16777217, -9007199254740993, 18446744073709551615, 0.1, 3.5e38, -1e300, 1e-60, {largest}]"
    values = [16777217, -9007199254740993, 18446744073709551615, 0.1, 3.5e38, -1e300, 1e-60, 3.4028234663852886e38]
    for name, wanted in ((FLOAT, np.float32), (DOUBLE, np.float64)):
        request, _ = decoded(f'{{"inputs": {numbers}}}', {"x": name})
        with np.errstate(over="ignore"):
            expected_values = np.array(values, np.float64).astype(wanted)
        # RapidJSON's parser is accurate except for the last bit or two.
        np.testing.assert_allclose(tf.make_ndarray(request.inputs["x"]).tolist(), expected_values.tolist(), rtol=1e-15)
        rows, _ = decoded(f'{{"instances": {numbers}}}', {"x": name})
        assert rows.inputs["x"] == request.inputs["x"]
    request, _ = decoded('{"inputs": [65504, 65520, 1e300]}', {"x": types_pb2.DT_HALF})
    assert tf.make_ndarray(request.inputs["x"]).tolist() == [65504.0, math.inf, math.inf]


@pytest.mark.parametrize("more", [" {}", "x", "]", '{"instances": ["a"]}', " \n 帐篷", "\0"])
def test_text_after_the_document_is_ignored(more: str) -> None:
    # ParseJson in util/json_tensor.cc stops at the end of the document since 2.18.
    wanted, _ = decoded('{"instances": [1, 2], "é": "텐트"}', INTS)
    assert decoded('{"instances": [1, 2], "é": "텐트"}' + more, INTS)[0] == wanted
    assert refusal("[1]" + more, INTS) == "INVALID_ARGUMENT: JSON Value: [1] Is not object"


NUMBERS = {
    FLOAT: st.floats(width=32) | st.integers(-(2**24) + 1, 2**24 - 1),
    DOUBLE: st.floats() | st.integers(-(2**53) + 1, 2**53 - 1),
    INT32: st.integers(-(2**31), 2**31 - 1),
    INT64: st.integers(-(2**63), 2**63 - 1),
    BOOL: st.booleans(),
    STRING: st.text() | st.binary().map(lambda data: {"b64": base64.b64encode(data).decode()}),
}


def test_the_largest_float_is_in_range_however_the_parser_rounds_it() -> None:
    largest = float(np.finfo(np.float32).max)
    request, _ = decoded(json.dumps({"inputs": [largest, -largest]}), {"x": FLOAT})
    assert tf.make_ndarray(request.inputs["x"]).tolist() == [largest, -largest]


@given(st.data())
def test_round_trips(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(sorted(NUMBERS)))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=4))
    # A size of 0 hides those after it.
    shape = shape[: shape.index(0) + 1] if 0 in shape else shape
    size = math.prod(shape)
    flat = data.draw(st.lists(NUMBERS[dtype], min_size=size, max_size=size))
    array = np.empty(size, object)
    array[:] = flat
    body = json.dumps({"inputs": array.reshape(shape).tolist() if shape else flat[0]})
    request, _ = decoded(body, {"x": dtype})
    got = tf.make_ndarray(request.inputs["x"])
    assert list(got.shape) == shape
    wanted = [
        base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() if isinstance(v, str) else v for v in flat
    ]
    assert got.dtype == tf.as_dtype(dtype).as_numpy_dtype or dtype == STRING
    if dtype == DOUBLE:  # RapidJSON's parser is accurate except for the last bit or two, in the real server too
        np.testing.assert_allclose(got.ravel(), np.array(wanted, got.dtype), rtol=1e-15)
    else:
        np.testing.assert_array_equal(got.ravel(), np.array(wanted, got.dtype))
    if shape and shape[0]:
        assert decoded(body.replace("inputs", "instances"), {"x": dtype})[0].inputs["x"] == request.inputs["x"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.sampled_from(["b64", "a", "b"]), values),
    max_leaves=20,
)


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """A call's result and "OK", or None and its status."""
    try:
        return call(), "OK"
    except StatusError as error:
        return None, error.code.name


@given(JSON, st.sampled_from(["instances", "inputs"]), st.sampled_from([INT32, FLOAT, STRING, BOOL]))
def test_any_json_is_decoded_or_refused(value: object, key: str, dtype: int) -> None:
    body = json.dumps({key: value})
    for types in ({"a": dtype}, {"a": dtype, "b": INT64}):
        got, status = outcome(partial(decoded, body, types))
        assert status in ("OK", "INVALID_ARGUMENT")
        for proto in got[0].inputs.values() if got else ():
            tf.make_ndarray(proto)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    assert outcome(lambda: decoded(body, INTS))[1] in ("OK", "INVALID_ARGUMENT")
    assert outcome(lambda: classification_request(body, model_pb2.ModelSpec()))[1] in ("OK", "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("aGVsbG8=", b"hello"), ("aGVsbG8", b"hello"), (" aGV\nsbG8 = ", b"hello"), ("aGVsbG8.", b"hello"), ("", b""),
        ("aGk=", b"hi"), ("aGl=", b"hi"), ("YQ==", b"a"), ("YQ", b"a"), ("+/+/", b"\xfb\xff\xbf"),
    ],
)  # fmt: skip
def test_base64(text: str, data: bytes) -> None:
    assert base64_bytes({"b64": text}) == data


@pytest.mark.parametrize("text", ["a", "aGVsbG8==", "YQ=", "=", "aGV=sbG8", "-_-_", "aGVsbG8=x", "é"])
def test_invalid_base64(text: str) -> None:
    with pytest.raises(StatusError, match="Unable to base64 decode"):
        base64_bytes({"b64": text})


def test_values_in_messages() -> None:
    document = parse(b'{"a": [1, 2.5, true, null, "\\u00e9\\n\\u0001"], "b": {}, "c": []}')
    assert value_text(document) == '{"a":[1,2.5,true,null,"é\\n\\u0001"],"b":{},"c":[]}'
    assert [value_text(v) for v in (0.1, 1e300, float("nan"), 3.0)] == ["0.1", "1e+300", "NaN", "3.0"]


EXAMPLES = {
    '{"examples": [{"names": ["foo", "bar"], "ratings": [8.0, 9.0], "age": 20},'
    ' {"names": ["baz"], "ratings": 6.0}]}': """
        input { example_list {
          examples { features {
            feature { key: "names" value { bytes_list { value: ["foo", "bar"] } } }
            feature { key: "ratings" value { float_list { value: [8, 9] } } }
            feature { key: "age" value { int64_list { value: 20 } } } } }
          examples { features {
            feature { key: "names" value { bytes_list { value: "baz" } } }
            feature { key: "ratings" value { float_list { value: 6 } } } } } } }""",
    '{"signature_name": "custom", "context": {"query": "pizza", "location": ["sfo"]}, "examples": ['
    '{"ratings": [8.0, NaN, Infinity]}, {"names": ["baz", {"b64": "aGVsbG8="}], "mix": [1, true, false]},'
    ' {"ratings": -Infinity, "none": []}, {}]}': """
        model_spec { signature_name: "custom" }
        input { example_list_with_context {
          context { features {
            feature { key: "query" value { bytes_list { value: "pizza" } } }
            feature { key: "location" value { bytes_list { value: "sfo" } } } } }
          examples { features { feature { key: "ratings" value { float_list { value: [8, nan, inf] } } } } }
          examples { features {
            feature { key: "names" value { bytes_list { value: ["baz", "hello"] } } }
            feature { key: "mix" value { int64_list { value: [1, 1, 0] } } } } }
          examples { features {
            feature { key: "ratings" value { float_list { value: -inf } } }
            feature { key: "none" value { } } } }
          examples { } } }""",
    # AddValueToFeature uses GetFloat unchanged since 2.5.
    '{"examples": [{"x": [1e39, 0.1], "y": [-1.7976931348623157e308]}]}': """
        input { example_list { examples { features {
          feature { key: "x" value { float_list { value: [inf, 0.1] } } }
          feature { key: "y" value { float_list { value: -inf } } } } } } }""",
    '{"context": {}, "examples": [{}]}': "input { example_list_with_context { context { } examples { } } }",
}


@pytest.mark.parametrize(("body", "message"), EXAMPLES.items())
def test_examples(body: str, message: str) -> None:
    spec = model_pb2.ModelSpec(name="m")
    for decode, make in (
        (classification_request, classification_pb2.ClassificationRequest),
        (regression_request, regression_pb2.RegressionRequest),
    ):
        wanted = make(model_spec=spec)
        text_format.Merge(message, wanted)
        assert str(decode(body.encode(), spec)) == str(wanted)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"signature_name": ["hello"]}', "'signature_name' key must be a string value."),
        ('{"context": [{"names": ["foo"]}]}', "Example must be JSON object but got JSON Array"),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [[{}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [null]}', "Example must be JSON object but got JSON Null"),
        ('{"examples": [{"names": [10, null]}]}', "Feature: names has element with unexpected JSON type: Null"),
        ('{"examples": [{"names": [10, 10.0]}]}', "Unexpected element type in feature: names expecting type: int64"),
        ('{"examples": [{"names": [1.5, true]}]}', "Unexpected element type in feature: names expecting type: float"),
        ('{"examples": [{"names": ["a", 1]}]}', "Unexpected element type in feature: names expecting type: bytes"),
        (
            '{"examples": [{"names": [10, {"b64": "aGk="}]}]}',
            "Unexpected element type in feature: names expecting type: int64",
        ),
        (
            '{"examples": [{"names": [10, {"test": 10}]}]}',
            "Feature: names has element with unexpected JSON type: Object",
        ),
        ('{"examples": [{"names": [[10], 20]}]}', "Feature: names has element with unexpected JSON type: Array"),
        (
            '{"examples": [{"names": [20, 18446744073709551603]}]}',
            "Feature: names has uint64_t element. Only int64_t is supported.",
        ),
        ('{"examples": [{"names": {"b64": "?"}}]}', "Unable to base64 decode"),
    ],
)
def test_refused_examples(body: str, message: str) -> None:
    for decode in (classification_request, regression_request):
        with pytest.raises(StatusError) as caught:
            decode(body.encode(), model_pb2.ModelSpec())
        assert caught.value.code.name == "INVALID_ARGUMENT"
        assert caught.value.message.endswith(message)

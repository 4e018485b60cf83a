"""TensorProto <-> NumPy; the oracle is TensorFlow's own conversion."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.tensors import TensorParseError, dtype_name, string_array, to_numpy, to_proto
from tests.serving.live import ROOT

NUMERIC = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool", "complex64", "complex128",
]  # fmt: skip
STRINGS = ["", "a", "电影", "فيلم", "หนัง", "영화", "🎬🍿", "nul\0inside", "trailing\0", "x" * 100_000]


def extremes(dtype: str) -> npt.NDArray[Any]:
    kind: Any = getattr(tf, dtype).as_numpy_dtype
    if dtype.startswith(("int", "uint")):
        return np.array([[np.iinfo(kind).min, 0], [1, np.iinfo(kind).max]], dtype=kind)
    if dtype == "bool":
        return np.array([[True, False], [False, True]])
    return np.array([[0.1, -0.0], [np.inf, 1e-3]]).astype(kind)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_numbers_both_ways(dtype: str) -> None:
    array = extremes(dtype)
    proto = to_proto(array)
    assert not proto.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    np.testing.assert_array_equal(to_numpy(tf.make_tensor_proto(array)), array)
    assert to_numpy(proto).dtype == array.dtype


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_shapes_both_ways(shape: tuple[int, ...]) -> None:
    for array in (np.zeros(shape, np.float32), np.ones(shape, np.int64), np.full(shape, b"\0", object)):
        assert tf.make_ndarray(to_proto(array)).tolist() == array.tolist()
        decoded = to_numpy(tf.make_tensor_proto(array))
        assert decoded.shape == shape
        assert decoded.tolist() == array.tolist()


def test_strings_both_ways() -> None:
    array = string_array([text.encode() for text in STRINGS]).reshape(2, -1)
    assert tf.make_ndarray(to_proto(array)).tolist() == array.tolist()
    assert to_numpy(tf.make_tensor_proto(array)).tolist() == array.tolist()
    text = np.array(STRINGS, dtype=object)
    assert to_numpy(to_proto(text)).tolist() == array.ravel().tolist()


@pytest.mark.parametrize("given_values", [0, 1, 2, 3, 5])
def test_too_few_and_too_many_values_like_tensorflow(given_values: int) -> None:
    # Oracle: the real Tensor::FromProto, reached by parsing a serialised proto in the runtime.
    for values, dtype in (
        (np.arange(1, given_values + 1, dtype=np.float32), tf.float32),
        (np.arange(1, given_values + 1, dtype=np.int64), tf.int64),
        (string_array([b"%d" % n for n in range(given_values)]), tf.string),
    ):
        proto = to_proto(values)
        del proto.tensor_shape.dim[:]
        proto.tensor_shape.dim.add(size=3)
        expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
        assert to_numpy(proto).tolist() == expected.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_string_content_of_tensorflow(values: list[bytes]) -> None:
    # tf.io.serialize_tensor writes the runtime's own string content.
    proto = tensor_pb2.TensorProto.FromString(tf.io.serialize_tensor(tf.constant(values, tf.string)).numpy())
    assert to_numpy(proto).tolist() == values


@settings(max_examples=300, deadline=None)
@given(
    dtype=st.sampled_from([types_pb2.DT_STRING, types_pb2.DT_FLOAT, types_pb2.DT_BOOL, types_pb2.DT_HALF, 999]),
    dims=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=4),
    content=st.binary(max_size=40),
    strings=st.lists(st.binary(max_size=5), max_size=3),
)
def test_garbage_raises_only_parse_errors(dtype: int, dims: list[int], content: bytes, strings: list[bytes]) -> None:
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content, string_val=strings)
    for size in dims:
        proto.tensor_shape.dim.add(size=size)
    try:
        array = to_numpy(proto)
    except TensorParseError:
        return
    assert array.shape == tuple(dims)


def test_a_small_message_cannot_ask_for_terabytes() -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT64, int64_val=[1])
    proto.tensor_shape.dim.add(size=1 << 40)
    with pytest.raises(TensorParseError, match="elements"):
        to_numpy(proto)


def test_unsupported_types_are_named() -> None:
    with pytest.raises(TensorParseError, match="variant"):
        to_numpy(tensor_pb2.TensorProto(dtype=types_pb2.DT_VARIANT))
    with pytest.raises(TensorParseError, match="datetime64"):
        to_proto(np.array(["2020-01-01"], dtype="datetime64[D]"))
    assert dtype_name(types_pb2.DT_STRING) == "string"
    assert dtype_name(12345) == "unknown type 12345"


def test_protos_need_no_tensorflow_and_are_tensorflows_own() -> None:
    program = """
import sys
import serving.client, serving.tensors
from serving import protos
heavy = [name for name in ("tensorflow", "keras", "tf_keras", "trainer") if name in sys.modules]
assert not heavy, heavy
before = protos.predict_pb2.PredictRequest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
assert predict_pb2.PredictRequest is before
before().inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
assert tf.constant(1).numpy() == 1
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

"""TensorProtos to tensors of the runtime and back, with TensorFlow's own conversion as the oracle."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.private.tensorflow import TensorFlowError, library
from serving.protos import tensor_pb2, types_pb2
from serving.runtime.tensors import TensorCache, proto_from_tensor, tensor_from_proto

_TEXTS = st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=30).map(str.encode)), min_size=1, max_size=12)


def round_trip(proto: tensor_pb2.TensorProto) -> tensor_pb2.TensorProto:
    tensor = tensor_from_proto(proto)
    try:
        return proto_from_tensor(tensor)
    finally:
        library().TF_DeleteTensor(tensor)


@given(_TEXTS)
@settings(max_examples=200, deadline=None)
def test_strings_of_every_length(values: list[bytes]) -> None:
    got = round_trip(tf.make_tensor_proto(values, dtype=tf.string, shape=[len(values), 1]))
    assert list(got.string_val) == values
    assert [dimension.size for dimension in got.tensor_shape.dim] == [len(values), 1]


@pytest.mark.parametrize("length", [0, 1, 21, 22, 23, 24, 127, 128, 16384, 3_000_000])
def test_strings_around_the_records_limits(length: int) -> None:
    values = [b"\0" * length, "한국어🎬".encode() * 3, b"x" * length]
    assert list(round_trip(tf.make_tensor_proto(values, dtype=tf.string)).string_val) == values


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "int32", "int64", "int8", "int16", "uint8", "uint16", "uint32", "uint64", "bool", "float16",
     "complex64", "complex128", "bfloat16"],
)  # fmt: skip
def test_numbers(dtype: str) -> None:
    numbers = tf.constant(np.array([[0, 1, 3], [2, 7, 100]]) % (2 if dtype == "bool" else 128))
    values = tf.cast(numbers, dtype).numpy()
    for proto in (tf.make_tensor_proto(values), tf.make_tensor_proto(values[:1, :1])):
        got = round_trip(proto)
        np.testing.assert_array_equal(tf.make_ndarray(got), tf.make_ndarray(proto))
        assert not got.tensor_content  # typed fields, as in the real server


@pytest.mark.parametrize("dtype", [types_pb2.DT_INT32, types_pb2.DT_FLOAT, types_pb2.DT_STRING])
def test_shapes_that_numpy_does_not_support(dtype: int) -> None:
    for sizes in ([0, 2**62], [1] * 100):
        proto = tensor_pb2.TensorProto(dtype=dtype)
        for size in sizes:
            proto.tensor_shape.dim.add(size=size)
        if 0 not in sizes:
            if dtype == types_pb2.DT_STRING:
                proto.string_val.append(b"")
            else:
                (proto.int_val if dtype == types_pb2.DT_INT32 else proto.float_val).append(5)
        assert [dimension.size for dimension in round_trip(proto).tensor_shape.dim] == sizes


@pytest.mark.parametrize("sizes", [[-1], [2**40], [2**31, 2**31]])
def test_a_few_bytes_cannot_ask_for_terabytes(sizes: list[int]) -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(TensorFlowError) as caught:
        tensor_from_proto(proto)
    assert caught.value.error_code == 3


def test_the_cache_frees_nothing_that_is_in_use() -> None:
    cache = TensorCache(capacity=4)
    held = [cache.get(tf.make_tensor_proto([f"text {n}"]))[0] for n in range(50)]
    # All fifty may still be fed to a run: reading them must return the original values.
    assert [proto_from_tensor(tensor).string_val[0] for tensor in held] == [f"text {n}".encode() for n in range(50)]
    assert cache.get(tf.make_tensor_proto(["text 49"]))[0] == held[49]
    cache.trim()
    assert cache.get(tf.make_tensor_proto(["text 49"]))[0] == held[49]
    large, is_own = cache.get(tf.make_tensor_proto(["x" * 100]))
    assert is_own
    library().TF_DeleteTensor(large)
    # A few bytes that represent a megabyte.
    filled = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.0])
    filled.tensor_shape.dim.add(size=2**18)
    tensor, is_own = cache.get(filled)
    assert is_own
    library().TF_DeleteTensor(tensor)
    cache.clear()

"""Joining requests' tensors, with NumPy as the oracle."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.runtime.joining import UnjoinableError, join


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.bool_, np.float16, object])
def test_rows_follow_each_other(dtype: Any) -> None:
    arrays = [np.arange(n * 3).reshape(n, 3) for n in (1, 2, 4)]
    if dtype is object:
        values = [np.array([[f"ü{v}" for v in row] for row in array]) for array in arrays]
    else:
        values = [array.astype(dtype) for array in arrays]
    protos = [tf.make_tensor_proto(value) for value in values]
    expected = tf.make_ndarray(tf.make_tensor_proto(np.concatenate(values)))
    np.testing.assert_array_equal(tf.make_ndarray(join(protos, pad=False)), expected)


def test_content_and_values_mix() -> None:
    one, many = (tf.make_tensor_proto(np.array(rows, np.float32)) for rows in ([[1.5]], [[2.0], [3.0]]))
    assert one.float_val
    assert many.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(join([one, many, one], pad=False)), [[1.5], [2.0], [3.0], [1.5]])


def test_padding() -> None:
    texts = [np.array([["a", "b", "c"]], object), np.array([["d"]], object), np.empty((2, 0), object)]
    protos = [tf.make_tensor_proto(value, dtype=tf.string, shape=value.shape) for value in texts]
    got = tf.make_ndarray(join(protos, pad=True)).tolist()
    assert got == [[b"a", b"b", b"c"], [b"d", b"", b""], [b"", b"", b""], [b"", b"", b""]]
    with pytest.raises(UnjoinableError, match="sizes"):
        join(protos, pad=False)
    numbers = [tf.make_tensor_proto(np.ones((1, 2, 1), np.int32)), tf.make_tensor_proto(np.ones((1, 1, 3), np.int32))]
    np.testing.assert_array_equal(
        tf.make_ndarray(join(numbers, pad=True)), [[[1, 0, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]
    )


def test_what_has_no_rows() -> None:
    with pytest.raises(UnjoinableError, match="without rows"):
        join([tf.make_tensor_proto(1.0), tf.make_tensor_proto(2.0)], pad=True)
    ranks = [tf.make_tensor_proto([1.0]), tf.make_tensor_proto([[1.0]])]
    with pytest.raises(UnjoinableError, match="sizes"):
        join(ranks, pad=True)


def test_rows_that_a_request_does_not_have_are_refused() -> None:
    protos = [tf.make_tensor_proto([[1.0]]), tf.make_tensor_proto([[1.0], [2.0]])]
    assert tf.make_ndarray(join(protos, pad=False, rows=[1, 2])).tolist() == [[1.0], [1.0], [2.0]]
    for rows in ([1, 1], [2, 1], [3, 0]):
        with pytest.raises(UnjoinableError, match="different numbers of rows"):
            join(protos, pad=False, rows=rows)

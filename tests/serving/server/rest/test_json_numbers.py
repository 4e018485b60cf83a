"""Numbers as text, compared with WriteDecimal of json_tensor.cc reimplemented with C's printf."""

import ctypes
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.rest.json_numbers import decimal32, decimal64, number_rows


def printf(template: str, value: float) -> str:
    buffer = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).snprintf(buffer, 64, template.encode(), ctypes.c_double(value))
    return buffer.value.decode()


def oracle(value: float, *, single: bool) -> str:
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "-Infinity" if value < 0 else "Infinity"
    text = printf("%.6g", value)
    if (np.float32(text) if single else np.float64(text)) != value:
        text = printf("%.9g" if single else "%.17g", value)
    return text if set(text) & {".", "e"} else text + ".0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # From json_tensor_test.cc.
        (9000000, "9e+06"),
        (999999, "999999.0"),
        (0.5, "0.5"),
        (0.0003, "0.0003"),
        (0.00003, "3e-05"),
        (555557.5, "555557.5"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (3, "3.0"),
        # Worked out by hand.
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e6, "1e+06"),
        (16777216, "16777216.0"),
        (0.1, "0.1"),
        (0.123456789, "0.123456791"),
        (1 / 3, "0.333333343"),
        (3.4028234663852886e38, "3.40282347e+38"),
        (1e-45, "1.4013e-45"),
    ],
)
def test_floats(value: float, text: str) -> None:
    assert decimal32(value) == text
    many = np.full((4, 64), value, np.float32)
    assert number_rows(many, ", ") == [", ".join([text] * 64)] * 4


def test_doubles() -> None:
    values = [0.1, 1 / 3, 1e300, -2.0, 123456789.0, 5e-324, float("nan"), float("-inf")]
    expected = [
        "0.1", "0.33333333333333331", "1e+300", "-2.0", "123456789.0", "4.94066e-324", "NaN", "-Infinity",
    ]  # fmt: skip
    assert [decimal64(value) for value in values] == expected
    assert number_rows(np.array([values]), ",") == [",".join(expected)]


def test_many_floats_of_every_kind() -> None:
    random = np.random.default_rng(5)
    edges = np.float32(10.0) ** np.arange(-7, 10, dtype=np.float32)
    values = np.concatenate(
        [
            random.integers(0, 1 << 32, 6000, dtype=np.uint32).view(np.float32),
            (10.0 ** random.uniform(-6, 8, 8000) * random.choice([-1, 1], 8000)).astype(np.float32),
            (random.integers(-(10**6), 10**6, 8000) / 10.0 ** random.integers(0, 9, 8000)).astype(np.float32),
            edges,
            np.nextafter(edges, np.float32(0)),
            np.nextafter(edges, np.float32(np.inf)),
        ]
    )
    values = values[: len(values) // 7 * 7]
    rows = number_rows(values.reshape(-1, 7), "; ")
    assert rows == [
        "; ".join([oracle(float(value), single=True) for value in row]) for row in values.reshape(-1, 7).tolist()
    ]


@given(st.lists(st.floats(width=32), min_size=1, max_size=4))
def test_any_floats(values: list[float]) -> None:
    expected = [oracle(value, single=True) for value in values]
    assert number_rows(np.array([values], np.float32), ",\n  ") == [",\n  ".join(expected)]
    repeated = np.array(list(itertools.islice(itertools.cycle(values), 200)), np.float32)
    assert number_rows(repeated[:, None], ",") == list(itertools.islice(itertools.cycle(expected), 200))


@given(st.floats())
def test_any_double(value: float) -> None:
    assert decimal64(value) == oracle(value, single=False)


def test_integers_and_bools() -> None:
    limits = np.array([[-(2**63), 2**63 - 1]])
    assert number_rows(limits, ", ") == ["-9223372036854775808, 9223372036854775807"]
    assert number_rows(np.array([[2**64 - 1]], np.uint64), ", ") == ["18446744073709551615"]
    assert number_rows(np.array([[True], [False]]), ", ") == ["true", "false"]
    assert number_rows(np.array([[0.5, 65504]], np.float16), ", ") == ["0.5, 65504.0"]

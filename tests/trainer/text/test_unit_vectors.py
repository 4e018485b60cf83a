"""Rows of length 1, against figures worked by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from trainer.text.unit_vectors import unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_have_length_one_and_zeros_stay(dtype: npt.DTypeLike) -> None:
    found = unit(np.array([[3.0, -4.0], [0.0, 0.0], [0.0, 1e-3]], dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [[0.6, -0.8], [0.0, 0.0], [0.0, 1.0]], rtol=1e-6)


def test_no_row_at_all() -> None:
    assert unit(np.zeros((0, 3), np.float32)).shape == (0, 3)

"""Vectors of length 1, whose dot product is their cosine."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Float = TypeVar("_Float", bound=np.floating)


def unit(matrix: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
    """The rows of [N, D] scaled to length 1; rows of zeros are kept."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(norms > 0.0, norms, 1.0)).astype(matrix.dtype, copy=False)

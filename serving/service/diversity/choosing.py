"""Diversity as the chooser of rules: see `serving.service.rules.applying` for the order.

Score changes come first, so that a boosted item is relevant; then the free places are filled by MMR or DPP, which
compare with what is pinned and choose only what caps admit. Filtering or pinning afterwards would undo part of what
diversity has chosen.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from serving.service.diversity.dpp import dpp
from serving.service.diversity.mmr import mmr

Method = Literal["mmr", "dpp"]
METHODS: Final = {"mmr": mmr, "dpp": dpp}


class DiverseChooser:
    """Chooses with diversity; an argument ``choose`` of `serving.service.rules.apply`.

    Args:
        vectors: A row for each candidate given to `apply`, then for each extra, [n, d]; zeros or NaN for an item
            without a vector, and no rows are needed at the end for those.
        strength: From 0, which is the order of scores exactly, to 1.
        method: ``mmr`` or ``dpp``.

    Raises:
        ValueError: the method is another.
    """

    def __init__(self, vectors: npt.ArrayLike, strength: float, method: Method = "mmr") -> None:
        if method not in METHODS:
            raise ValueError(f"there is no method of diversity {method!r}. Use {' or '.join(METHODS)}.")
        self._vectors = np.asarray(vectors)
        self._strength, self._method = strength, METHODS[method]

    def __call__(
        self,
        order: Sequence[int],
        scores: Sequence[float],
        fixed: Sequence[int],
        room: int,
        admit: Callable[[int], bool],
    ) -> Sequence[int]:
        """Chooses candidates (`serving.service.rules.Chooser`)."""
        chosen = self._method(
            self._rows(order),
            scores,
            room,
            self._strength,
            shown=self._rows(fixed),
            admit=lambda row: admit(order[row]),
        )
        return [order[row] for row in chosen]

    def _rows(self, numbers: Sequence[int]) -> npt.NDArray[np.floating]:
        """Vectors of candidates, zeros for those without."""
        rows = np.zeros((len(numbers), self._vectors.shape[1]), self._vectors.dtype)
        places = np.asarray(numbers, int)
        has_row = places < len(self._vectors)
        rows[has_row] = self._vectors[places[has_row]]
        return rows

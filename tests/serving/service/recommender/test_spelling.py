"""The inverted index against a dictionary of each row's n-grams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.recommender import spelling
from serving.service.recommender.spelling import Spelling

_row = st.dictionaries(st.integers(0, 30), st.floats(0.125, 2, width=16), max_size=8)
_queries = st.lists(st.integers(0, 31), max_size=10)


def _share(own: dict[int, float], query: list[int], weight: float) -> float:
    return min(sum(own.get(bucket, 0.0) for bucket in query) / weight, 1.0) if weight else 0.0


@given(st.lists(st.one_of(_row, st.sets(st.integers(0, 60))), max_size=40), _queries, st.integers(1, 6))
def test_shares_are_those_of_a_dictionary(steps: list[dict[int, float] | set[int]], query: list[int], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So that rows wait, are put in order, and wait again.
        patch.setattr(spelling, "_WAITING", few)
        patch.setattr(spelling, "_APART", 6 * few)
        index, rows = Spelling(), list[dict[int, float]]()
        for step in steps:
            if isinstance(step, set):
                kept = [row for row in range(len(rows)) if row not in step]
                index.keep(np.array(kept, np.intp))
                rows = [rows[row] for row in kept]
            else:
                values = np.array(list(step.values()), np.float32)
                index.add(len(rows), np.array(list(step), np.int32), values)
                rows.append(step)
        weights = np.array([1.5] * len(query) + [0.0, 0.0], np.float32)
        found = index.shares(np.array([*query, -1, -1], np.int32), weights, len(rows))
        expected = [_share(own, query, 1.5 * len(query)) for own in rows]
        np.testing.assert_allclose(found, np.array(expected, np.float32), atol=1e-5)

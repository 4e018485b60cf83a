import numpy as np
import pytest
from scipy import sparse

from trainer.evaluation.metrics.item_sets import ItemSets


def test_pairs_are_sorted_and_counted_once() -> None:
    sets = ItemSets.from_pairs([2, 0, 2, 0, 2], [1, 3, 0, 3, 1], num_users=4, num_items=5)
    assert sets.indptr.tolist() == [0, 1, 1, 3, 3]
    assert sets.indices.tolist() == [3, 0, 1]
    assert sets.num_users == 4
    assert sets.sizes().tolist() == [1, 0, 2, 0]
    assert sets.users().tolist() == [0, 2, 2]
    assert sets.item_counts().tolist() == [1, 1, 0, 1, 0]


def test_reads_a_scipy_matrix_with_unsorted_rows() -> None:
    matrix = sparse.csr_matrix((np.ones(4), [3, 1, 0, 2], [0, 2, 2, 4]), shape=(3, 4))
    sets = ItemSets.from_csr(matrix)
    assert sets.indices.tolist() == [1, 3, 0, 2]
    assert sets.indptr.tolist() == [0, 2, 2, 4]


def test_contains_knows_padding_and_other_users_items() -> None:
    sets = ItemSets.from_lists([[0, 2], [], [3]], num_items=4)
    items = np.array([[2, 1, -1], [0, 3, -1], [3, 0, -1]])
    assert sets.contains(items).tolist() == [[True, False, False], [False] * 3, [True, False, False]]
    # -1 of user 2 must not be taken for the last item of user 1 in a flattened index.
    assert not ItemSets.from_lists([[3], []], num_items=4).contains(np.array([[-1], [-1]])).any()


def test_contains_of_nobodys_items() -> None:
    assert not ItemSets.empty(2, 3).contains(np.array([[0], [1]])).any()


def test_restricting_keeps_the_rows() -> None:
    sets = ItemSets.from_lists([[0, 1, 2], [1], [0, 2]], num_items=3)
    evens = sets.only_items(np.array([True, False, True]))
    assert (evens.indptr.tolist(), evens.indices.tolist()) == ([0, 2, 2, 4], [0, 2, 0, 2])
    some = sets.only_users(np.array([False, True, True]))
    assert (some.indptr.tolist(), some.indices.tolist()) == ([0, 0, 1, 3], [1, 0, 2])


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0], "2 users but 1 items"),
        ([2], [0], r"user indices must be in \[0, 2\)"),
        ([0], [3], r"item indices must be in \[0, 3\)"),
        ([0], [-1], r"item indices must be in \[0, 3\)"),
    ],
)
def test_pairs_out_of_range_are_refused(users: list[int], items: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemSets.from_pairs(users, items, num_users=2, num_items=3)


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1], [0, 1], "end at 2"),
        ([0, 2, 1, 3], [0, 1, 2], "non-decreasing"),
        ([0, 2], [1, 0], "ascending"),
        ([0, 2], [1, 1], "ascending"),
        ([0, 1], [5], r"\[0, 3\)"),
    ],
)
def test_malformed_rows_are_refused(indptr: list[int], indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemSets(np.array(indptr), np.array(indices), 3)

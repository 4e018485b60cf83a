"""How shards' answers are merged and checked, with answers written by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serving import contract
from serving.client import Query, ServerFaultError
from serving.client.shard_merge import check_shards, merge_candidates, merge_ranked, rank_inputs, shared_inputs

_ADDRESSES = ["a:1", "b:1"]
Arrays = dict[str, npt.NDArray[Any]]


def _about(shard: int, *, count: int = 2, export: str = "x") -> Arrays:
    return {
        contract.SHARD: np.array([shard], np.int32),
        contract.SHARDS: np.array([count], np.int32),
        contract.EXPORT_ID: np.array([export.encode()], dtype=object),
    }


def _strings(*rows: list[str]) -> npt.NDArray[Any]:
    return np.array([[each.encode() for each in row] for row in rows], dtype=object)


def test_the_shards_of_one_export_belong_together() -> None:
    assert check_shards({0: _about(1), 1: _about(0)}, _ADDRESSES) == "x"
    assert check_shards({1: _about(0)}, _ADDRESSES, "x") == "x"


@pytest.mark.parametrize(
    ("answers", "expected", "message"),
    [
        ({0: _about(0), 1: _about(1, export="y")}, None, r"different exports \(a:1: x, b:1: y\)"),
        ({0: _about(0), 1: _about(1)}, "w", "different exports"),
        ({0: _about(1), 1: _about(1)}, None, "a:1 and b:1 both serve shard 1"),
        ({0: _about(0, count=3)}, None, "3 shards, but 2 addresses"),
        ({0: {}}, None, "a:1 does not say which shard"),
    ],
)
def test_others_are_refused(answers: dict[int, Arrays], expected: str | None, message: str) -> None:
    with pytest.raises(ServerFaultError, match=message):
        check_shards(answers, _ADDRESSES, expected)


def test_equal_scores_come_in_the_order_of_the_catalogue() -> None:
    answers = {
        0: {
            contract.ITEM_IDS: _strings(["ก", "나", ""]),
            contract.SCORES: np.array([[2.0, 1.0, -9.0]], np.float32),
            contract.PLACES: np.array([[7, 3, -1]], np.int32),
            contract.WANTED: np.array([4], np.int32),
        },
        1: {
            contract.ITEM_IDS: _strings(["天", "🚀", "ع"]),
            contract.SCORES: np.array([[1.0, 1.0, 1.0]], np.float32),
            contract.PLACES: np.array([[2, 5, 9]], np.int32),
            contract.WANTED: np.array([4], np.int32),
        },
    }
    (found,) = merge_candidates(answers, 1)
    assert [item.decode() for item in found.item_ids] == ["ก", "天", "나", "🚀"]
    assert found.shards.tolist() == [0, 1, 0, 1]

    # And after ranking equal scores come in the order of the candidates.
    names = contract.SIGNATURES[contract.SHARD_RANK].keys() - {contract.ITEM_IDS}
    shared = dict.fromkeys(names, np.zeros(1))
    asked = rank_inputs(shared, [found], 1)
    assert asked is not None
    assert asked[contract.ITEM_IDS].tolist() == [["天".encode(), "🚀".encode()]]
    ranked = {
        0: {contract.ITEM_IDS: _strings(["ก", "나"]), contract.SCORES: np.array([[0.5, 0.9]], np.float32)},
        1: {contract.ITEM_IDS: _strings(["天", "🚀"]), contract.SCORES: np.array([[0.9, 0.5]], np.float32)},
    }
    (answer,) = merge_ranked(ranked, [found], [Query(k=3)])
    assert [item.item_id for item in answer] == ["天", "나", "ก"]
    assert rank_inputs(shared, [found], 2) is None


def test_a_stored_history_counts_where_none_of_the_given_items_is_known() -> None:
    queries = [Query(history=["ก", "?", "나"]), Query(history=["?"]), Query(user_id="新")]
    # The first line's items are in different shards, one of which answered this together with a wider request.
    seen = [
        _strings(["ก", "?", "나"], ["", "", "?"], [""] * 3),
        _strings(["", "ก", "?", "나"], ["?", *[""] * 3], [""] * 4),
    ]
    given = [np.zeros((3, 3, 1), np.float32), np.zeros((3, 4, 1), np.float32)]
    given[0][0, 0], given[1][0, 3] = 1.0, 3.0
    stored = np.zeros((2, 3, 2, 1), np.float32)
    # By age: the newest is first.
    stored[0, :, 0], stored[1, :, 1] = 10.0, 20.0
    answers = {
        shard: {
            contract.ITEM_IDS: seen[shard],
            contract.HISTORY_EMBEDDINGS: given[shard],
            contract.STORED_EMBEDDINGS: stored[shard],
            contract.NAMED: np.array([-1.0, shard, 0.5], np.float32),
        }
        for shard in range(2)
    }
    shared = shared_inputs(queries, answers)
    assert shared[contract.HISTORY_EMBEDDINGS][..., 0].tolist() == [[1, 0, 3], [0, 20, 10], [0, 20, 10]]
    assert shared["history"].shape == (3, 3)
    assert shared[contract.NAMED].tolist() == [-1.0, 1.0, 0.5]


def test_a_history_is_cut_as_the_model_cuts_it() -> None:
    answers = {
        0: {
            contract.ITEM_IDS: _strings(["b", "c"]),
            contract.HISTORY_EMBEDDINGS: np.array([[[5.0], [7.0]]], np.float32),
            contract.STORED_EMBEDDINGS: np.zeros((1, 4, 1), np.float32),
            contract.NAMED: np.zeros(1, np.float32),
        }
    }
    shared = shared_inputs([Query(history=["a", "b", "", "c"])], answers)
    assert shared["history"].tolist() == [[b"b", b"c"]]
    assert shared[contract.HISTORY_EMBEDDINGS].tolist() == [[[5.0], [7.0]]]

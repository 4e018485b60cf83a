"""Slices by language of the history and of the item."""

import numpy as np
import pytest

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.protocols.language_pairs import MOST_PAIRS, history_languages, slice_by_language_pair

_LANGUAGES = ["ko", "ko", "en", "en", "zh-TW"]


def _sets(rows: list[list[int]], items: int = 5) -> ItemSets:
    return ItemSets.from_lists(rows, num_items=items)


def test_a_history_has_the_language_of_most_of_its_items() -> None:
    histories = _sets([[0, 1, 2], [2, 3, 0], [0, 2], [4], []])
    assert history_languages(histories, _LANGUAGES) == ["ko", "en", "en", "zh-TW", "und"]
    with pytest.raises(ValueError, match="each of 5 items"):
        history_languages(histories, _LANGUAGES[1:])


def test_each_pair_is_evaluated_on_its_own_readers_and_items() -> None:
    histories = _sets([[0], [0], [2], [2]])
    tests = _sets([[1, 3], [1], [3, 1], [4]])
    rankings = np.array([[1, 4], [3, 2], [3, 1], [1, 0]])
    found = slice_by_language_pair(rankings, tests, histories, _LANGUAGES, ks=(1, 2))
    recalls = {pair: part.metrics.means()["recall@2"] for pair, part in found.items()}
    assert recalls == {
        ("ko", "ko"): 0.5,  # found by the first of two readers
        ("ko", "en"): 0.0,
        ("en", "en"): 1.0,
        ("en", "ko"): 1.0,
        ("en", "zh-TW"): 0.0,
    }
    assert next(iter(found)) == ("ko", "ko"), "most test items first"
    assert found["en", "ko"].metrics.means()["recall@1"] == 0.0


def test_one_language_has_no_pairs_and_many_are_cut() -> None:
    one = _sets([[0], [1]], 2)
    assert slice_by_language_pair(np.array([[0], [1]]), one, one, ["en", "en"], ks=(1,)) == {}
    size = 40
    histories, tests = _sets([[u] for u in range(size)], size), _sets([[(u + 1) % size] for u in range(size)], size)
    languages = [f"l{number}" for number in range(size)]
    rankings = np.zeros((size, 1), np.int64)
    assert len(slice_by_language_pair(rankings, tests, histories, languages, ks=(1,))) == MOST_PAIRS

"""Filters in columns against a look at each item."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.service.recommender import facts
from serving.service.recommender.facts import Facts, Labels, Wanted
from serving.service.types import Item

_LANGUAGES = ["zh", "zh-TW", "ZH-hant-tw", "zh-", "z", "pt-BR", "ptx", "", "-", "a--b"]
_CATEGORIES = ["Küche", "küche", "KÜCHE", "茶", "a", "b", "", "İ"]
_NOW = 1_796_000_000
_times = st.none() | st.sampled_from([_NOW - 1, _NOW, _NOW + 1])
_items = st.builds(
    Item,
    item_id=st.just(""),
    language=st.sampled_from(_LANGUAGES),
    categories=st.lists(st.sampled_from(_CATEGORIES), max_size=4),
    available=st.booleans(),
    valid_from=_times,
    valid_until=_times,
)
_steps = st.lists(
    st.tuples(st.just("put"), st.integers(0, 12), _items)
    | st.tuples(st.just("remove"), st.integers(0, 12), st.none())
    | st.tuples(st.just("keep"), st.integers(0, 2**13 - 1), st.none()),
    max_size=40,
)
_wanted = st.builds(
    Wanted,
    st.lists(st.sampled_from([*_LANGUAGES, "xx"]), max_size=3),
    st.lists(st.sampled_from([*_CATEGORIES, "none"]), max_size=3),
    st.sampled_from([_NOW - 1.0, _NOW - 0.5, float(_NOW), _NOW + 0.5]),
)


def _passes(item: Item, wanted: Wanted) -> bool:
    """RFC 4647's basic filtering, any of the categories, and the times, in plain Python."""
    own = item.language.lower()
    ranges = [each.lower() for each in wanted.languages if each]
    labels = {each.lower() for each in wanted.categories if each}
    return (
        item.available
        and (item.valid_from is None or item.valid_from <= wanted.now)
        and (item.valid_until is None or wanted.now < item.valid_until)
        and (not ranges or any((own + "-").startswith(each + "-") for each in ranges))
        and (not labels or any(each.lower() in labels for each in item.categories))
    )


@settings(max_examples=300)
@given(_steps, _wanted)
@example([("put", 3, Item(item_id="", language="zh"))], Wanted(["ZH"], [], _NOW))
def test_columns_pass_what_a_look_at_each_item_passes(steps: list[Any], wanted: Wanted) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "_LEAST", 2)  # so that there are compactions
        columns, rows = Facts(), dict[int, Item]()
        for kind, place, item in steps:
            if kind == "put":
                columns.put(place, item)
                rows[place] = item
            elif kind == "remove":
                columns.remove(place)
                rows.pop(place, None)
            else:
                kept = [row for row in sorted(rows) if place >> row & 1]
                columns.keep(np.array(kept, np.intp))
                rows = {new: rows[row] for new, row in enumerate(kept)}
        size = max(rows, default=-1) + 1
        mask = columns.mask(wanted, size)
        # Of rows without an item nothing is said.
        assert {row for row in rows if mask[row]} == {row for row, item in rows.items() if _passes(item, wanted)}


def test_labels_take_as_much_room_as_there_are() -> None:
    """However often items change, and whatever labels there were."""
    labels, item = Labels(), Item(item_id="", language="ko")
    for number in range(20_000):
        item = replace(item, categories=[f"label {number}", "same", f"label {number + 1}"])
        labels.put(number % 10, item.categories)
    assert len(labels._codes) < 1_000
    assert len(labels._labels) < 2_000
    assert labels.any_of(["same"], 10).all()
    assert labels.any_of(["label 20000"], 10).tolist() == [False] * 9 + [True]
    assert not labels.any_of(["label 5"], 10).any()

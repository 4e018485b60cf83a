"""Items by revision, validity and filters."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.recommender.catalogue import Catalogue, allows
from serving.service.types import Item


@pytest.mark.parametrize(
    ("available", "valid_from", "valid_until", "now", "shown"),
    [
        (True, None, None, 100, True),
        (False, None, None, 100, False),
        (True, 100, None, 99.9, False),
        (True, 100, None, 100, True),
        (True, None, 100, 99.9, True),
        (True, None, 100, 100, False),
        (True, 50, 100, 75, True),
        (True, 100, 50, 75, False),
        (False, 50, 100, 75, False),
    ],
)
def test_items_are_shown_while_they_are_valid(
    available: bool, valid_from: int | None, valid_until: int | None, now: float, shown: bool
) -> None:
    catalogue = Catalogue()
    item = Item(item_id="a", language="th", available=available, valid_from=valid_from, valid_until=valid_until)
    catalogue.put(item, 1)
    assert catalogue.may_show("a", now) == shown


def test_the_model_s_own_items_are_shown_until_they_are_deleted() -> None:
    catalogue = Catalogue()
    assert catalogue.may_show("a", 0)
    assert not catalogue.is_deleted("a")
    assert catalogue.delete("a", 1)
    assert not catalogue.may_show("a", 0)
    assert catalogue.is_deleted("a")
    assert catalogue.put(Item(item_id="a", language="en"), 2)
    assert catalogue.may_show("a", 0)


_steps = st.tuples(st.sampled_from("abc"), st.booleans())


@given(st.lists(_steps, max_size=12), st.randoms(use_true_random=False))
def test_the_newest_revision_counts_in_any_order(steps: list[tuple[str, bool]], random: Random) -> None:
    changes = [(revision, *step) for revision, step in enumerate(steps, 1)]
    expected = {item_id: (revision, is_put) for revision, item_id, is_put in changes}
    mixed = [*changes, *changes]
    random.shuffle(mixed)
    catalogue = Catalogue()
    for revision, item_id, is_put in mixed:
        if is_put:
            catalogue.put(Item(item_id=item_id, language="en", title=str(revision)), revision)
        else:
            catalogue.delete(item_id, revision)
    there = {item_id: revision for item_id, (revision, is_put) in expected.items() if is_put}
    assert catalogue.revisions() == there
    assert {item.item_id: int(item.title) for item in catalogue.newest()} == there
    assert len(catalogue) == len(there)
    for item_id, revision in there.items():
        assert not catalogue.put(Item(item_id=item_id, language="en"), revision)  # nothing to encode again
    for item_id in "abc":
        assert (item_id in catalogue) == (item_id in there)
        assert catalogue.is_deleted(item_id) == (item_id in expected and item_id not in there)
        assert catalogue.revision(item_id) == there.get(item_id)


@pytest.mark.parametrize(
    ("own", "ranges", "allowed"),
    [
        ("zh-Hant-TW", ["zh"], True),
        ("zh-Hant-TW", ["ZH-hant"], True),
        ("zh-Hant-TW", ["zh-Hant-TW"], True),
        ("zh-Hant-TW", ["zh-TW"], False),  # basic filtering: no subtag is skipped
        ("zh", ["zh-Hant"], False),
        ("zh-Hans-CN", ["zh-Hant", "zh-Hans"], True),
        ("cmn-Hans", ["zh"], False),
        ("ar-EG", ["ar"], True),
        ("ar-EG", ["ar-E"], False),  # subtags match whole
        ("arz", ["ar"], False),
        ("th", ["TH"], True),
        ("th-TH-u-nu-thai", ["th-TH"], True),
        ("ko-KR", ["ja", "en"], False),
        ("ko-KR", ["", "ko"], True),
        ("ko-KR", [""], True),  # empty strings are padding
        ("ko-KR", [], True),
        ("ko-KR", ["*"], False),  # as in the graph, where it is an unknown label
    ],
)
def test_languages_are_ranges(own: str, ranges: list[str], allowed: bool) -> None:
    assert allows(Item(item_id="a", language=own), ranges, []) == allowed


@pytest.mark.parametrize(
    ("own", "wanted", "allowed"),
    [
        (["茶具", "廚房"], ["廚房"], True),
        (["茶具"], ["茶"], False),
        (["مطبخ"], ["مطبخ", "x"], True),
        (["ครัว"], ["ครัว"], True),
        (["주방"], ["거실"], False),
        (["Küche"], ["KÜCHE"], True),
        ([], ["주방"], False),
        ([], [""], True),
        (["주방"], ["", "거실"], False),
        ([], [], True),
    ],
)
def test_one_category_is_enough(own: list[str], wanted: list[str], allowed: bool) -> None:
    assert allows(Item(item_id="a", language="ko", categories=own), [], wanted) == allowed
    assert not allows(Item(item_id="a", language="ko", categories=own), ["th"], wanted)

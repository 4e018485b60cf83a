"""Items, their vectors, and what is popular among them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from serving.service.store import InvalidError, NotFoundError, Store, StoreSettings, open_store
from serving.service.types import Item
from tests.serving.service.store.samples import DAY, IDS, NOON, event, item

_FULL = Item(
    item_id="1003",
    language="ja",
    title="南部鉄器の急須",
    description="鋳鉄 \0 と \u2028 も",
    categories=["台所"],
    numbers={"price": 24.5, "year": 2020},
    embeddings={"image": [0.25, -1.0]},
    attributes={"seller": "南部", "stock": 3, "new": True, "weight": 1.5},
    available=False,
    valid_from=NOON,
    valid_until=NOON + DAY,
)


def test_an_item_comes_back_as_it_was(store: Store) -> None:
    items = [_FULL, *(item(each, title=each) for each in IDS)]
    assert store.put_items(items) == {each.item_id: 1 for each in items}
    assert store.items([each.item_id for each in items] + ["unknown"]) == {each.item_id: each for each in items}
    assert store.count_items() == len(items)
    batches = list(store.all_items(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    found = [change for batch in batches for change in batch]
    # By code points in both databases.
    assert [change.item_id for change in found] == sorted(each.item_id for each in items)
    assert {change.item_id: change.item for change in found} == {each.item_id: each for each in items}


def test_a_revision_grows_with_each_change(store: Store) -> None:
    assert store.put_items([item("1"), item("1", title="b")]) == {"1": 1}
    assert store.items(["1"])["1"].title == "b"
    assert store.put_items([item("1", title="c"), item("2")]) == {"1": 2, "2": 1}
    # The nightly import changes nothing that is the same, whatever the order of its keys.
    numbered = item("2", numbers={"a": 1, "b": 2})
    assert store.put_items([numbered]) == {"2": 2}
    assert store.put_items([item("2", numbers={"b": 2, "a": 1})]) == {}
    assert store.delete_items(["1", "unknown", "1"]) == [True, False, True]
    assert store.delete_items(["1"]) == [False]
    assert store.delete_items([]) == []
    assert store.items(["1"]) == {}
    assert store.put_items([item("1", title="c")]) == {"1": 4}
    assert store.put_items([]) == {}


def test_a_deletion_of_what_was_never_there_is_remembered(store: Store) -> None:
    """The model's index may have it: replicas hear of it, once."""
    store.put_items([item("b")])
    mark = store.latest_mark()
    assert store.delete_items(["c", "a", "b", "c"]) == [False, False, True, False]
    changes, mark = store.items_after(mark)
    assert {each.item_id: (each.revision, each.item) for each in changes} == {
        "a": (1, None),
        "b": (2, None),
        "c": (1, None),
    }
    assert store.delete_items(["a", "b"]) == [False, False]
    assert store.items_after(mark)[0] == []
    assert (store.count_items(), store.items(["a", "b", "c"]), list(store.all_items())) == (0, {}, [])
    with pytest.raises(NotFoundError):
        store.patch_item("a", {"title": "x"})
    # A put brings it back.
    assert store.put_items([item("a")]) == {"a": 2}
    (change,) = store.items_after(mark)[0]
    assert (change.revision, change.item) == (2, item("a"))
    assert store.delete_items(["a"]) == [True]


def test_deletions_and_puts_of_the_same_items_do_not_block_each_other(url: str) -> None:
    names = [f"i{number:02}" for number in range(40)]

    def work(place: int) -> None:
        random = Random(place)
        with open_store(url) as own:
            for _ in range(15):
                some = random.sample(names, 20)
                if place % 2:
                    own.delete_items(some)
                else:
                    own.put_items([item(name, title=str(random.random())) for name in some])
                    own.put_vectors("1", dict.fromkeys(some, (1, b"v")))

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(work, place) for place in range(4)]:
            each.result(120)


def test_a_patch_changes_what_it_names(store: Store) -> None:
    store.put_items([_FULL])
    change = store.patch_item("1003", {"available": True, "numbers": {"price": 19.0}, "attributes": {"new": None}})
    assert change.revision == 2
    assert change.item == store.items(["1003"])["1003"]
    assert change.item is not None
    assert change.item.available
    assert change.item.numbers == {"price": 19.0, "year": 2020}
    assert change.item.attributes == {"seller": "南部", "stock": 3, "weight": 1.5}
    assert (change.item.title, change.item.valid_until) == (_FULL.title, _FULL.valid_until)
    assert store.patch_item("1003", {"valid_until": None, "categories": ()}).revision == 3
    assert store.patch_item("1003", {"available": True}).revision == 3
    for changes, message in (
        ({"colour": "red"}, "no field of an item"),
        ({"item_id": "2"}, "no field of an item"),
        ({"title": 3}, "do not fit"),
        ({"numbers": {"price": "much"}}, "do not fit"),
        ({"numbers": {"price": float("nan")}}, "finite"),
        ({"title": None}, "do not fit"),
        ({"language": ""}, "`language` is empty"),
    ):
        with pytest.raises(InvalidError, match=message):
            store.patch_item("1003", changes)
    store.delete_items(["1003"])
    for unknown in ("1003", "1004"):
        with pytest.raises(NotFoundError, match="no such item"):
            store.patch_item(unknown, {"title": "x"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (item(""), "`item_id` is empty"),
        (item("x" * 513), "513 bytes"),
        (item("1", numbers={"price": float("inf")}), "finite"),
        (item("1", embeddings={"image": [float("nan")]}), "finite"),
        (item("1", attributes={"a": ["b"]}), "has a list"),
        (item("1", title="x" * 1_048_577), "at most 1,048,576"),
        (item("1", title="\udc00"), "JSON"),
        (item("1", valid_from=-5), "unix seconds"),
    ],
)
def test_a_malformed_item_is_refused(store: Store, wrong: Item, message: str) -> None:
    with pytest.raises(InvalidError, match=f"place 1: .*{message}"):
        store.put_items([item("good"), wrong])
    assert store.count_items() == 0


def test_a_call_s_items_are_bounded_together(store: Store) -> None:
    with pytest.raises(InvalidError, match=r"67,108,864 bytes.*in parts"):
        store.put_items([item(str(number), title="x" * 1_000_000) for number in range(68)])


def test_vectors_are_kept_by_version(store: Store) -> None:
    vectors = {each: (number + 1, bytes([number, 0, 255])) for number, each in enumerate(IDS)}
    store.put_vectors("v1", vectors)
    store.put_vectors("v2", {"大輔": (1, b"")})
    found = list(store.vectors("v1", batch=4))
    assert {name: (revision, vector) for name, revision, vector in found} == vectors
    # What was encoded from an older text does not replace what is newer.
    store.put_vectors("v1", {IDS[0]: (2, b"newer")})
    store.put_vectors("v1", {IDS[0]: (1, b"older")})
    assert (IDS[0], 2, b"newer") in list(store.vectors("v1"))
    store.put_items([item(IDS[1])])
    store.delete_items([IDS[1]])
    assert len(list(store.vectors("v1"))) == len(IDS) - 1
    assert store.drop_vectors(["v2", "v3"]) == len(IDS) - 1
    assert list(store.vectors("v1")) == []
    assert list(store.vectors("v2")) == [("大輔", 1, b"")]
    assert store.drop_vectors([]) == 1
    with pytest.raises(InvalidError, match="65,537 bytes"):
        store.put_vectors("v1", {"a": (1, bytes(65_537))})
    with pytest.raises(InvalidError, match=r"67,108,864 bytes.*in parts"):
        store.put_vectors("v1", {str(number): (1, bytes(65_536)) for number in range(1025)})
    for revision in (-1, 2**63):
        with pytest.raises(InvalidError, match="revision"):
            store.put_vectors("v1", {"a": (revision, b"")})
    store.put_vectors("v1", {})


@pytest.fixture
def at_once(url: str) -> Iterator[Store]:
    """A store that counts anew for each answer."""
    with open_store(url, settings=StoreSettings(popularity_seconds=0)) as opened:
        yield opened


def test_popular_items_have_the_most_events(at_once: Store) -> None:
    store = at_once

    def clicks(item_id: str, count: int, language: str, days_ago: int = 0, event_kind: str = "click") -> None:
        store.append_events(
            [
                event(
                    f"{item_id} {language} {days_ago} {event_kind} {number}",
                    item_id=item_id,
                    language=language,
                    timestamp=NOON - days_ago * DAY,
                    event=event_kind,
                )
                for number in range(count)
            ]
        )

    names = ["gone", "hidden", "茶", "coffee", "old", "later", "over", "陶", "skipped"]
    store.put_items([item(name) for name in names])
    store.put_items(
        [item("hidden", available=False), item("later", valid_from=NOON + 1), item("over", valid_until=NOON)]
    )
    for name in ("gone", "hidden", "later", "over", "unknown"):
        clicks(name, 9, "zh")
    store.delete_items(["gone"])
    clicks("茶", 2, "zh")
    clicks("茶", 2, "zh", days_ago=29)
    clicks("陶", 3, "zh", days_ago=1)
    clicks("old", 8, "zh", days_ago=30)
    clicks("old", 8, "zh", days_ago=-1)
    clicks("coffee", 6, "en")
    clicks("coffee", 1, "zh")
    clicks("skipped", 9, "zh", event_kind="skip")
    for language, expected in (
        ("zh", ["茶", "陶", "coffee", "old"]),
        ("en", ["coffee", "茶", "陶", "old"]),
        ("", ["coffee", "茶", "陶", "old"]),
        ("ko", ["coffee", "茶", "陶", "old"]),
    ):
        assert store.popular_items(language, now=NOON) == expected
        assert store.popular_items(language, 2, now=NOON) == expected[:2]
    # Sent again, they don't count.
    clicks("陶", 3, "zh", days_ago=1)
    clicks("陶", 3, "zh", days_ago=1)
    assert store.popular_items("zh", 1, now=NOON) == ["茶"]


def test_what_counts_can_be_chosen(url: str) -> None:
    with open_store(url, settings=StoreSettings(popularity_days=1, counted_events=frozenset({"purchase"}))) as store:
        store.put_items([item("a"), item("b")])
        store.append_events([event("1", item_id="a"), event("2", item_id="b", event="purchase")])
        store.append_events([event("3", item_id="a", event="purchase", timestamp=NOON - DAY)])
        assert store.popular_items("", now=NOON) == ["b", "a"]


def test_what_was_popular_earlier_fills_up_after_events_have_moved(store: Store, tmp_path: Path) -> None:
    store.put_items([item("a"), item("b"), item("c")])
    old = [event(f"{name} {day}", item_id=name, timestamp=day * DAY) for name in "aab" for day in (100, 200)]
    store.append_events([*old, event("a again", item_id="a", timestamp=100 * DAY), event("now", item_id="c")])
    assert store.popular_items("", now=NOON) == ["c", "a", "b"]
    store.segment_events(NOON - 40 * DAY, tmp_path)
    store.segment_events(NOON - 40 * DAY, tmp_path)
    assert store.popular_items("", now=NOON + DAY) == ["c", "a", "b"]


def test_an_order_is_kept_and_what_is_shown_is_not(store: Store) -> None:
    names = [f"i{number:03}" for number in range(300)]
    store.put_items([item(name) for name in names])
    store.append_events(
        [event(f"{name} {n}", item_id=name) for place, name in enumerate(names) for n in range(30 - place // 10)]
    )
    assert store.popular_items("", 100, now=NOON) == names[:100]
    # Sold out at once, also if that leaves few of those that were looked up first.
    store.delete_items(names[:280])
    assert store.popular_items("zh", 5, now=NOON) == names[280:285]
    store.append_events([event(f"more {n}", item_id=names[-1]) for n in range(50)])
    assert store.popular_items("", 1, now=NOON) == [names[280]]
    # The next day counts anew.
    assert store.popular_items("", 1, now=NOON + DAY) == [names[-1]]
    for limit in (0, 2001):
        with pytest.raises(InvalidError, match="limit"):
            store.popular_items("", limit)


def test_any_number_of_languages_is_asked_for(store: Store) -> None:
    store.put_items([item("1001")])
    store.append_events([event("1")])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: store.popular_items(f"x-{n % 100}", now=NOON), range(200)))
    assert answers == [["1001"]] * 200

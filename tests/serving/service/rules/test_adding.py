"""Which items could be added to a finished list, against applying the rules to a longer one."""

from hypothesis import given
from hypothesis import strategies as st

from serving.service.rules import Candidate, Context, addable, apply, rules_from
from serving.service.types import Item

_RULES = rules_from(
    {
        "rules": [
            {"name": "no b", "kind": "block", "where": {"brand": {"equals": "b"}}},
            {"name": "not at home", "kind": "block", "where": {"brand": {"equals": "c"}}, "placements": ["home"]},
            {"name": "sellers", "kind": "cap", "per": "seller", "at_most": 2},
            {
                "name": "korean",
                "kind": "cap",
                "per": "categories",
                "at_most": 1,
                "where": {"language": {"equals": "ko"}},
            },
        ]
    }
)
_items = st.builds(
    lambda brand, seller, language, labels, available: Item(
        item_id="",
        language=language,
        categories=labels,
        attributes={"brand": brand, "seller": seller},
        available=available,
    ),
    st.sampled_from("abcd"),
    st.sampled_from("xyz"),
    st.sampled_from(["ko", "ko-KR", "ar"]),
    st.lists(st.sampled_from("mn"), max_size=2),
    st.sampled_from([True, True, True, False]),
)


@given(st.lists(_items, max_size=9), st.sampled_from(["", "home"]))
def test_an_item_can_be_added_if_rules_would_take_it_as_the_last_one(found: list[Item], placement: str) -> None:
    context = Context(now=1.0, placement=placement)
    items = [
        Item(**{**{f: getattr(i, f) for f in i.__dataclass_fields__}, "item_id": str(n)}) for n, i in enumerate(found)
    ]
    middle = len(items) // 2
    first = apply(_RULES, [Candidate(item, -n) for n, item in enumerate(items[:middle])], context, 100)
    shown = [placed.item for placed in first.items]
    expected = []
    for other in items[middle:]:
        longer = [Candidate(item, -n) for n, item in enumerate([*shown, other])]
        if len(apply(_RULES, longer, context, 100).items) > len(shown):
            expected.append(other)
    assert addable(_RULES, shown, items[middle:], context) == expected

from serving.service.rules import columns_of, lint, rules_from
from serving.service.types import Item

_ITEMS = [
    Item(item_id="a", language="th", categories=["หมวก"], numbers={"price": float("nan")}, attributes={"판매자": "x"}),
    Item(item_id="b", language="th", attributes={"seller": "", "price": 3}, valid_from=0),
]


def test_columns_are_those_with_a_value() -> None:
    assert columns_of(_ITEMS) == {"item_id", "language", "categories", "판매자", "price", "valid_from"}
    assert columns_of([]) == set()


def test_columns_that_no_item_has() -> None:
    where = {"any": [{"prise": {"<": 3}}, {"not": {"판매자": {"equals": "x"}}}, {"prise": {">": 3}}]}
    rules = rules_from(
        {
            "rules": [
                {"name": "block", "kind": "block", "where": where},
                {"name": "cap", "kind": "cap", "per": "seller", "at_most": 1, "where": {"🎩": {"equals": True}}},
                {"name": "fresh", "kind": "freshness", "half_life_days": 1, "add": 1},
                {"name": "pin", "kind": "pin", "item": "a", "position": 0},
            ]
        }
    )
    found = lint(rules, columns_of(_ITEMS))
    assert [(warning.rule, warning.column) for warning in found] == [
        ("block", "prise"),
        ("cap", "seller"),
        ("cap", "🎩"),
    ]
    assert found[0].text == "no item has the column 'prise': conditions on it are false. Did you mean 'price'?"
    assert "add the column to the items" in found[2].text


def test_pins_in_one_place() -> None:
    pin = {"kind": "pin", "item": "a", "position": 2}
    pins = [{"name": "one", **pin}, {"name": "two", **pin}, {"name": "three", **pin, "placements": ["home"]}]
    (warning,) = lint(rules_from({"rules": pins}), ())
    assert warning.rule == "two"
    assert warning.text == "'one' has the place 2 already: this gets the next free one. Move one."

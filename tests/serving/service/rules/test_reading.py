"""Strict YAML, also from people who mean harm. Both of PyYAML's parsers read it alike."""

import math
import time
from typing import Any

import pytest
import yaml

from serving.service.rules import RulesError, parse_rules, reading
from serving.service.rules.reading import MAX_BYTES, MAX_LEVELS, MAX_NODES, read_yaml


@pytest.fixture(params=[yaml.SafeLoader, yaml.CSafeLoader], ids=["python", "c"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PARSER", request.param)


def _content(text: str) -> Any:
    return read_yaml(text, "shop.yaml").content


def _error(text: str) -> str:
    with pytest.raises(RulesError) as found:
        read_yaml(text, "shop.yaml")
    return str(found.value)


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = (
        "[no, on, 2024-01-01, 12:30, 0123, 1_000, 0x1F, 1e3, 1, -2, 1.5, .5, ~, null, true, FALSE, '1', \"a\\u4e2d\"]"
    )
    assert _content(text) == [
        *("no", "on", "2024-01-01", "12:30", "0123", "1_000", "0x1F"),
        *(1000.0, 1, -2, 1.5, 0.5, None, None, True, False, "1", "a中"),
    ]
    assert _content("[.inf, -.inf]") == [math.inf, -math.inf]
    assert math.isnan(_content(".nan"))
    assert _content("") is None


def test_json_is_read() -> None:
    assert _content('{"rules": [{"name": "\\u2264 \\n", "price": {"<=": 1e2}}]}') == {
        "rules": [{"name": "≤ \n", "price": {"<=": 100.0}}]
    }


def test_lines_are_those_of_the_keys() -> None:
    document = read_yaml("a:\n  b:\n    - x\n    - c:\n        1\n", "shop.yaml")
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 3,
        ("a", "b", 1): 4,
        ("a", "b", 1, "c"): 4,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [echo]", "line 1: a: the tag 'tag:yaml.org,2002:python/object/apply"),
        ("a:\n  - !shop x", "line 2: a[0]: the tag '!shop': tags are not supported. Remove it."),
        ("a: !!str 1", "the tag"),
        ("! a: 1", "the tag"),
        ("%TAG ! tag:x,2000:\n---\na: !y 1", "the tag"),
        ("a: &x 1", "line 1: a: anchors (`&`) and aliases (`*`) are not supported"),
        ("&x a: 1", "anchors"),
        ("a: 1\nb: *x", "line 2: b: anchors"),
        ("a: &a [*a]", "anchors"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' already occurs in line 1; one of the two would be lost."),
        ("x:\n  - {鞋: 1, 鞋: 2}", "line 2: x[0]: the key '鞋' already occurs in line 2"),
        ("1: a", "the key '1' is not text. Put it into quotes."),
        ("null: a", "the key 'null' is not text"),
        ("true: a", "the key 'true' is not text"),
        ("? [a]\n: b", "a key that is a mapping or a list"),
        ("? {a: 1}\n: b", "a key that is a mapping or a list"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins here"),
        ("a: [1", "not valid YAML"),
        ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed"),
        ("a: {>=: 1}", "line 1, column 5: `>` begins a block of text in YAML. Put the operator into quotes"),
        ("a:\n  >=: 1", "`>` begins a block"),
        ("a:\n\tb: 1", "line 2, column 1: a tab where YAML needs spaces"),
        ("a: '\x07'", "line 1: YAML does not allow the character U+0007"),
        ("a: '\ud800'", "line 1: half of a surrogate pair"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
    ],
)
def test_mistakes_name_the_line_and_the_remedy(text: str, message: str) -> None:
    found = _error(text)
    assert found.startswith("shop.yaml")
    assert message in found


def test_a_bomb_of_aliases_ends_at_its_first_anchor() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    assert "line 1: a0: anchors" in _error(bomb)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "[{a: " * 20 + "x", "? " * 50_000])
def test_what_is_too_deep_is_refused_while_it_is_read(text: str) -> None:
    assert "shop.yaml" in _error(text)


def test_limits() -> None:
    assert f"nested more than {MAX_LEVELS} levels deep" in _error("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1))
    assert _content("[" * MAX_LEVELS + "]" * MAX_LEVELS)
    assert "larger than 1 MiB" in _error("#" * (MAX_BYTES + 1))
    assert "larger than 1 MiB" in _error("鞋" * (MAX_BYTES // 3 + 1))
    assert "larger than 1 MiB" in _error("x" * (100 * MAX_BYTES))


def test_many_values_are_refused() -> None:
    assert f"more than {MAX_NODES:,} values" in _error("[" + "1," * MAX_NODES + "]")


def test_the_text_of_a_document_is_bounded_in_time() -> None:
    """No test measures time but against minutes: a quadratic reader would take them."""
    began = time.monotonic()
    for text in ("'" * MAX_BYTES, "a" * MAX_BYTES, "\n" * MAX_BYTES, "--- " * 10_000, "? " * 10_000, "|\n" * 10_000):
        with pytest.raises(RulesError):
            parse_rules(text)
    assert time.monotonic() - began < 120

"""Coded ids give what the same ids as text give."""

import numpy as np
import polars as pl
import pytest

from trainer.data.heads import Head, constant_heads, label_table
from trainer.data.ids import IdCodes, Order, as_text, distinct, is_coded, looked_up, ordered_pair_keys, pair_keys

_USERS = ["10", "9", "é", "한국", "العربية", "a", "B", "🙂", "10a"]


def _events() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    rows = 400
    return pl.DataFrame(
        {
            "user_id": rng.choice(_USERS, rows),
            "item_id": rng.choice(["100", "20", "物", "ก", "z"], rows),
            "timestamp": rng.integers(0, 90, rows),
            "event": rng.choice(["rating", "click", "view"], rows),
            "value": rng.integers(1, 6, rows).astype(float),
        }
    )


@pytest.mark.parametrize("order", ["text", "length"])
def test_keys_order_pairs_as_text_does(order: Order) -> None:
    events = _events()
    coded = IdCodes.of(events, order).coded(events)
    assert (is_coded(coded), is_coded(events)) == (True, False)
    by_key = events.with_columns(key=ordered_pair_keys(coded)).sort("key", maintain_order=True)
    expected = sorted(events.rows(), key=lambda row: (row[0], row[1]))
    assert by_key.drop("key").rows() == expected
    assert pair_keys(coded).n_unique() == len({row[:2] for row in events.rows()})
    assert as_text(coded).equals(events)


@pytest.mark.parametrize("order", ["text", "length"])
def test_labels_don_t_depend_on_the_form_of_ids(order: Order) -> None:
    """Against plain Python: the newest event of a pair, whether any counts, the last rating."""
    events = _events().unique(["user_id", "item_id", "timestamp"], keep="first", maintain_order=True)
    heads = [
        Head("like", "rating", "binary", 4.0),
        Head("rating", "rating", "regression"),
        Head("click", "click", "binary"),
    ]
    table = label_table(IdCodes.of(events, order).coded(events), heads)
    assert is_coded(table)
    assert as_text(table).equals(label_table(events, heads))
    found = {row[:2]: row[2:] for row in as_text(table).rows()}
    assert list(found) == sorted(found)
    for pair, (time, like, rating, click) in found.items():
        rows = sorted(row[2:] for row in events.rows() if row[:2] == pair)
        rated = [value for _, event, value in rows if event == "rating"]
        assert time == rows[-1][0]
        assert like == (float(any(value >= 4.0 for value in rated)) if rated else None)
        assert rating == (rated[-1] if rated else None)
        assert click == float(any(event == "click" for _, event, _ in rows))


def test_constant_heads_don_t_depend_on_the_form_of_ids() -> None:
    events = _events().filter(pl.col("event") == "click")
    heads = [Head("click", "click", "binary")]
    coded = IdCodes.of(events, "length").coded(events)
    assert constant_heads(coded, heads) == constant_heads(events, heads) == {"click": 1.0}


def test_distinct_ids_are_in_python_s_order() -> None:
    events = _events()
    coded = IdCodes.of(events, "length").coded(events)
    assert distinct(coded["user_id"], pl.Series(["zz", "a"])) == sorted({*_USERS, "zz", "a"})


def test_each_value_of_a_coded_column_is_looked_up_once() -> None:
    # One category does not occur, so nobody asks for it.
    column = pl.Series("user_id", ["b", "a", "b", "c"], pl.Enum(["c", "never", "b", "a"]))
    asked: list[list[str]] = []

    def find(ids: pl.Series) -> pl.Series:
        asked.append(sorted(ids))
        return pl.Series([{"a": 1, "b": 2}.get(each) for each in ids], dtype=pl.Int64)

    assert looked_up(column, find).to_list() == [2, 1, 2, None]
    assert asked == [["a", "b", "c"]]
    assert looked_up(column.cast(pl.String), find).to_list() == [2, 1, 2, None]

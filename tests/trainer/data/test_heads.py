"""Heads with constant labels, by labels counted by hand."""

import polars as pl
import pytest

from trainer.data.heads import choose_heads, constant_heads

_ALL = {"rating": 4.0, "purchase": None, "click": None}


def _events(*rows: tuple[str, str, str, float | None]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "event": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(timestamp=pl.lit(1_700_000_000))


@pytest.mark.parametrize(
    ("rows", "constant"),
    [
        # A shop that records only purchases.
        ([("u", "a", "purchase", None), ("v", "b", "purchase", None)], {"purchase": 1.0}),
        # Items viewed but not bought have label 0.
        ([("u", "a", "purchase", None), ("u", "b", "view", None)], {}),
        # Viewed and bought: one pair, one label.
        ([("u", "a", "purchase", None), ("u", "a", "view", None)], {"purchase": 1.0}),
        # All liked, by different ratings: `rating` has something to learn, `like` does not.
        ([("u", "a", "rating", 4.0), ("v", "a", "rating", 5.0)], {"like": 1.0}),
        ([("u", "a", "rating", 2.0), ("v", "a", "rating", 2.0)], {"like": 0.0, "rating": 2.0}),
        ([("u", "a", "rating", 2.0), ("v", "a", "rating", 5.0)], {}),
        # One rated, one clicked: the click is known for both, the rating for one.
        (
            [("u", "a", "rating", 5.0), ("u", "b", "click", None)],
            {"like": 1.0, "rating": 5.0},
        ),
    ],
)
def test_labels_that_are_all_equal_are_found(
    rows: list[tuple[str, str, str, float | None]], constant: dict[str, float]
) -> None:
    events = _events(*rows)
    heads = choose_heads(sorted(events["event"].unique()), _ALL)
    assert constant_heads(events, heads) == constant
    kept = choose_heads(sorted(events["event"].unique()), _ALL, constant)
    assert {head.name for head in kept} == {head.name for head in heads} - constant.keys()

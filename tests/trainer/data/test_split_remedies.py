"""Remedies offered when a split leaves nothing must leave something."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.trainer.data import builders
from tests.trainer.data.test_split import InMemory, Row, split_rows
from trainer.data.settings import DataConfig, SplitConfig
from trainer.data.split import SplitError, split


def offers(message: str) -> list[dict[str, Any]]:
    """The changes that an error offers, each as settings of `data.split`."""
    remedy = message.partition("Remedy: ")[2]
    return [
        {name: yaml.safe_load(value) for name, value in re.findall(r"`data\.split\.(\w+): ([^`]+)`", offer)}
        for offer in re.split(r", or |; or ", remedy)
    ]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.01, 0.2, 0.4, 0.9, 1.0]),
    st.sampled_from([0.0, 0.01, 0.2, 0.7, 1.0]),
    st.sampled_from(["per_user", "global"]),
    st.sampled_from([0.0, 0.5, 0.99]),
    st.booleans(),
)
def test_every_offer_leaves_something(
    counts: list[int], test: float, validation: float, kind: str, cold: float, at_once: bool
) -> None:
    rows: list[Row] = [
        (f"u{user}", str((user + n) % 7), 5 if at_once else 10 * n + user, "click", None)
        for user, count in enumerate(counts)
        for n in range(count)
    ]
    given_settings: dict[str, Any] = {
        "kind": kind, "test_fraction": test, "validation_fraction": validation, "cold_items": cold, "min_positives": 1,
    }  # fmt: skip
    try:
        split_rows(rows, **given_settings)
    except SplitError as error:
        message = str(error)
    else:
        assume(False)
    assert f"at most {max(counts)} a user" in message
    found = [offer for offer in offers(message) if offer]
    for offer in found:
        assert not split_rows(rows, **given_settings | offer).train.is_empty()
    assert found or "provide more positives" in message


def test_one_positive_per_user_is_reported_and_nothing_is_lowered() -> None:
    rows: list[Row] = [(f"u{n}", str(n % 2), n, "click", None) for n in range(40)]
    with pytest.raises(SplitError) as error:
        split_rows(rows, min_positives=1, test_fraction=0.05, validation_fraction=0.05)
    assert "40 positives of 40 users, at most 1 a user" in str(error.value)
    assert offers(str(error.value)) == [{"kind": "global"}, {"test_fraction": 0, "validation_fraction": 0}]


def test_a_fraction_that_is_too_large_is_lowered_to_what_the_longest_history_allows() -> None:
    rows: list[Row] = [("u", str(n), n, "click", None) for n in range(7)]
    with pytest.raises(SplitError) as error:
        split_rows(rows, test_fraction=0.99)
    # 1/7 of seven is one item, and 0.2 of the other six two: four are left.
    assert {"test_fraction": 0.14} in offers(str(error.value))


def test_impressions_have_remedies_too(tmp_path: Path) -> None:
    log = builders.interactions(impression_id=["1", None, "2", "3"], timestamp=[50, 60, 50, 50])
    config = DataConfig(
        positives={"click": None, "rating": 4.0}, split=SplitConfig(kind="impressions", min_positives=1)
    )
    dataset = builders.write(tmp_path / "d", interactions=log)
    with pytest.raises(SplitError, match="kind` = impressions") as error:
        split(dataset, config)
    for offer in offers(str(error.value)):
        settings = config.split.model_copy(update=offer)
        assert not split(dataset, config.model_copy(update={"split": settings})).train.is_empty()


@pytest.mark.parametrize(
    ("rows", "rules", "least", "says"),
    [
        ([("u", str(n), n, "click", None) for n in range(3)], {"click": None}, 5, "min_positives` to 3 or less"),
        (
            [("u", "1", 1, "rating", 3.5)],
            {"rating": 4.0},
            1,
            r"lower `data.positives.rating` \(4\): the largest .* 3.5",
        ),
        ([("u", "1", 1, "click", None)], {"click": 1.0}, 1, "set `data.positives.click: null`"),
        ([("u", "1", 1, "view", None)] * 3, {"click": None}, 1, r"list what counts as positive .*`view` \(3\)"),
        ([("u", "1", 1, "click", 5.0)] * 3, {"click": None}, 2, "min_positives` to 1 or less"),
    ],
)
def test_no_positives_say_why(rows: list[Row], rules: dict[str, float | None], least: int, says: str) -> None:
    config = DataConfig(positives=rules, split=SplitConfig(min_positives=least))
    with pytest.raises(SplitError, match=says):
        split(InMemory(rows), config)  # type: ignore[arg-type]

"""The facts of a dataset, against counts in plain Python."""

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tests.trainer.data import builders
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.data.description import Description, Spread, describe
from trainer.data.findings import findings
from trainer.data.split import split

Row = tuple[str, str, int, str, float | None]
DAY = 86_400
START = 1_700_006_400


def log() -> list[Row]:
    """386 users: most have few purchases, some only view, pairs repeat, two rows are written twice."""
    rows: list[Row] = []
    for user in range(386):
        for n in range(1 + user % 9):
            item = f"i{(user * 7 + n * n) % 40}"
            event = "view" if user % 10 == 0 or n % 4 == 3 else "purchase"
            rows.append((f"u{user}", item, START + DAY * (user % 300) + 60 * n, event, None))
    return [*rows, rows[-1], rows[5]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    schema = ["user_id", "item_id", "timestamp", "event", "value"]
    titles = [f"{['Tea', '茶', 'شاي'][n % 3]} {n // 2}" for n in range(44)]
    return builders.write(
        tmp_path_factory.mktemp("described") / "d",
        interactions=pl.DataFrame(log(), schema, orient="row", schema_overrides={"value": pl.Float64}),
        items=pl.DataFrame(
            {
                "item_id": [f"i{n}" for n in range(44)],
                "language": [["en", "zh", "ar"][n % 3] for n in range(44)],
                "title": [*titles[:40], "Tea 0", "Tea 0", "", "茶 0"],
                "description": [None] * 44,
                "categories": [["hot"] if n % 2 else [] for n in range(44)],
                "price": [float(n) if n else None for n in range(44)],
                "colour": ["red"] * 44,
            },
            schema_overrides={"description": pl.String, "categories": pl.List(pl.String)},
        ),
        users=builders.users(user_id=["u1", "nobody"], age=[30, 40]),
    )


def config(**data: object) -> Config:
    return parse_config({"name": "my-shop", "data": {"positives": {"purchase": None}} | data}, "here")


@pytest.fixture(scope="module")
def facts(dataset: Dataset) -> Description:
    return describe(dataset, config())


def test_the_stages_lose_what_plain_counting_loses(facts: Description, dataset: Dataset) -> None:
    rows = log()
    purchases = [(user, item) for user, item, _, event, _ in rows if event == "purchase"]
    pairs = list(dict.fromkeys(purchases))
    by_user = Counter(user for user, _ in pairs)
    enough = [(user, item) for user, item in pairs if by_user[user] >= 5]

    def counted(of: list[tuple[str, str]]) -> tuple[int, int, int]:
        return len({user for user, _ in of}), len({item for _, item in of}), len(of)

    wanted = [counted([row[:2] for row in rows]), counted(purchases), counted(pairs), counted(enough)]
    assert [(stage.users, stage.items, stage.rows) for stage in facts.stages[:4]] == wanted
    parts = split(dataset, config().data)
    assert facts.parts == {
        "training": parts.train.height, "validation": parts.validation.height, "test": parts.test.height,
    }  # fmt: skip
    assert sum(facts.parts.values()) == wanted[3][2]
    assert facts.kept_by_least == {
        least: sum(count >= least for count in by_user.values()) for least in (1, 2, 3, 5, 10, 20)
    }


def test_counts_of_rows_events_and_repeats(facts: Description) -> None:
    rows = log()
    assert {event.event: event.rows for event in facts.events} == Counter(row[3] for row in rows)
    assert {event.event: event.positive for event in facts.events} == {
        "purchase": Counter(row[3] for row in rows)["purchase"], "view": 0,
    }  # fmt: skip
    assert facts.repeated_rows == 2
    assert facts.repeated_pairs == len(rows) - len({row[:2] for row in rows})
    assert facts.per_user.counts == Counter(Counter(row[0] for row in rows).values())
    assert facts.per_item.counts == Counter(Counter(row[1] for row in rows).values())
    assert facts.never == 44 - len({row[1] for row in rows})
    assert facts.density == pytest.approx(len({row[:2] for row in rows}) / (386 * 44))


def test_times(facts: Description) -> None:
    times = [row[2] for row in log()]
    assert (facts.first, facts.last) == (min(times), max(times))
    # START is 2023-11-15 00:00 UTC; day 300 is in September 2024.
    assert min(facts.months) == (2023, 11)
    assert max(facts.months) == (2024, 9)
    assert sum(facts.months.values()) == len(times)
    assert facts.span[0].isoformat() == "2023-11-15T00:00:00+00:00"
    assert not facts.whole_days


def test_titles_and_languages(facts: Description) -> None:
    assert facts.languages == {"en": 15, "zh": 15, "ar": 14}
    # `Tea 0` is written for items 0, 40 and 41, `茶 0` for 1 and 43; in the loop no other title occurs twice.
    assert facts.repeated_titles == (("Tea 0", 3), ("茶 0", 2))
    assert (facts.repeated_title_items, facts.without_title, facts.without_category) == (5, 1, 22)


def test_how_columns_are_used(facts: Description) -> None:
    uses = {f"{column.table}.{column.name}": (column.use, column.filled) for column in facts.columns}
    assert uses["items.price"] == ("used", 43 / 44)
    assert uses["items.colour"] == ("unused", 1.0)
    assert uses["items.description"] == ("unused", 0.0)
    assert uses["users.age"] == ("unused", 1.0)
    assert uses["users.country"] == ("used", 0.5)
    assert uses["interactions.value"] == ("unused", 0.0)
    assert facts.profiles == 1


def test_columns_that_the_settings_leave_out(dataset: Dataset) -> None:
    settings = config().model_copy(
        update={"model": parse_config({"model": {"candidate": {"numeric": [], "categories": False}}}, "here").model}
    )
    uses = {f"{column.table}.{column.name}": column for column in describe(dataset, settings).columns}
    assert uses["items.price"].use == "unused"
    assert "`model.candidate.numeric`" in uses["items.price"].reason
    assert "`model.candidate.categories` is false" in uses["items.categories"].reason


def test_the_findings_name_settings_and_numbers(facts: Description) -> None:
    rows = log()
    buyers = {row[0] for row in rows if row[3] == "purchase"}
    few = facts.stages[2].users - facts.stages[3].users
    said = "\n".join(findings(facts))
    assert f"{386 - len(buyers):,} of 386 users have no positive" in said
    assert f"{few:,} of {len(buyers):,} users with a positive have fewer than 5 and are dropped" in said
    assert f"(`data.split.min_positives: 5`). 1 would keep {len(buyers):,};" in said
    assert "`view` (" in said
    assert "2 rows of the interactions repeat an earlier row in every column" in said
    assert "5 items share their title with another; 3 are titled 'Tea 0'" in said
    assert "Columns of the dataset that the model does not read: items.colour, users.age" in said
    assert "385 of 386 users of the interactions are not in the users table" in said


def test_settings_that_leave_nothing_are_a_finding_not_a_crash(dataset: Dataset) -> None:
    nothing = describe(dataset, config(positives={"like": None}))
    assert "no user with 5 positives" in nothing.fault
    assert findings(nothing)[0] == nothing.fault
    assert nothing.parts == {}
    assert nothing.stages[1].rows == 0
    few = describe(dataset, config(split={"test_fraction": 1.0}))
    assert "nothing to train on" in few.fault


def test_new_items_of_the_test_part_are_counted(tmp_path: Path) -> None:
    rows: list[Row] = [(f"u{user}", item, time, "purchase", None) for user in "ab" for time, item in enumerate("12345")]
    rows = [(user, "9" if (user, item) == ("ub", "5") else item, START + time, event, None) for user, item, time, event, _ in rows]  # fmt: skip  # noqa: E501
    schema = ["user_id", "item_id", "timestamp", "event", "value"]
    log_frame = pl.DataFrame(rows, schema, orient="row", schema_overrides={"value": pl.Float64})
    items = pl.concat([builders.items().head(1).with_columns(item_id=pl.lit(item)) for item in "123459"])
    found = describe(builders.write(tmp_path / "d", interactions=log_frame, items=items), config())
    # Each user's last purchase is the test part: `5` of one and `9` of the other.
    assert found.new_in_test == (2, 2)
    assert "2 items of the test part (2 of 2 of its positives) have no earlier positive" in "\n".join(findings(found))


def test_cold_items_and_a_share_of_the_users_are_stages(dataset: Dataset) -> None:
    settings = config(split={"cold_items": 0.25, "train_users": 0.5})
    found = describe(dataset, settings)
    parts = split(dataset, settings.data)
    positive_items = found.stages[3].items
    assert found.cold == len(parts.cold) == -(-positive_items // 4)
    learned, share = found.stages[4:]
    assert learned.setting.endswith("cold_items: 0.25")
    assert (learned.users, learned.rows) == (parts.train["user_id"].n_unique(), parts.train.height)
    assert share.setting == "data.split.train_users: 0.5"
    assert share.users == -(-learned.users // 2)
    assert f"{found.cold} items are held out with all their positives (`data.split.cold_items`)." in findings(found)


def test_items_of_unknown_language_are_counted(tmp_path: Path) -> None:
    items = builders.items(language=["en", "und", "und"])
    assert "2 of 3 items have no known language (`und`)." in findings(
        describe(builders.write(tmp_path / "d", items=items), config())
    )


@pytest.mark.parametrize(
    ("times", "says"),
    [([START] * 4, "All interactions have the same time"), ([START + DAY * n for n in range(4)], "whole days")],
)
def test_times_without_an_order_are_reported(tmp_path: Path, times: list[int], says: str) -> None:
    found = describe(builders.write(tmp_path / "d", interactions=builders.interactions(timestamp=times)), config())
    assert says in "\n".join(findings(found))


def test_a_spread() -> None:
    spread = Spread({1: 5, 2: 3, 10: 2})
    assert [spread.quantile(share) for share in (0.0, 0.5, 0.51, 0.8, 0.9, 1.0)] == [1, 1, 2, 2, 10, 10]
    assert spread.mean == pytest.approx(3.1)
    assert (Spread({}).quantile(0.5), Spread({}).mean) == (0, 0.0)

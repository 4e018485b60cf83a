"""Splits: EVALUATION P1 exactly, by an oracle in plain Python, and no leak, by property tests."""

import math
import os
from collections import defaultdict
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.trainer.data import builders
from trainer.data.dataset import Dataset
from trainer.data.ids import as_text
from trainer.data.settings import DataConfig, KmrdSource, MovieLens100kSource, SplitConfig
from trainer.data.sources import prepare
from trainer.data.split import Split, SplitError, held_out_events, positives, split

Row = tuple[str, str, int, str, float | None]


class InMemory:
    """A dataset's interactions without files, so that property tests are fast."""

    name = "memory"
    # Where no split was prepared.
    path = Path(os.devnull)

    def __init__(self, rows: list[Row]) -> None:
        self._frame = pl.DataFrame(
            rows,
            schema={
                "user_id": pl.String,
                "item_id": pl.String,
                "timestamp": pl.Int64,
                "event": pl.String,
                "value": pl.Float64,
            },
            orient="row",
        )

    def interactions(self) -> pl.LazyFrame:
        return self._frame.lazy()


def split_rows(rows: list[Row], **config: object) -> Split:
    return split(
        InMemory(rows),  # type: ignore[arg-type]
        DataConfig(positives={"rating": 4.0, "click": None}, split=SplitConfig.model_validate(config)),
    )


def protocol_p1(rows: list[Row], fraction: float, least: int) -> dict[str, tuple[list[str], list[str]]]:
    """EVALUATION P1, steps 1 and 2, as written there: user -> (training items, test items)."""
    found: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    seen = set()
    for user, item, time, event, value in rows:
        is_positive = event == "click" or (event == "rating" and value is not None and value >= 4)
        if is_positive and (user, item) not in seen:
            seen.add((user, item))
            found[user].append((time, int(item), item))
    parts = {}
    for user, own in found.items():
        if len(own) >= least:
            ordered = [item for _, _, item in sorted(own)]
            held = math.ceil(round(len(ordered) * fraction, 9))
            parts[user] = (ordered[: len(ordered) - held], ordered[len(ordered) - held :])
    return parts


def by_user(frame: pl.DataFrame) -> dict[str, list[str]]:
    grouped = frame.group_by("user_id", maintain_order=True).agg("item_id")
    return dict(grouped.iter_rows())


rows_of: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "10"]),
        st.integers(1, 30).map(str),
        st.integers(0, 12),
        st.sampled_from(["rating", "view", "click"]),
        st.sampled_from([1.0, 3.5, 4.0, 5.0]),
    ),
    min_size=1,
    max_size=80,
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@quick
@given(rows_of, st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), st.integers(1, 5))
def test_per_user_is_p1(rows: list[Row], fraction: float, least: int) -> None:
    wanted = protocol_p1(rows, fraction, least)
    try:
        got = split_rows(rows, test_fraction=fraction, validation_fraction=0.0, min_positives=least)
    except SplitError:
        assert not any(train for train, _ in wanted.values())
        return
    assert by_user(got.train) == {user: train for user, (train, _) in wanted.items() if train}
    assert by_user(got.test) == {user: test for user, (_, test) in wanted.items() if test}


@quick
@given(rows_of, st.sampled_from([0.2, 0.5, 0.9]), st.integers(1, 3))
def test_first_positives_are_never_held_out(rows: list[Row], fraction: float, history: int) -> None:
    wanted = {}
    for user, (train, test) in protocol_p1(rows, fraction, 1).items():
        both = train + test
        cut = max(len(train), min(history, len(both)))
        wanted[user] = (both[:cut], both[cut:])
    try:
        got = split_rows(rows, test_fraction=fraction, validation_fraction=0.0, min_positives=1, min_history=history)
    except SplitError:
        assert not wanted
        return
    assert by_user(got.train) == {user: train for user, (train, _) in wanted.items()}
    assert by_user(got.test) == {user: test for user, (_, test) in wanted.items() if test}


@quick
@given(rows_of, st.sampled_from([0.2, 0.5, 0.9]))
def test_baskets_are_held_out_whole(rows: list[Row], fraction: float) -> None:
    settings = {"test_fraction": fraction, "validation_fraction": 0.0, "min_positives": 1}
    try:
        plain = split_rows(rows, **settings)
    except SplitError:
        return
    got = split_rows(rows, whole_baskets=True, **settings)
    times: dict[str, dict[str, set[int]]] = {"train": defaultdict(set), "test": defaultdict(set)}
    for part, found in times.items():
        for user, _, time in getattr(got, part).iter_rows():
            found[user].add(time)
    for user in {*times["train"], *times["test"]}:
        everything = times["train"][user] | times["test"][user]
        assert not times["train"][user] & times["test"][user]
        assert min(everything) in times["train"][user]
        late = plain.test.filter(pl.col("user_id") == user)["timestamp"].to_list()
        if late:
            cut = min(late)
            assert times["test"][user] == {time for time in everything if time >= cut and time > min(everything)}


@quick
@given(rows_of, st.sampled_from([0.1, 0.2, 0.5]), st.sampled_from([0.1, 0.2, 0.5]))
def test_validation_is_taken_from_the_training_part_the_same_way(
    rows: list[Row], test_fraction: float, fraction: float
) -> None:
    wanted = protocol_p1(rows, test_fraction, 1)
    try:
        got = split_rows(rows, test_fraction=test_fraction, validation_fraction=fraction, min_positives=1)
    except SplitError:
        return
    assert by_user(got.train_and_validation) == {user: train for user, (train, _) in wanted.items() if train}
    validation = by_user(got.validation)
    for user, (train, _) in wanted.items():
        held = math.ceil(round(len(train) * fraction, 9))
        assert validation.get(user, []) == train[len(train) - held :]


def as_rows(frame: pl.DataFrame) -> set[tuple[str, str]]:
    return set(frame.select("user_id", "item_id").iter_rows())


@quick
@given(rows_of, st.sampled_from(["per_user", "global"]))
def test_held_out_is_later_and_never_observed(rows: list[Row], kind: str) -> None:
    try:
        got = split_rows(rows, kind=kind, min_positives=1)
    except SplitError:
        return
    held_out = pl.concat([got.validation, got.test])
    assert not as_rows(got.train) & as_rows(held_out)
    assert not as_rows(got.validation) & as_rows(got.test)
    assert not as_rows(got.observed) & as_rows(held_out)
    for earlier, later in ((got.train, got.validation), (got.train_and_validation, got.test)):
        for user in set(later["user_id"]) & set(earlier["user_id"]):
            last = max(earlier.filter(user_id=user)["timestamp"])
            first = min(later.filter(user_id=user)["timestamp"])
            assert last <= first if kind == "per_user" else last < first
    trained = as_rows(got.train)
    for user, item, time in got.observed.select("user_id", "item_id", "timestamp").iter_rows():
        own = held_out if kind == "global" else held_out.filter(user_id=user)
        # At the cut time itself, only training positives are known to precede it.
        assert (
            own.is_empty()
            or time < min(own["timestamp"])
            or (time == min(own["timestamp"]) and (user, item) in trained)
        )
    if kind == "per_user":
        assert trained <= as_rows(got.observed), "what is learned from is observed"


def one_row_a_pair(rows: list[Row]) -> list[Row]:
    return list({(row[0], row[1]): row for row in rows}.values())


def assert_same_but_test(after: Split, before: Split) -> None:
    for part in ("train", "validation", "observed"):
        assert_frame_equal(as_text(getattr(after, part)), as_text(getattr(before, part)))


@quick
@given(rows_of.map(one_row_a_pair), st.sampled_from(["per_user", "global"]), st.integers(0, 9))
def test_no_leak_when_test_rows_change(rows: list[Row], kind: str, later: int) -> None:
    """Other items, later times and other values in the test rows change nothing that training sees."""
    try:
        before = split_rows(rows, kind=kind, min_positives=1)
    except SplitError:
        return
    test = as_rows(before.test)
    # If nothing is held out before the test rows, they define the cut, and moving them moves it.
    validated = set(before.validation["user_id"])
    moves = {user for user, _ in test if user in validated or (kind == "global" and validated)}
    # New ids sort after all others, so that rows with equal times keep their side.
    changed = [
        (user, f"9{item.zfill(3)}", time + later * (user in moves), "click", None) if (user, item) in test else row
        for row in rows
        for user, item, time, _, _ in [row]
    ]
    after = split_rows(changed, kind=kind, min_positives=1)
    assert as_rows(after.test) == {(user, f"9{item.zfill(3)}") for user, item in test}
    assert_same_but_test(after, before)


@quick
@given(rows_of.map(one_row_a_pair), st.sampled_from(["per_user", "global"]))
def test_no_leak_when_test_rows_are_gone(rows: list[Row], kind: str) -> None:
    """Training sees the same as if the test rows had never existed."""
    try:
        before = split_rows(rows, kind=kind, min_positives=1)
    except SplitError:
        return
    test = as_rows(before.test)
    left = [row for row in rows if row[:2] not in test]
    after = split_rows(left, kind=kind, min_positives=1, test_fraction=0.0)
    assert_frame_equal(after.train, before.train)
    assert_frame_equal(after.validation, before.validation)
    # A user without any positive left is no longer cut off; all others are cut at the same time.
    known = before.train_and_validation["user_id"].implode()
    same = pl.col("user_id").is_in(known) if kind == "per_user" else pl.lit(True)
    assert_frame_equal(as_text(after.observed).filter(same), as_text(before.observed).filter(same))


@quick
@given(rows_of, rows_of, st.sampled_from(["per_user", "global"]))
def test_no_leak_from_later_events_that_are_not_positive(rows: list[Row], more: list[Row], kind: str) -> None:
    try:
        before = split_rows(rows, kind=kind, min_positives=1)
    except SplitError:
        return
    held_out = pl.concat([before.validation, before.test])
    first = dict(held_out.group_by("user_id").agg(pl.col("timestamp").min()).iter_rows())
    moment = min(held_out["timestamp"], default=0)
    later: list[Row] = [
        # Later by at least a second: at exactly the cut time, events of training pairs precede it.
        (user, item, time + 1 + (first[user] if kind == "per_user" else moment), "view", None)
        for user, item, time, _, _ in more
        if user in first
    ]
    assert_same_but_test(split_rows(rows + later, kind=kind, min_positives=1), before)


def test_ids_that_are_numbers_are_ordered_as_numbers() -> None:
    rows: list[Row] = [("u", item, 7, "click", None) for item in ("10", "9", "100", "2", "1")]
    got = split_rows(rows, test_fraction=0.4, validation_fraction=0.0, min_positives=5)
    assert got.train["item_id"].to_list() == ["1", "2", "9"]
    assert got.test["item_id"].to_list() == ["10", "100"]


def test_shares_are_not_fooled_by_binary_fractions() -> None:
    """0.55 * 100 is slightly above 55 in binary; the last ceil(55 %) of 100 are 55."""
    rows: list[Row] = [("u", str(n), n, "click", None) for n in range(100)]
    got = split_rows(rows, test_fraction=0.55, validation_fraction=0.0)
    assert got.test.height == 55


def test_of_repeated_pairs_the_first_row_counts() -> None:
    rows: list[Row] = [
        ("u", "1", 50, "click", None),
        ("u", "1", 10, "click", None),
        ("u", "2", 20, "click", None),
    ]
    found = positives(InMemory(rows), {"click": None})  # type: ignore[arg-type]
    assert found.rows() == [("u", "2", 20), ("u", "1", 50)]


def test_global_takes_everything_after_one_moment() -> None:
    rows: list[Row] = [(f"u{n % 3}", str(n), n, "click", None) for n in range(10)]
    rows += [("new", "1", 9, "click", None), ("u0", "5", 6, "view", None), ("u0", "5", 5, "view", None)]
    got = split_rows(rows, kind="global", test_fraction=0.2, validation_fraction=0.25, min_positives=1)
    assert sorted(got.test["timestamp"]) == [8, 9, 9]
    assert sorted(got.validation["timestamp"]) == [6, 7]
    assert sorted(got.train["timestamp"]) == [0, 1, 2, 3, 4, 5]
    assert got.observed.height == 7


def test_observed_holds_what_is_not_positive(tmp_path: Path) -> None:
    rows: list[Row] = [("u", str(n), n, "click", None) for n in range(5)]
    rows += [("u", "7", 2, "view", None), ("u", "8", 1, "rating", 1.0), ("u", "4", 0, "view", None)]
    rows += [("u", "7", 3, "view", None), ("shy", "7", 99, "view", None)]
    got = split_rows(rows, test_fraction=0.2, validation_fraction=0.25)
    assert (got.validation["item_id"].to_list(), got.test["item_id"].to_list()) == (["3"], ["4"])
    seen = got.observed.select("user_id", "item_id", "timestamp", "event").rows()
    assert seen == [
        ("u", "0", 0, "click"),
        ("u", "1", 1, "click"),
        ("u", "2", 2, "click"),
        ("u", "7", 2, "view"),
        ("u", "8", 1, "rating"),
        ("shy", "7", 99, "view"),
    ]


def test_no_positives_is_an_error_that_names_the_events() -> None:
    rows: list[Row] = [("u", "1", 1, "view", None)]
    with pytest.raises(SplitError, match=r"no user with 5 positives .* its events are view.*Remedy"):
        split_rows(rows)


def test_an_unknown_event_in_the_rules_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="'klick'"):
        positives(builders.write(tmp_path / "d"), {"klick": None})


def test_nothing_left_to_train_on_is_an_error() -> None:
    rows: list[Row] = [("u", str(n), n, "click", None) for n in range(5)]
    with pytest.raises(SplitError, match="nothing to train on"):
        split_rows(rows, test_fraction=1.0)


def popularity(got: Split, k: int) -> tuple[float, float]:
    """P1's recall@k and NDCG@k of popularity, user by user in NumPy."""
    catalogue = sorted({*got.train_and_validation["item_id"], *got.test["item_id"]}, key=int)
    place = {item: n for n, item in enumerate(catalogue)}
    counts = np.zeros(len(catalogue))
    for item in got.train_and_validation["item_id"]:
        counts[place[item]] += 1
    order = np.argsort(-counts, kind="stable")
    train, recalls, gains = by_user(got.train_and_validation), [], []
    discount = 1 / np.log2(np.arange(k) + 2)
    for user, test in by_user(got.test).items():
        seen = {place[item] for item in train[user]}
        wanted = {place[item] for item in test}
        top = [item for item in order[: k + len(seen)] if item not in seen][:k]
        hits = np.array([item in wanted for item in top])
        recalls.append(hits.sum() / min(k, len(wanted)))
        gains.append(hits @ discount / discount[: min(k, len(wanted))].sum())
    return float(np.mean(recalls)), float(np.mean(gains))


def assert_reference(dataset: Dataset, least: float, sizes: tuple[int, ...], figures: tuple[float, ...]) -> None:
    config = DataConfig(positives={"rating": least})
    got = split(dataset, config)
    training = got.train_and_validation
    items = {*training["item_id"], *got.test["item_id"]}
    assert (training["user_id"].n_unique(), len(items), training.height, got.test.height) == sizes
    recall_10, ndcg_10 = popularity(got, 10)
    recall_20, _ = popularity(got, 20)
    assert (recall_10, recall_20, ndcg_10) == pytest.approx(figures, abs=0.003)


def test_movielens_gives_the_reference_figures(cache: Path) -> None:
    dataset = prepare(MovieLens100kSource())
    assert_reference(dataset, 4.0, (938, 1447, 43_919, 11_442), (0.0820, 0.1153, 0.0801))


def test_kmrd_gives_the_reference_figures(data_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    dataset = prepare(KmrdSource(path=data_mirror / "kmrd-small"))
    assert_reference(dataset, 8.0, (4_342, 563, 41_948, 12_581), (0.2416, 0.3478, 0.1670))


def _many_rows() -> list[Row]:
    random = np.random.default_rng(4)
    return [
        (f"사용자{user}", f"i{item}", int(random.integers(0, 1000)), "rating", float(random.integers(2, 6)))
        for user in range(12)
        for item in random.choice(30, size=14, replace=False)
    ]


@pytest.mark.parametrize("kind", ["per_user", "global"])
def test_cold_items_are_nowhere_but_in_the_test_part(kind: str) -> None:
    rows = _many_rows()
    plain, cold = split_rows(rows, kind=kind), split_rows(rows, kind=kind, cold_items=0.2, cold_seed=3)
    with_positives = {row[1] for row in rows if row[4] is not None and row[4] >= 4.0}
    kept_users = {user for user, _ in as_rows(plain.train_and_validation) | as_rows(plain.test)}
    assert len(cold.cold) == math.ceil(0.2 * len(with_positives))
    calibrated_on = held_out_events(InMemory(rows), cold, "validation")  # type: ignore[arg-type]
    for part in (cold.train, cold.validation, cold.observed, calibrated_on):
        assert not part.is_empty()
        assert not set(part["item_id"]) & cold.cold
    everything = {(user, item) for user, item, _, _, value in rows if value is not None and value >= 4.0}
    expected = {pair for pair in everything if pair[0] in kept_users and pair[1] in cold.cold}
    warm_test = {pair for pair in as_rows(plain.test) if pair[1] not in cold.cold}
    assert as_rows(cold.test) == expected | warm_test
    assert as_rows(cold.observed) >= as_rows(cold.train)
    assert as_rows(cold.train_and_validation) == {
        pair for pair in as_rows(plain.train_and_validation) if pair[1] not in cold.cold
    }


def test_cold_items_depend_on_their_seed_and_grow() -> None:
    rows = _many_rows()
    few, more, other = (
        split_rows(rows, cold_items=share, cold_seed=seed).cold for share, seed in ((0.1, 0), (0.3, 0), (0.3, 1))
    )
    assert few < more
    assert len(more) == len(other)
    assert more != other


def test_events_before_the_test_part_are_not_held_out_for_a_cold_item() -> None:
    data = InMemory(_many_rows())
    parts = split_rows(_many_rows(), cold_items=0.3)
    late = held_out_events(data, parts, "test")  # type: ignore[arg-type]
    assert late.height
    assert not as_rows(late) & as_rows(parts.train_and_validation)


def test_what_was_refused_since_is_no_positive_if_asked() -> None:
    rows: list[Row] = [
        ("u", "kept", 10, "click", None),
        ("u", "hidden", 10, "click", None),
        ("u", "hidden", 20, "hide", None),
        ("u", "disliked", 10, "click", None),
        ("u", "disliked", 10, "dislike", None),
        ("u", "taken again", 10, "click", None),
        ("u", "taken again", 20, "hide", None),
        ("u", "taken again", 30, "click", None),
        ("other", "hidden", 10, "click", None),
    ]
    dataset = cast(Dataset, InMemory(rows))
    found = positives(dataset, {"click": None}, refusals=True)
    assert found.rows() == [("u", "kept", 10), ("u", "taken again", 30), ("other", "hidden", 10)]
    assert positives(dataset, {"click": None}).height == 5

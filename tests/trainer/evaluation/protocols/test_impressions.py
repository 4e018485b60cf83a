"""P3 end to end: a small log of impressions in two languages, and its report."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.trainer.tiny import tiny_config
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.impressions import Impressions
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.impression_scores import click_through, impression_requests, mean_history_scores
from trainer.evaluation.protocols.impressions import evaluate_impressions
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.tables import to_markdown
from trainer.evaluation.report.writing import write
from trainer.runs import Run

_ZH = ("太空飞船 火箭", "爱情 婚礼")
_EN = ("space ship rocket", "love wedding")
ITEMS, USERS = 24, 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Chinese articles on two themes, every third with an English text; a user clicks on only one theme.

    Item 23 has no Chinese text. Each user has read three articles before the log; user 0 has read nothing.
    """
    rng = np.random.default_rng(3)
    items: list[dict[str, Any]] = [
        {
            "item_id": f"n{number:02}",
            "language": "en" if number == ITEMS - 1 else "zh",
            "title": f"{(_EN if number == ITEMS - 1 else _ZH)[number % 2]} {number}",
            "description": None,
            "categories": [],
        }
        for number in range(ITEMS)
    ]
    english = [
        {"item_id": f"n{number:02}", "language": "en", "title": f"{_EN[number % 2]} {number}", "description": None}
        for number in range(0, ITEMS - 1, 3)
    ]
    rows: list[tuple[str, int, int, str, str | None]] = []
    for user in range(USERS):
        own = np.arange(user % 2, ITEMS, 2)
        other = np.arange(1 - user % 2, ITEMS, 2)
        if user:
            read = rng.choice(own, 3, replace=False)
            rows += [(f"u{user}", item, 100 + place, "click", None) for place, item in enumerate(read)]
        for turn in range(3):
            time, name = 1_000 + turn * 100 + user, f"{user}-{turn}"
            rows.append((f"u{user}", rng.choice(own), time, "click", name))
            rows += [(f"u{user}", item, time, "impression", name) for item in rng.choice(other, 3, replace=False)]
    log = pl.DataFrame(rows, schema=["user_id", "item", "timestamp", "event", "impression_id"], orient="row")
    return write_dataset(
        tmp_path_factory.mktemp("news") / "dataset",
        name="news",
        description="Two themes in two languages.",
        licence="made by the tests",
        homepage="",
        interactions=log.select(
            "user_id",
            pl.format("n{}", pl.col("item").cast(pl.String).str.zfill(2)).alias("item_id"),
            "timestamp",
            "event",
            (pl.col("event") == "click").cast(pl.Float64).alias("value"),
            "impression_id",
        ),
        items=pl.DataFrame(items, schema_overrides={"description": pl.String, "categories": pl.List(pl.String)}),
        translations=pl.DataFrame(english, schema_overrides={"description": pl.String}),
    )


def settings(dataset: Dataset) -> Config:
    return tiny_config(
        dataset.path,
        data={
            "source": {"name": "dataset", "path": str(dataset.path)},
            "split": {"kind": "impressions", "min_positives": 1},
        },
        model={
            "dimension": 16,
            "retrieval": {"uniform_negatives": 16},
            "query": {"history_length": 8, "user_id": False},
            "candidate": {"item_id": False, "language": False},
            "text_queries": 0.0,
        },
        training={
            "epochs": 1,
            "epoch_steps": 30,
            "refit": False,
            "batch_size": 64,
            "learning_rate": 0.01,
            "warmup_steps": 5,
            "histograms": False,
        },
    )


@pytest.fixture(scope="module")
def run(dataset: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from trainer.training.fit import fit

    return fit(settings(dataset), tmp_path_factory.mktemp("run") / "news")


@pytest.fixture(scope="module")
def report(run: Run) -> EvaluationReport:
    return evaluate_impressions(run)


def test_the_model_distinguishes_the_themes_in_both_languages(report: EvaluationReport) -> None:
    assert report.metrics["auc"].value > 0.9
    pairs = report.slices["language_pair"]
    assert pairs["zh → zh"]["auc"].value > 0.9
    assert pairs["zh → en"]["auc"].value > 0.8
    random = next(result for result in report.baselines if result.model == "random")
    assert abs(random.metrics["auc"].value - 0.5) < 0.15


def test_the_auc_of_the_validation_impressions_decides(run: Run) -> None:
    history = run.read("history.json")["phases"]
    assert run.read("select.json")["best"] == pytest.approx(max(history["val_auc"]), abs=1e-6)
    assert set(run.read("blend.json")) == {"retrieval", "click"}


def test_slices_hold_the_impressions_that_the_protocol_names(report: EvaluationReport, dataset: Dataset) -> None:
    # The last 20 % of 120 impressions are the last turn of users 16 to 39.
    assert report.sizes is not None
    assert report.sizes.impressions == 24
    assert report.sizes.training == 96
    log = dataset.interactions().collect()
    english = {f"n{number:02}" for number in (*range(0, ITEMS - 1, 3), ITEMS - 1)}
    chinese = {f"n{number:02}" for number in range(ITEMS - 1)}
    last = log.filter(pl.col("timestamp") >= 1_216)

    def judged(items: set[str], read: set[str]) -> set[str]:
        shown = last.filter(pl.col("item_id").is_in(list(items)))
        both = shown.group_by("impression_id").agg(pl.col("event").n_unique().alias("kinds"), pl.col("user_id").first())
        readers = log.filter(
            (pl.col("event") == "click") & (pl.col("timestamp") < 1_216) & pl.col("item_id").is_in(list(read))
        )["user_id"]
        return set(both.filter((pl.col("kinds") == 2) & pl.col("user_id").is_in(readers.implode()))["impression_id"])

    found = report.slice_sizes["language_pair"]
    assert {group: size.impressions for group, size in found.items()} == {
        "zh → zh": len(judged(chinese, chinese)),
        "zh → en": len(judged(english, chinese)),
        "en → zh": len(judged(chinese, english)),
        "en → en": len(judged(english, english)),
    }
    same = report.slice_sizes["same: en"]
    assert [size.impressions for size in same.values()] == [len(judged(english & chinese, chinese))] * 2
    touched = set(last.filter(pl.col("item_id").is_in(list(english & chinese)))["impression_id"])
    mixed = report.slice_sizes["mixed: en"]
    assert [size.impressions for size in mixed.values()] == [len(judged(chinese, chinese) & touched)] * 2


def test_differences_are_of_the_two_rows_above(report: EvaluationReport) -> None:
    for dimension in ("same: en", "mixed: en"):
        first, second, difference = report.slices[dimension].values()
        for name in ("auc", "mrr", "ndcg@5", "ndcg@10"):
            assert difference[name].value == pytest.approx(second[name].value - first[name].value)


def test_the_report_is_written_and_read(report: EvaluationReport, tmp_path: Path) -> None:
    assert EvaluationReport.from_json(report.to_json()) == report
    page = to_markdown(report)
    assert "24 impressions of 24 users" in page
    assert "each impression's candidates ranked" in page
    assert "| zh → en | " in page
    assert "| difference | " in page
    names = {path.name for path in write(report, tmp_path, stem="evaluation-p3-news")}
    assert {"evaluation-p3-news.json", "evaluation-p3-news-metrics.png", "evaluation-p3-news-languages.png"} <= names


def test_other_splits_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    other = Run.create(tmp_path / "run", tiny_config(dataset.path))
    with pytest.raises(BabelrecError, match="P3 holds out the last impressions"):
        evaluate_impressions(other)


def test_each_impression_asks_with_its_users_history_and_profile_at_its_own_time(dataset: Dataset) -> None:
    catalogue = Catalogue.from_dataset(dataset)
    shown = Impressions(
        ["1", "2", "3"],
        ["v", "u", "v"],
        np.array([7, 9, 8]),
        np.array([0, 1, 2, 3]),
        np.zeros(3, np.int32),
        np.ones(3, bool),
    )
    history = pl.DataFrame({"user_id": ["u", "v", "u"], "item_id": ["n04", "n00", "n03"], "timestamp": [2, 3, 1]})
    profiles = pl.DataFrame({"user_id": ["u"], "profile_language": ["en"]})
    vocabulary = Vocabulary(["u"], [], [], {"language": ["zh", "en"], "country": []}, {}, {}, ["click"])
    requests = impression_requests(shown, history, catalogue, vocabulary, profiles)
    assert requests.users.tolist() == [0, 1, 0]
    assert requests.timestamps.tolist() == [7, 9, 8]
    assert requests.features["language"].tolist() == [0, 2, 0]
    assert [[catalogue.item_ids[row] for row in requests.histories.of_user(place)] for place in range(3)] == [
        ["n00"],
        ["n03", "n04"],
        ["n00"],
    ]


def test_baselines_worked_by_hand(dataset: Dataset) -> None:
    catalogue = Catalogue.from_dataset(dataset)
    shown = Impressions(
        ["1"], ["u"], np.array([9]), np.array([0, 3]), np.array([0, 1, 2], np.int32), np.array([True, False, False])
    )
    vectors = np.zeros((len(catalogue), 2), np.float32)
    vectors[:5] = np.array([[2, 0], [0, 1], [1, 1], [3, 0], [0, 0.5]])
    history = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["n03", "n04", "n00"], "timestamp": [1, 2, 3]})
    histories = UserItems.of(history, catalogue, shown.users)
    # The unit vectors of items 3 and 4 are along the axes: their mean is between them.
    scores = mean_history_scores(shown, histories, vectors, vectors)
    np.testing.assert_allclose(scores, [np.sqrt(0.5), np.sqrt(0.5), 1.0], rtol=1e-6)
    only_3 = histories.only(np.arange(len(catalogue)) == 3)
    np.testing.assert_allclose(
        mean_history_scores(shown, only_3, vectors, vectors), [1.0, 0.0, np.sqrt(0.5)], rtol=1e-6
    )
    nobody = histories.only(np.zeros(len(catalogue), bool))
    assert mean_history_scores(shown, nobody, vectors, vectors).tolist() == [0.0, 0.0, 0.0]
    # One click in three candidates: the prior is ten candidates at the mean rate.
    np.testing.assert_allclose(
        click_through(shown, shown, len(catalogue)), [(1 + 10 / 3) / 11, (10 / 3) / 11, (10 / 3) / 11]
    )

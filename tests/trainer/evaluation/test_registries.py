"""Protocols and metrics are found by their registries, a user's own metrics by import paths."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.errors import BabelrecError
from trainer.evaluation.metrics.definition import JudgedLists, RankingMetric
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.registry import METRICS, with_own
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.protocols.registry import PROTOCOLS, Protocol, Target
from trainer.evaluation.reference import reference_markdown
from trainer.evaluation.report.tables import to_markdown
from trainer.evaluation.report.writing import write

PAGE = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"

_OWN = """
from trainer.evaluation.metrics.definition import RankingMetric

def first(lists, k):
    return lists.hits[:, 0].astype(float)

FIRST = RankingMetric(name="erste_수", label="First", note="n", per_user=first)
USERS = RankingMetric(name="users", label="Users", note="n", total=lambda lists, k: float((lists.sizes > 0).sum()))
TAKEN = RankingMetric(name="recall", label="R", note="n", per_user=lambda lists, k: lists.hits[:, 0])
WRONG = RankingMetric(name="wrong", label="W", note="n", per_user=lambda lists, k: lists.hits[:1, 0])
NUMBER = 7
"""


@pytest.fixture(autouse=True)
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(_OWN, encoding="utf-8")
    (tmp_path / "broken_metrics.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_page_holds_the_tables_of_the_registries() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(reference_markdown()), "write it again: see its last section"


def test_the_page_says_how_to_add_a_metric() -> None:
    # The page's example is run verbatim.
    example = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    names: dict[str, RankingMetric] = {}
    exec(example, names)
    rankings, relevant = np.array([[2, 0], [1, 2]]), ItemSets.from_lists([[0, 2], [2]], num_items=3)
    found = ranking_metrics(rankings, relevant, ks=(2,), metrics=[names["FIRST_PLACE"]])
    assert found.values["first_place@2"].tolist() == [1.0, 0.0]


def test_metrics_come_in_their_order() -> None:
    assert list(METRICS) == ["recall", "ndcg", "hr", "mrr", "coverage", "popularity_percentile"]


def test_an_own_metric_is_measured_and_reported_like_any_other(tmp_path: Path) -> None:
    metrics = with_own(["own_metrics:FIRST", "own_metrics:USERS"])
    train, test = ItemSets.from_lists([[0], [1], []], num_items=4), ItemSets.from_lists([[1, 2], [3], []], num_items=4)
    problem = RankingProblem("d", "P1", "test", train, test, ks=(1, 2), metrics=metrics, resamples=20)
    lists = np.array([[1, 3], [0, 3], [0, 1]])
    report = compare(problem, "mine", lists, baselines={"other": lists[:, ::-1]}, seconds=1.0)
    assert report.metrics["erste_수@2"].value == 0.5
    assert report.metrics["erste_수@2"].ci95 is not None
    assert report.metrics["users@1"].value == 2
    # User 0 hits first, and so does user 1 in the other's list; without hits of its own nobody would differ.
    assert report.baselines[0].metrics["erste_수@2"].value == 0.5
    files = write(report, tmp_path / "run", stem="evaluation")
    assert "erste\\_수@2" in to_markdown(report) or "erste 수@2" in to_markdown(report)
    written = json.loads(next(file for file in files if file.suffix == ".json").read_text(encoding="utf-8"))
    assert written["metrics"]["erste_수@2"]["value"] == 0.5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_metrics", "not an import path. Remedy: write it as package.module:NAME"),
        ("nowhere.at_all:X", "can't be imported: No module named 'nowhere'. Remedy: install the package"),
        ("own_metrics:MISSING", "own_metrics has no MISSING"),
        ("broken_metrics:X", "ZeroDivisionError: division by zero"),
        ("own_metrics:NUMBER", "is a int, not a RankingMetric"),
        ("own_metrics:TAKEN", "has the same name as another metric, 'recall'"),
    ],
)
def test_a_path_without_a_metric(path: str, message: str) -> None:
    with pytest.raises(BabelrecError, match=r"^evaluation\.metrics: ") as caught:
        with_own([path])
    assert message in str(caught.value)


def test_a_metric_with_the_wrong_number_of_values() -> None:
    rankings, relevant = np.array([[0], [1]]), ItemSets.from_lists([[0], [1]], num_items=2)
    with pytest.raises(ValueError, match=r"metric wrong returned \(1,\) values for 2 users"):
        ranking_metrics(rankings, relevant, ks=(1,), metrics=with_own(["own_metrics:WRONG"]))


def test_a_metric_is_a_mean_or_a_total() -> None:
    def of_all(lists: JudgedLists, k: int) -> float:
        return float(k)

    with pytest.raises(ValueError, match="per_user or total"):
        RankingMetric(name="x", label="X", note="n")
    with pytest.raises(ValueError, match="or contain @"):
        RankingMetric(name="x@1", label="X", note="n", total=of_all)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_a_protocol_s_function_is_there(protocol: Protocol) -> None:
    module, _, name = protocol.function.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_targets_are_asked_for_and_refused() -> None:
    assert PROTOCOLS["p2"].target is Target.REQUIRED
    with pytest.raises(BabelrecError, match="p2 needs --target"):
        PROTOCOLS["p2"].evaluate(None, None)  # type: ignore[arg-type]
    with pytest.raises(BabelrecError, match="--target needs --protocol p2 or p4"):
        PROTOCOLS["p1"].evaluate(None, object())  # type: ignore[arg-type]

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import yaml
from rich.console import Console

from benchmarks.baselines import config as baselines_config
from benchmarks.baselines.config import BASELINES, CONFIGS, BaselinesConfig, load, parse, save_chosen
from benchmarks.baselines.problem import Histories, Problem, test_problem, validation_problem
from benchmarks.baselines.search import data_of, search
from benchmarks.quality.suites import cold_start
from tests.trainer.tiny import tiny_dataset
from trainer.config.loading import load_config
from trainer.data.catalogue import Catalogue
from trainer.data.settings import DataConfig, DatasetSource, SplitConfig
from trainer.data.sources import prepare
from trainer.data.split import some_users, split
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.protocols.baselines import random
from trainer.evaluation.report.references import TOLERANCE, references

test_problem.__test__ = False  # type: ignore[attr-defined]

QUICK: dict[str, dict[str, Any]] = {
    "popularity": {},
    "ALS": {"factors": 8, "regularization": 1.0, "alpha": 2.0},
    "BPR": {"factors": 8, "learning_rate": 0.1, "iterations": 50},
    "EASE": {"regularization": 10.0},
    "item-kNN": {"weighting": "cosine", "neighbours": 60},
    "item-kNN, newest first": {"weighting": "cosine", "neighbours": 60, "decay": 1.0},
    "EASE, frequent items": {"regularization": 10.0, "items": 40},
    "GRU4Rec": {"dimension": 16, "epochs": 40, "dropout": 0.0, "learning_rate": 0.01, "max_len": 8, "batch_size": 32},
    "SASRec": {
        "embedding_dim": 16,
        "n_epochs": 6,
        "max_len": 4,
        "dropout": 0.0,
        "learning_rate": 0.01,
        "num_blocks": 1,
        "batch_size": 32,
        "n_sample": 32,
    },
    "two-tower (TFRS tutorial)": {"learning_rate": 0.5, "batch_size": 64, "epochs": 15},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    path = tmp_path_factory.mktemp("data") / "tiny"
    tiny_dataset(path)
    return DataConfig(source=DatasetSource(path=path))


def few(data: DataConfig, share: float) -> DataConfig:
    return data.model_copy(update={"split": SplitConfig(train_users=share)})


def fitted(name: str, problem: Problem, seed: int = 1) -> npt.NDArray[np.floating]:
    baseline = BASELINES[name]
    return np.asarray(baseline.fit(problem, parse(baseline, QUICK[name]), seed)(slice(0, len(problem.evaluated))))


def problem_of(learned: list[list[int]], evaluated: list[list[int]], items: int, learner_of: list[int]) -> Problem:
    def histories(rows: list[list[int]]) -> Histories:
        flat = np.array([item for row in rows for item in row], np.int64)
        return Histories(np.cumsum([0, *map(len, rows)]), flat, items)

    sets = ItemSets.from_lists(evaluated, num_items=items)
    return Problem(
        histories(learned), histories(evaluated), np.array(learner_of), sets, sets, np.ones(items, bool), [], []
    )


@pytest.mark.parametrize(("name", "weight"), [("movielens-100k", 100.0), ("kmrd", 500.0)])
def test_reference_figures_of_real_data(name: str, weight: float, data_mirror: Path, cache: Path) -> None:
    try:
        problem = test_problem(data_of(load(name)), 42)
    except BabelrecError as error:
        pytest.skip(str(error))
    expected = {result.model: result.metrics for result in references("kmrd-small" if name == "kmrd" else name, "P1")}
    for baseline, settings in (("popularity", {}), ("EASE", {"regularization": weight})):
        found = problem.metrics(BASELINES[baseline].fit(problem, parse(BASELINES[baseline], settings), 0))
        for metric, reference in expected[baseline].items():
            assert found[metric] == pytest.approx(reference.value, abs=TOLERANCE), (baseline, metric)


def test_the_test_part_is_the_project_s_own(tiny: DataConfig) -> None:
    problem = test_problem(tiny, 7)
    dataset = prepare(tiny.source)
    parts = split(dataset, tiny)
    history: dict[str, list[str]] = {}
    for user, item, _ in parts.train_and_validation.sort("timestamp", "item_id").iter_rows():
        history.setdefault(user, []).append(item)
    users = sorted(set(parts.test["user_id"]))
    ids = sorted(set(parts.train_and_validation["item_id"]) | set(parts.test["item_id"]))
    for row, user in enumerate(users):
        assert [ids[item] for item in problem.evaluated.of_user(row)] == history[user]
        assert {
            ids[item] for item in problem.test.indices[problem.test.indptr[row] : problem.test.indptr[row + 1]]
        } == {item for name, item in parts.test.select("user_id", "item_id").iter_rows() if name == user}
    assert problem.learner_of.tolist() == list(range(len(users)))
    titles = Catalogue.from_dataset(dataset)
    assert problem.texts == [titles.texts[titles.item_ids.index(item)] for item in ids]


def test_cold_items_are_those_without_a_training_event(tiny: DataConfig) -> None:
    data = tiny.model_copy(update={"split": SplitConfig(cold_items=0.2)})
    problem = test_problem(data, 1)
    parts = split(prepare(tiny.source), data)
    ids = sorted(set(parts.train_and_validation["item_id"]) | set(parts.test["item_id"]))
    cold = {item for item, known in zip(ids, problem.trained, strict=True) if not known}
    assert len(parts.cold) == 12
    assert cold == parts.cold
    taste = np.array(["Sci-Fi" in text for text in problem.described], float)
    likes = np.array([taste[problem.evaluated.of_user(user)].mean() > 0.5 for user in range(len(problem.evaluated))])
    found = cold_start._measured(problem, lambda block: (taste == likes[block, None]) * 2.0 - problem.trained)
    # Cold items of the right genre first: there are fewer than ten of them, and the warm ones follow.
    assert found["recall@10 cold items"] == 1.0
    assert found["recall@10 cold items, alone"] == 1.0
    assert 0 < found["recall@10 warm items"] < found["recall@10 warm items, alone"]
    assert found[cold_start.RATIO] == pytest.approx(1 / found["recall@10 warm items"])


def test_few_shot_learns_from_the_users_of_the_run_and_asks_all(tiny: DataConfig) -> None:
    problem = test_problem(few(tiny, 0.1), 3)
    parts = split(prepare(tiny.source), tiny)
    chosen = set(some_users(parts, 0.1, 3).train["user_id"])
    evaluated = sorted(set(parts.test["user_id"]))
    assert len(problem.evaluated) == len(evaluated) == 80
    assert {user for user, row in zip(evaluated, problem.learner_of, strict=True) if row >= 0} == chosen
    for user, row in enumerate(problem.learner_of):
        if row >= 0:
            assert problem.learners.of_user(row).tolist() == problem.evaluated.of_user(user).tolist()


def test_validation_never_touches_the_test_part(tiny: DataConfig) -> None:
    dataset = prepare(tiny.source)
    parts = split(dataset, tiny)
    problem = validation_problem(tiny, 3)
    users = sorted(set(parts.validation["user_id"]))
    ids = sorted(set(parts.train["item_id"]) | set(parts.validation["item_id"]))
    held_out = {(users[u], ids[i]) for u, i in zip(problem.test.users(), problem.test.indices, strict=True)}
    assert held_out == set(parts.validation.select("user_id", "item_id").iter_rows())
    assert held_out.isdisjoint(parts.test.select("user_id", "item_id").iter_rows())
    assert len(problem.learners.items) == parts.train.height


def test_no_validation_part_is_an_error(tiny: DataConfig) -> None:
    without = tiny.model_copy(update={"split": SplitConfig(validation_fraction=0.0)})
    with pytest.raises(BabelrecError, match="validation_fraction"):
        validation_problem(without, 1)


def test_ease_is_ridge_regression_of_each_item_on_the_others() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((30, 7)) < 0.4
    rows = [np.flatnonzero(row).tolist() for row in matrix]
    problem = problem_of(rows, rows[:5], 7, list(range(5)))
    settings = parse(BASELINES["EASE"], {"regularization": 3.0})
    found = BASELINES["EASE"].fit(problem, settings, 0)(slice(0, 5))
    x = matrix.astype(float)
    for item in range(7):
        others = [other for other in range(7) if other != item]
        left = x[:, others]
        weights = np.linalg.solve(left.T @ left + 3.0 * np.eye(6), left.T @ x[:, item])
        assert found[:, item] == pytest.approx(x[:5][:, others] @ weights)


def test_knn_sums_cosines() -> None:
    pytest.importorskip("implicit")
    rows = [[0, 1], [0, 1, 2], [2, 3], [1, 3]]
    problem = problem_of(rows, [[0, 2]], 4, [-1])
    found = BASELINES["item-kNN"].fit(
        problem, parse(BASELINES["item-kNN"], {"weighting": "cosine", "neighbours": 4}), 0
    )
    x = np.zeros((4, 4))
    for user, row in enumerate(rows):
        x[user, row] = 1
    unit = x / np.linalg.norm(x, axis=0)
    cosines = unit.T @ unit
    assert np.asarray(found(slice(0, 1)))[0] == pytest.approx(cosines[0] + cosines[2], abs=1e-6)


def test_newer_items_count_more() -> None:
    pytest.importorskip("implicit")
    rows = [[0, 1], [0, 1, 2], [2, 3], [1, 3]]
    problem = problem_of(rows, [[0, 2]], 4, [-1])
    settings = {"weighting": "cosine", "neighbours": 4, "decay": 2.0}
    name = "item-kNN, newest first"
    found = BASELINES[name].fit(problem, parse(BASELINES[name], settings), 0)
    x = np.zeros((4, 4))
    for user, row in enumerate(rows):
        x[user, row] = 1
    unit = x / np.linalg.norm(x, axis=0)
    cosines = unit.T @ unit
    # Item 0 is followed by one newer item: 2^-2.
    assert np.asarray(found(slice(0, 1)))[0] == pytest.approx(cosines[0] / 4 + cosines[2], abs=1e-6)


def test_ease_of_all_items_is_ease_and_others_follow_by_frequency() -> None:
    rows = [[0, 1], [0, 1, 2], [1, 2, 3], [1, 3], [1, 4], [2, 4, 1], [2]]
    problem = problem_of(rows, rows[:3], 5, [0, 1, 2])
    whole = BASELINES["EASE"].fit(problem, parse(BASELINES["EASE"], {"regularization": 2.0}), 0)(slice(0, 3))
    name = "EASE, frequent items"
    every = BASELINES[name].fit(problem, parse(BASELINES[name], {"regularization": 2.0, "items": 5}), 0)(slice(0, 3))
    assert np.asarray(every) == pytest.approx(np.asarray(whole), abs=1e-8)
    two = np.asarray(
        BASELINES[name].fit(problem, parse(BASELINES[name], {"regularization": 2.0, "items": 2}), 0)(slice(0, 3))
    )
    # The items 1 and 2 have six and four positives; a ridge regression of one on the other.
    x = np.zeros((7, 5))
    for user, row in enumerate(rows):
        x[user, row] = 1
    weight = (x[:, 1] @ x[:, 2]) / (x[:, 1] @ x[:, 1] + 2.0)
    assert two[:, 2] == pytest.approx(x[:3, 1] * weight, abs=1e-8)
    assert (np.abs(two[:, [0, 3, 4]]) < 1e-8).all()


def test_popularity_by_market_counts_in_the_users_market() -> None:
    rows = [[0], [0], [1], [2], [2], [2]]
    problem = replace(
        problem_of(rows, [[3], [3], [3]], 4, [-1, -1, -1]),
        learner_markets=["de", "de", "de", "fr", "fr", "fr"],
        evaluated_markets=["de", "fr", "in"],
    )
    name = "popularity by market"
    scores = np.asarray(BASELINES[name].fit(problem, parse(BASELINES[name], {"prior": 0.6}), 0)(slice(0, 3)))
    # Of six positives, two are of item 0, one of item 1, three of item 2; 0.6 of a positive is divided like them.
    assert scores == pytest.approx(np.array([[2.2, 1.1, 0.3, 0], [0.2, 0.1, 3.3, 0], [0.2, 0.1, 0.3, 0]]))


@pytest.mark.parametrize("name", [name for name in QUICK if name != "popularity"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_baselines_learn_taste_and_fold_in_unknown_users(name: str, share: float, tiny: DataConfig) -> None:
    if name in ("ALS", "BPR", "item-kNN", "item-kNN, newest first"):
        pytest.importorskip("implicit")
    if name == "SASRec":
        pytest.importorskip("cornac")
    problem = test_problem(few(tiny, share), 5)
    scores = fitted(name, problem)
    assert scores.shape == (80, problem.evaluated.num_items)
    assert np.isfinite(scores).all()
    # Users like the items of only one genre, every second item: half of a random list is theirs.
    taste = np.array(["Sci-Fi" in text for text in problem.described])
    likes = np.array([taste[problem.evaluated.of_user(user)].mean() > 0.5 for user in range(80)])
    unknown = problem.learner_of < 0
    assert unknown.sum() == (0 if share == 1.0 else 56)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = (taste[best] == likes[:, None]).mean(axis=1)
    for part in (unknown, ~unknown):
        if part.any():
            assert hits[part].mean() > 0.75
    assert (fitted(name, problem) == scores).all()
    by_chance = problem.metrics(random(problem.evaluated.num_items, seed=1))
    measured = problem.metrics(lambda block: scores[block])
    assert measured["recall@10"] > by_chance["recall@10"]


def test_a_missing_library_names_the_remedy(tiny: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "implicit.cpu.als", None)
    with pytest.raises(BabelrecError, match=r"pip install .*\[bench\]"):
        fitted("ALS", test_problem(tiny, 1))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_was_chosen_from_what_it_searches(path: Path) -> None:
    config = load(str(path.relative_to(CONFIGS).with_suffix("")))
    assert load_config(Path(config.data)).data.split.validation_fraction > 0
    # Popularity by market and baselines that read the order are for benchmarks.scenes.
    assert set(config.search) <= set(BASELINES)
    assert set(config.chosen) <= set(BASELINES)
    for name, chosen in config.chosen.items():
        candidates = config.candidates(BASELINES[name])
        assert config.settings(BASELINES[name]) in candidates
        assert chosen.tried == len(candidates)
        assert 0 < chosen.validation["ndcg@10"] < 1


@pytest.fixture
def own_file(tiny: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    monkeypatch.setattr(baselines_config, "CONFIGS", tmp_path)
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({"data": {"source": tiny.source.model_dump(mode="json")}}), encoding="utf-8")

    def write(space: dict[str, Any]) -> Path:
        path = tmp_path / "own.yaml"
        text = yaml.safe_dump({"data": str(data), "seeds": [1], "search": space})
        path.write_text(f"# A comment that stays: 결과\n{text}", encoding="utf-8")
        return path

    return write


def test_search_chooses_the_best_on_validation_and_resumes(
    own_file: Callable[[dict[str, Any]], Path], tiny: DataConfig, tmp_path: Path
) -> None:
    path = own_file({"popularity": {}, "EASE": {"regularization": [1.0, 1000.0, 30.0]}})
    trials = tmp_path / "trials"
    search("own", ["EASE", "popularity"], trials, Console(quiet=True))
    problem = validation_problem(tiny, 1)
    figures = {
        weight: problem.metrics(BASELINES["EASE"].fit(problem, parse(BASELINES["EASE"], {"regularization": weight}), 1))
        for weight in (1.0, 1000.0, 30.0)
    }
    best = max(figures, key=lambda weight: figures[weight]["ndcg@10"])
    chosen = load("own").chosen
    assert chosen["EASE"].settings == {"regularization": best}
    assert chosen["EASE"].validation["ndcg@10"] == pytest.approx(figures[best]["ndcg@10"], abs=1e-4)
    assert chosen["EASE"].tried == 3
    assert path.read_text(encoding="utf-8").startswith("# A comment that stays: 결과\n")
    # A trial on disk is not repeated: its result is used.
    worst = min(figures, key=lambda weight: figures[weight]["ndcg@10"])
    for file in (trials / "own").glob("EASE-*.json"):
        text = file.read_text(encoding="utf-8")
        if yaml.safe_load(text)["settings"] == {"regularization": worst}:
            file.write_text(text.replace('"ndcg@10": ', '"ndcg@10": 9'), encoding="utf-8")
    search("own", ["EASE"], trials, Console(quiet=True))
    assert load("own").chosen["EASE"].settings == {"regularization": worst}
    assert load("own").chosen["popularity"] == chosen["popularity"]


def test_unsearched_settings_are_an_error(own_file: Callable[[dict[str, Any]], Path]) -> None:
    own_file({"EASE": {"regularization": [1.0, 2.0]}, "popularity": {}})
    config = load("own")
    assert config.settings(BASELINES["popularity"]) == parse(BASELINES["popularity"], {})
    with pytest.raises(BabelrecError, match="--search"):
        config.settings(BASELINES["EASE"])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"EASY": {}}, "'EASY'"),
        ({"EASE": {"lambda": [1.0]}}, "lambda"),
        ({"EASE": {"regularization": ["much"]}}, "much"),
    ],
)
def test_mistakes_in_a_file_are_named(
    space: dict[str, Any], message: str, own_file: Callable[[dict[str, Any]], Path]
) -> None:
    own_file(space)
    with pytest.raises(BabelrecError, match=message):
        load("own").candidates(BASELINES["EASE"])


def test_an_absent_file_is_named() -> None:
    with pytest.raises(BabelrecError, match=r"configs/baselines/absent\.yaml"):
        load("absent")


def test_outcomes_are_merged(own_file: Callable[[dict[str, Any]], Path]) -> None:
    own_file({"EASE": {"regularization": [1.0]}, "popularity": {}})
    one = baselines_config.Chosen(settings={}, validation={"ndcg@10": 0.1}, tried=1)
    two = baselines_config.Chosen(settings={"regularization": 1.0}, validation={"ndcg@10": 0.2}, tried=1)
    save_chosen("own", {"popularity": one})
    save_chosen("own", {"EASE": two})
    assert load("own").chosen == {"popularity": one, "EASE": two}
    assert isinstance(load("own"), BaselinesConfig)


def test_popularity_counts_only_training_users() -> None:
    problem = problem_of([[0], [0, 1]], [[2], [2]], 3, [-1, -1])
    assert np.asarray(
        BASELINES["popularity"].fit(problem, parse(BASELINES["popularity"], {}), 0)(slice(0, 2))
    ).tolist() == [
        [2, 1, 0],
        [2, 1, 0],
    ]


def test_positives_of_a_problem_keep_their_order(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", users=2)
    catalogue = Catalogue.from_dataset(dataset)
    history = pl.DataFrame({"user_id": ["u0"] * 3, "item_id": ["i5", "i0", "i3"], "timestamp": [1, 2, 3]})
    held_out = pl.DataFrame({"user_id": ["u0"], "item_id": ["i2"], "timestamp": [4]})
    problem = Problem.make(catalogue, history, history, held_out)
    assert [["i0", "i2", "i3", "i5"][item] for item in problem.evaluated.of_user(0)] == ["i5", "i0", "i3"]
    assert problem.evaluated.matrix().toarray().tolist() == [[1, 0, 1, 1]]

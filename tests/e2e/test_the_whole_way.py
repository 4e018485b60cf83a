"""By the command line alone: ratings in, recommendations over gRPC out, on MovieLens-100k."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the graph's operations)

from serving.client import Query, RecommenderClient

_REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("cache")


def _task(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "trainer.task", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=_REPOSITORY,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("e2e") / "run"
    _task(
        "fit", "--config", "configs/quickstart.yaml", "--run-dir", path,
        "--set", "training.epochs=2", "--set", "training.refit=false",
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def version(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("e2e-models") / "recommender"
    said = _task("export", "--run-dir", run_dir, "--model-dir", models).stdout
    assert "python -m serving.server" in said
    return models / "1"


@pytest.fixture(scope="module")
def address(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "serving.server", "--port=0", "--model_name=recommender",
                f"--model_base_path={version.parent}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 180
            while (found := re.search(r"Running gRPC ModelServer at \S+:(\d+)", log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"not ready in three minutes: {log.read_text()}"
                time.sleep(0.2)
            yield f"localhost:{found.group(1)}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_evaluation_reproduces_the_reference_popularity_and_beats_it(run_dir: Path) -> None:
    _task("evaluate", "--run-dir", run_dir)
    report = json.loads((run_dir / "evaluation.json").read_text(encoding="utf-8"))
    assert (report["dataset"], report["protocol"], report["split"]) == ("movielens-100k", "P1", "test")
    # Impressions are counted under P3 alone.
    sizes = {"users": 938, "items": 1447, "training": 43_919, "test": 11_442, "impressions": None}
    assert report["sizes"] == sizes
    popularity = next(each["metrics"] for each in report["baselines"] if each["model"] == "popularity")
    for name, reference in {"recall@10": 0.0820, "recall@20": 0.1153, "ndcg@10": 0.0801}.items():
        assert popularity[name]["value"] == pytest.approx(reference, abs=0.003)
    # Even two epochs are far above popularity; the quickstart's own figure stands in its config.
    assert report["metrics"]["recall@10"]["value"] > 0.12
    assert {path.suffix for path in run_dir.glob("evaluation*")} == {".json", ".md", ".png", ".parquet"}


def test_grpc_and_the_graph_called_directly_agree(version: Path, address: str) -> None:
    graph = tf.saved_model.load(str(version)).signatures["recommend"]
    none = tf.zeros([2, 0], tf.string)
    direct = graph(
        user_id=tf.constant(["42", ""]),
        history=tf.constant([["", ""], ["50", "181"]]),
        query=tf.constant(["", "우주 전쟁"]),
        language=tf.constant(["", "ko"]),
        country=tf.constant(["", ""]),
        timestamp=tf.zeros([2], tf.int64),
        k=tf.constant([10, 10]),
        exclude=none,
        languages=none,
        categories=none,
        include_seen=tf.constant([False, False]),
    )
    with RecommenderClient(address, "recommender", timeout=60.0) as client:
        first = client.recommend(Query(user_id="42", k=10))
        second = client.recommend(Query(history=["50", "181"], query="우주 전쟁", language="ko", k=10))
    for line, answer in enumerate((first, second)):
        assert [item.item_id for item in answer] == [item.decode() for item in direct["item_ids"].numpy()[line]]
        np.testing.assert_allclose([item.score for item in answer], direct["scores"].numpy()[line], rtol=1e-5)


def test_the_client_answers_text_queries_in_many_languages(address: str) -> None:
    command = [
        sys.executable,
        "-m",
        "serving.client",
        "recommend",
        "--address",
        address,
        "--k",
        "5",
        "--json",
        "--query",
    ]
    for text in ("科幻电影", "فيلم خيال علمي", "ภาพยนตร์ไซไฟ", "공상 과학 영화", "🚀", "x" * 5_000):
        done = subprocess.run([*command, text], capture_output=True, text=True, cwd=_REPOSITORY, check=True)
        assert len(json.loads(done.stdout)) == 5 or len(json.loads(done.stdout).get("items", [])) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "--config", "configs/nothing.yaml", "--run-dir", "/nonexistent/run"), "Can't read the config"),
        (
            ("fit", "--config", "configs/quickstart.yaml", "--set", "training.epoch=1", "--run-dir", "x"),
            "Did you mean 'epochs'",
        ),
        (("evaluate", "--run-dir", "/nonexistent/run"), "is not a run directory"),
        (("export", "--run-dir", "/nonexistent/run", "--model-dir", "x"), "is not a run directory"),
    ],
)
def test_faults_are_one_line_and_exit_code_one(arguments: tuple[str, ...], says: str) -> None:
    done = _task(*arguments, code=1)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["data", "fit", "finetune", "evaluate", "compare", "export", "settings"])
def test_every_verb_has_help(verb: str) -> None:
    assert "usage: python -m trainer.task" in _task(verb, "--help").stdout


def test_the_documented_way_names_commands_that_exist() -> None:
    readme = (_REPOSITORY / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`| {4})make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", (_REPOSITORY / "Makefile").read_text(), re.MULTILINE), target
    for page in re.findall(r"\]\(([^)]+)\)", readme):
        assert (_REPOSITORY / page).exists(), page

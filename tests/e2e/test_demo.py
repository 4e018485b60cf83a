"""`make demo`'s program: the screen, and a second run that reuses what is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import dump_config

_REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("cache")
def test_the_demo_shows_everything_and_reuses_it(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "dataset")
    config = tmp_path / "tiny.yaml"
    settings = tiny_config(dataset.path, training={"epochs": 1, "refit": False, "batch_size": 64})
    config.write_text(dump_config(settings), encoding="utf-8")

    def demo() -> str:
        arguments = [
            "--config",
            config,
            "--run-dir",
            tmp_path / "run",
            "--model-dir",
            tmp_path / "models" / "recommender",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "trainer.demo", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=_REPOSITORY,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = demo()
    for shown in ("Trained on tiny", "popularity", "recall@10", "recommender/1", "Ten films for user 42", "우주"):
        assert shown in first.replace("\n", ""), first
    for language in ("English", "Chinese", "Arabic", "Thai", "Korean", "Japanese", "Russian", "Spanish"):
        assert language in first
    again = demo()
    assert again.count("reusing the existing result") == 3
    assert {path.name for path in (tmp_path / "models" / "recommender").iterdir()} == {".lock", "1"}

"""User-defined losses, given in the config by import path."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config.settings import dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.registry import METRICS
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.further import TrainingStep
from trainer.runs import Run
from trainer.training.fit import fit
from trainer.training.terms import own_term

pytestmark = pytest.mark.usefixtures("cache")

_LOSSES = """
import tensorflow as tf

def push(model):
    def term(step):
        return -tf.reduce_mean(step.vectors[:, 0])
    return term

def nothing(model):
    return 3

ten = 10
"""


@pytest.fixture
def losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_losses.py").write_text(_LOSSES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_user_defined_loss_is_minimised(losses: Path, tiny: Dataset, tiny_run: Run, tmp_path: Path) -> None:
    config = tiny_config(tiny.path, training={"own_losses": [{"path": "my_losses:push", "weight": 5.0}]})
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    # In a separate process, as a user would run it.
    command = [sys.executable, "-m", "trainer.task", "fit", "--config", str(tmp_path / "config.yaml")]
    environment = os.environ | {"PYTHONPATH": f"{losses}:{Path.cwd()}"}
    subprocess.run([*command, "--run-dir", str(tmp_path / "run")], env=environment, check=True, capture_output=True)
    first = {}
    for run in (Run.open(tmp_path / "run"), tiny_run):
        catalogue = Catalogue.from_dataset(tiny)
        items = item_table_of_run(run, catalogue)
        vectors = load_recommender(run, items).candidate_vectors(items)
        first[run.path] = float(np.mean(vectors[:, 0]))
    pushed, usual = first.values()
    assert pushed > usual + 0.2


def test_the_page_s_example_is_a_loss() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")
    names: dict[str, Callable[..., Callable[..., tf.Tensor]]] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    vectors = tf.constant([[2.0, 0.0], [0.0, 3.0]])
    step = TrainingStep({}, vectors, lambda *_: (vectors, vectors), lambda *_: tf.zeros([]))  # type: ignore[typeddict-item]
    # Two cosines of an item with itself, two of orthogonal vectors.
    assert float(names["spread"](None)(step)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": {"own_losses": [{"path": "my_losses:ten"}]}}, "is a int, not a Callable"),
        ({"training": {"own_losses": [{"path": "missing:x"}]}}, "No module named 'missing'"),
        ({"evaluation": {"metrics": ["missing:x"]}}, "No module named 'missing'"),
    ],
)
def test_a_wrong_path_is_refused_before_anything_is_written(
    losses: Path, tiny: Dataset, tmp_path: Path, settings: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(BabelrecError, match=message):
        fit(tiny_config(tiny.path, **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "recall" in METRICS


def test_a_function_without_a_loss(losses: Path) -> None:
    with pytest.raises(BabelrecError, match="returned a int for a model"):
        own_term("my_losses:nothing", tf.keras.Model())

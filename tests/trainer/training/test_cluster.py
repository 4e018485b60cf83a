"""Two workers train as one process does; and what they refuse."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config.settings import Config, dump_config
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.training.cluster import Cluster
from trainer.training.fit import fit
from trainer.training.sameness import check_shareable
from trainer.training.tf_config import Place

pytestmark = pytest.mark.usefixtures("cache")

_TRAINED = "/.ATTRIBUTES/VARIABLE_VALUE"


def _config(dataset: Path) -> Config:
    """Everything that a step does, but nothing hidden at random: each worker hides other things."""
    query = {"history_length": 8, "user_dropout": 0.0, "history_dropout": 0.0, "feature_dropout": 0.0}
    return tiny_config(
        dataset,
        model={
            "dimension": 16,
            "linear": {"rank": 0},
            # A number that two workers can't share equally.
            "retrieval": {"uniform_negatives": 15},
            "query": query,
            "candidate": {"id_dropout": 0.0, "feature_dropout": 0.0, "text_noise": 0.0},
            "search": {"enabled": False},
        },
        training={"epochs": 2, "refit": False, "ema_decay": 0.9, "histograms": False},
    )


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


def _train_together(settings: Path, run_dir: Path) -> list[subprocess.CompletedProcess[str]]:
    """Runs `fit` as two workers."""
    hosts = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    command = [sys.executable, "-m", "trainer.task", "fit", "--config", str(settings), "--run-dir", str(run_dir)]
    workers = []
    for index in range(2):
        place = json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})
        workers.append(
            subprocess.Popen(
                command,
                env=os.environ | {"TF_CONFIG": place},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [worker.communicate(timeout=600)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [
        subprocess.CompletedProcess(command, worker.returncode, output)
        for worker, output in zip(workers, outputs, strict=True)
    ]


def _weights(run_dir: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run_dir / "weights")))
    return {
        name: reader.get_tensor(name)
        for name, kind in reader.get_variable_to_dtype_map().items()
        if name.endswith(_TRAINED) and kind == tf.float32
    }


def test_two_workers_have_the_loss_curve_and_the_weights_of_one_process(tiny: Dataset, tmp_path: Path) -> None:
    config = _config(tiny.path)
    settings = tmp_path / "tiny.yaml"
    settings.write_text(dump_config(config), encoding="utf-8")
    chief, other = _train_together(settings, tmp_path / "two")
    assert chief.returncode == other.returncode == 0, chief.stdout + other.stdout
    alone = fit(config, tmp_path / "one")
    one, two = (json.loads((tmp_path / name / "history.json").read_text())["phases"] for name in ("one", "two"))
    assert one.keys() == two.keys() >= {"loss", "retrieval_loss", "ranking_loss", "val_recall@10"}
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-4, err_msg=name)
    # Not only the sums: every weight, those of the average too, which are the ones that are kept.
    before, after = _weights(alone.path), _weights(tmp_path / "two")
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    # The chief alone has written, and alone has said what it measured.
    assert "validation Recall@10" in chief.stdout
    assert "validation Recall@10" not in other.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "one", "two"}
    assert len(list((tmp_path / "two").glob("events.out.tfevents.*"))) == 1


def _shared(replicas: int) -> Cluster:
    cluster = Cluster(tf.distribute.get_strategy(), Place())
    cluster.replicas = replicas
    return cluster


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"start_from": "/runs/우주선"}, "training.start_from"),
        ({"adversarial": {"method": "fgm"}}, "training.adversarial.method"),
    ],
)
def test_what_trains_on_one_device_only_is_refused(tiny: Dataset, section: dict[str, object], name: str) -> None:
    config = tiny_config(tiny.path, training=section)
    check_shareable(config, _shared(1))
    with pytest.raises(BabelrecError, match=rf"{name} is set.*this training has 2"):
        check_shareable(config, _shared(2))


def test_a_process_that_has_used_tensorflow_is_told_to_begin_anew(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf.constant(1.0)
    host, other = (f"127.0.0.1:{port}" for port in _free_ports(2))
    place = {"cluster": {"worker": [host, other]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(place))
    with pytest.raises(BabelrecError, match=r"before anything else uses TensorFlow"):
        fit(_config(tiny.path), tmp_path / "run")
    assert not (tmp_path / "run").exists()

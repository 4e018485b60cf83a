"""`fit`: what it writes, resuming, and how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.export.export import export
from trainer.locks import LOCK_FILE, writing_alone
from trainer.models.assembly import load_recommender, make_item_table
from trainer.runs import Run
from trainer.training.blend import choose_blend
from trainer.training.finetune import finetune
from trainer.training.fit import fit
from trainer.training.optimizer import WarmupCosine
from trainer.training.state import WeightAverage

pytestmark = pytest.mark.usefixtures("cache")


def test_a_run_learns_the_two_tastes(tiny_run: Run) -> None:
    report = evaluate_collaborative(tiny_run)
    popularity = next(result for result in report.baselines if result.model == "popularity")
    # A user's test items are among the 18 not yet seen of the 30 of one genre: 10 of 18 by chance within
    # the genre, 10 of 48 by chance over both.
    assert report.metrics["recall@10"].value > 1.3 * popularity.metrics["recall@10"].value


def test_a_run_directory_holds_what_later_steps_need(tiny_run: Run, tiny: Dataset) -> None:
    names = {path.name for path in tiny_run.path.iterdir()}
    assert {
        "config.yaml",
        "data.json",
        "vocabulary.json",
        "blend.json",
        "history.json",
        "weights",
        "projector",
    } <= names
    assert json.loads((tiny_run.path / "data.json").read_text())["fingerprint"] == tiny.fingerprint
    assert (tiny_run.path / "config.yaml").read_text(encoding="utf-8") == dump_config(tiny_run.config)


def test_one_process_that_does_it_all_traces_nothing_in_vain(tiny: Dataset, tmp_path: Path) -> None:
    # In a separate process: TensorFlow warns about retracing at most twice, and other tests trace as well.
    settings = tmp_path / "tiny.yaml"
    split = {"cold_items": 0.1}
    settings.write_text(dump_config(tiny_config(tiny.path, data={"split": split}, training={"epochs": 2})), "utf-8")
    program = """
import sys
from pathlib import Path
from trainer.config.loading import load_config
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.export.export import export
from trainer.training.fit import fit
run = fit(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
evaluate_collaborative(run)
export(run, Path(sys.argv[3]))
"""
    command = [sys.executable, "-c", program, str(settings), str(tmp_path / "run"), str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "retracing" not in done.stderr
    assert "pkg_resources" not in done.stderr


def test_a_finished_run_is_left_alone(tiny_run: Run) -> None:
    before = tiny_run.weights_digest()
    fit(tiny_run.config, tiny_run.path)
    assert tiny_run.weights_digest() == before


def test_the_same_settings_give_the_same_model(tiny: Dataset, tmp_path: Path) -> None:
    runs = [fit(tiny_config(tiny.path, training={"epochs": 1, "refit": False}), tmp_path / name) for name in "ab"]
    first, second = (evaluate_collaborative(run).metrics for run in runs)
    assert first == second


def test_other_settings_in_the_same_directory_are_refused(tiny_run: Run, tiny: Dataset) -> None:
    with pytest.raises(BabelrecError, match=r"training\.epochs: 3 -> 4"):
        fit(tiny_config(tiny.path, training={"epochs": 4}), tiny_run.path)


def test_a_killed_run_resumes_and_ends_as_good(tiny: Dataset, tiny_run: Run, tmp_path: Path) -> None:
    config = tiny_config(tiny.path)
    settings = tmp_path / "tiny.yaml"
    settings.write_text(dump_config(config), encoding="utf-8")
    path = tmp_path / "run"
    command = [sys.executable, "-m", "trainer.task", "fit", "--config", str(settings), "--run-dir", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    checkpoint = path / "checkpoints" / "select" / "last" / "checkpoint"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Run.open(path).finished
    resumed = fit(config, path)
    assert resumed.finished
    recall = evaluate_collaborative(resumed).metrics["recall@10"].value
    whole = evaluate_collaborative(tiny_run).metrics["recall@10"]
    assert whole.ci95 is not None
    assert recall >= whole.ci95[0], "as good as the run that was not killed, within its interval"


def test_a_damaged_checkpoint_is_reported(tiny_run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(tiny_run.path, copy)
    for file in (copy / "weights").glob("*.data-*"):
        file.write_bytes(b"\0" * 100)
    with pytest.raises(BabelrecError, match="damaged, or was written with other settings"):
        load_recommender(Run.open(copy))


def test_a_diverging_loss_stops_with_a_remedy(tiny: Dataset, tmp_path: Path) -> None:
    config = tiny_config(tiny.path, training={"learning_rate": 1e30, "warmup_steps": 0, "clip_norm": 1e30})
    with pytest.raises(BabelrecError, match=r"Lower training\.learning_rate"):
        fit(config, tmp_path / "run")


def test_a_second_writer_is_refused_by_name(tiny_run: Run, tmp_path: Path) -> None:
    with writing_alone(tmp_path / "run"):
        wanted = rf"written by another process \(pid {os.getpid()} on "
        with pytest.raises(BabelrecError, match=wanted):
            fit(tiny_run.config, tmp_path / "run")
        with pytest.raises(BabelrecError, match=wanted):
            finetune(tiny_run.config, tiny_run, tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == [LOCK_FILE]


def test_changed_data_are_noticed(tiny_run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(tiny_run.path, copy)
    record = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps(record | {"fingerprint": "0" * 64}))
    with pytest.raises(BabelrecError, match="have changed since"):
        fit(tiny_run.config, copy)
    with pytest.raises(BabelrecError, match="have changed since"):
        Run.open(copy).dataset()


def test_learning_rate_warms_up_and_falls_by_a_cosine() -> None:
    schedule = WarmupCosine(1.0, 10, 110)
    assert float(schedule(tf.constant(0))) == pytest.approx(0.1)
    assert float(schedule(tf.constant(9))) == pytest.approx(1.0)
    assert float(schedule(tf.constant(60))) == pytest.approx(0.02 + 0.98 * 0.5)
    assert float(schedule(tf.constant(110))) == pytest.approx(0.02)
    assert float(schedule(tf.constant(500))) == pytest.approx(0.02)


def test_the_average_follows_the_weights_and_steps_aside() -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.build([None, 1])
    average = WeightAverage(model, decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 3.0], start=1):
        model.weights[0].assign([[value]])
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert float(model.weights[0][0, 0]) == pytest.approx(expected)
    assert float(model.weights[0][0, 0]) == 3.0


def test_ema_is_an_option_that_ends_well(tiny: Dataset, tmp_path: Path) -> None:
    run = fit(tiny_config(tiny.path, training={"ema_decay": 0.9, "epochs": 1}), tmp_path / "run")
    assert evaluate_collaborative(run).metrics["recall@10"].value > 0


class _Letters(tf.Module):
    """A small encoder with the interface of the official one: a trainable vector per byte, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = tf.Variable(tf.random.stateless_normal([256, 8], seed=[1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, text: tf.Tensor) -> tf.Tensor:
        letters = tf.strings.bytes_split(text)
        codes = tf.io.decode_raw(letters.flat_values, tf.uint8, fixed_length=1)[:, 0]
        vectors = tf.gather(self.matrix, tf.cast(codes, tf.int32))
        summed = tf.math.unsorted_segment_sum(vectors, letters.value_rowids(), tf.size(text))
        return tf.math.l2_normalize(summed, axis=1)


def _save(source: "_Letters", path: Path) -> str:
    exported = tf.train.Checkpoint()
    exported.__call__ = source.__call__
    exported.matrix = source.matrix
    exported.variables = exported.trainable_variables = [source.matrix]
    exported.regularization_losses = []
    tf.saved_model.save(exported, str(path))
    return str(path)


def test_an_encoder_that_is_trained_along_reads_prepared_texts(tiny: Dataset, tmp_path: Path) -> None:
    text: dict[str, object] = {
        "encoder": _save(_Letters(), tmp_path / "encoder"),
        "tuning": {"mode": "full"},
        "preprocessing": ["casefold"],
    }
    config = tiny_config(tiny.path, text=text)
    catalogue = Catalogue.from_dataset(tiny)
    catalogue = replace(catalogue, texts=[f"ÉTÉ {content}" for content in catalogue.texts])
    vocabulary = Vocabulary.from_training(tiny, catalogue, split(tiny, config.data), config)
    read = make_item_table(config, catalogue, vocabulary).texts.numpy()
    assert [content.decode() for content in read] == [content.casefold() for content in catalogue.texts]


def test_a_local_encoder_is_trained_along_when_asked(tiny: Dataset, tmp_path: Path) -> None:
    source = _Letters()
    _save(source, tmp_path / "encoder")
    config = tiny_config(
        tiny.path,
        text={"encoder": str(tmp_path / "encoder"), "tuning": {"mode": "full"}},
        training={"epochs": 1, "batch_size": 64, "refit": False},
    )
    run = fit(config, tmp_path / "run")
    encoder = load_recommender(run).candidate_tower.encoder
    assert encoder is not None
    text = tf.constant(["space ship", "우주선", ""])
    assert np.abs(encoder(text).numpy() - source(text).numpy()).max() > 1e-4, "training moved the encoder"
    loaded = tf.saved_model.load(str(export(run, tmp_path / "models")))
    served = loaded.signatures["encode_text"](text=text)["embeddings"].numpy()
    np.testing.assert_allclose(served, encoder(text).numpy(), rtol=1e-4, atol=1e-5)


def test_a_run_starts_from_another_and_learns_from_some_users(tiny: Dataset, tiny_run: Run, tmp_path: Path) -> None:
    config = tiny_config(
        tiny.path,
        data={"source": {"name": "dataset", "path": str(tiny.path)}, "split": {"train_users": 0.1}},
        training={
            "epochs": 1,
            "refit": False,
            "learning_rate": 1e-9,
            "start_from": str(tiny_run.path),
            "batch_size": 32,
        },
    )
    run = fit(config, tmp_path / "run")
    vocabulary = Vocabulary.load(run.vocabulary)
    assert len(vocabulary.users) == 8
    given, taken = load_recommender(tiny_run), load_recommender(run)
    np.testing.assert_allclose(
        taken.candidate_tower.embed_text(tf.ones([1, 512])),
        given.candidate_tower.embed_text(tf.ones([1, 512])),
        rtol=1e-3,
    )
    report = evaluate_collaborative(run)
    assert report.sizes is not None
    assert report.sizes.users == 80, "all users ask, though few were learned from"


def test_a_blend_of_unknown_heads_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    config = tiny_config(tiny.path, model={"ranking": {"blend": {"retrieval": 1.0, "lik": 1.0}}})
    with pytest.raises(BabelrecError, match="weighs 'lik'; the heads are retrieval, like, rating"):
        fit(config, tmp_path / "run")


def test_the_blend_is_chosen_from_fewer_candidates_than_the_cut_off(tiny: Dataset, tiny_run: Run) -> None:
    model = load_recommender(tiny_run)
    catalogue = Catalogue.from_dataset(tiny)
    parts = split(tiny, tiny_run.config.data)
    hold_out = HoldOut(catalogue, Vocabulary.load(tiny_run.vocabulary), parts.train, parts.validation, candidates=5)
    chosen = choose_blend(hold_out.ranker(model, model.items, {"retrieval": 1.0}), hold_out, model.signals, seed=0)
    assert set(chosen.weights) == {"retrieval", "like", "rating"}
    assert all(found.low <= found.gain <= found.high for found in chosen.signals.values())


def test_popularity_counts_users_not_evaluated(tiny: Dataset, tiny_run: Run) -> None:
    catalogue = Catalogue.from_dataset(tiny)
    parts = split(tiny, tiny_run.config.data)
    one = parts.test.filter(user_id="u0")
    hold_out = HoldOut(catalogue, Vocabulary.load(tiny_run.vocabulary), parts.train, one, candidates=20)
    counts = Counter(parts.train["item_id"])
    found = {
        catalogue.item_ids[row]: int(count)
        for row, count in zip(hold_out.candidate_rows, hold_out.training_counts, strict=True)
    }
    assert {item: count for item, count in found.items() if count} == dict(counts)
    assert hold_out.train.num_users == 1


def test_events_of_one_moment_are_still_learned_from(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "made")
    flat = dataset.interactions().with_columns(timestamp=pl.lit(1_600_000_000, pl.Int64)).collect()
    users = dataset.users()
    assert users is not None
    same = write_dataset(
        tmp_path / "flat",
        name="flat",
        description="",
        licence="",
        homepage="",
        interactions=flat,
        items=dataset.items().collect(),
        users=users.collect(),
    )
    run = fit(tiny_config(same.path, training={"epochs": 1, "refit": False, "batch_size": 64}), tmp_path / "run")
    assert run.finished

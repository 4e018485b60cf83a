"""`finetune`: what is taken over from another run, what is kept, and what is reported."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.trainer.scorers.features import with_neighbours
from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.loading import parse_config
from trainer.config.settings import Config, dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import choose_heads
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.export.export import export
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.calibration import load_calibrations
from trainer.models.ranking import RankingModel
from trainer.models.settings import RankingConfig
from trainer.models.sharing import copy_ids, shared_weights, weight_paths
from trainer.models.weights import save_weights
from trainer.runs import Run
from trainer.scorers.fusion import Fusion
from trainer.task import main
from trainer.text.settings import TextConfig, TuningConfig
from trainer.towers.neighbours import NeighbourIds
from trainer.training.finetune import finetune, finetune_config, finetune_markdown, forgetting
from trainer.training.fit import fit
from trainer.training.optimizer import make_optimizer
from trainer.training.settings import TrainingConfig, TransferConfig
from trainer.training.transfer import SourceModel, Transfer, check_encoders, choose_share

pytestmark = pytest.mark.usefixtures("cache")

_TABLES = ("_category/", "_language/", "_features/", "_id/", "_user/")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Other users with other preferences over items of the same kind."""
    return tiny_dataset(tmp_path_factory.mktemp("market") / "dataset", items=50, users=40, seed=9)


def _config(market: Dataset, source: Run, mode: str = "frozen", **training: object) -> Config:
    config = tiny_config(
        market.path,
        text={"tuning": {"mode": mode, "rank": 2}},
        training={"epochs": 1, "batch_size": 64, "warmup_steps": 2, **training},
    )
    # `tiny_config` names the model; what is not named comes from the source.
    return finetune_config(config, source)


def _shared(run: Run) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a run that are not id vectors, by position."""
    return {
        name: weight.numpy()
        for name, weight in weight_paths(load_recommender(run)).items()
        if weight.trainable and not any(table in f"{name}/" for table in _TABLES)
    }


def test_two_models_of_one_process_share_every_weight_but_vectors_of_ids(tiny_run: Run) -> None:
    given, taken = load_recommender(tiny_run), load_recommender(tiny_run)
    for weight in taken.trainable_variables:
        weight.assign(tf.ones_like(weight) * 7.0)
    shared = shared_weights(given, taken)
    assert shared.copy() == len(shared.names)
    names = weight_paths(taken)
    kept = {name for name, weight in names.items() if weight.trainable and np.all(weight.numpy() == 7.0)}
    assert kept == {name for name, weight in names.items() if any(table in f"{name}/" for table in _TABLES)}
    # Layers whose names Keras keeps numbering: the residual and the cross network.
    assert any("_residual" in name for name in shared.names)
    assert any("_cross" in name for name in shared.names)
    for name, weight in weight_paths(given).items():
        if name in shared.names:
            np.testing.assert_array_equal(names[name].numpy(), weight.numpy())


@pytest.mark.parametrize("neighbours", [False, True])
def test_equal_ids_of_one_market_keep_their_vectors(tiny_run: Run, neighbours: bool) -> None:
    candidate = tiny_run.config.model.candidate
    nearest = candidate.neighbours.model_copy(update={"enabled": neighbours})
    model = tiny_run.config.model.model_copy(
        update={
            "candidate": candidate.model_copy(update={"neighbours": nearest, "item_id": True}),
            "query": tiny_run.config.model.query.model_copy(update={"user_id": True}),
        }
    )
    config = tiny_run.config.model_copy(update={"model": model})
    catalogue = Catalogue.from_dataset(tiny_run.dataset())
    everything = Vocabulary.load(tiny_run.vocabulary)
    # Later there are another user, two other items and another order.
    known = replace(everything, users=everything.users[:-1], items=everything.items[2:])
    later = replace(everything, users=everything.users[::-1], items=everything.items[::-1])
    given = make_recommender(config, known, make_item_table(config, catalogue, known))
    items = make_item_table(config, catalogue, later)
    taken = make_recommender(config, later, items)
    written = copy_ids(given, known, taken, later, items)
    before, after = weight_paths(given), weight_paths(taken)
    assert {id(each) for each in written} == {
        id(weight)
        for name, weight in after.items()
        if any(table in f"{name}/" for table in _TABLES) and weight.shape.rank
    }
    for path, first, second in (
        ("query_tower/_user/embeddings", known.users, later.users),
        ("candidate_tower/_id/embeddings", known.items, later.items),
    ):
        old, new = before[path].numpy(), after[path].numpy()
        assert not new[0].any()
        for place, value in enumerate(second, start=1):
            if value in first:
                np.testing.assert_array_equal(new[place], old[first.index(value) + 1])
    unknown_user = after["query_tower/_user/embeddings"].numpy()[later.users.index(everything.users[-1]) + 1]
    assert not unknown_user.any()
    # A new item starts where the model placed it before: without an id, or among its neighbours.
    rows = [catalogue.item_ids.index(item) for item in everything.items[:2]]
    old_items = make_item_table(config, catalogue, known)
    placed = given.candidate_vectors(old_items).numpy()[rows]
    np.testing.assert_allclose(_like(given, taken).candidate_vectors(items).numpy()[rows], placed, atol=1e-5)


def _like(given: tf.keras.Model, taken: tf.keras.Model) -> tf.keras.Model:
    """The second with the first's shared weights too."""
    shared_weights(given, taken).copy()
    return taken


class _Parts(tf.keras.Model):
    """What belongs to one market besides its id vectors."""

    def __init__(self, events: dict[str, float | None]) -> None:
        super().__init__()
        self.ids = NeighbourIds(3, 4, dropout=0.0, name="item")
        self.heads = RankingModel(choose_heads(list(events), events), RankingConfig(), Fusion(4))
        self.ids(tf.constant([0]), with_neighbours(np.zeros((1, 3))))
        self.heads(tf.zeros([1, 4]), tf.zeros([1, 1, 4]))


def test_heads_of_other_events_and_what_a_market_learned_of_itself_are_not_shared() -> None:
    rated: dict[str, float | None] = {"rating": 4.0}
    bought: dict[str, float | None] = {"click": None, "purchase": None}
    # Both have two heads, so the shapes agree.
    alike, different = (shared_weights(_Parts(rated), _Parts(other)).names for other in (rated, bought))
    assert {name.split("/")[0] for name in (*alike, *different)} == {"heads"}
    assert set(alike) - set(different) == {"heads/_logits/kernel", "heads/_logits/bias"}
    assert len(different) > 2


def test_models_without_a_common_weight_are_refused() -> None:
    models = []
    for units in (2, 3):
        models.append(tf.keras.Sequential([tf.keras.layers.Dense(units)]))
        models[-1].build([None, units])
    with pytest.raises(BabelrecError, match="share no weight"):
        shared_weights(*models)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0.5, 1.0),  # all may be lost that is: the best target
        (0.06, 0.5),  # 0.47 of 0.50 is within six percent, 0.30 is not
        (0.0, 0.25),  # nothing may be lost: a share that gains is allowed
    ],
)
def test_the_share_is_the_best_for_the_target_that_keeps_the_source(limit: float, expected: float) -> None:
    curve = [
        {"share": 0.0, "target": 0.10, "source": 0.50},
        {"share": 0.25, "target": 0.20, "source": 0.51},
        {"share": 0.5, "target": 0.30, "source": 0.47},
        {"share": 1.0, "target": 0.40, "source": 0.30},
    ]
    assert choose_share(curve, limit) == expected


def test_settings_come_from_the_source_where_they_are_not_given(tiny_run: Run, market: Dataset, tmp_path: Path) -> None:
    bare = Config.model_validate({"data": {"source": {"name": "dataset", "path": str(market.path)}}})
    config = finetune_config(bare, tiny_run)
    assert config.model == tiny_run.config.model
    assert config.training.learning_rate == pytest.approx(tiny_run.config.training.learning_rate / 10)
    assert config.training.start_from == tiny_run.path
    given = bare.model_copy(update={"training": bare.training.model_validate({"learning_rate": 0.5})})
    assert finetune_config(given, tiny_run).training.learning_rate == 0.5
    unfinished = Run.create(tmp_path / "unfinished", bare)
    with pytest.raises(BabelrecError, match="no trained model to start from"):
        finetune_config(bare, unfinished)


def test_another_encoder_or_another_tuning_is_refused() -> None:
    lora, frozen = TextConfig(tuning=TuningConfig(mode="lora")), TextConfig()
    check_encoders(frozen, lora)
    check_encoders(lora, lora)
    with pytest.raises(BabelrecError, match="has tuned its encoder"):
        check_encoders(lora, frozen)
    with pytest.raises(BabelrecError, match="Use the same encoder"):
        check_encoders(frozen, TextConfig(encoder="muse-usem3"))


@pytest.fixture(scope="module")
def tuned(tiny_run: Run, market: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, object]]:
    """A run with LoRA and replay, by the command line, and its record."""
    directory = tmp_path_factory.mktemp("tuned")
    config = tiny_config(
        market.path,
        text={"tuning": {"mode": "lora", "rank": 2}},
        training={"epochs": 1, "batch_size": 64, "warmup_steps": 2, "transfer": {"replay": 0.1, "max_forgetting": 0.9}},
        # The record is at ten regardless.
        evaluation={"ks": [5]},
    )
    (directory / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    arguments = ["finetune", "--from", str(tiny_run.path), "--config", str(directory / "config.yaml")]
    assert main([*arguments, "--set", "training.learning_rate=0.003", "--run-dir", str(directory / "run")]) == 0
    run = Run.open(directory / "run")
    return run, run.read("finetune.json")


def test_both_markets_are_measured_before_and_after(tuned: tuple[Run, dict[str, object]], tiny_run: Run) -> None:
    run, record = tuned
    after = Run.open(run.path / "source")
    for role, name, reference in (
        ("source", "before", evaluate_collaborative(tiny_run)),
        ("source", "after", evaluate_collaborative(after)),
        ("target", "after", evaluate_collaborative(Run.open(run.path, ["evaluation.ks=[10]"]))),
    ):
        assert record[role][name]["recall@10"] == pytest.approx(reference.metrics["recall@10"].value)  # type: ignore[index]
    source = record["source"]
    lost = 1 - source["after"]["ndcg@10"] / source["before"]["ndcg@10"]  # type: ignore[index]
    assert record["forgetting"]["ndcg@10"] == pytest.approx(lost)  # type: ignore[index]
    # Six kernels of mUSE, rank 2.
    assert record["encoder"]["trained"] == 2 * 4992  # type: ignore[index]
    assert record["encoder"]["share"] < 0.05  # type: ignore[index]
    page = (run.path / "finetune.md").read_text(encoding="utf-8")
    assert "| source: tiny |" in page
    assert "9,984 of" in page


def test_the_sources_model_has_the_new_shared_weights_and_its_own_ids(
    tuned: tuple[Run, dict[str, object]], tiny_run: Run
) -> None:
    run, _ = tuned
    new, after = _shared(run), _shared(Run.open(run.path / "source"))
    assert any("encoder" in name for name in after)
    common = [name for name in new if name in after and new[name].shape == after[name].shape]
    assert len(common) > 20
    for name in common:
        np.testing.assert_array_equal(new[name], after[name])
    before, own = load_recommender(tiny_run), load_recommender(Run.open(run.path / "source"))
    np.testing.assert_array_equal(
        weight_paths(before)["candidate_tower/_id/embeddings"].numpy(),
        weight_paths(own)["candidate_tower/_id/embeddings"].numpy(),
    )


def test_an_averaged_run_lies_on_the_line_that_its_record_names(
    tuned: tuple[Run, dict[str, object]], tiny_run: Run
) -> None:
    record = tuned[0].read("transfer.json")
    assert [point["share"] for point in record["curve"]] == pytest.approx(np.linspace(0, 1, 11))
    least = record["curve"][0]["source"] * 0.1
    allowed = [point for point in record["curve"] if point["source"] >= least]
    chosen = next(point for point in record["curve"] if point["share"] == record["share"])
    assert chosen["target"] == max(point["target"] for point in allowed)
    # The source's quality at share 0 is that of the untouched run, LoRA and all.
    untouched = SourceModel(tiny_run, tiny_run.config.text).validator()
    assert untouched is not None
    assert record["curve"][0]["source"] == pytest.approx(untouched(), abs=1e-6)


def test_a_tuned_encoder_is_exported(tuned: tuple[Run, dict[str, object]], tmp_path: Path) -> None:
    run, _ = tuned
    model = load_recommender(run)
    encoder = model.candidate_tower.encoder
    assert encoder is not None
    # As if it had learned more than in these few steps.
    for weight in encoder.trainable_weights:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2]) * 0.05)
    moved = Run.create(tmp_path / "moved", run.config)
    for file in ("vocabulary.json", "data.json", "blend.json", "calibration.json"):
        if (run.path / file).exists():
            moved.write(file, run.read(file))
    save_weights(moved, model)
    texts = model.items.texts[:5]
    expected = encoder(texts).numpy()
    loaded = tf.saved_model.load(str(export(moved, tmp_path / "models")))
    titles = tf.constant(Catalogue.from_dataset(run.dataset()).texts[:5])
    served = loaded.signatures["encode_text"](text=titles)["embeddings"].numpy()
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_frozen_shared_weights_forget_nothing(tiny_run: Run, market: Dataset, tmp_path: Path) -> None:
    config = _config(
        market, tiny_run, learning_rate=0.05, refit=False, transfer={"shared": "frozen", "max_forgetting": None}
    )
    record = finetune(config, tiny_run, tmp_path / "run")
    assert record["forgetting"] == {"recall@10": 0.0, "ndcg@10": 0.0}
    assert record["share"] == 1.0
    before, after = _shared(tiny_run), _shared(Run.open(tmp_path / "run"))
    for name, value in before.items():
        if name in after and after[name].shape == value.shape:
            np.testing.assert_array_equal(after[name], value)


def test_settings_are_evaluated_when_the_sources_model_is_known(tiny_run: Run, market: Dataset) -> None:
    popular = Run.open(tiny_run.path, ["model.candidate.popularity=true"])
    raw: dict[str, object] = {"data": {"source": {"name": "dataset", "path": str(market.path)}}}
    factors = parse_config({**raw, "training": {"popularity_factors": [2.0]}}, "here")
    assert finetune_config(factors, popular).model.candidate.popularity
    with pytest.raises(BabelrecError, match=r"model\.candidate\.popularity, which is off"):
        finetune_config(factors, tiny_run)


def test_what_cannot_be_compared_is_refused_before_training(tiny_run: Run, market: Dataset, tmp_path: Path) -> None:
    config = _config(market, tiny_run)
    untested_source = Run.open(tiny_run.path, ["data.split.test_fraction=0.0"])
    with pytest.raises(BabelrecError, match=f"{tiny_run.path.name} leaves no test part"):
        finetune(config, untested_source, tmp_path / "run")
    untested = config.data.model_copy(update={"split": config.data.split.model_copy(update={"test_fraction": 0.0})})
    with pytest.raises(BabelrecError, match=r"data\.split\.test_fraction"):
        finetune(config.model_copy(update={"data": untested}), tiny_run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_heads_that_changed_are_recalibrated(tiny_run: Run, tmp_path: Path) -> None:
    source = Run.open(tiny_run.path, ["training.refit=false"])
    found = {}
    for stretch in (1.0, 3.0):
        other = SourceModel(source, source.config.text)
        for weight in other.model.ranking_model.of_heads:
            weight.assign(stretch * weight)
        other.save(tmp_path / str(stretch))
        # As in a repeated finetune.
        found[stretch] = load_calibrations(other.save(tmp_path / str(stretch)))
    raw = np.array([-1.0, 0.0, 0.5, 2.0], np.float32)
    assert found[1.0]
    for head, calibration in found[1.0].items():
        stretched = found[3.0][head]
        assert stretched.method == calibration.method != "none"
        expected = tf.sigmoid(calibration.applied.logits(raw))
        np.testing.assert_allclose(tf.sigmoid(stretched.applied.logits(3.0 * raw)), expected, atol=0.01)


def test_an_anchor_holds_the_weights_back(tiny_run: Run, market: Dataset, tmp_path: Path) -> None:
    distances = []
    for anchor in (0.0, 10.0):
        transfer = {"max_forgetting": None, "anchor": anchor}
        config = _config(market, tiny_run, learning_rate=0.01, refit=False, transfer=transfer)
        start, end = _shared(tiny_run), _shared(fit(config, tmp_path / str(anchor)))
        common = [name for name in start if name in end and start[name].shape == end[name].shape]
        distances.append(sum(float(np.square(end[name] - start[name]).sum()) for name in common))
    assert distances[1] < 0.7 * distances[0]


def test_replay_has_the_gradient_of_the_sources_loss(tiny_run: Run, market: Dataset) -> None:
    config = _config(market, tiny_run, transfer={"replay": 2.0})
    vocabulary_model = load_recommender(tiny_run)
    transfer = Transfer(config, vocabulary_model, Vocabulary.load(tiny_run.vocabulary))
    transfer.restrain(3)
    tf.random.set_seed(11)
    with tf.GradientTape() as tape:
        loss = tf.add_n(vocabulary_model.losses)
    shared = weight_paths(vocabulary_model)["query_tower/_history/kernel"]
    found = tape.gradient(loss, shared)

    other = SourceModel(tiny_run, config.text)
    batch = next(iter(other.batches(3)))
    tf.random.set_seed(11)
    with tf.GradientTape() as tape:
        own = other.model.compute_loss(batch, training=True)
    expected = tape.gradient(own, weight_paths(other.model)["query_tower/_history/kernel"])
    assert float(loss) == pytest.approx(2.0 * float(own), rel=1e-4)
    np.testing.assert_allclose(found, 2.0 * expected, rtol=1e-3, atol=1e-6)


def test_new_weights_learn_faster() -> None:
    """Adam's first step is its learning rate, whatever the gradient; 10 is the default of `new_rate`."""
    known, fresh = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    settings = TrainingConfig(learning_rate=0.01, warmup_steps=0, weight_decay=0.0, clip_norm=100.0)
    optimizer = make_optimizer(settings, 1000, fresh=[fresh])
    optimizer.build([known, fresh])
    gradient = tf.constant([0.3, -0.2])
    tf.function(optimizer.apply_gradients)([(gradient, known), (gradient, fresh)])
    np.testing.assert_allclose(known.numpy(), [0.99, 2.01], atol=1e-4)
    np.testing.assert_allclose(fresh.numpy(), [0.9, 2.1], atol=1e-4)
    assert float(optimizer.learning_rate) == pytest.approx(0.01, rel=1e-3)


def test_a_table_is_written_without_a_figure_before() -> None:
    figures = {"recall@10": 0.2, "ndcg@10": 0.1}
    record = {
        "data": {"source": "a", "target": "b"},
        "target": {"before": None, "after": figures},
        "source": {"before": {"recall@10": 0.4, "ndcg@10": 0.1}, "after": figures},
        "encoder": {"trained": 0, "total": 10, "share": 0.0},
        "mode": "frozen",
        "learning_rate": 1e-4,
        "share": 0.5,
        "seconds": 3.0,
    }
    page = finetune_markdown(json.loads(json.dumps(record)))
    assert "| target: b | - | 0.2000 |  |" in page
    assert "| source: a | 0.4000 | 0.2000 | -50.0 % | 0.1000 | 0.1000 | -0.0 % |" in page
    assert forgetting(0.0, 0.5) == 0.0


def test_defaults_bound_what_is_forgotten() -> None:
    assert 0.0 < (TransferConfig().max_forgetting or 0.0) < 0.03

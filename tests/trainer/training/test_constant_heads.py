"""A shop that records only purchases: no head is trained, shown, evaluated or served."""

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import Config
from trainer.data.dataset import write_dataset
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.evaluation.report.tables import to_markdown
from trainer.export.export import export
from trainer.models.assembly import load_recommender
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def purchases(tmp_path: Path) -> Config:
    source = tiny_dataset(tmp_path / "ratings")
    bought = (
        source.interactions()
        .filter(pl.col("value") >= 4.0)
        .with_columns(event=pl.lit("purchase"), value=pl.lit(None, pl.Float64))
    )
    made = write_dataset(
        tmp_path / "purchases",
        name="purchases",
        description="",
        licence="",
        homepage="",
        interactions=bought.collect(),
        items=source.items().collect(),
    )
    return tiny_config(made.path, model={"linear": {"rank": "auto"}})


def test_a_head_that_only_has_positives_is_left_out_everywhere(
    purchases: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trainer"):
        run = fit(purchases, tmp_path / "run")
    assert sum("No ranking head for 'purchase'" in message for message in caplog.messages) == 1
    assert run.read("blend.json") == {"retrieval": 1.0}
    assert load_recommender(run).heads == []
    quality = EventAccumulator(str(run.path)).Reload()
    assert not [tag for tag in quality.Tags()["tensors"] if tag.startswith("heads/")]
    report = evaluate_collaborative(run)
    assert not report.heads
    assert "probability_" not in to_markdown(report)
    popularity = next(result for result in report.baselines if result.model == "popularity")
    assert report.metrics["recall@10"].value > popularity.metrics["recall@10"].value
    served = tf.saved_model.load(str(export(run, tmp_path / "models")))
    answer = served.signatures["recommend"](
        user_id=tf.constant(["u1"]),
        history=tf.constant([[""]]),
        query=tf.constant([""]),
        language=tf.constant([""]),
        country=tf.constant([""]),
        timestamp=tf.constant([0], tf.int64),
        k=tf.constant([5]),
        exclude=tf.constant([[""]]),
        languages=tf.constant([[""]]),
        categories=tf.constant([[""]]),
        include_seen=tf.constant([False]),
    )
    assert set(answer) == {"item_ids", "scores", "languages", "titles"}
    assert np.isfinite(answer["scores"].numpy()).all()


def test_a_blend_that_weighs_it_is_refused(purchases: Config, tmp_path: Path) -> None:
    ranking = purchases.model.ranking.model_copy(update={"blend": {"retrieval": 1.0, "purchase": 0.5}})
    config = purchases.model_copy(update={"model": purchases.model.model_copy(update={"ranking": ranking})})
    with pytest.raises(BabelrecError, match="'purchase', whose labels are all equal"):
        fit(config, tmp_path / "run")

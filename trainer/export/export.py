"""`export`: writes a finished run as a version directory that a model server can load."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from serving import manifest
from serving.protos import meta_graph_pb2, saved_model_pb2
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.query_features import user_profiles
from trainer.data.requests import Requests
from trainer.data.split import Split, training_part
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.export.bounds import Bounds
from trainer.export.build import make_index, make_text_retrieval
from trainer.export.filters import string_table
from trainer.export.fresh_items import FreshItems
from trainer.export.item_encoder import ItemEncoder
from trainer.export.popularity import popularity_by_audience
from trainer.export.previous import previous_indexes
from trainer.export.servable import Servable
from trainer.export.users import UserTable
from trainer.export.warmup import write_warmup
from trainer.files import atomic_directory
from trainer.locks import writing_alone
from trainer.models.assembly import fit_statistics, item_table_of_run, load_recommender, make_text_search
from trainer.models.calibration import load_calibrations
from trainer.models.ranker import query_vectors
from trainer.models.statistics import RunStatistics, load_statistics, save_statistics
from trainer.provenance import source_commit
from trainer.runs import Run
from trainer.text.preprocessing import query_preprocessor
from trainer.text.tuning import serving_encoder
from trainer.towers.relations import Relations

_LOG = logging.getLogger(__name__)
_SAMPLE_QUERIES = 512
_PACKAGES = ("tensorflow", "tensorflow-text", "tensorflow-recommenders", "scann", "tf-keras", "numpy")


def export(run: Run, model_dir: Path, later: Dataset | None = None) -> Path:
    """Writes the next version directory below ``model_dir``.

    It is renamed into place when it is complete, so a server that watches ``model_dir`` never sees
    a partial version.

    Args:
        run: A finished run.
        model_dir: Base path of the served model; its name is the model's.
        later: Its items are served in place of those that the run was trained on, with which it should share most ids
            and all that is fitted to a catalogue as a whole (means by language, weights of n-grams). None: the run's.

    Returns:
        The version directory.

    Raises:
        BabelrecError: the run is not finished, its data changed, or the index settings don't fit.
    """
    if model_dir.exists() and not model_dir.is_dir():
        raise BabelrecError(f"--model-dir {model_dir} is a file. Give a directory.")
    config = run.config
    dataset = run.dataset()
    parts = training_part(dataset, config)
    statistics = load_statistics(run)
    if statistics is None and later is not None:
        statistics = fit_statistics(run, Catalogue.from_dataset(dataset), parts)
    catalogue = Catalogue.from_dataset(later or dataset)
    vocabulary = Vocabulary.load(run.vocabulary)
    relations = Relations(config, vocabulary, catalogue if statistics is None else statistics.relations)
    items = item_table_of_run(run, catalogue, relations=relations)
    model = load_recommender(run, items)
    if later is not None:
        parts = parts.of_items(catalogue.item_ids)
    requests = Requests.of_users(vocabulary.users, parts.train, catalogue, vocabulary, profiles=user_profiles(dataset))
    vectors = tf.Variable(model.candidate_vectors(items), trainable=False, name="item_vectors")
    # Queries of known users, to tune the index.
    sample = np.random.default_rng(config.seed).permutation(len(requests))[:_SAMPLE_QUERIES]
    queries = query_vectors(model, items, vectors, requests.at(sample))
    weights = run.weights_digest()
    before = {} if later is None else previous_indexes(_newest(model_dir), weights)
    index, record = make_index(config, vectors, queries, before=before.get("index"))
    counts = np.bincount(catalogue.rows(parts.train["item_id"]), minlength=len(catalogue))
    search = make_text_search(run, model, items, counts, vectors, None if statistics is None else statistics.search)
    if statistics is None:
        save_statistics(run, RunStatistics(relations.statistics, None if search is None else search.statistics))
    text_search = text_record = None
    if search is not None:
        retrieval, text_record = make_text_retrieval(config, search, before.get("text_index"))
        text_search = search, retrieval
    encoder = serving_encoder(config.text, model.candidate_tower.encoder, table=config.export.text_table)
    preprocessor = query_preprocessor(config.text)
    bounds = Bounds(config.export.limits, model.config.query.history_length)
    item_rows = string_table(catalogue.item_ids)
    fresh_items = None
    if config.export.fresh_items:
        item_encoder = ItemEncoder(config, vocabulary, items, relations, encoder, preprocessor, bounds)
        fresh_items = FreshItems(model, item_encoder, catalogue, vectors, item_rows, text_search)
    languages, popularity = popularity_by_audience(dataset, catalogue, parts)
    servable = Servable(
        model,
        catalogue,
        vocabulary,
        vectors,
        index,
        encoder,
        _user_table(config, catalogue, vocabulary, parts, requests),
        popularity,
        languages,
        run.read("blend.json"),
        candidates=config.export.candidates,
        exact_limit=config.export.exact_limit,
        item_rows=item_rows,
        bounds=bounds,
        preprocessor=preprocessor,
        text_search=text_search,
        fresh_items=fresh_items,
        calibrations={name: found.applied for name, found in load_calibrations(run).items()},
    )
    with writing_alone(model_dir, wait=True):
        newest = _newest(model_dir)
        version = model_dir / str(1 if newest is None else int(newest.name) + 1)
        with atomic_directory(version) as temporary:
            _LOG.info("Writing %s.", version)
            tf.saved_model.save(
                servable,
                str(temporary),
                # As functions: what is traced already would lose the inputs' defaults.
                signatures=servable.signatures(),
                # Saving refuses ops of any other namespace, so a portable graph can't hold ScaNN's by mistake.
                options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"] if record["kind"] == "scann" else []),
            )
            extra = temporary / "assets.extra"
            card = _model_card(
                run,
                weights,
                dataset if later is None else later,
                catalogue,
                vocabulary,
                _signatures(temporary),
                {"index": record, "text_index": text_record},
            )
            card["warmup_requests"] = write_warmup(
                extra,
                catalogue,
                vocabulary.users,
                model_name=model_dir.resolve().name,
                width=int(vectors.shape[1]),
                columns=None if fresh_items is None else fresh_items.columns,
            )
            (extra / "model_card.json").write_text(
                json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )
            manifest.write(temporary)
    return version


def _newest(model_dir: Path) -> Path | None:
    """The version directory with the largest number."""
    return max((path for path in model_dir.glob("*") if path.name.isdecimal()), key=lambda p: int(p.name), default=None)


def _user_table(
    config: Config, catalogue: Catalogue, vocabulary: Vocabulary, parts: Split, requests: Requests
) -> UserTable:
    users = vocabulary.users
    if not config.export.user_histories:
        nobody = Requests.of_nobody(len(users))
        return UserTable(users, nobody.histories, nobody.histories, nobody.features)
    # An impression alone is no reason to hide an item.
    met = pl.concat(
        [
            parts.train.select("user_id", "item_id", "timestamp"),
            parts.observed.filter(pl.col("event") != "impression").select("user_id", "item_id", "timestamp"),
        ]
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    return UserTable(users, requests.histories, UserItems.of(met, catalogue, users), requests.features)


def _model_card(
    run: Run,
    weights: str,
    dataset: Dataset,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
    indexes: dict[str, Any],
) -> dict[str, Any]:
    """The model card: content, training data and quality."""
    evaluation = run.path / "evaluation.json"
    report = run.read(evaluation.name) if evaluation.exists() else None
    return {
        "schema": 1,
        "name": run.config.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "licence": dataset.licence,
            "items": len(catalogue),
            "users": len(vocabulary.users),
            "item_languages": dict(sorted(_counts(catalogue.languages).items())),
        },
        "config": run.config.model_dump(mode="json"),
        "weights": weights,
        "commit": source_commit(),
        "versions": {package: metadata.version(package) for package in _PACKAGES},
        "metrics": None
        if report is None
        else {"protocol": report["protocol"], "split": report["split"], **report["metrics"]},
        "blend": run.read("blend.json"),
        "calibration": {
            name: {"method": found.method} | asdict(found.applied) for name, found in load_calibrations(run).items()
        },
        **indexes,
        "signatures": {
            name: {
                "inputs": {key: _shape(info) for key, info in sorted(signature.inputs.items())},
                "outputs": {key: _shape(info) for key, info in sorted(signature.outputs.items())},
            }
            for name, signature in sorted(signatures.items())
        },
    }


def _signatures(version: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures of a SavedModel, as a server reads them."""
    saved = saved_model_pb2.SavedModel.FromString((version / tf.saved_model.SAVED_MODEL_FILENAME_PB).read_bytes())
    # The others are TensorFlow's own.
    return {name: each for name, each in saved.meta_graphs[0].signature_def.items() if not name.startswith("__")}


def _shape(info: meta_graph_pb2.TensorInfo) -> str:
    shape = tf.TensorShape(info.tensor_shape)
    return f"{tf.as_dtype(info.dtype).name} {shape.as_list() if shape.rank is not None else '?'}"


def _counts(values: list[str]) -> dict[str, int]:
    return {str(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}

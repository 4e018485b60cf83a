"""`export`: writes a finished run as a version directory that a model server can load."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
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
from trainer.data.ids import as_text
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
from trainer.export.shard import ShardServable
from trainer.export.shares import HistoryParts, Share, catalogue_at
from trainer.export.users import UserTable
from trainer.export.warmup import write_warmup
from trainer.files import atomic_directory
from trainer.locks import writing_alone
from trainer.models.assembly import fit_statistics, item_table_of_run, load_recommender, make_text_search
from trainer.models.calibration import load_calibrations
from trainer.models.ranker import query_vectors
from trainer.models.statistics import RunStatistics, load_statistics, save_statistics
from trainer.models.transitions import TRANSITIONS
from trainer.provenance import source_commit
from trainer.runs import Run
from trainer.text.preprocessing import query_preprocessor
from trainer.text.tuning import serving_encoder
from trainer.towers.relations import Relations

_LOG = logging.getLogger(__name__)
_SAMPLE_QUERIES = 512
_PACKAGES = ("tensorflow", "tensorflow-text", "tensorflow-recommenders", "scann", "tf-keras", "numpy")


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A graph to save, and what its model card and warm-up requests say of it.

    Attributes:
        servable: The graph.
        catalogue: The items that it serves.
        vocabulary: The run's.
        dataset: The items' dataset.
        weights: Digest of the run's weights.
        indexes: Descriptions of its indexes.
        width: Size of the items' vectors.
        columns: Further inputs of `embed_items`; None: there are no signatures for fresh items.
    """

    servable: Servable
    catalogue: Catalogue
    vocabulary: Vocabulary
    dataset: Dataset
    weights: str
    indexes: dict[str, Any]
    width: int
    columns: Mapping[str, int | None] | None


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
    check_model_dir(model_dir)
    if run.config.export.shards > 1:
        raise BabelrecError(
            f"export.shards is {run.config.export.shards}, but one model is to be written. "
            "Use `trainer.task export` for shards, or `--set export.shards=1`."
        )
    built = build(run, later, newest=newest_version(model_dir))
    with writing_alone(model_dir, wait=True):
        newest = newest_version(model_dir)
        version = model_dir / str(1 if newest is None else int(newest.name) + 1)
        with atomic_directory(version) as temporary:
            _LOG.info("Writing %s.", version)
            write(run, built, temporary, model_name=model_dir.resolve().name)
    return version


def check_model_dir(model_dir: Path) -> None:
    """Refuses a base path at which there is a file.

    Raises:
        BabelrecError: there is one.
    """
    if model_dir.exists() and not model_dir.is_dir():
        raise BabelrecError(f"--model-dir {model_dir} is a file. Give a directory.")


def build(
    run: Run,
    later: Dataset | None = None,
    share: Share | None = None,
    *,
    newest: Path | None = None,
    export_id: str = "",
) -> Built:
    """The graph of an export.

    Args:
        run: A finished run.
        later: As for `export`.
        share: The part of the items that it serves; None: all.
        newest: The version before, whose partitions are used if they serve the items as well.
        export_id: Of a share's export.

    Raises:
        BabelrecError: the run is not finished, its data changed, or the index settings don't fit.
    """
    config = run.config
    dataset = run.dataset()
    parts = training_part(dataset, config)
    statistics = load_statistics(run)
    if statistics is None and (later is not None or share is not None):
        statistics = fit_statistics(run, Catalogue.from_dataset(dataset), parts)
    whole = Catalogue.from_dataset(later or dataset)
    rows = np.arange(len(whole), dtype=np.int32) if share is None else share.rows(whole.item_ids)
    if not len(rows):
        raise BabelrecError(
            f"None of {len(whole):,} items falls into shard {share.index if share else 0} of "
            f"{config.export.shards}. Lower export.shards."
        )
    catalogue = whole if share is None else catalogue_at(whole, rows)
    vocabulary = Vocabulary.load(run.vocabulary)
    relations = Relations(config, vocabulary, catalogue if statistics is None else statistics.relations)
    items = item_table_of_run(run, catalogue, relations=relations)
    model = load_recommender(run, items)
    if later is not None:
        parts = parts.of_items(whole.item_ids)
    languages, popularity = popularity_by_audience(dataset, whole, parts)
    profiles = user_profiles(dataset)
    # Of all items, where only some are served here.
    all_requests = Requests.of_users(vocabulary.users, parts.train, whole, vocabulary, profiles=profiles)
    requests = all_requests
    if share is not None:
        parts, popularity = parts.of_items(catalogue.item_ids), popularity[:, rows]
        requests = Requests.of_users(vocabulary.users, parts.train, catalogue, vocabulary, profiles=profiles)
    blend = run.read("blend.json")
    by_transitions = bool(blend.get(TRANSITIONS))
    if by_transitions and share is not None:
        raise BabelrecError(
            "Shards can't rank by transitions: a history's items may be in other shards. Train with "
            "`model.ranking.transitions.successors=0`, or export one model."
        )
    vectors = tf.Variable(model.candidate_vectors(items), trainable=False, name="item_vectors")
    # Queries of known users, to tune the index.
    sample = np.random.default_rng(config.seed).permutation(len(requests))[:_SAMPLE_QUERIES]
    queries = query_vectors(model, items, vectors, requests.at(sample))
    weights = run.weights_digest()
    before = {} if later is None else previous_indexes(newest, weights)
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
    kind: Callable[..., Servable] = Servable
    if share is not None:
        histories = all_requests.histories if config.export.user_histories else UserItems.nothing(len(vocabulary.users))
        kind = partial(
            ShardServable,
            share=share,
            export_id=export_id,
            places=rows,
            size=len(whole),
            histories=HistoryParts.of(histories, rows, len(whole), model.config.query.history_length),
        )
    servable = kind(
        model,
        catalogue,
        vocabulary,
        vectors,
        index,
        encoder,
        _user_table(config, catalogue, vocabulary, parts, requests),
        popularity,
        languages,
        blend,
        candidates=config.export.candidates,
        exact_limit=config.export.exact_limit,
        item_rows=item_rows,
        bounds=bounds,
        preprocessor=preprocessor,
        text_search=text_search,
        fresh_items=fresh_items,
        calibrations={name: found.applied for name, found in load_calibrations(run).items()},
        known=items.ids.numpy() if by_transitions else None,
    )
    return Built(
        servable,
        catalogue,
        vocabulary,
        dataset if later is None else later,
        weights,
        {"index": record, "text_index": text_record},
        int(vectors.shape[1]),
        None if fresh_items is None else fresh_items.columns,
    )


def write(
    run: Run, built: Built, directory: Path, *, model_name: str, about: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Writes a graph with its warm-up requests, model card and manifest.

    Args:
        run: Its run.
        built: The graph.
        directory: An empty directory.
        model_name: The name under which it is served.
        about: Further entries of the model card.
    """
    is_scann = built.indexes["index"]["kind"] == "scann"
    tf.saved_model.save(
        built.servable,
        str(directory),
        # As functions: what is traced already would lose the inputs' defaults.
        signatures=built.servable.signatures(),
        # Saving refuses ops of any other namespace, so a portable graph can't hold ScaNN's by mistake.
        options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"] if is_scann else []),
    )
    extra = directory / "assets.extra"
    card = _model_card(run, built, _signatures(directory))
    card["warmup_requests"] = write_warmup(
        extra,
        built.catalogue,
        built.vocabulary.users,
        model_name=model_name,
        width=built.width,
        columns=built.columns,
        is_shard=isinstance(built.servable, ShardServable),
    )
    card |= about or {}
    (extra / "model_card.json").write_text(json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    manifest.write(directory)


def newest_version(model_dir: Path) -> Path | None:
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
            as_text(parts.observed.filter(pl.col("event") != "impression")).select("user_id", "item_id", "timestamp"),
        ]
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    return UserTable(users, requests.histories, UserItems.of(met, catalogue, users), requests.features)


def _model_card(run: Run, built: Built, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> dict[str, Any]:
    """The model card: content, training data and quality."""
    evaluation = run.path / "evaluation.json"
    report = run.read(evaluation.name) if evaluation.exists() else None
    return {
        "schema": 1,
        "name": run.config.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {
            "name": built.dataset.name,
            "fingerprint": built.dataset.fingerprint,
            "licence": built.dataset.licence,
            "items": len(built.catalogue),
            "users": len(built.vocabulary.users),
            "item_languages": dict(sorted(_counts(built.catalogue.languages).items())),
        },
        "config": run.config.model_dump(mode="json"),
        "weights": built.weights,
        "commit": source_commit(),
        "versions": {package: metadata.version(package) for package in _PACKAGES},
        "metrics": None
        if report is None
        else {"protocol": report["protocol"], "split": report["split"], **report["metrics"]},
        "blend": run.read("blend.json"),
        "calibration": {
            name: {"method": found.method} | asdict(found.applied) for name, found in load_calibrations(run).items()
        },
        **built.indexes,
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

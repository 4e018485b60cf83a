"""Tiny real SavedModels for the server's tests, plain ``tf.Module`` without Keras."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.conformance.models import wait_for_file

ITEMS: tuple[tuple[str, str, str, str, float], ...] = (
    # id, language, title, category, popularity
    ("1", "en", "Toy Story", "animation", 0.90),
    ("2", "zh", "流浪地球", "scifi", 0.80),
    ("3", "ar", "باب الحديد", "drama", 0.70),
    ("4", "th", "องค์บาก", "action", 0.60),
    ("5", "ko", "기생충", "drama", 0.50),
    ("item-日本-🎬", "ja", "千と千尋の神隠し", "animation", 0.40),
    ("7", "es", "El laberinto del fauno [2006]", "fantasy", 0.30),
    ("8", "ru", "Солярис", "scifi", 0.20),
)
_TEXT = tf.TensorSpec([None], tf.string)
_TEXTS = tf.TensorSpec([None, None], tf.string)
_QUERY = {
    "user_id": _TEXT,
    "history": _TEXTS,
    "query": _TEXT,
    "language": _TEXT,
    "country": _TEXT,
    "timestamp": tf.TensorSpec([None], tf.int64),
}
_RECOMMEND = _QUERY | {
    "k": tf.TensorSpec([None], tf.int32),
    "exclude": _TEXTS,
    "languages": _TEXTS,
    "categories": _TEXTS,
    "include_seen": tf.TensorSpec([None], tf.bool),
}


class ContractModel(tf.Module):
    """Follows the exporter's contract: an item's score is its popularity plus matches with the query.

    ``offset`` is added to every score, so that a response shows which version answered.
    """

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        columns = list(zip(*ITEMS, strict=True))
        self.offset = tf.Variable(offset, trainable=False)
        self.ids = tf.Variable(columns[0], trainable=False)
        self.languages = tf.Variable(columns[1], trainable=False)
        self.titles = tf.Variable(columns[2], trainable=False)
        self.categories = tf.Variable(columns[3], trainable=False)
        self.popularity = tf.Variable(columns[4], trainable=False)
        rows = tf.range(len(ITEMS), dtype=tf.int64)
        # A resource that is filled only by an initialiser.
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(columns[0]), rows), default_value=-1
        )

    def _scores(self, query: Mapping[str, tf.Tensor]) -> tf.Tensor:
        matches = tf.cast(query["language"][:, None] == self.languages[None], tf.float32)
        text = tf.cast(query["query"][:, None] == self.titles[None], tf.float32)
        return self.offset + self.popularity[None] + 0.25 * matches + 5.0 * text

    def _search(self, q: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        allowed = _none_of(self.ids, q["exclude"]) & _allows(self.languages, q["languages"])
        allowed &= _allows(self.categories, q["categories"])
        allowed &= _none_of(self.ids, q["history"]) | q["include_seen"][:, None]
        scores = tf.where(allowed, self._scores(q), -float("inf"))
        width = tf.reduce_max(tf.concat([q["k"], [0]], 0))
        found, rows = tf.math.top_k(scores, k=tf.minimum(width, len(ITEMS)))
        missing = width - tf.shape(found)[1]
        found = tf.pad(found, [[0, 0], [0, missing]], constant_values=-float("inf"))
        rows = tf.pad(rows, [[0, 0], [0, missing]])
        keep = (tf.range(width)[None] < q["k"][:, None]) & (found > -float("inf"))
        return tf.where(keep, found, -float("inf")), rows, keep

    def retrieve(self, **q: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, rows, keep = self._search(q)
        return {
            "item_ids": tf.where(keep, tf.gather(self.ids, rows), ""),
            "scores": scores,
            "languages": tf.where(keep, tf.gather(self.languages, rows), ""),
        }

    def recommend(self, **q: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, rows, keep = self._search(q)
        return self.retrieve(**q) | {
            "titles": tf.where(keep, tf.gather(self.titles, rows), ""),
            "probability_like": tf.sigmoid(scores),
            "predicted_rating": scores * 0.5,
        }

    def rank(self, **q: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = self.table.lookup(q["item_ids"])
        known = tf.gather(self._scores(q), tf.maximum(rows, 0), batch_dims=1)
        scores = tf.where(rows >= 0, known, -float("inf"))
        return {"item_ids": q["item_ids"], "scores": scores, "probability_like": tf.sigmoid(scores)}

    def encode_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embeddings": tf.one_hot(tf.strings.to_hash_bucket_fast(text, 512), 512)}

    def slow(self, seconds: tf.Tensor) -> dict[str, tf.Tensor]:
        """Busy for the given time, to keep requests in flight."""
        end = tf.timestamp() + tf.reduce_max(seconds)
        now = tf.while_loop(lambda now: now < end, lambda _: tf.timestamp(), [tf.timestamp()])[0]
        return {"offset": self.offset + tf.cast(tf.minimum(now, 0.0), tf.float32)}

    def wait(self, started: tf.Tensor, released: tf.Tensor) -> dict[str, tf.Tensor]:
        """Held by a test: see ``tests.conformance.models.export_gate``."""
        return {"offset": tf.fill(tf.shape(started), self.offset + wait_for_file(started, released))}

    def echo(self, **tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.identity(value) for name, value in tensors.items()}


ECHO_DTYPES = (
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "float16",
    "bfloat16",
    "complex64",
    "complex128",
    "string",
)


def export_contract(directory: Path, offset: float = 0.0) -> Path:
    """Writes a ``ContractModel`` version directory atomically."""
    model = ContractModel(offset)
    ranked = _QUERY | {"item_ids": _TEXTS}
    echoed = {dtype: tf.TensorSpec(None, getattr(tf, dtype)) for dtype in ECHO_DTYPES}
    signatures = {
        "serving_default": _concrete(model.recommend, _RECOMMEND),
        "retrieve": _concrete(model.retrieve, _RECOMMEND),
        "rank": _concrete(model.rank, ranked),
        "encode_text": _concrete(model.encode_text, {"text": _TEXT}),
        "slow": _concrete(model.slow, {"seconds": tf.TensorSpec([None], tf.float64)}),
        "wait": _concrete(model.wait, {"started": _TEXT, "released": _TEXT}),
        "echo": _concrete(model.echo, echoed),
    }
    temporary = directory.parent / f".{directory.name}.tmp"
    tf.saved_model.save(model, str(temporary), signatures=signatures)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(directory)
    return directory


class Big(tf.Module):
    """64 MB of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.random.stateless_uniform([4096, 4096], (1, 2)))

    def sum(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.reduce_sum(self.weights)}


def export_big(directory: Path) -> Path:
    """Writes a ``Big`` version directory."""
    model = Big()
    signature = _concrete(model.sum, {"x": tf.TensorSpec([None], tf.float32)})
    tf.saved_model.save(model, str(directory), signatures={"serving_default": signature})
    return directory


def copy_version(source: Path, target: Path) -> Path:
    """Copies a version directory atomically."""
    temporary = target.parent / f".{target.name}.tmp"
    shutil.copytree(source, temporary)
    temporary.rename(target)
    return target


def write_warm_up(version: Path, requests: Sequence[predict_pb2.PredictRequest]) -> None:
    """Writes the warm-up file of a version directory."""
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def save_session(
    session: tf.compat.v1.Session,
    directory: Path,
    signatures: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], str]],
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes a TF1 session as a SavedModel; returns its directory.

    Args:
        session: With initialised variables.
        directory: The version directory.
        signatures: Key -> inputs and outputs by alias, and the method.
        defaults: Key -> alias -> value of an input that may be left out.
    """
    v1 = tf.compat.v1

    def infos(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in tensors.items()}

    definitions = {
        key: v1.saved_model.build_signature_def(infos(inputs), infos(outputs), method)
        for key, (inputs, outputs, method) in signatures.items()
    }
    for key, values in (defaults or {}).items():
        for alias, value in values.items():
            definitions[key].defaults[alias].CopyFrom(tf.make_tensor_proto(value))
    builder = v1.saved_model.Builder(str(directory))
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=definitions)
    builder.save()
    return directory


def export_tf1(directory: Path) -> Path:
    """A TF1 SavedModel: a variable, a table filled from an asset, a ``(None, 1)`` placeholder."""
    words = directory.parent / "words.txt"
    words.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("null\nuno\ndós\n三\n", encoding="utf-8")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        word = v1.placeholder(tf.string, [None], name="word")
        half = v1.get_variable("half", initializer=0.5, use_resource=False)
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(words),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
        number = table.lookup(word)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(directory))
        predict = v1.saved_model.signature_constants.PREDICT_METHOD_NAME
        build = v1.saved_model.build_tensor_info
        signature = v1.saved_model.signature_def_utils.build_signature_def
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature({"x": build(x)}, {"y": build(x * half + 2.0)}, predict),
                "lookup": signature({"word": build(word)}, {"number": build(number)}, predict),
                "no_method": signature({"x": build(x)}, {"y": build(x + half)}, ""),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
            strip_default_attrs=True,
        )
        builder.save()
    words.unlink()
    return directory


def _concrete(function: object, specs: Mapping[str, tf.TensorSpec]) -> Any:
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    return tf.function(function).get_concrete_function(**named)


def _none_of(values: tf.Tensor, unwanted: tf.Tensor) -> tf.Tensor:
    return ~tf.reduce_any(values[None, :, None] == unwanted[:, None, :], axis=-1)


def _allows(values: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    free = tf.reduce_all(wanted == "", axis=-1, keepdims=True)
    return free | tf.reduce_any(values[None, :, None] == wanted[:, None, :], axis=-1)

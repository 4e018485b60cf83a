"""Requests that a server runs before a version becomes available, in TensorFlow Serving's format."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from serving import contract
from serving.protos import predict_pb2, prediction_log_pb2
from trainer.data.catalogue import Catalogue
from trainer.export.servable import tensor_specs

FILE_NAME = "tf_serving_warmup_requests"


def write_warmup(
    directory: Path,
    catalogue: Catalogue,
    users: list[str],
    *,
    model_name: str,
    width: int,
    columns: Mapping[str, int | None] | None = None,
    is_shard: bool = False,
) -> int:
    """Writes ``assets.extra/tf_serving_warmup_requests`` of a SavedModel.

    They take each branch of the graph, alone and in a batch, so that no client waits for its first
    use: a known user, a history, text in the catalogue's languages, filters, an empty request.

    Args:
        directory: The version's ``assets.extra``.
        catalogue: The served items.
        users: Known users.
        model_name: Of the served model.
        width: Size of the items' vectors.
        columns: Further inputs of `embed_items`; None: there are no signatures for fresh items.
        is_shard: Whether it has the signatures of a share of the items, in place of those for all.

    Returns:
        Number of requests written.
    """
    row_of_language = {language: row for row, language in enumerate(catalogue.languages)}
    texts = [catalogue.titles[row] for row in list(row_of_language.values())[:8]]
    first = catalogue.item_ids[0]
    label = catalogue.category_labels[0] if catalogue.category_labels else ""
    lines: list[dict[str, object]] = [
        {"user_id": users[0] if users else ""},
        {"history": [first]},
        {"query": texts[0], "languages": [catalogue.languages[0]], "categories": [label], "exclude": [first]},
        {},
    ]
    lines += [{"query": text} for text in texts]
    requests: list[list[dict[str, object]]] = [[line] for line in lines] + [(lines * 8)[:32]]
    logs = []
    # `recommend` has the default signature's function, but servers build a separate graph for it.
    merging = () if columns is None else (contract.RECOMMEND_FOR_MERGE,)
    listing = (contract.DEFAULT, contract.RECOMMEND, contract.RETRIEVE, *merging)
    for name in (contract.SHARD_CONTEXT, contract.SHARD_RETRIEVE) if is_shard else listing:
        logs += [_request(model_name, name, batch) for batch in requests]
    ranking = contract.SHARD_RANK if is_shard else contract.RANK
    for line in lines if is_shard else lines[:1]:
        logs.append(_request(model_name, ranking, [line | {"item_ids": catalogue.item_ids[:10]}]))
    logs.append(_request(model_name, contract.ENCODE_TEXT, [{"text": text} for text in texts]))
    if columns is not None:
        about = zip(catalogue.item_ids[:32], catalogue.titles, catalogue.languages, strict=False)
        items: list[dict[str, object]] = []
        for item, title, language in about:
            items.append({"item_id": item, "title": title, "language": language, "categories": [label]})
        logs += [_request(model_name, contract.EMBED_ITEMS, batch, columns) for batch in (items[:1], items)]
        vectors = {"query_embeddings": [0.0] * width, "embeddings": [[0.0] * width] * 10, "fits": [0.0] * 10}
        logs += [
            _request(model_name, contract.SCORE_EMBEDDINGS, [vectors | {"typed": typed}]) for typed in (False, True)
        ]
    directory.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / FILE_NAME)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return len(logs)


def _columns(
    lines: list[dict[str, object]], signature: str, further: Mapping[str, int | None] | None = None
) -> dict[str, tf.Tensor]:
    """Requests as batch-major tensors; absent inputs have their defaults, and further ones are zeros."""
    columns = {}
    for name, spec in tensor_specs(signature, further).items():
        if further is not None and name in further:
            columns[name] = tf.zeros([len(lines), *spec.shape[1:]])
        elif spec.shape.rank == 1:
            default = contract.SIGNATURES[signature][name].default
            columns[name] = tf.constant([line.get(name, default) for line in lines], spec.dtype)
        elif spec.dtype == tf.float32:
            values = [line[name] for line in lines if name in line]
            nothing = tf.zeros([len(lines), *[0] * (spec.shape.rank - 1)])
            columns[name] = tf.constant(values, tf.float32) if values else nothing
        else:
            values = [line.get(name, []) for line in lines]
            columns[name] = tf.ragged.constant(values, spec.dtype, ragged_rank=1).to_tensor("")
    return columns


def _request(
    model_name: str,
    signature: str,
    lines: list[dict[str, object]],
    further: Mapping[str, int | None] | None = None,
) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in _columns(lines, signature, further).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))

"""The commands of the command line: each calls the client and prints the result."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy.typing as npt

from serving.client import rest_json, tables
from serving.client.api import RecommenderClient
from serving.client.errors import BadRequestError
from serving.client.types import ModelMetadata, Query, TensorSpec
from serving.protos import types_pb2

_SERVING = "SERVING"


def recommend(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints recommendations."""
    return _print_items(client.recommend_batch([_query(options)])[0], options)


def retrieve(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints candidates."""
    return _print_items(client.retrieve_batch([_query(options)])[0], options)


def rank(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints the given items, best first."""
    (items,) = client.rank_batch([Query(**_who(options))], [_split(options.items)])
    items = sorted(items, key=lambda item: -math.inf if item.score is None else item.score, reverse=True)
    if options.json:
        _print_json([asdict(item) for item in items])
    else:
        tables.print_ranking(items)
    return 0


def encode(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints embeddings and their pairwise similarity."""
    vectors = client.encode(options.texts)
    if options.json:
        _print_json([{"text": t, "embedding": v.tolist()} for t, v in zip(options.texts, vectors, strict=True)])
    else:
        tables.print_embeddings(options.texts, vectors)
    return 0


def predict(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints a signature's outputs."""
    document = _inputs_document(options.inputs)
    inputs = _arrays(document, options.signature, client.metadata())
    outputs = client.predict(options.signature, inputs, options.output)
    if options.json:
        _print_json({name: _json_value(name, array) for name, array in sorted(outputs.items())})
    else:
        tables.print_tensors(outputs)
    return 0


def status(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints the model's versions."""
    versions = client.status()
    if options.json:
        _print_json([asdict(version) for version in versions])
    else:
        tables.print_versions(versions)
    return 0


def metadata(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints the model's signatures."""
    found = client.metadata()
    if options.json:
        _print_json(asdict(found))
    else:
        tables.print_signatures(found)
    return 0


def health(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Prints the health status."""
    state = client.health(options.service)
    if options.json:
        _print_json({"status": state})
    else:
        print(state)
    return 0 if state == _SERVING else 1


def reload(client: RecommenderClient, options: argparse.Namespace) -> int:
    """Makes the server load a configuration."""
    client.reload(_file(options.file))
    if options.json:
        _print_json({"status": "OK"})
    else:
        print("the server has loaded the configuration; its models are available")
    return 0


COMMANDS: Mapping[str, Callable[[RecommenderClient, argparse.Namespace], int]] = {
    "recommend": recommend,
    "retrieve": retrieve,
    "rank": rank,
    "encode": encode,
    "predict": predict,
    "status": status,
    "metadata": metadata,
    "health": health,
    "reload": reload,
}


def _print_items(items: Sequence[Any], options: argparse.Namespace) -> int:
    if options.json:
        _print_json([asdict(item) for item in items])
    elif items:
        tables.print_recommendations(items)
    else:
        print("no items: nothing in the catalogue passes the filters")
    return 0


def _who(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "user_id": options.user,
        "history": _split(options.history),
        "query": options.query,
        "language": options.language,
        "country": options.country,
        "timestamp": options.timestamp,
    }


def _query(options: argparse.Namespace) -> Query:
    return Query(
        **_who(options),
        k=options.k,
        exclude=_split(options.exclude),
        languages=_split(options.languages),
        categories=_split(options.categories),
        include_seen=options.include_seen,
    )


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _inputs_document(text: str) -> dict[str, Any]:
    text = _file(text.removeprefix("@")) if text == "-" or text.startswith("@") else text
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadRequestError(f"--inputs is not valid JSON: {error}") from None
    # A complete REST API request is accepted too.
    if isinstance(document, dict) and isinstance(document.get("inputs"), dict):
        document = document["inputs"]
    if not isinstance(document, dict):
        raise BadRequestError('--inputs must be an object: {"NAME": nested lists, ...}')
    return document


def _file(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{name} can't be read: {getattr(error, 'strerror', None) or error}") from None


def _arrays(document: Mapping[str, Any], signature: str, model: ModelMetadata) -> dict[str, npt.NDArray[Any]]:
    if signature not in model.signatures:
        raise BadRequestError(f'the model has no signature "{signature}"; it has {", ".join(model.signatures)}')
    specs = model.signatures[signature].inputs
    arrays = {}
    for name, value in document.items():
        if name not in specs:
            raise BadRequestError(f'signature "{signature}" has no input {name}; it has {", ".join(specs)}')
        try:
            arrays[name] = rest_json.from_json(value, _tensor_info(specs[name]))
        except rest_json.MisfitError as error:
            raise BadRequestError(f"input {name} ({specs[name].dtype}): {error}") from None
    return arrays


def _tensor_info(spec: TensorSpec) -> Any:
    dimensions = [SimpleNamespace(size=size) for size in spec.shape or ()]
    return SimpleNamespace(
        dtype=types_pb2.DataType.Value(f"DT_{spec.dtype.upper()}"), tensor_shape=SimpleNamespace(dim=dimensions)
    )


def _json_value(name: str, array: npt.NDArray[Any]) -> Any:
    return {"shape": list(array.shape), "values": []} if 0 in array.shape[:-1] else rest_json.to_json(name, array)


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()

"""The commands of the command line: each calls the client and prints the result, as JSON or as a table.

Tables are fitted to a terminal, and as wide as needed in a file or pipe.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from serving.client.client import RecommenderClient
from serving.client.errors import BadRequestError
from serving.client.rest import MisfitError, from_json, to_json
from serving.client.sharded import ShardedClient
from serving.client.types import ModelMetadata, Query, RankedItem, Recommendation, TensorSpec, VersionStatus

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

# Output to a file or pipe has no width to fit into, and truncated titles would be lost.
_UNBOUNDED_WIDTH = 10_000
_SHOWN_VALUES = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Printer:
    as_json: bool

    def show(self, value: _T, shown: "Callable[[_T], RenderableType]") -> int:
        """Prints a result as JSON, or as the text or table that ``shown`` makes of it."""
        if self.as_json:
            json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=asdict)
            print()
            return 0
        result = shown(value)
        if isinstance(result, str):
            print(result)
            return 0
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else _UNBOUNDED_WIDTH, highlight=False)
        # Captured, since rich exits the process itself when the reader of a pipe is gone.
        with console.capture() as captured:
            console.print(result)
        sys.stdout.write(captured.get())
        return 0


def run(command: str, client: RecommenderClient, arguments: Mapping[str, Any], *, as_json: bool) -> int:
    """Runs a command.

    Args:
        command: its name.
        client: the client to use.
        arguments: those of the command, as its parser named them. Those of ``Query`` may be missing.
        as_json: whether to print JSON.

    Returns:
        The exit status.
    """
    printer = _Printer(as_json)
    if command not in _QUERY_COMMANDS:
        return _COMMANDS[command](client, printer, **arguments)
    inputs = {each.name for each in fields(Query)}
    query = Query(**{name: value for name, value in arguments.items() if name in inputs})
    others = {name: value for name, value in arguments.items() if name not in inputs}
    return _QUERY_COMMANDS[command](client, printer, query, **others)


def run_sharded(command: str, client: ShardedClient, arguments: Mapping[str, Any], *, as_json: bool) -> int:
    """`run` for ``recommend`` and ``retrieve``, asking all shards of a model; names missing ones on standard error."""
    query = Query(**arguments)
    found = client.recommend(query) if command == "recommend" else client.retrieve_batch([query])[0]
    if found.missing:
        print(f"warning: without the items of {', '.join(found.missing)}", file=sys.stderr)
    return _Printer(as_json).show(found.items, _recommendations)


def _recommend(client: RecommenderClient, printer: _Printer, query: Query) -> int:
    return printer.show(client.recommend(query), _recommendations)


def _retrieve(client: RecommenderClient, printer: _Printer, query: Query) -> int:
    return printer.show(client.retrieve_batch([query])[0], _recommendations)


def _rank(client: RecommenderClient, printer: _Printer, query: Query, items: Sequence[str]) -> int:
    """Prints the given items, best first."""
    ranked = client.rank(query, items)
    ranked.sort(key=lambda item: -math.inf if item.score is None else item.score, reverse=True)
    return printer.show(ranked, _ranking)


def _encode(client: RecommenderClient, printer: _Printer, texts: Sequence[str]) -> int:
    """Prints embeddings and their pairwise similarity."""
    vectors = client.encode(texts)
    document = [{"text": t, "embedding": v.tolist()} for t, v in zip(texts, vectors, strict=True)]
    return printer.show(document, lambda _: _embeddings(texts, vectors))


def _predict(client: RecommenderClient, printer: _Printer, signature: str, inputs: str, output: Sequence[str]) -> int:
    """Prints a signature's outputs."""
    arrays = _arrays(_inputs_document(inputs), signature, client.metadata())
    outputs = client.predict(signature, arrays, output)
    if not printer.as_json:
        return printer.show(outputs, _tensors)
    return printer.show({name: _json_value(name, array) for name, array in sorted(outputs.items())}, str)


def _status(client: RecommenderClient, printer: _Printer) -> int:
    return printer.show(client.status(), _versions)


def _metadata(client: RecommenderClient, printer: _Printer) -> int:
    return printer.show(client.metadata(), _signatures)


def _health(client: RecommenderClient, printer: _Printer, service: str) -> int:
    """Prints the health status; 0 if the server serves."""
    state = client.health(service)
    printer.show({"status": state}, lambda _: state)
    return 0 if state == "SERVING" else 1


def _reload(client: RecommenderClient, printer: _Printer, file: str) -> int:
    """Makes the server load a configuration."""
    client.reload(_file(file))
    return printer.show({"status": "OK"}, lambda _: "the server has loaded the configuration; its models are available")


# Those for a query, and the others.
_QUERY_COMMANDS: Mapping[str, Callable[..., int]] = {"recommend": _recommend, "retrieve": _retrieve, "rank": _rank}
_COMMANDS: Mapping[str, Callable[..., int]] = {
    "encode": _encode,
    "predict": _predict,
    "status": _status,
    "metadata": _metadata,
    "health": _health,
    "reload": _reload,
}


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
            arrays[name] = from_json(value, specs[name])
        except MisfitError as error:
            raise BadRequestError(f"input {name} ({specs[name].dtype}): {error}") from None
    return arrays


def _json_value(name: str, array: npt.NDArray[Any]) -> object:
    return {"shape": list(array.shape), "values": []} if 0 in array.shape[:-1] else to_json(name, array)


def _recommendations(items: Sequence[Recommendation]) -> "RenderableType":
    if not items:
        return "no items: nothing in the catalogue passes the filters"
    heads = list(items[0].heads)
    table = _table("#", "title", "lang", "item", "score", *(_head_name(head) for head in heads))
    for number, item in enumerate(items, start=1):
        values = [f"{item.heads[head]:.4f}" for head in heads]
        table.add_row(
            str(number),
            _plain(item.title),
            _plain(item.language),
            _plain(item.item_id),
            f"{item.score:.4f}",
            *values,
        )
    return table


def _ranking(items: Sequence[RankedItem]) -> "RenderableType":
    """Items in their order; those unknown to the model are marked."""
    heads = list(next((item.heads for item in items if item.heads), {}))
    table = _table("#", "item", "score", *(_head_name(head) for head in heads))
    for number, item in enumerate(items, start=1):
        score = "unknown item" if item.score is None else f"{item.score:.4f}"
        values = [f"{item.heads[head]:.4f}" if item.heads else "" for head in heads]
        table.add_row(str(number), _plain(item.item_id), score, *values)
    return table


def _embeddings(texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> "RenderableType":
    """Texts, the first values of their vectors, and every pair's cosine (of unit vectors)."""
    table = _table("text", "norm", f"embedding, first 5 of {vectors.shape[1]}", *_numbered(texts))
    similarity = vectors @ vectors.T
    for row, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        start = " ".join(f"{value:+.4f}" for value in vector[:5])
        cells = [f"{value:.3f}" for value in similarity[row]] if len(texts) > 1 else []
        table.add_row(_plain(text), f"{float((vector @ vector) ** 0.5):.4f}", start, *cells)
    return table


def _tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> "RenderableType":
    """Tensors by name: type, shape and first values."""
    table = _table("output", "type", "shape", f"values (first {_SHOWN_VALUES})")
    for name, array in sorted(tensors.items()):
        values = [_value(value) for value in array.ravel()[:_SHOWN_VALUES].tolist()]
        more = " ..." if array.size > _SHOWN_VALUES else ""
        kind = "string" if array.dtype.kind == "O" else str(array.dtype)
        table.add_row(_plain(name), kind, _shape(array.shape), _plain(", ".join(values) + more))
    return table


def _versions(versions: Sequence[VersionStatus]) -> "RenderableType":
    table = _table("version", "state", "status", "message")
    for version in versions:
        table.add_row(str(version.version), version.state, version.error_code, _plain(version.error_message))
    return table


def _signatures(model: ModelMetadata) -> "RenderableType":
    from rich.console import Group

    table = _table("signature", "", "tensor", "type", "shape")
    for name, signature in model.signatures.items():
        first = name
        for kind, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for tensor, spec in specs.items():
                table.add_row(_plain(first), kind, _plain(tensor), spec.dtype, _spec_shape(spec))
                first = ""
    return Group(_plain(f"{model.name}, version {model.version}"), table)


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join("?" if size < 0 else str(size) for size in shape) + "]"


def _spec_shape(spec: TensorSpec) -> str:
    return "any" if spec.shape is None else _shape(spec.shape)


def _head_name(head: str) -> str:
    event = head.removeprefix("probability_")
    return f"p({event})" if event != head else head.replace("_", " ")


def _numbered(texts: Sequence[str]) -> list[str]:
    return [f"cos {number}" for number in range(1, len(texts) + 1)] if len(texts) > 1 else []


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column in ("#", "score", "norm") or column.startswith(("p(", "cos ", "predicted"))
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def _plain(text: str) -> "Text":
    """Titles may hold square brackets and control characters: neither is markup here."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))

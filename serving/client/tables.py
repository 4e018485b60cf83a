"""Results as tables for people: fitted to a terminal, as wide as needed in a file or pipe."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.client.types import ModelMetadata, RankedItem, Recommendation, TensorSpec, VersionStatus

# Output to a file or pipe has no width to fit into, and truncated titles would be lost.
_UNBOUNDED_WIDTH = 10_000
_SHOWN_VALUES = 8


def print_recommendations(items: Sequence[Recommendation]) -> None:
    """Prints items in their order."""
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
    _print(table)


def print_ranking(items: Sequence[RankedItem]) -> None:
    """Prints items in their order; items unknown to the model are marked."""
    heads = list(next((item.heads for item in items if item.heads), {}))
    table = _table("#", "item", "score", *(_head_name(head) for head in heads))
    for number, item in enumerate(items, start=1):
        score = "unknown item" if item.score is None else f"{item.score:.4f}"
        values = [f"{item.heads[head]:.4f}" if item.heads else "" for head in heads]
        table.add_row(str(number), _plain(item.item_id), score, *values)
    _print(table)


def print_embeddings(texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
    """Prints texts, the first values of their vectors, and every pair's cosine (of unit vectors)."""
    table = _table("text", "norm", f"embedding, first 5 of {vectors.shape[1]}", *_numbered(texts))
    similarity = vectors @ vectors.T
    for row, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        start = " ".join(f"{value:+.4f}" for value in vector[:5])
        cells = [f"{value:.3f}" for value in similarity[row]] if len(texts) > 1 else []
        table.add_row(_plain(text), f"{float((vector @ vector) ** 0.5):.4f}", start, *cells)
    _print(table)


def print_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Prints tensors by name: type, shape and first values."""
    table = _table("output", "type", "shape", f"values (first {_SHOWN_VALUES})")
    for name, array in sorted(tensors.items()):
        values = [_value(value) for value in array.ravel()[:_SHOWN_VALUES].tolist()]
        more = " ..." if array.size > _SHOWN_VALUES else ""
        kind = "string" if array.dtype.kind == "O" else str(array.dtype)
        table.add_row(_plain(name), kind, _shape(array.shape), _plain(", ".join(values) + more))
    _print(table)


def print_versions(versions: Sequence[VersionStatus]) -> None:
    """Prints versions and their states."""
    table = _table("version", "state", "status", "message")
    for version in versions:
        table.add_row(str(version.version), version.state, version.error_code, _plain(version.error_message))
    _print(table)


def print_signatures(model: ModelMetadata) -> None:
    """Prints signatures with their inputs and outputs."""
    print(f"{model.name}, version {model.version}")
    table = _table("signature", "", "tensor", "type", "shape")
    for name, signature in model.signatures.items():
        first = name
        for kind, specs in (("in", signature.inputs), ("out", signature.outputs)):
            for tensor, spec in specs.items():
                table.add_row(_plain(first), kind, _plain(tensor), spec.dtype, _spec_shape(spec))
                first = ""
    _print(table)


def _value(value: Any) -> str:
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


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column in ("#", "score", "norm") or column.startswith(("p(", "cos ", "predicted"))
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _UNBOUNDED_WIDTH, highlight=False)
    # Captured, since rich exits the process itself when the reader of a pipe is gone.
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write(captured.get())


def _plain(text: str) -> Any:
    """Titles may hold square brackets and control characters: neither is markup here."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))

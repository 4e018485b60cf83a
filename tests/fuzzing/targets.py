"""What is fuzzed: each target takes any bytes, and may refuse them by the errors that it documents and by no other."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from serving.protos import model_pb2, model_server_config_pb2, types_pb2
from serving.server.errors import StatusError
from serving.server.operations.config_files import ConfigFileError, read_text_proto
from serving.server.rest import json_decode, json_examples
from serving.server.rest.body import BodyError, Budget, gunzip
from serving.server.rest.json_defaults import Inputs
from trainer.config.loading import load_config
from trainer.data.settings import TableFormat
from trainer.data.sources import delimited, jsonl
from trainer.data.sources.table import RawTable
from trainer.errors import BabelrecError

_Result = TypeVar("_Result")
Target = Callable[[bytes], None]
_SPEC = model_pb2.ModelSpec(name="m")
_INPUTS = Inputs({"text": types_pb2.DT_STRING, "number": types_pb2.DT_FLOAT, "count": types_pb2.DT_INT64})
_MOST_UNPACKED = 1 << 20
_WANTED = ("user_id", "item_id")


def rest(content: bytes) -> None:
    """Bodies of the REST API: requests to predict, classify and regress."""
    _tried(lambda: json_decode.predict_request(content, _SPEC, lambda spec: _INPUTS), StatusError)
    _tried(lambda: json_examples.classification_request(content, _SPEC), StatusError)
    _tried(lambda: json_examples.regression_request(content, _SPEC), StatusError)


def gzip(content: bytes) -> None:
    """Packed bodies."""
    budget = Budget(_MOST_UNPACKED, _MOST_UNPACKED)
    _tried(lambda: budget.give(len(gunzip(content, budget))), BodyError)
    assert budget.taken == 0, "what was taken has been given back"


def config(content: bytes) -> None:
    """A run's YAML."""
    with _written(content, "config.yaml") as path:
        _tried(lambda: load_config(path), BabelrecError)


def text_proto(content: bytes) -> None:
    """The server's --model_config_file."""
    with _written(content, "models.config") as path:
        _tried(lambda: read_text_proto(path, model_server_config_pb2.ModelServerConfig()), ConfigFileError)


def csv(content: bytes) -> None:
    """Tables of delimited text."""
    _table(delimited.read, content, "table.csv")


def json_lines(content: bytes) -> None:
    """Tables of JSON lines."""
    _table(jsonl.read, content, "table.jsonl")


TARGETS: dict[str, Target] = {
    "rest": rest,
    "gzip": gzip,
    "config": config,
    "text_proto": text_proto,
    "csv": csv,
    "jsonl": json_lines,
}


def _table(read: Callable[..., RawTable], content: bytes, name: str) -> None:
    with _written(content, name) as path:
        target = path.with_suffix(".parquet")
        table = _tried(
            lambda: read(path, "interactions", TableFormat(), _WANTED, partial(_chosen, path), target),
            BabelrecError,
            says=name,
        )
        # Nothing is lost between the count of the records and what was written.
        assert table is None or len(table.frame.collect()) == table.records


def _chosen(path: Path, names: list[str]) -> dict[str, str]:
    found = {name: name for name in _WANTED if name in names}
    if not found:
        raise BabelrecError(f"{path} has none of the columns {_WANTED}")
    return found


@contextlib.contextmanager
def _written(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        yield path


def _tried(call: Callable[[], _Result], refusal: type[Exception], says: str = "") -> _Result | None:
    """The result, or None where it was refused in words."""
    try:
        return call()
    except refusal as error:
        if not str(error) or says not in str(error):
            raise AssertionError(f"an error says what is wrong, and where: {error!r}") from error
        return None

"""Loads vectors of `export-vectors` into Milvus, or Milvus Lite, by its own client (extra ``[milvus]``)."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trainer.errors import BabelrecError
from trainer.export.hand_over import MANIFEST, VECTORS

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_LOG = logging.getLogger(__name__)
# Rows of a request: at 64 dimensions some 3 MB, where Milvus takes 64 MB.
_ROWS: Final = 10_000
# Largest text of a field, bytes, and number of an array's values, in Milvus.
_MOST_BYTES: Final = 65_535
_MOST_VALUES: Final = 4_096


def load_into_milvus(directory: Path, uri: str, collection: str, token: str = "", index: str = "AUTOINDEX") -> int:
    """Creates a collection with the exported vectors.

    Args:
        directory: Written by `export_vectors` with the format ``milvus``.
        uri: Of a server (``http://host:19530``), or a file for Milvus Lite.
        collection: Its name; it must not exist. Switch an alias to it when it is loaded.
        token: ``user:password`` or an API key.
        index: Type of the vectors' index; ``FLAT`` is exact.

    Returns:
        Number of items that the collection holds.

    Raises:
        BabelrecError: pymilvus is missing, the directory is of another format, the collection exists, or does not hold
            each item afterwards.
    """
    try:
        import pymilvus
    except ImportError:
        raise BabelrecError("Milvus needs a package that is not installed: `pip install babelrec[milvus]`.") from None
    about = _read_manifest(directory)
    if "://" not in uri:
        # Milvus Lite's server, which runs in this process, logs a traceback for each call that it lacks; the client
        # does without them.
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    client = pymilvus.MilvusClient(uri, token=token)
    try:
        if client.has_collection(collection):
            raise BabelrecError(f"Collection {collection!r} exists at {uri}. Drop it, or give another --collection.")
        _create(client, collection, about, index)
        for file in about["files"]:
            table = pl.read_parquet(directory / VECTORS / file["name"])
            for part in table.iter_slices(_ROWS):
                client.insert(collection, part.to_dicts())
            _LOG.info("%s: %s items.", file["name"], f"{table.height:,}")
        client.flush(collection)
        client.load_collection(collection)
        counted = int(client.query(collection, output_fields=["count(*)"])[0]["count(*)"])
    finally:
        client.close()
    if counted != about["items"]:
        raise BabelrecError(f"Collection {collection!r} holds {counted:,} of {about['items']:,} items. Load it again.")
    return counted


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise BabelrecError(f"{path} is missing. Write the vectors by `trainer.task export-vectors --format milvus`.")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if about.get("format") != "milvus":
        raise BabelrecError(
            f"{directory} has the format {about.get('format')!r}. Use `export-vectors --format milvus`."
        )
    largest = about["largest"]
    for name, most in {"id_bytes": _MOST_BYTES, "category_bytes": _MOST_BYTES, "categories": _MOST_VALUES}.items():
        if largest[name] > most:
            raise BabelrecError(f"Milvus takes at most {most:,} for {name}, but an item has {largest[name]:,}.")
    return about


def _create(client: "MilvusClient", collection: str, about: Mapping[str, Any], index: str) -> None:
    from pymilvus import DataType

    largest = about["largest"]
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=max(largest["id_bytes"], 1))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=about["dimension"])
    for name, size, count in (
        ("languages", "language_bytes", "languages"),
        ("categories", "category_bytes", "categories"),
    ):
        schema.add_field(
            name,
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=max(largest[count], 1),
            max_length=max(largest[size], 1),
        )
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=index, metric_type="IP")
    client.create_collection(collection, schema=schema, index_params=indexes)

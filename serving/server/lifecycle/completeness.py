"""Checks whether a version is complete."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError

from serving import manifest
from serving.private.tensorflow import TensorFlowError
from serving.protos import meta_graph_pb2, saved_model_pb2
from serving.runtime.checkpoint import shard_sizes

_LOGGER = logging.getLogger(__name__)
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_VARIABLES = Path("variables") / "variables"
TFLITE_MODEL = "model.tflite"

Stamp = tuple[tuple[str, int, int, int], ...]


class CompletenessCheck:
    """Checks what a version directory lacks. Thread-safe.

    Args:
        tags: tags of the meta graph that will be loaded.
        prefer_tflite: whether ``model.tflite`` is served where there is one.
        require_manifest: whether a version without a manifest is refused.
    """

    def __init__(
        self, tags: Sequence[str] = ("serve",), *, prefer_tflite: bool = False, require_manifest: bool = False
    ) -> None:
        self._tags = frozenset(tags)
        self._prefer_tflite = prefer_tflite
        self._require_manifest = require_manifest
        self._lock = threading.Lock()
        # The last finding, and for which files: contents are read once, not for each load attempt.
        self._known: dict[Path, tuple[Stamp, str]] = {}

    def lack(self, directory: Path) -> str:
        """What is missing or too short, with the file's name; empty when nothing is.

        Compares names and sizes with the manifest, the variables' index and the graph. Values are not read.
        """
        try:
            return self._lack(directory)
        except OSError as error:
            return f"{error.filename or directory} can't be read ({error.strerror or error})"

    def problem(self, directory: Path) -> str:
        """Like ``lack``, but also reports files that differ from the manifest's digests.

        Variables have their own checksums, which TensorFlow verifies when it loads them.
        """
        stamp = stamp_of(directory)
        with self._lock:
            known = self._known.get(directory)
        if known is not None and known[0] == stamp:
            return known[1]
        start = time.monotonic()
        found = self.lack(directory)
        if not found and has_manifest(directory):
            try:
                found = manifest.wrong_digest(directory)
            except (OSError, ValueError) as error:
                found = f"{manifest.FILE} can't be compared with the files: {error}"
        _LOGGER.info("checked %s in %.3f s: %s", directory, time.monotonic() - start, found or "it is complete")
        with self._lock:
            self._known = {path: seen for path, seen in self._known.items() if path.is_dir()}
            self._known[directory] = stamp, found
        return found

    def _lack(self, directory: Path) -> str:
        if has_manifest(directory):
            found = manifest.wrong_size(directory)
            if found:
                return found
        elif self._require_manifest:
            return (
                f"{manifest.FILE} is missing, but --require_manifest is set "
                f"(`python -m serving.manifest {directory}` writes it)"
            )
        if self._prefer_tflite and (directory / TFLITE_MODEL).exists():
            return ""
        if not any((directory / name).exists() for name in _GRAPHS):
            return "it holds no SavedModel: saved_model.pb is missing"
        index = Path(f"{_VARIABLES}.index")
        has_index = (directory / index).exists()
        if has_index:
            try:
                sizes = shard_sizes(directory / _VARIABLES)
            except TensorFlowError as error:
                return f"{index} is cut short or damaged ({error.message})"
            for name, size in sizes.items():
                found = manifest.size_problem(directory, f"{_VARIABLES.parent}/{name}", size, at_least=True)
                if found:
                    return found
        meta_graph = self._meta_graph(directory)
        if isinstance(meta_graph, str):
            return meta_graph
        if meta_graph is None:
            return ""
        # Without an index TensorFlow treats it as a model without variables, and loads it.
        if not has_index and meta_graph.HasField("saver_def"):
            return f"{index} is missing, and the graph has variables to restore"
        assets = sorted({asset.filename for asset in meta_graph.asset_file_def})
        missing = [name for name in assets if not (directory / "assets" / name).exists()]
        return f"assets/{missing[0]} is missing, an asset of the graph" if missing else ""

    def _meta_graph(self, directory: Path) -> meta_graph_pb2.MetaGraphDef | str | None:
        """The meta graph that will be loaded; None when TensorFlow has to find it; or text saying what is wrong."""
        path = directory / _GRAPHS[0]
        if not path.exists():
            return None
        try:
            model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        except DecodeError:
            model = saved_model_pb2.SavedModel()
        if not model.meta_graphs:
            return f"{path.name} is cut short or not a SavedModel"
        return next((graph for graph in model.meta_graphs if frozenset(graph.meta_info_def.tags) == self._tags), None)


def has_manifest(directory: Path) -> bool:
    """Whether a version has a manifest."""
    return (directory / manifest.FILE).exists()


def stamp_of(directory: Path) -> Stamp:
    """Name, size and modification times of all files: two stamps are equal when nothing changed in between."""
    found: list[tuple[str, int, int, int]] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()  # a link to a parent folder
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError:
                continue  # it is gone by now, or is a dangling link
            found.append((path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(sorted(found))

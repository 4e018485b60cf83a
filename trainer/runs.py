"""A run directory: everything that `fit` writes and `evaluate` and `export` read."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config.loading import load_config
from trainer.config.settings import Config, dump_config
from trainer.data.category_names import names_digest
from trainer.data.dataset import Dataset
from trainer.data.sources import prepare
from trainer.errors import BabelrecError
from trainer.files import write_text


class Run:
    """Paths and small records of one run.

    ``config.yaml`` (resolved), ``data.json`` (name and fingerprints), ``vocabulary.json``,
    ``blend.json``, ``weights/`` (the finished model), ``checkpoints/`` (to resume from),
    ``history.json``, TensorBoard's events and ``projector/``, and later ``evaluation.*``.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.config = config
        self.vocabulary = path / "vocabulary.json"
        self.weights = path / "weights"

    @classmethod
    def create(cls, path: Path, config: Config) -> "Run":
        """Creates a run, or opens the existing one if its settings are the same.

        Raises:
            BabelrecError: the directory contains a run with other settings.
        """
        cls.check_path(path)
        file = path / "config.yaml"
        if file.exists():
            before = load_config(file)
            changed = _differences(learned_by(before), learned_by(config))
            if changed:
                raise BabelrecError(
                    f"{path} contains a run with other settings ({', '.join(changed)}). "
                    "Use another --run-dir, or remove this one to start again."
                )
        if not file.exists() or before != config:
            write_text(file, dump_config(config))
        return cls(path, config)

    @staticmethod
    def check_path(path: Path) -> None:
        """Refuses a file in place of a run directory."""
        if path.exists() and not path.is_dir():
            raise BabelrecError(f"{path} is a file. Use a directory as --run-dir.")

    @classmethod
    def open(cls, path: Path, overrides: Sequence[str] = ()) -> "Run":
        """Opens an existing run; ``overrides`` (``a.b=value``) change its settings for this process only.

        Raises:
            BabelrecError: there is no run.
        """
        file = path / "config.yaml"
        if not file.exists():
            raise BabelrecError(
                f"{path} is not a run directory (no config.yaml). Train one: trainer.task fit --run-dir {path}"
            )
        return cls(path, load_config(file, overrides))

    @property
    def finished(self) -> bool:
        """Whether `fit` has finished with a model."""
        return (self.weights / "checkpoint").exists()

    def dataset(self) -> Dataset:
        """The dataset of the run.

        Raises:
            BabelrecError: the data, or the category names, differ from those of the training.
        """
        dataset = prepare(self.config.data.source)
        self._check_unchanged(f"The data of {dataset.name}", "fingerprint", dataset.fingerprint)
        names = self.config.data.category_names
        self._check_unchanged(f"The category names in {names}", "category_names", names_digest(names))
        return dataset

    def check_training_data(self) -> None:
        """Refuses data other than the run was trained on, including data that only training reads.

        Raises:
            BabelrecError: as for `dataset`, or for the data of ``training.alignment.source``.
        """
        self.dataset()
        self._check_unchanged("The data of training.alignment.source", "alignment", _pairs_fingerprint(self.config))

    def record_data(self, dataset: Dataset) -> None:
        """Records the run's training data, or checks that it is unchanged."""
        if (self.path / "data.json").exists():
            self.check_training_data()
            return
        self.write(
            "data.json",
            {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "licence": dataset.licence,
                "category_names": names_digest(self.config.data.category_names),
                "alignment": _pairs_fingerprint(self.config),
            },
        )

    def _check_unchanged(self, what: str, entry: str, now: str | None) -> None:
        record = self.read("data.json")
        # Runs of earlier versions have not recorded everything.
        if entry in record and record[entry] != now:
            before, after = ("none" if each is None else each[:12] for each in (record[entry], now))
            raise BabelrecError(
                f"{what} have changed since {self.path} was trained (fingerprint {after}, then {before}). Train again "
                "in another --run-dir, or restore the training data."
            )

    def write(self, name: str, value: object) -> None:
        """Writes a JSON record into the directory, atomically."""
        write_text(self.path / name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def read(self, name: str) -> Any:  # noqa: ANN401  whatever the record holds
        """Reads a JSON record.

        Raises:
            BabelrecError: it is missing or broken.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BabelrecError(
                f"{self.path / name} can't be read ({error}). Finish the run: trainer.task fit."
            ) from error

    def weights_digest(self) -> str:
        """SHA-256 over the finished weights' files: identifies the model in a model card."""
        digest = hashlib.sha256()
        for file in sorted(path for path in self.weights.iterdir() if path.is_file()):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()


def _pairs_fingerprint(config: Config) -> str | None:
    """Fingerprint of the dataset of the parallel texts, if it differs from the run's."""
    source = config.training.alignment.source
    return None if source is None or not config.learns_from_pairs else prepare(source).fingerprint


def learned_by(config: Config) -> dict[str, Any]:
    """The settings that affect training; evaluation, export and update can change later."""
    left_out: dict[str, Any] = {
        "name": True,
        "evaluation": True,
        "export": True,
        "update": True,
        "training": {"loggers", "all_gpus"},
    }
    return config.model_dump(mode="json", exclude=left_out)


def _differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {old} -> {new}")
    return found

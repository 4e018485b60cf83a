"""Names of categories in many languages: what users type when searching for a category."""

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from trainer.documents import read_yaml
from trainer.errors import BabelrecError

_LOG = logging.getLogger(__name__)
_Names = dict[str, dict[str, list[str]]]
_FILE: TypeAdapter[_Names] = TypeAdapter(_Names)


class CategoryNames:
    """Names of the K labels of one catalogue.

    Attributes:
        texts: The names, grouped by label; each group starts with the label itself.
        splits: K + 1 bounds: label ``k`` has ``texts[splits[k] : splits[k + 1]]``, none twice.
    """

    def __init__(self, labels: Sequence[str], names: _Names | None = None) -> None:
        self.texts: list[str] = []
        self.splits = [0]
        for label in labels:
            others = [name for names_of_language in (names or {}).get(label, {}).values() for name in names_of_language]
            self.texts += dict.fromkeys([label, *others])
            self.splits.append(len(self.texts))

    @classmethod
    def load(cls, path: Path | None, labels: Sequence[str]) -> "CategoryNames":
        """Reads a YAML file: label -> BCP 47 tag -> names; see ``configs/categories/movielens.yaml``.

        Args:
            path: The file; None: labels have no other names.
            labels: Labels of the catalogue. Labels missing from the file keep only their own name.

        Raises:
            BabelrecError: The file can't be read, is malformed, has an empty name, or has none of these labels.
        """
        if path is None:
            return cls(labels)
        names = read_names(path)
        known = names.keys() & set(labels)
        if not known:
            raise BabelrecError(
                f"{path} names none of the dataset's categories. It has {_some(names)}; the dataset has "
                f"{_some(labels)}. Give data.category_names a file of these categories, or leave it out."
            )
        if others := names.keys() - known:
            _LOG.info("%s: the dataset has no category %s.", path, _some(sorted(others)))
        return cls(labels, names)


def read_names(path: Path) -> _Names:
    """The names in a file: label -> BCP 47 tag -> names; raises the errors of `CategoryNames.load`."""
    names = read_yaml(
        path,
        _FILE,
        what="the names of categories, data.category_names",
        remedy="category label, language and a list of names, for example {War: {de: [Krieg, ein Kriegsfilm]}}; quote "
        "names that YAML reads otherwise.",
    )
    for label, languages in names.items():
        for tag, names_of_language in languages.items():
            if not all(name.strip() for name in names_of_language):
                raise BabelrecError(f"{path}: {label}.{tag} has an empty name. Remove it.")
    return names


def names_digest(path: Path | None) -> str | None:
    """SHA-256 of the names in a file, whatever its comments and order; None without a file."""
    return None if path is None else hashlib.sha256(json.dumps(read_names(path), sort_keys=True).encode()).hexdigest()


def _some(labels: Collection[str]) -> str:
    shown = [repr(label) for label in labels][:5]
    return ", ".join(shown) + (", ..." if len(labels) > 5 else "") if shown else "none"

"""Which columns of a user's file become which of the dataset format."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trainer.data.faults import DatasetError
from trainer.data.tables import OPTIONAL, REQUIRED

# Columns without a default.
_INDISPENSABLE: Final = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "items": ("item_id", "title"),
    "users": ("user_id",),
}


def choose_columns(file: Path, table: str, mapping: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """The columns of a file to take, as name in the dataset format -> name in the file.

    Args:
        file: The file, for error messages.
        table: ``interactions``, ``items`` or ``users``.
        mapping: The user's, in the same form.
        names: The columns of the file.

    Raises:
        DatasetError: The mapping names a column that the file does not have, or an indispensable one is missing.
    """
    shown = ", ".join(names)
    for name, column in mapping.items():
        if column not in names:
            near = _near(column, names)
            hint = f"did you mean `{near}`? " if near else ""
            raise DatasetError(
                f"{file} has no column `{column}`, which `data.source.columns.{table}.{name}` names; {hint}"
                f"it has {shown}. Remedy: correct the mapping or the file's header{_or_else(names)}."
            )
    known = {*REQUIRED[table], *OPTIONAL[table]}
    used = set(mapping.values())
    same = (name for name in names if name in known and name not in mapping and name not in used)
    chosen = dict(mapping) | {name: name for name in same}
    for name in _INDISPENSABLE[table]:
        if name not in chosen:
            near = _near(name, names)
            hint = f" (`{near}`?)" if near else ""
            raise DatasetError(
                f"{file}: column `{name}` is missing; the columns are {shown}. Remedy: name the file's "
                f"column for it{hint} in `data.source.columns.{table}.{name}`{_or_else(names)}."
            )
    return chosen


def _near(name: str, names: list[str]) -> str | None:
    """The most similar name, ignoring case and separators."""
    folded = {other.strip().casefold().replace(" ", "_").replace("-", "_"): other for other in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return folded[near[0]] if near else None


def _or_else(names: list[str]) -> str:
    if len(names) == 1:
        return ", or set `data.source.delimiter` to what separates the columns"
    if any(name.strip().lstrip("+-").replace(".", "", 1).isdecimal() for name in names):
        return ", or, if this is the first row of values, put a header above it"
    return ""

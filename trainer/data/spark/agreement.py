"""What the files of a table have decided, each by itself, put together: one schema, and one record of the reading."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from trainer.data.faults import DatasetError
from trainer.data.spark.parts import Converted, Finished
from trainer.data.spark.settings import MOST_NOTES

# Numbers of items that `trainer.data.sources.item_languages` reports.
_SUMS: Final = ("from_column", "from_setting", "detected", "doubtful")
_SETTINGS: Final = {
    "times": "set `time_unit` or `time_format` in `data.source`",
    "decimal commas": "set `decimal` in `data.source`",
}


def schema_of(parts: Sequence[Converted]) -> dict[str, pl.DataType]:
    """The schema of a table; columns without a value in one file have the type they have in others.

    Raises:
        DatasetError: The first fault of a file, or two files have different columns or types, or were understood
            differently.
    """
    for part in parts:
        if part.fault is not None:
            raise DatasetError(part.fault)
    first = next((part for part in parts if part.records), parts[0])
    schema: dict[str, pl.DataType] = dict(first.schema)
    source: dict[str, Converted] = dict.fromkeys(schema, first)
    for part in parts:
        if part.schema.keys() != schema.keys():
            raise DatasetError(
                f"{part.file} has the columns {', '.join(part.schema)}, and {first.file} has {', '.join(schema)}. "
                "Remedy: give all files of the table the same columns."
            )
        for name, dtype in part.schema.items():
            if name in part.unfilled or dtype == schema[name]:
                continue
            if name not in source[name].unfilled:
                raise DatasetError(
                    f"{part.file}, column `{part.columns.get(name, name)}`: read as {dtype}, and in "
                    f"{source[name].file} as {schema[name]}. Remedy: write the column with one type in all files."
                )
            schema[name], source[name] = dtype, part
        _compare(first, part)
    return schema


def _compare(first: Converted, part: Converted) -> None:
    for what, decided in part.decisions.items():
        if part.records and first.records and decided != first.decisions[what]:
            remedy = _SETTINGS.get(what, "write the column alike in all files")
            raise DatasetError(
                f"{part.file} and {first.file} are understood differently ({what}: {decided or 'none'} and "
                f"{first.decisions[what] or 'none'}). Remedy: {remedy}."
            )


def lengths_agree(parts: Sequence[Converted], shards: Sequence[Finished]) -> None:
    """Checks that the embeddings of all shards are as long as each other.

    Raises:
        DatasetError: They aren't, or no row has one.
    """
    for name in shards[0].lengths:
        known = [(part, shard.lengths[name]) for part, shard in zip(parts, shards, strict=True)]
        known = [(part, length) for part, length in known if length is not None]
        column = parts[0].columns.get(name, name)
        if not known:
            raise DatasetError(
                f"{parts[0].file}, column `{column}`: no row has an embedding. Remedy: remove the column."
            )
        for part, length in known:
            if length != known[0][1]:
                raise DatasetError(
                    f"{part.file}, column `{column}`: embeddings of {length} numbers, where {known[0][0].file} has "
                    f"{known[0][1]}. Remedy: give all rows embeddings of one length, or null."
                )


def facts_of(place: str, parts: Sequence[Converted], dropped: Mapping[str, int], written: int) -> dict[str, Any]:
    """How a table was read, for `dataset.yaml`.

    Raises:
        DatasetError: Its records are not those that were written or dropped.
    """
    records = sum(part.records for part in parts)
    if records != written + sum(dropped.values()):
        raise DatasetError(
            f"{place} has {records:,} records, but {written:,} rows were written and {sum(dropped.values()):,} were "
            "dropped. Remedy: this is a bug in Babelrec: report it with the files."
        )
    facts: dict[str, Any] = dict(parts[0].facts) | {
        "file": place.rstrip("/").rpartition("/")[2],
        "records": records,
        "dropped": dict(dropped),
        "written": written,
    }
    if len(parts) > 1:
        facts["parts"] = len(parts)
    for name, choose in (("first_time", min), ("last_time", max)):
        times = [part.facts[name] for part in parts if name in part.facts]
        if times:
            facts[name] = choose(times)
    if "languages" in facts:
        found = [part.facts["languages"] for part in parts]
        facts["languages"] = {name: sum(each[name] for each in found) for name in _SUMS} | {
            "examples": [example for each in found for example in each["examples"]][:MOST_NOTES]
        }
    notes = Counter(note for part in parts for note in part.facts["notes"])
    facts["notes"] = [
        note if count == 1 else f"{note} (said of {count} files)" for note, count in notes.most_common(MOST_NOTES)
    ]
    if len(notes) > MOST_NOTES:
        facts["notes"].append(f"{len(notes) - MOST_NOTES:,} more notes are left out")
    return facts

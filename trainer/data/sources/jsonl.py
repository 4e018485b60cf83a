"""JSONL files: one object per line, read by Python's `json`, which locates faults."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from trainer.data.faults import DatasetError, reading
from trainer.data.settings import TableFormat
from trainer.data.sources.lists import parse_list
from trainer.data.sources.opening import TextFile, open_text, undecodable
from trainer.data.sources.table import Choose, RawTable, called
from trainer.data.tables import TEXTS
from trainer.errors import shortened

_BATCH_LINES: Final = 65_536
_REMEDY: Final = "write one JSON object per line"
_NUMBERS: Final = frozenset({int, float})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in row if names.count(name) > 1)
        raise ValueError(f"the key `{repeated}` occurs more than once, but only one value could be kept")
    return row


# Not `json.loads`, so that text after the object is noticed; NaN and Infinity are no JSON.
_SCAN: Final = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique).raw_decode


@dataclass(slots=True)
class _Column:
    """Types of the values seen so far, and of the entries of lists."""

    kinds: set[type] = field(default_factory=set)
    entries: set[type] = field(default_factory=set)


def read(path: Path, table: str, form: TableFormat, wanted: Collection[str], choose: Choose, target: Path) -> RawTable:
    """Reads a JSONL file; a column has the common type of its values, else text.

    Lists in a column that also holds text are written as JSON.

    Args:
        path: The file.
        table: The table it holds, for error messages.
        form: Encoding, if set.
        wanted: Keys that may be selected; the others are counted but not kept.
        choose: Selects the columns.
        target: Parquet file to write the columns to.

    Raises:
        DatasetError: Gives the file, the unreadable line and the remedy.
    """
    file = open_text(path, form.encoding)
    keys: dict[str, None] = {}
    columns = {name: _Column() for name in wanted}
    schema = pa.schema([(f"f{number}", pa.string()) for number in range(len(columns))])
    records = blank = 0
    try:
        with pa.parquet.ParquetWriter(target, schema, compression="lz4") as writer:
            for lines, rows, skipped in _batches(file):
                records += len(rows)
                blank += skipped
                for row in rows:
                    if not row.keys() <= keys.keys():
                        keys.update(dict.fromkeys(row))
                texts = [
                    _array(_texts([row.get(name) for row in rows], column, name, path, lines), name, path, lines)
                    if name in keys
                    else pa.nulls(len(rows), pa.string())
                    for name, column in columns.items()
                ]
                writer.write_batch(pa.record_batch(texts, schema=schema))
    except UnicodeDecodeError:
        found = file.first_undecodable_line() or (1, "")
        raise undecodable(file, f"line {found[0]}", found[1]) from None
    if records == 0:
        raise DatasetError(f"{path}: the table `{table}` is empty. Remedy: provide at least one line with an object.")
    chosen = choose(list(keys))
    numbers = {name: f"f{number}" for number, name in enumerate(columns)}
    frame = pl.scan_parquet(target, glob=False).select(
        _typed(pl.col(numbers[key]), columns[key]).alias(name) for name, key in chosen.items()
    )

    def place(row: int) -> str:
        with file.text("replace") as text:
            lines = (number for number, line in enumerate(text, 1) if line.strip())
            line = next(islice(lines, row, None), row + 1)
        return called(row, line, row + 1)

    facts = {"encoding": file.encoding, "blank_lines": blank}
    mixed = frozenset(name for name, key in chosen.items() if {list, str} <= columns[key].kinds)
    return RawTable(list(keys), frame, _count_lines(file), place, facts, mixed)


def _batches(file: TextFile) -> Iterator[tuple[list[int], list[dict[str, Any]], int]]:
    """Line numbers and objects of some lines, and the number of blank lines among them."""
    with file.text() as text:
        lines = enumerate(text, 1)
        while part := list(islice(lines, _BATCH_LINES)):
            numbers, rows, blank = [], [], 0
            for number, line in part:
                content = line.strip("\ufeff \t\r\n") if number == 1 else line.strip(" \t\r\n")
                if not content:
                    blank += 1
                    continue
                try:
                    row, end = _SCAN(content)
                except ValueError as error:
                    raise _broken(file.path, number, content, error) from error
                except RecursionError as error:
                    raise _fault(file.path, number, "it is nested too deeply") from error
                if end != len(content):
                    raise _fault(file.path, number, f"{shortened(content[end:], 40)!r} follows the object")
                if type(row) is not dict:
                    raise _not_an_object(file.path, number, row)
                numbers.append(number)
                rows.append(row)
            yield numbers, rows, blank


def _broken(path: Path, line: int, content: str, error: ValueError) -> DatasetError:
    if (line == 1 and content in ("[", "{")) or (content.startswith("[{") and not content.endswith("}]")):
        return _fault(
            path, line, "one JSON document over several lines", "write one object per line (`jq -c '.[]' FILE`)"
        )
    if isinstance(error, json.JSONDecodeError):
        return _fault(path, line, f"invalid JSON: {error.msg.removesuffix(' at')} (character {error.pos + 1})")
    return _fault(path, line, str(error))


def _not_an_object(path: Path, line: int, row: object) -> DatasetError:
    if isinstance(row, list):
        return _fault(path, line, "a JSON array instead of an object", "write one object per line (`jq -c '.[]' FILE`)")
    return _fault(path, line, f"{shortened(json.dumps(row, ensure_ascii=False), 40)} instead of an object")


def _fault(path: Path, line: int, problem: str, remedy: str = _REMEDY) -> DatasetError:
    return DatasetError(f"{path}, line {line}: {problem}. Remedy: {remedy}.")


def _texts(values: list[Any], column: _Column, name: str, path: Path, lines: list[int]) -> list[str | None]:
    kinds = set(map(type, values))
    kinds.discard(type(None))
    column.kinds |= kinds
    if kinds <= {str}:
        texts = values
    elif kinds <= _NUMBERS:
        texts = [None if value is None else repr(value) for value in values]
    else:
        texts = [_text(value, column, name, path, line) for value, line in zip(values, lines, strict=True)]
    return texts


def _array(texts: list[str | None], name: str, path: Path, lines: list[int]) -> pa.Array:
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        for text, line in zip(texts, lines, strict=True):
            if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise _fault(
                    path,
                    line,
                    f"the value of `{name}` contains an unpaired surrogate",
                    "write the text as valid Unicode",
                ) from None
        raise


def _text(value: object, column: _Column, name: str, path: Path, line: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        column.entries |= set(map(type, value)) - {type(None)}
        if column.entries & {dict, list}:
            raise _fault(
                path,
                line,
                f"the value of `{name}` is a list of {'objects' if dict in column.entries else 'lists'}",
                "write a list of texts or numbers, or leave the column out",
            )
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        raise _fault(
            path,
            line,
            f"the value of `{name}` is an object (type Struct) instead of a single value",
            "write text, a number or a list, one column per part, or remove the column",
        )
    return repr(value)


def _typed(text: pl.Expr, column: _Column) -> pl.Expr:
    if column.kinds == {bool}:
        return text == "true"
    if float in column.kinds and column.kinds <= _NUMBERS:
        return text.cast(pl.Float64)
    if column.kinds == {list}:
        if column.entries == {int}:
            return text.str.json_decode(pl.List(pl.Int64))
        if column.entries and column.entries <= _NUMBERS:
            return text.str.json_decode(pl.List(pl.Float64))
        if column.entries <= {str}:
            return text.str.json_decode(TEXTS)
        return text.map_batches(parse_list, return_dtype=TEXTS, is_elementwise=True)
    return text


def _count_lines(file: TextFile) -> int:
    """Lines that are not blank: the records of a JSONL file, counted without parsing."""
    with reading(str(file.path)):
        if file.encoding.startswith("utf-8"):
            with file.bytes() as lines:
                return sum(1 for line in lines if line.strip(b"\xef\xbb\xbf \t\r\n"))
        with file.text() as text:
            return sum(1 for line in text if line.strip("\ufeff \t\r\n"))

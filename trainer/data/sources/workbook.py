"""Sheets of an Excel workbook (.xlsx, also inside a zip archive) as CSV files, read as a stream."""

import csv
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final
from xml.etree import ElementTree

from trainer.data.faults import DatasetError

_MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHEET: Final = re.compile(r"xl/worksheets/sheet(\d+)\.xml")
_COLUMN: Final = re.compile(r"[A-Z]+")
ENDINGS: Final = (".xlsx", ".zip")


def sheets_as_csv(book: Path, folder: Path) -> list[Path]:
    """Writes each sheet with a row to ``sheet1.csv``, ``sheet2.csv`` ... in ``folder``.

    Values are those stored: dates are Excel's day numbers, results of formulas are as last computed.

    Raises:
        DatasetError: It is no workbook, or damaged.
    """
    try:
        with zipfile.ZipFile(book) as archive:
            inner = [name for name in archive.namelist() if name.lower().endswith(".xlsx")]
            if not inner:
                return _sheets(archive, book, folder)
            extracted = folder / "book.xlsx"
            with archive.open(inner[0]) as packed, extracted.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        with zipfile.ZipFile(extracted) as archive:
            return _sheets(archive, book, folder)
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, EOFError, IndexError, ValueError) as error:
        raise DatasetError(f"{book} can't be read as a workbook: {error}. Remedy: download it again.") from error


def _sheets(archive: zipfile.ZipFile, book: Path, folder: Path) -> list[Path]:
    names = archive.namelist()
    numbered = sorted((int(found[1]), name) for name in names if (found := _SHEET.fullmatch(name)))
    if not numbered:
        raise DatasetError(f"{book} has no Excel sheet in it. Remedy: give the workbook, or its sheets as CSV UTF-8.")
    shared: list[str] = []
    if "xl/sharedStrings.xml" in names:
        with archive.open("xl/sharedStrings.xml") as packed:
            shared = [_text(entry) for entry in _elements(packed, "si")]
    written = []
    for number, name in numbered:
        target = folder / f"sheet{number}.csv"
        with archive.open(name) as packed, target.open("w", encoding="utf-8", newline="") as plain:
            writer, width = csv.writer(plain), 0
            for row in _elements(packed, "row"):
                cells = _cells(row, shared)
                # The header says how many columns there are; empty cells at the end are not stored.
                width = width or len(cells)
                if any(cells):
                    writer.writerow(cells + [""] * (width - len(cells)))
        if width:
            written.append(target)
    return written


def _elements(file: IO[bytes], tag: str) -> Iterator[ElementTree.Element]:
    """The elements of a tag, each emptied after use: a sheet may have a million rows."""
    open_elements: list[ElementTree.Element] = []
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if event == "start":
            open_elements.append(element)
            continue
        open_elements.pop()
        if element.tag == _MAIN + tag:
            yield element
            open_elements[-1].clear()


def _text(element: ElementTree.Element) -> str:
    """Its text, of all runs, without the reading aids of East Asian scripts."""
    runs = [element, *element.findall(f"{_MAIN}r")]
    return "".join(part.text or "" for run in runs for part in run.findall(f"{_MAIN}t"))


def _cells(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.findall(f"{_MAIN}c"):
        place = _COLUMN.match(cell.get("r", ""))
        column = len(cells) if place is None else _number(place[0])
        cells += [""] * (column - len(cells))
        cells.append(_value(cell, shared))
    return cells


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find(f"{_MAIN}is")
        return "" if inline is None else _text(inline)
    found = cell.find(f"{_MAIN}v")
    value = "" if found is None else found.text or ""
    return shared[int(value)] if kind == "s" and value else value


def _number(letters: str) -> int:
    """Column of letters: A is 0, AA is 26."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1

"""Opening a user's text file: its actual format by its first bytes, its encoding, its compression."""

import codecs
import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from trainer.data.faults import DatasetError, reading
from trainer.errors import shortened

_LOG = logging.getLogger(__name__)
TEXT_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
ENDINGS: Final = (*TEXT_ENDINGS, ".parquet")
SAMPLE_BYTES: Final = 1 << 20
_HEAD_BYTES = 4096
_MAGIC: Final = (
    (b"PAR1", "Parquet", "name it `.parquet`"),
    (b"PK\x03\x04", "a zip archive (an Excel workbook is one)", "save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV UTF-8"),
    (b"BZh91AY&SY", "bzip2 data", "unpack it, or compress it with gzip"),
    (b"\xfd7zXZ\x00", "xz data", "unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "unpack it, or compress it with gzip"),
    (b"ARROW1", "an Arrow (Feather) file", "write Parquet instead"),
    (b"Obj\x01", "an Avro file", "write Parquet instead"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"%PDF-", "a PDF document", "export the table as CSV"),
)
_GZIP: Final = b"\x1f\x8b"
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def ending(file: Path) -> str:
    """The extension that indicates the format, without ``.gz``.

    Raises:
        DatasetError: It indicates none.
    """
    name = file.name.lower()
    for known in ENDINGS:
        if name.endswith(known) or (known in TEXT_ENDINGS and name.endswith(known + ".gz")):
            return known
    remedy = f"use a file that ends in {', '.join(ENDINGS)} (all but Parquet also with .gz)"
    if name.endswith((".json", ".json.gz")):
        remedy = "write one JSON object per line and name it .jsonl (`jq -c '.[]' FILE`)"
    elif name.endswith((".xlsx", ".xls", ".ods")):
        remedy = "save the sheet as CSV UTF-8"
    raise DatasetError(f"{file}: its extension is not a known format. Remedy: {remedy}.")


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file after inspection.

    Attributes:
        path: The file.
        encoding: Python's name of its encoding.
        compressed: Whether it is gzip-compressed.
    """

    path: Path
    encoding: str
    compressed: bool

    @contextmanager
    def bytes(self) -> Iterator[IO[Any]]:
        """The decompressed bytes."""
        with reading(str(self.path)):
            file = cast("IO[Any]", gzip.open(self.path) if self.compressed else self.path.open("rb"))  # noqa: SIM115
        with file:
            try:
                yield file
            # Errors of decoding and parsing are left to the reader, which knows the row.
            except (OSError, EOFError, zlib.error) as error:
                with reading(str(self.path)):
                    raise error

    @contextmanager
    def text(self, errors: str = "strict") -> Iterator[io.TextIOWrapper]:
        """Its text with unchanged line ends."""
        with self.bytes() as file, io.TextIOWrapper(file, self.encoding, errors, newline="") as text:
            yield text

    def sample(self) -> str:
        """The first `SAMPLE_BYTES` as text; what can't be decoded is replaced."""
        with self.bytes() as file:
            decoder = codecs.getincrementaldecoder(self.encoding)("replace")
            return decoder.decode(file.read(SAMPLE_BYTES))

    def first_undecodable_line(self) -> tuple[int, str] | None:
        """Number from 1 and readable part of the first line that is not in the encoding, or None."""
        with self.text("surrogateescape" if self.encoding.startswith("utf-8") else "replace") as text:
            for number, line in enumerate(text, 1):
                if any("\udc80" <= letter <= "\udcff" or letter == "\ufffd" for letter in line):
                    shown = line.strip().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                    return number, shortened(shown, 60)
        return None


def open_text(file: Path, encoding: str | None) -> TextFile:
    """Inspects the first bytes of a file that should be text.

    Args:
        file: Its path.
        encoding: The configured encoding, if any.

    Raises:
        DatasetError: It is something else, such as Parquet or a workbook, or UTF-16 without a byte order mark.
    """
    with reading(str(file)), file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    named_gzip = file.name.lower().endswith(".gz")
    if head.startswith(_GZIP) != named_gzip and head:
        problem, remedy = (
            ("is not gzip", "remove `.gz` from its name") if named_gzip else ("is gzip data", "name it with `.gz`")
        )
        raise DatasetError(f"{file} {problem}, despite its name. Remedy: {remedy}.")
    if named_gzip:
        with reading(str(file)), gzip.open(file) as unpacked:
            head = unpacked.read(_HEAD_BYTES)
    refuse_other_formats(file, head)
    for mark, name in _BOMS:
        if head.startswith(mark):
            if name != "utf-8-sig":
                _LOG.info("%s: read as %s, by its byte order mark", file, name.upper())
            return TextFile(file, name, named_gzip)
    if encoding is None and b"\x00" in head:
        for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros = head[offset : 2 * (len(head) // 2) : 2].count(0)
            if zeros * 4 > len(head):
                raise DatasetError(
                    f"{file} looks like UTF-16 without a byte order mark. Remedy: set `encoding: {name}` in "
                    "`data.source`, or save it as UTF-8."
                )
    return TextFile(file, encoding or "utf-8", named_gzip)


def refuse_other_formats(file: Path, head: bytes) -> None:
    """Raises a `DatasetError` if the first bytes are those of a format other than the extension's."""
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            raise DatasetError(f"{file} is {what}, despite its name. Remedy: {remedy}.")
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise DatasetError(
            f"{file} is a web page, despite its name. Remedy: download the file itself (the page may ask "
            "for a login or report an error)."
        )


def undecodable(file: TextFile, row_of_line: str, line: str) -> DatasetError:
    """The error for bytes that are not in the file's encoding."""
    name = "UTF-8" if file.encoding.startswith("utf-8") else file.encoding
    remedy = "set `encoding` in `data.source` to the right one, or save the file as UTF-8"
    if name == "UTF-8":
        remedy = (
            "set `encoding` in `data.source` (`cp1252` for Western European Windows, `latin-1`, `cp949`, `shift_jis`, "
            "...), or save the file as UTF-8"
        )
    return DatasetError(f"{file.path}, {row_of_line}: {line!r} is not {name}. Remedy: {remedy}.")

"""Errors for unreadable files: each kind of failure has its own remedy."""

import errno
import gzip
import io
import zlib

import polars as pl
import pytest

from trainer.data.faults import DatasetError, reading


def undecodable() -> None:
    b"\xff".decode("utf-8")


def cut_gzip() -> None:
    with gzip.open(io.BytesIO(gzip.compress(b"x" * 10_000)[:-9])) as file:
        file.read()


def not_gzip() -> None:
    with gzip.open(io.BytesIO(b"plain text")) as file:
        file.read()


def broken_deflate() -> None:
    zlib.decompress(b"not deflate")


def failing(error: Exception) -> object:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("fail", "wanted"),
    [
        (undecodable, "f.csv can't be read: it is not UTF-8 (invalid start byte). Remedy: save it as UTF-8."),
        (cut_gzip, "the gzip data are incomplete or damaged (Compressed file ended"),
        (not_gzip, "the gzip data are incomplete or damaged (Not a gzipped file"),
        (broken_deflate, "the gzip data are incomplete or damaged"),
        (failing(FileNotFoundError(errno.ENOENT, "x")), "there is no such file. Remedy: correct its path."),
        (failing(PermissionError(errno.EACCES, "x")), "permission denied. Remedy: allow this user to read it"),
        (failing(IsADirectoryError(errno.EISDIR, "x")), "it is a directory. Remedy: name a file."),
        (
            failing(pl.exceptions.ComputeError("odd.\nmore")),
            "can't be read: odd. Remedy: check that its content matches its name",
        ),
    ],
)
def test_each_failure_has_its_own_remedy(fail: object, wanted: str) -> None:
    with pytest.raises(DatasetError) as caught, reading("f.csv"):
        fail()  # type: ignore[operator]
    assert wanted in str(caught.value)


def test_errors_for_users_pass_unchanged() -> None:
    with pytest.raises(DatasetError, match=r"^as it is$"), reading("f.csv"):
        raise DatasetError("as it is")


def test_a_full_disk_is_not_the_file_s_fault() -> None:
    with pytest.raises(OSError, match="x"), reading("f.csv"):
        raise OSError(errno.ENOSPC, "x")

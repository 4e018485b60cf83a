"""One-line explanations of the operating system's file errors: which file, why, and a remedy."""

import errno
import os
import re
from pathlib import Path
from typing import Final

_ELSEWHERE: Final = "Free space there, or choose a directory on another disk."
_PERMISSION: Final = ("permission denied", "Allow this user to use it (chmod, chown), or choose another directory.")
_REASONS: Final = {
    errno.ENOSPC: ("the disk is full", _ELSEWHERE),
    errno.EDQUOT: ("the disk quota is used up", _ELSEWHERE),
    errno.EFBIG: ("the file would exceed the size limit", "Raise the limit (ulimit -f), or choose another disk."),
    errno.EROFS: ("the file system is read-only", "Choose a writable directory."),
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n 4096) and run the same command again."),
    errno.ENFILE: ("too many files are open on this machine", "Close other programs and run the same command again."),
    errno.ENOENT: ("there is no such file or directory", "Correct the path, or create its directory."),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "Choose another directory."),
    errno.EEXIST: ("something with that name already exists", "Remove it, or choose another directory."),
    errno.EISDIR: ("it is a directory", "Give a file."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.EIO: ("the disk reports an error", "Check the disk, or choose a directory on another one."),
}
# Errors unrelated to the file's content.
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE}
# Rust's format (Polars), as an error and as a panic.
_RUST: Final = re.compile(r"(?:\(os error |\bcode: )(\d+)(?:\): (?P<path>[^\n]+))?")
# TensorFlow's format: the operation, the path, the text of errno or its own.
_TENSORFLOW: Final = re.compile(
    r"(?:\{\{.*?\}\} )?(?P<path>[^\n]+?)(?: is not a directory|; (?P<reason>"
    + "|".join(re.escape(os.strerror(number)) for number in _REASONS)
    + "))"
)
# NumPy's format, without a reason.
_NUMPY: Final = re.compile(r"\d+ requested and \d+ written")
_TEMPORARY: Final = re.compile(r"\.(?P<name>.+?)(?:\.[a-z0-9_]{8})?\.tmp", re.DOTALL)


def explain(error: BaseException) -> str | None:
    """The line for a user, or None for other errors.

    Understands Python's own errors and those of TensorFlow, Polars, Arrow and NumPy, which have no common type.
    """
    number, path = _find(error)
    if number is None:
        return None if error.__cause__ is None else explain(error.__cause__)
    reason, remedy = _REASONS[number]
    path = path or getattr(error, "writing", None)
    return f"{'The output' if path is None else _known_by(Path(path))}: {reason}. {remedy}"


def no_room(error: BaseException) -> bool:
    """Whether the disk was full, which is not the file's fault."""
    return _find(error)[0] in _NO_ROOM


def _find(error: BaseException) -> tuple[int | None, str | None]:
    number: int | None = None
    path: str | None = None
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    elif type(error).__module__.startswith("tensorflow."):
        if found := _TENSORFLOW.match(text):
            reason = found["reason"] or os.strerror(errno.ENOTDIR)
            number = next(each for each in _REASONS if os.strerror(each) == reason)
            path = found["path"]
    elif found := _RUST.search(text):
        number, path = int(found[1]), found["path"]
    elif isinstance(error, OSError) and _NUMPY.fullmatch(text):
        number = errno.ENOSPC
    return (number, path) if number in _REASONS else (None, None)


def _known_by(path: Path) -> Path:
    """The final path of a temporary one, see `trainer.files`; for a checkpoint, its directory."""
    for parent in reversed([path, *path.parents]):
        if parent.name.endswith("_temp"):
            return parent.parent
        if found := _TEMPORARY.fullmatch(parent.name):
            return parent.with_name(found["name"])
    return path
